package caddymodule

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// Keys of the store: what stands behind a click id, and the row ids of its
// conversions.
const (
	clickKey       = "click/"
	conversionsKey = "conversions/"
)

// voidMark stands behind the click id of a session whose visitor has refused, from
// then on: 0, which no sealed value begins with, and Unix ms. What refuses and what
// agrees may come in any order, over several nodes too: the later one counts.
func voidMark(ms int64) []byte { return binary.BigEndian.AppendUint64([]byte{0}, uint64(ms)) }

// voidSince is voidMark's inverse; ok is false for what is none.
func voidSince(b []byte) (ms int64, ok bool) {
	if len(b) != 9 || b[0] != 0 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b[1:])), true
}

// giveClickID adds the session's click id to an answer, where consent allows one
// and the session is a visit with a row. It is good from then on: what stands
// behind it is durable. Without a store there is none, and the next call gets it.
func (c *call) giveClickID(out map[string]any) {
	consent := c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired)
	if !consent.Analytics {
		if consent.Refused() { // by a cookie or a signal: there may have been no call
			c.refuseClickIDs(c.refusedAt(consent.Source), false)
		}
		return
	}
	// What is the client's word alone must not stand for 10 days.
	if c.lost || !c.visits() || !c.app.seen.has(c.session.ID, 0) {
		return
	}
	ctx := storeDeadlines.context()
	st, err := c.engine.store.get(ctx)
	if err == nil {
		id := c.ring.OutboundClickID(&c.session)
		var good bool
		if good, err = c.claimClick(ctx, st, clickKey+id); good {
			out["click_id"] = id
		}
	}
	if err != nil {
		c.app.metrics.storeFails.Inc()
	}
}

// claimClick puts the session behind its click id, unless its visitor has refused
// since it was there. A choice of this browser's that is later lifts that: a call
// that would have may not have come through.
func (c *call) claimClick(ctx context.Context, st store.Store, key string) (good bool, err error) {
	sealed := c.sealClick()
	standing, won, err := st.Claim(ctx, key, sealed, sessionctx.OutboundClickLife)
	if err != nil || won {
		return won, err
	}
	if since, void := voidSince(standing); void {
		if choice := c.carried.Choice; c.proof == proofIDs || choice == nil || !choice.Analytics || choice.At <= since {
			return false, nil
		}
		st.Put(key, sealed, sessionctx.OutboundClickLife)
		return true, nil
	}
	_, err = c.openClick(standing)
	return err == nil, nil // a key that was revoked since may have sealed it
}

func (c *call) sealClick() []byte {
	return c.ring.SealOutboundClick(c.handler.campaign, &c.session, c.now.UnixMilli())
}

// openClick opens what stands behind a click id. What a revoked key has made is
// nothing any more, as with the session itself.
func (c *call) openClick(sealed []byte) (*sessionctx.OutboundClick, error) {
	click, err := c.ring.OpenOutboundClick(sealed)
	if err != nil {
		return nil, err
	}
	s := &click.Session
	if _, ok := c.ring.VerifySessionID(s.ID, s.Campaign, s.UserID, c.now.UnixMilli()); !ok || !c.ring.VerifyUserID(s.UserID, click.WorkspaceID) {
		return nil, sessionctx.ErrInvalidSession
	}
	return click, nil
}

// refusedAt is when the visitor refused, as the request tells, in Unix ms: a cookie
// may be on its way while a yes overtakes it.
func (c *call) refusedAt(source sessionctx.ConsentSource) int64 {
	now := c.now.UnixMilli()
	switch {
	case source == sessionctx.ConsentChoice:
		return c.carried.Choice.At
	case source == sessionctx.ConsentReference && c.carried.Reference.At > 0: // by the browser's clock
		return min(c.carried.Reference.At, now)
	}
	return now
}

// refuseClickIDs makes the click ids of the call's session and of the browser's
// void, since their visitor refused at that time (Unix ms). It waits for no
// writing; a store that is down for long may never hear of it. always is for a
// refusal that a call tells: one that may come with each call is noted where there
// is something to be void. Ids alone can't do that to anybody.
func (c *call) refuseClickIDs(at int64, always bool) {
	ctx, st := c.clickStore()
	if st == nil {
		return
	}
	for _, s := range []*sessionctx.Session{c.knownSession(), c.carried.Session} {
		if s == nil || s.UserID != c.session.UserID {
			continue
		}
		key := clickKey + c.ring.OutboundClickID(s)
		if !always {
			b, err := st.Get(ctx, key)
			if _, void := voidSince(b); void || err != nil {
				continue
			}
		}
		st.Put(key, voidMark(at), sessionctx.OutboundClickLife)
	}
}

// clickStore is where a call that decides about consent changes what stands behind
// click ids; nil where that may not be, or can't.
func (c *call) clickStore() (context.Context, store.Store) {
	ctx := storeDeadlines.context()
	if c.proof == proofIDs {
		return ctx, nil
	}
	st, err := c.engine.store.get(ctx)
	if err != nil {
		c.app.metrics.storeFails.Inc()
		return ctx, nil
	}
	return ctx, st
}

// agreeClickID is refuseClickIDs' inverse: what was void is good again.
func (c *call) agreeClickID() {
	ctx, st := c.clickStore()
	if st == nil || c.knownSession() == nil {
		return
	}
	key := clickKey + c.ring.OutboundClickID(&c.session)
	b, err := st.Get(ctx, key)
	if _, void := voidSince(b); void || errors.Is(err, store.ErrUnavailable) {
		st.Put(key, c.sealClick(), sessionctx.OutboundClickLife)
	}
}

// trackConversion takes a conversion that happened on another site, from its
// page or its server. The click id in the URL that the visitor came by says
// whose it is.
func (c *call) trackConversion() (any, error) {
	event, named, err := sessionctx.ParseConversion(c.body, c.r.Header.Get("Referer"), c.app.reader.CampaignURL)
	switch {
	case errors.Is(err, sessionctx.ErrClickID):
		return nil, refuse(http.StatusBadRequest, "missing_field", "%v", err)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "invalid_event", "%v", err)
	}
	ctx := storeDeadlines.context()
	st, err := c.engine.store.get(ctx)
	if err != nil {
		return nil, c.noClicks(err)
	}
	id, click, err := c.click(ctx, st, named)
	if err != nil {
		return nil, err
	}
	click.Tell(event, id)
	// One of a click id after the other, so that they can be counted.
	turn := conversionTurns[maphash.String(conversionSeed, id)%uint64(len(conversionTurns))]
	if turn.take(ctx) != nil {
		return nil, busy("unavailable", "conversions of this click id take too long to store: try again")
	}
	defer turn.giveBack()
	rowID, counted, err := c.conversion(ctx, st, id, &click.Session, event)
	if err != nil {
		return nil, err
	}
	row := sessionctx.AppendEventRow(nil, click.Campaign(), &click.Session, event, rowID, sessionctx.PlacementExternal, 0, c.now.UnixMilli())
	if err := c.commit(outbox.Row{Datasource: sessionctx.EventDatasource, JSON: row}); err != nil {
		return nil, err
	}
	if counted != nil { // what was not stored has used up nothing
		st.Put(conversionsKey+id, counted, sessionctx.OutboundClickLife)
	}
	return map[string]any{
		"event_id": event.ID,
		// Of a whole id anybody could speak for the session.
		"session_id":  sessionctx.WithoutMAC(click.Session.ID),
		"campaign_id": click.Session.Campaign.ID,
		"queued":      true,
	}, nil
}

// conversionTurns are had by calls about one click id.
var (
	conversionTurns = func() (turns [64]turn) {
		for i := range turns {
			turns[i] = newTurn()
		}
		return turns
	}()
	conversionSeed = maphash.MakeSeed()
)

// click finds what stands behind a click id.
func (c *call) click(ctx context.Context, st store.Store, named string) (id string, click *sessionctx.OutboundClick, err error) {
	unknown := refuse(http.StatusUnauthorized, "unknown_click_id", "click_id names no click of the last %d days, or one whose visitor has refused consent since: pass on the value of frbzz_ci as it stands in the URL", sessionctx.OutboundClickLife/(24*time.Hour))
	id, ok := sessionctx.CleanOutboundClickID(named)
	if !ok {
		return "", nil, unknown
	}
	sealed, err := st.Get(ctx, clickKey+id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", nil, unknown
	case err != nil:
		return "", nil, c.noClicks(err)
	}
	if click, err = c.openClick(sealed); err != nil {
		return "", nil, unknown
	}
	return id, click, nil
}

func (c *call) noClicks(err error) *refusal {
	c.app.metrics.storeFails.Inc()
	c.app.storeDown.Do(func() {
		c.app.log.Error("store does not answer: conversions on other sites are told to try again", zap.Error(err))
	})
	return busy("store_unavailable", "the server can't look the click id up right now: try again")
}

// conversion gives the id of a conversion's row, unless the click id has had as
// many as it is good for. counted is what the store is to hold of them when the
// row is durable, nil where it holds it already: a retry is none. A store that
// fails meanwhile costs the bound, never a conversion, and nothing is counted.
func (c *call) conversion(ctx context.Context, st store.Store, clickID string, s *sessionctx.Session, e *sessionctx.Event) (rowID string, counted []byte, err error) {
	had, err := st.Get(ctx, conversionsKey+clickID)
	unknown := err != nil && !errors.Is(err, store.ErrNotFound)
	if unknown {
		c.app.metrics.storeFails.Inc()
	}
	rowID = sessionctx.EventRowID(s, e, 0, 0)
	isRetry := func() bool { return bytes.Contains(had, []byte(rowID+" ")) }
	exhausted := bytes.Count(had, []byte(" ")) >= sessionctx.MaxConversions
	// What is refused leaves nothing in the store.
	if e.UUID == "" && (isRetry() || !exhausted) {
		rowID = sessionctx.EventRowID(s, e, 0, c.again(ctx, st, rowID, sessionctx.OutboundClickLife))
	}
	switch {
	case isRetry(), unknown:
		return rowID, nil, nil
	case exhausted:
		return "", nil, refuse(http.StatusForbidden, "too_many_conversions", "the click id has had its %d conversions: a retry with the same event_uuid is none, and the visitor's next visit has another click id", sessionctx.MaxConversions)
	}
	return rowID, append(bytes.Clone(had), rowID+" "...), nil
}
