package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// Keys of the store: what stands behind a click id, and the row ids of its
// conversions.
const (
	clickKey      = "click/"
	conversionKey = "conversion/"
)

// giveClickID adds the session's click id to an answer, where consent allows
// one. It is good from then on: what stands behind it is durable. Without a
// store there is none, and the next call gets it.
func (c *call) giveClickID(out map[string]any) {
	if c.facts.Purpose.Speculative() || !c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired).Analytics {
		return
	}
	ctx := storeDeadlines.context()
	st, err := c.engine.store.get(ctx)
	id := c.ring.OutboundClickID(&c.session)
	if err == nil {
		sealed := c.ring.SealOutboundClick(c.handler.campaign, &c.session, c.now.UnixMilli())
		_, _, err = st.Claim(ctx, clickKey+id, sealed, sessionctx.OutboundClickLife)
	}
	if err != nil {
		c.app.metrics.storeFails.Inc()
		return
	}
	out["click_id"] = id
}

// endClickID makes the session's click id void, when its visitor refuses.
func (c *call) endClickID() {
	ctx := storeDeadlines.context()
	st, err := c.engine.store.get(ctx)
	if err == nil {
		err = st.Delete(ctx, clickKey+c.ring.OutboundClickID(&c.session))
	}
	if err != nil {
		c.app.metrics.storeFails.Inc()
		c.app.log.Error("a visitor refused, and the click id of the session could not be removed: conversions on other sites may count for it until it ends", zap.Error(err))
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
	s := &click.Session
	again := 0
	if event.UUID == "" {
		again = c.again(ctx, st, sessionctx.EventRowID(s, event, 0, 0), sessionctx.OutboundClickLife)
	}
	rowID := sessionctx.EventRowID(s, event, 0, again)
	if !c.mayConvert(ctx, st, id, rowID) {
		return nil, refuse(http.StatusForbidden, "too_many_conversions", "the click id has had its %d conversions", sessionctx.MaxConversions)
	}
	row := sessionctx.AppendEventRow(nil, click.Campaign(), s, event, rowID, sessionctx.PlacementExternal, 0, c.now.UnixMilli())
	if err := c.commit(outbox.Row{Datasource: sessionctx.EventDatasource, JSON: row}); err != nil {
		return nil, err
	}
	return map[string]any{
		"event_id":    event.ID,
		"session_id":  s.ID,
		"campaign_id": s.Campaign.ID,
		"queued":      true,
	}, nil
}

// click finds what stands behind a click id.
func (c *call) click(ctx context.Context, st store.Store, named string) (id string, click *sessionctx.OutboundClick, err error) {
	unknown := refuse(http.StatusUnauthorized, "unknown_click_id", "click_id names no click of the last %d days: pass on the value of frbzz_ci as it stands in the URL", sessionctx.OutboundClickLife/(24*time.Hour))
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

// mayConvert reports whether a click id is good for the conversion: it is among
// its first ones, or a retry of one of these. Places are claimed, so that one of
// all nodes gets each, and a crash loses none. A store that fails meanwhile costs
// the bound, never a conversion.
func (c *call) mayConvert(ctx context.Context, st store.Store, clickID, rowID string) bool {
	for place := range sessionctx.MaxConversions {
		standing, won, err := st.Claim(ctx, conversionKey+clickID+"/"+strconv.Itoa(place), []byte(rowID), sessionctx.OutboundClickLife)
		if err != nil {
			c.app.metrics.storeFails.Inc()
			return true
		}
		if won || string(standing) == rowID {
			return true
		}
	}
	return false
}
