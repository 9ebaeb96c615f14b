package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// recordConsent takes a visitor's decision about consent. The record is
// evidence; what decides from then on is the choice that goes into the
// visitor's own browser, in the same answer. A no takes effect even where its
// record can't be kept; a yes needs its record.
func (c *call) recordConsent() (any, error) {
	claim, err := sessionctx.ParseConsentClaim(c.body, c.pageHost())
	switch {
	case errors.Is(err, sessionctx.ErrMissingField):
		return nil, refuse(http.StatusBadRequest, "missing_field", "%v", err)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "invalid_consent", "%v", err)
	}
	if err := c.proveConsent(claim); err != nil {
		return nil, err
	}
	c.acted = true // who decides is looking
	rec, err := c.newConsent(claim)
	if err != nil {
		return nil, err
	}
	rec, before := c.keepConsent(rec)
	rows := consentRows(c.handler.campaign, rec, before)
	if c.knownSession() != nil {
		rows = append(rows, c.sessionRow()...)
	}
	err = c.commit(rows...)
	if err == nil && c.knownSession() != nil {
		c.committed()
	}
	c.choose(claim.Purposes, err == nil)
	switch {
	case !claim.Purposes.Analytics:
		c.refuseClickIDs(c.now.UnixMilli(), true)
	case err == nil:
		c.agreeClickID()
	}
	if err != nil {
		return nil, err
	}
	expires := time.UnixMilli(rec.ExpiresAt).UTC().Format("2006-01-02T15:04:05.000Z")
	return wholeAnswer{
		"success": true, "consent_id": rec.ID, "expires_at": expires,
		"data": map[string]any{"consent_id": rec.ID, "expires_at": expires},
	}, nil
}

// consentRows are the rows of a new record: its own, and the one that says
// what became of the record before it.
func consentRows(campaign *sessionctx.Campaign, rec, before *sessionctx.ConsentRecord) []outbox.Row {
	row := func(r *sessionctx.ConsentRecord, status sessionctx.ConsentStatus, at int64) outbox.Row {
		return outbox.Row{Datasource: sessionctx.ConsentDatasource, JSON: r.AppendRow(make([]byte, 0, 1024), campaign, status, at)}
	}
	rows := []outbox.Row{row(rec, sessionctx.ConsentActive, rec.GivenAt)}
	if before != nil {
		status, at := before.Ended(rec)
		rows = append(rows, row(before, status, at))
	}
	return rows
}

// readConsent gives the record that counts for the subject. It takes a token
// or one of our cookies: ids alone learn nothing of a visitor's consent.
func (c *call) readConsent() (any, error) {
	q := c.r.URL.Query()
	if err := c.limitSubject(c.proveReader(q)); err != nil {
		return nil, err
	}
	domain := q.Get("domain")
	if domain != "" {
		var err error
		if domain, err = sessionctx.CleanDomain(domain); err != nil {
			return nil, refuse(http.StatusBadRequest, "invalid_consent", "%v", err)
		}
	}
	rec, err := c.currentConsent(c.session.UserID, domain)
	if err != nil {
		return nil, err
	}
	campaign := c.handler.campaign
	consent := map[string]any{
		"id":           rec.ID,
		"workspace_id": campaign.WorkspaceID,
		"project_id":   campaign.ProjectID,
		"campaign_id":  campaign.ID,
		"subject_id":   rec.SubjectID,
		"domain":       rec.Domain,
		"purposes": map[string]bool{
			"essential": rec.Essential, "analytics": rec.Analytics, "marketing": rec.Marketing, "functional": rec.Functional,
		},
		"proof":      rec.Proof,
		"status":     rec.Status(c.now.UnixMilli()),
		"given_at":   rec.GivenAt / 1000,
		"expires_at": rec.ExpiresAt / 1000,
	}
	return wholeAnswer{"success": true, "consent": consent, "data": map[string]any{"consent": consent}}, nil
}

// proveReader is proveConsent for reading: of ids alone, nothing is told.
func (c *call) proveReader(q url.Values) error {
	campaignID, subject := q.Get("campaign_id"), q.Get("subject_id")
	token, bearer := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		token = q.Get("token")
	}
	if bearer || token != "" {
		return c.proveByToken(token, campaignID, subject)
	}
	handlers := c.app.handlersOf(campaignID)
	if len(handlers) == 0 {
		return refuse(http.StatusForbidden, "unknown_campaign", "campaign_id names no campaign of this server")
	}
	if c.proveByCookie(handlers, "", subject) || c.proveByUserCookie(handlers, subject) {
		return nil
	}
	return invalidSession()
}

// currentConsent is the newest record of the subject, on its latest domain if
// none is named. That a record has expired is told once, by a row.
func (c *call) currentConsent(subject, domain string) (*sessionctx.ConsentRecord, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	down := func(err error) error {
		c.app.metrics.storeFails.Inc()
		return busy("store_unavailable", "the server can't look the consent up right now: try again")
	}
	notFound := refuse(http.StatusNotFound, "consent_not_found", "no consent of this subject is recorded for the campaign and domain")
	h, err := c.consentHistory(ctx, subject, domain)
	if err != nil {
		return nil, down(err)
	}
	if domain == "" {
		b, err := h.store.Get(ctx, consentDomainKey+sessionctx.ConsentKey(subject, h.ref, ""))
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, notFound
		case err != nil:
			return nil, down(err)
		}
		h.domain = string(b)
	}
	rec, _, err := h.newest(ctx)
	switch {
	case err != nil:
		return nil, down(err)
	case rec == nil:
		return nil, notFound
	}
	if rec.Status(c.now.UnixMilli()) == sessionctx.ConsentExpired {
		c.tellExpired(ctx, h, rec)
	}
	return rec, nil
}

// tellExpired writes the row that says so. It is the same row each time; that
// it need not be written again is noted when it is on disk, and not before.
func (c *call) tellExpired(ctx context.Context, h *consentHistory, rec *sessionctx.ConsentRecord) {
	told := h.key(rec.Number) + "/expired"
	if _, err := h.store.Get(ctx, told); !errors.Is(err, store.ErrNotFound) {
		return
	}
	row := rec.AppendRow(nil, c.handler.campaign, sessionctx.ConsentExpired, rec.ExpiresAt)
	if c.commit(outbox.Row{Datasource: sessionctx.ConsentDatasource, JSON: row}) == nil {
		h.store.Put(told, []byte{1}, time.Duration(max(rec.KeptUntil-c.now.UnixMilli(), 1))*time.Millisecond)
	}
}

// pageHost is host[:port] of the page that calls.
func (c *call) pageHost() string {
	if _, host, ok := strings.Cut(c.origin, "://"); ok {
		return host
	}
	return c.facts.Host
}
