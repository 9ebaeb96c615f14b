package caddymodule

import (
	"bytes"
	"context"
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

// void stands behind the click id of a session whose visitor has refused. It is
// no sealed value, which is longer.
var void = []byte{0}

// giveClickID adds the session's click id to an answer, where consent allows one
// and the session is a visit with a row. It is good from then on: what stands
// behind it is durable. Without a store there is none, and the next call gets it.
func (c *call) giveClickID(out map[string]any) {
	consent := c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired)
	if !consent.Analytics {
		if consent.Refused() {
			c.endClickIDs() // by a cookie or a signal: there may have been no call
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
// since it was there.
func (c *call) claimClick(ctx context.Context, st store.Store, key string) (good bool, err error) {
	sealed := c.ring.SealOutboundClick(c.handler.campaign, &c.session, c.now.UnixMilli())
	for range 2 {
		standing, won, err := st.Claim(ctx, key, sealed, sessionctx.OutboundClickLife)
		if err != nil || won {
			return won, err
		}
		if bytes.Equal(standing, void) {
			return false, nil
		}
		if _, err := c.ring.OpenOutboundClick(standing); err == nil {
			return true, nil
		}
		// A key that was revoked had sealed it.
		if err := st.Delete(ctx, key); err != nil {
			return false, err
		}
	}
	return false, nil
}

// endClickIDs makes the click ids of the call's session and of the browser's void,
// since their visitor refuses. It waits for nothing; where the store is down for
// long, it may not come to pass. Ids alone can't do that to anybody.
func (c *call) endClickIDs() {
	c.ofClickIDs(func(st store.Store, key string) {
		if b, err := st.Get(storeDeadlines.context(), key); err == nil && !bytes.Equal(b, void) || errors.Is(err, store.ErrUnavailable) {
			st.Put(key, void, sessionctx.OutboundClickLife)
		}
	})
}

// liftClickIDs undoes endClickIDs, since the visitor has agreed.
func (c *call) liftClickIDs() {
	c.ofClickIDs(func(st store.Store, key string) {
		ctx := storeDeadlines.context()
		b, err := st.Get(ctx, key)
		if err == nil && bytes.Equal(b, void) {
			err = st.Delete(ctx, key)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			c.app.metrics.storeFails.Inc()
		}
	})
}

func (c *call) ofClickIDs(do func(st store.Store, key string)) {
	if c.proof == proofIDs {
		return
	}
	st, err := c.engine.store.get(storeDeadlines.context())
	if err != nil {
		c.app.metrics.storeFails.Inc()
		return
	}
	for _, s := range []*sessionctx.Session{c.knownSession(), c.carried.Session} {
		if s != nil && s.UserID == c.session.UserID {
			do(st, clickKey+c.ring.OutboundClickID(s))
		}
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
	if click, err = c.ring.OpenOutboundClick(sealed); err != nil {
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
// fails meanwhile costs the bound, never a conversion.
func (c *call) conversion(ctx context.Context, st store.Store, clickID string, s *sessionctx.Session, e *sessionctx.Event) (rowID string, counted []byte, err error) {
	had, err := st.Get(ctx, conversionsKey+clickID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
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
	case isRetry():
		return rowID, nil, nil
	case exhausted:
		return "", nil, refuse(http.StatusForbidden, "too_many_conversions", "the click id has had its %d conversions: a retry with the same event_uuid is none, and the visitor's next visit has another click id", sessionctx.MaxConversions)
	}
	return rowID, append(bytes.Clone(had), rowID+" "...), nil
}
