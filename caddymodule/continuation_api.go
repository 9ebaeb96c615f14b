package caddymodule

import (
	"context"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// visitorKeyed is the consent of the call's visitor, and whether a visitor key
// may be computed. It never may for another site's page: that browser's
// refusal isn't seen there.
func (c *call) visitorKeyed(h *Handler) (consent sessionctx.Consent, ok bool) {
	if !c.sameOrigin || c.facts.Purpose.Speculative() {
		return consent, false
	}
	carried, required := c.carried, c.session.ConsentRequired
	if c.handler == nil { // nothing is proved, and nothing read yet
		carried, required = h.carried(c.r, c.ring, &c.facts, c.now), true
	}
	consent = c.consent(h, &c.facts, &carried, required)
	return consent, sessionctx.KeysVisitor(h.campaign, &c.facts, &consent, &carried)
}

// visitorDay is the column's value in the row of the call's session. It is of
// the day that the session began on, as the row's timestamp is.
func (c *call) visitorDay() string {
	consent, ok := c.visitorKeyed(c.handler)
	if !ok {
		return ""
	}
	campaign := c.handler.campaign
	keys := c.app.dayKeys.current(c.r.Context(), ringPatience)
	key, ok := keys.VisitorKey(c.session.CreatedAt, campaign.WorkspaceID, &c.facts)
	if !ok {
		return ""
	}
	c.bucket = key.Day()
	if campaign.Cookies && consent.Analytics {
		return "" // the user counts by his cookie
	}
	return c.bucket
}

// followTrail keeps up what is written down under the visitor's key: a page
// that was fetched ahead, or made by its script, shows now; the visitor has come
// into another network; or the session has just been renewed, and its successor
// counts as one of the key from now on. Ids alone say nothing about pages, nor
// whose the session is: under a key that doesn't have it yet it counts, but is
// nobody's to go on with. Else whoever read them in a log could make it the
// session of a key of his own, and have its cookies for a yes.
func (c *call) followTrail(renewed bool) {
	if c.proof == proofIDs && !renewed {
		return
	}
	h := c.handler
	if _, ok := c.visitorKeyed(h); !ok {
		return
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	key, ok := c.app.visitorKey(ctx, h.campaign, &c.facts, c.now)
	if !ok {
		return
	}
	// Under the line's own name there may be the session of somebody who came
	// when this one had ended: it counts all the same.
	t := newTrail(key)
	t.member, t.nameless = c.session.ID, c.proof == proofIDs
	shown, member, err := c.app.shown(ctx, c.engine, c.ring, h.campaign, &c.facts, t, c.now)
	if err == nil && shown != nil && shown.OriginalID == c.session.OriginalID {
		t.member, t.page, t.nameless = member, shown.Page, false
	}
	if page, ok := sessionctx.Referring(&c.facts, c.r.Header.Get("Referer")); ok && c.proof != proofIDs {
		t.page = page
	}
	c.app.keepTrail(c.engine, c.ring, h.campaign, t, &c.session, c.now)
}

// visitorSession is the one living session that the visitor key of this call
// has, whatever the call proved. Only this site's own pages have one, and only
// while the visitor hasn't refused. It proves nothing by itself: compare its
// user with the one that the call names.
func (c *call) visitorSession(ctx context.Context) (*sessionctx.Session, bool) {
	h := c.handler
	if h == nil {
		h = c.site
	}
	if h == nil {
		return nil, false
	}
	if _, ok := c.visitorKeyed(h); !ok {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	key, ok := c.app.visitorKey(ctx, h.campaign, &c.facts, c.now)
	if !ok {
		return nil, false
	}
	shown, _, err := c.app.shown(ctx, c.engine, c.ring, h.campaign, &c.facts, newTrail(key), c.now)
	if err != nil || shown == nil {
		return nil, false
	}
	s, err := c.state(shown.SessionID)
	if err != nil || s.Expired(c.now.UnixMilli()) {
		return nil, false
	}
	return s, true
}
