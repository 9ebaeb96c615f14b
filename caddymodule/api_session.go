package caddymodule

import (
	"crypto/rand"
	"errors"
	"math"
	"net/http"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// init is a page's first sign of life. It is idempotent.
func (c *call) init() (any, error) {
	if err := c.signOfLife(); err != nil {
		return nil, err
	}
	out := map[string]any{
		"session_id":               c.session.ID,
		"expires_at":               c.session.ExpiresAt,
		"session_duration_minutes": atLeastOne(c.handler.campaign.SessionDuration.Minutes()),
	}
	c.giveClickID(out)
	return out, nil
}

// validate says whether a session lives, for clients that ask; the answer is
// at the top level, and a success whatever it says. Nothing is made or renewed.
func (c *call) validate() (any, error) {
	named := c.body.Text("session_id", maxID)
	answer := func(valid bool, reason string) (any, error) {
		return wholeAnswer{"valid": valid, "reason": reason}, nil
	}
	var why *refusal
	switch err := c.prove(named); {
	case errors.As(err, &why):
		switch why.code {
		case "invalid_session", "unknown_campaign", "campaign_mismatch", "user_mismatch":
			return answer(false, "not_found")
		case "store_unavailable":
			return answer(false, "error")
		}
		return nil, err
	case err != nil:
		return nil, err
	case c.session.Expired(c.now.UnixMilli()), named != "" && named != c.session.ID: // a cookie proves its successor
		return answer(false, "expired")
	}
	return answer(true, "valid")
}

// trackSession takes the client's part of a session row. All of that row is
// the server's knowledge; the call is a sign of life.
func (c *call) trackSession() (any, error) {
	return struct{}{}, c.signOfLife()
}

// signOfLife makes the row that the call's session owes.
func (c *call) signOfLife() error {
	if err := c.prove(c.body.Text("session_id", maxID)); err != nil {
		return err
	}
	named := c.session.ID
	if err := c.living(); err != nil {
		return err
	}
	if c.session.ID == named {
		c.followTrail(false)
	}
	c.cookies = true
	return c.commitSession()
}

// renew gives the successor of an expired session; one that lives comes back
// as it is. The same old session always gets the same successor.
func (c *call) renew() (any, error) {
	old := c.body.Text("old_session_id", maxID)
	if old == "" {
		old = c.body.Text("session_id", maxID)
	}
	if err := c.prove(old); err != nil {
		return nil, err
	}
	lives := !c.session.Expired(c.now.UnixMilli())
	if err := c.settle(); err != nil {
		return nil, err
	}
	if lives {
		c.app.metrics.renewals.WithLabelValues("living").Inc()
	} else if err := c.commitSession(); err != nil {
		// The claim is durable, the row is to be: then the answer.
		return nil, err
	}
	c.cookies = true
	s := &c.session
	test := s.Test()
	out := map[string]any{
		"session_id":                s.ID,
		"user_id":                   s.UserID,
		"expires_at":                s.ExpiresAt,
		"ab_test_id":                orNull(test.TestID),
		"ab_test_variant_id":        orNull(test.VariantID),
		"session_duration_minutes":  atLeastOne(c.handler.campaign.SessionDuration.Minutes()),
		"attribution_duration_days": atLeastOne(c.handler.campaign.AttributionWindow.Hours() / 24),
		"attribution_preserved":     s.Attribution.Source == sessionctx.AttributionServer,
	}
	c.giveClickID(out)
	if c.proof == proofIDs {
		return out, nil
	}
	out["token"] = c.ring.SealToken(s, c.now.UnixMilli())
	out["created_at"] = s.CreatedAt
	out["segment_id"] = orNull(s.SegmentID)
	out["renewal_count"] = s.RenewalCount
	out["original_session_id"] = s.OriginalID
	out["original_timestamp"] = s.OriginalAt
	if s.RenewalCount > 0 {
		out["last_renewal_at"] = s.CreatedAt
	}
	return out, nil
}

// atLeastOne rounds: a client that reads 0 takes it for no duration at all.
func atLeastOne(v float64) int { return max(1, int(math.Round(v))) }

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// visits reports whether the call makes a visit of its session. The script of a
// page that is prerendered gives no sign of life: nobody may ever look at it. Nor
// is it a visit that a page stands in another site's frame, until the visitor
// does something there. The first call after that owes the row.
func (c *call) visits() bool {
	return !c.facts.Purpose.Speculative() && (!c.session.Framed || c.acted)
}

// sessionRow is the row that the call's session still owes, if it does.
func (c *call) sessionRow() []outbox.Row {
	if !c.visits() || c.app.seen.has(c.session.ID, 0) {
		return nil
	}
	c.facts.VisitorDay = c.visitorDay()
	return []outbox.Row{{
		Datasource: sessionctx.SessionDatasource,
		JSON:       sessionctx.AppendSessionRow(make([]byte, 0, 2048), c.handler.campaign, &c.session, &c.facts),
	}}
}

func (c *call) commitSession() error {
	rows := c.sessionRow()
	if err := c.commit(rows...); err != nil {
		return err
	}
	c.committed()
	return nil
}

// committed is called when the session's row is durable.
func (c *call) committed() {
	if !c.visits() {
		return // there was none
	}
	first := c.app.seen.add(c.session.ID, 0)
	if c.lost {
		// What could be put together is kept, for calls that bring less.
		c.app.keepState(c.engine, c.ring, c.handler.campaign, &c.session, c.now)
		return // its variant is the client's word
	}
	if !first {
		return
	}
	subject := c.session.UserID
	if c.bucket != "" {
		subject = c.bucket
	}
	c.app.countDrawn(&c.session, subject, atScript)
}

// context answers with the document that pages are injected with, for pages
// that were not: restored from a cache, or served with a loader.
func (c *call) context() (any, error) {
	h, err := c.contextHandler()
	if err != nil {
		return nil, err
	}
	if err := c.allowed(h); err != nil {
		return nil, err
	}
	// The page is what was visited, not this resource.
	facts := c.facts
	facts.Touch, facts.FromWithin = sessionctx.Touch{}, false
	if page := c.r.Header.Get("Referer"); page != "" {
		facts.Touch = c.app.reader.TouchFromURL(page, c.now)
	}
	v := newView(h, c.r, facts, c.now)
	c.published = h
	if c.sameOrigin {
		c.carried = h.carried(c.r, c.ring, &v.facts, c.now)
	}
	in := sessionctx.Input{
		Ring:     c.ring,
		Campaign: h.campaign,
		Facts:    &v.facts,
		Carried:  c.carried,
		Consent:  c.consent(h, &v.facts, &c.carried, c.carried.Session != nil && c.carried.Session.ConsentRequired),
		Now:      c.now,
		Random:   rand.Reader,
	}
	if !c.sameOrigin {
		in.NoCookies = true
	} else if sessionctx.KeysVisitor(h.campaign, &v.facts, &in.Consent, &in.Carried) {
		// The page that asks may be the visitor's first, and another's last:
		// so no session is continued.
		if key, ok := c.app.visitorKey(c.r.Context(), h.campaign, &v.facts, c.now); ok {
			in.Visitor = &key
		}
	}
	visit, err := sessionctx.Identify(in)
	if err != nil {
		return nil, err
	}
	v.visit = visit
	v.publishVisit()
	c.assign(h, v)
	c.recoverFirstTouch(h, &visit.Session)
	setCookies(c.w.Header(), visit, c.ring, &v.facts, c.now)
	if visit.NeedsState() {
		c.app.keepState(c.engine, c.ring, h.campaign, &visit.Session, c.now)
	}
	doc := sessionctx.Document{
		Visit:      visit,
		Facts:      &v.facts,
		Token:      c.ring.SealToken(&visit.Session, c.now.UnixMilli()),
		APIBaseURL: h.baseURL(&v.facts),
		Now:        c.now,
	}
	body, contentType := doc.Append(nil), "application/json"
	if c.name == "session/context.js" {
		body, contentType = doc.AppendStatement(nil, h.variable), "text/javascript"
	}
	c.write(http.StatusOK, contentType, body)
	c.app.metrics.answers.WithLabelValues(c.name, "ok").Inc()
	return nil, nil
}
