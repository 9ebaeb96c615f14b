package caddymodule

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// continuePatience is how long a page waits for the store to say which session
// it goes on with. After that it gets a new one.
const continuePatience = 20 * time.Millisecond

const visitorPrefix = "visitor/"

// trail is how a visitor without cookies is found again.
type trail struct {
	key  sessionctx.VisitorKey
	page sessionctx.PageID
	// member is the name of the visitor's session under the key; empty for the
	// session's own.
	member string
	// nameless is a session that counts as one of the key, but that nobody
	// finds by it.
	nameless bool
}

// blind is until when (Unix ms) this node finds nobody: sessions that it could
// not write down still live, so one that looks alone may not be.
type blind struct{ until atomic.Int64 }

func (b *blind) extend(until int64) {
	for {
		old := b.until.Load()
		if until <= old || b.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// visitorKey is today's key of a visitor for whom one may be computed.
func (a *App) visitorKey(ctx context.Context, c *sessionctx.Campaign, f *sessionctx.Facts, now time.Time) (sessionctx.VisitorKey, bool) {
	key, ok := a.dayKeys.current(ctx, ringPatience).VisitorKey(now.UnixMilli(), c.WorkspaceID, f)
	if !ok {
		a.blind.extend(now.Add(2 * c.SessionDuration).UnixMilli())
	}
	return key, ok
}

// trail computes the visitor key of a page's request, if it may have one, and
// finds the session that the page goes on with.
func (h *Handler) trail(ctx context.Context, in *sessionctx.Input, target *url.URL, referer, cacheControl string) *trail {
	c, f := in.Campaign, in.Facts
	if !sessionctx.KeysVisitor(c, f, &in.Consent, &in.Carried) {
		return nil
	}
	key, ok := h.app.visitorKey(ctx, c, f, in.Now)
	if !ok {
		return nil
	}
	path := target.EscapedPath()
	if target.RawQuery != "" {
		path += "?" + target.RawQuery
	}
	arrival := sessionctx.NewArrival(f, path, referer, cacheControl)
	t := &trail{key: key, page: arrival.Page}
	in.Visitor = &t.key
	// Where nothing is injected no page is written down either; what this node
	// has not shown to the visitor it need not look for to show it again.
	if h.Inject == "off" || !arrival.MayContinue(&in.Carried) ||
		arrival.MayOnlyReload() && !visitorsMet.has(&t.key) {
		return t
	}
	e := h.app.engine()
	defer e.release()
	why := t.find(ctx, h.app, e, in, &arrival)
	h.app.metrics.continued.WithLabelValues(string(why)).Inc()
	return t
}

// Outcomes beside those of sessionctx.
const (
	continueTimeout     = sessionctx.Continuation("timeout")
	continueUnavailable = sessionctx.Continuation("unavailable")
)

// find asks the store for the only session of the visitor key.
func (t *trail) find(ctx context.Context, a *App, e engine, in *sessionctx.Input, arrival *sessionctx.Arrival) sessionctx.Continuation {
	ctx, cancel := context.WithTimeout(ctx, continuePatience)
	defer cancel()
	shown, member, err := a.shown(ctx, e, in.Ring, in.Campaign, in.Facts, t.key, in.Now)
	switch {
	case err == nil:
	case errors.Is(err, store.ErrNotFound):
		return sessionctx.ContinuedNone
	case errors.Is(err, store.ErrSeveral):
		return sessionctx.ContinuedSeveral
	case errors.Is(err, context.DeadlineExceeded):
		return continueTimeout
	default:
		return continueUnavailable
	}
	if shown == nil || !arrival.Follows(shown) { // nil: one that nobody may go on with
		return sessionctx.ContinuedMismatch
	}
	s, err := a.state(ctx, e.store.value, in.Ring, shown.SessionID)
	switch {
	case err == nil, errors.Is(err, store.ErrNotFound):
	case errors.Is(err, context.DeadlineExceeded):
		return continueTimeout
	default:
		return continueUnavailable
	}
	why := in.Ring.Continue(in.Campaign, s, in.Now.UnixMilli())
	switch why {
	case sessionctx.Continued:
		in.Continued, t.member = s, member
	case sessionctx.ContinuedEnded:
		t.member = member // the new session takes its place
	}
	return why
}

// shown is the only session that the visitor's keys of today and yesterday
// have, and its name under them. A nil one without an error is one that is
// there, but not for going on with. Nobody waits for a store to open.
func (a *App) shown(ctx context.Context, e engine, ring *sessionctx.Ring, c *sessionctx.Campaign, f *sessionctx.Facts, today sessionctx.VisitorKey, now time.Time) (*sessionctx.Shown, string, error) {
	if now.UnixMilli() < a.blind.until.Load() {
		return nil, "", store.ErrUnavailable
	}
	select {
	case <-e.store.ready:
	default:
		return nil, "", store.ErrUnavailable
	}
	keys := []sessionctx.VisitorKey{today}
	names := []string{visitorPrefix + today.Index()}
	if y, ok := a.dayKeys.keys.Load().VisitorKey(now.UnixMilli()-24*time.Hour.Milliseconds(), c.WorkspaceID, f); ok {
		keys, names = append(keys, y), append(names, visitorPrefix+y.Index())
	}
	m, err := e.store.value.Sole(ctx, names...)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrSeveral) {
			a.metrics.storeFails.Inc()
		}
		return nil, "", err
	}
	shown, err := ring.OpenShown(m.Value, keys...)
	if err != nil {
		return nil, m.Name, nil
	}
	return shown, m.Name, nil
}

// keepTrail writes down which session the visitor was given, and with which
// page. It waits for nothing.
func (a *App) keepTrail(e engine, ring *sessionctx.Ring, c *sessionctx.Campaign, t *trail, s *sessionctx.Session, now time.Time) {
	ttl := sessionctx.CountsFor(c, s, now.UnixMilli())
	select {
	case <-e.store.ready:
	default:
		a.blind.extend(now.Add(ttl).UnixMilli())
		return
	}
	member := t.member
	if member == "" {
		member = s.OriginalID
	}
	visitorsMet.add(&t.key)
	var sealed []byte
	if !t.nameless {
		sealed = ring.SealShown(&t.key, &sessionctx.Shown{Page: t.page, SessionID: s.ID}, now.UnixMilli())
	}
	e.store.value.Join(visitorPrefix+t.key.Index(), member, sealed, ttl)
}

// visitorsMet are the visitor keys of the pages that this process has served
// of late, over reloads too.
var visitorsMet = newMet()

// met forgets, and is empty at first: then a reload may be a new session.
type met struct {
	mu         sync.Mutex
	young, old map[[8]byte]struct{}
}

const metGeneration = 50_000

func newMet() *met { return &met{young: map[[8]byte]struct{}{}} }

func (m *met) has(k *sessionctx.VisitorKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, young := m.young[[8]byte(k[:])]
	_, old := m.old[[8]byte(k[:])]
	return young || old
}

func (m *met) add(k *sessionctx.VisitorKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.young) >= metGeneration {
		m.old, m.young = m.young, map[[8]byte]struct{}{}
	}
	m.young[[8]byte(k[:])] = struct{}{}
}

// keep writes down what later requests need to know of the page's session, and
// of the page, unless it may never be seen.
func (v *view) keep(e engine) {
	a, c, s := v.handler.app, v.handler.campaign, &v.visit.Session
	if v.visit.NeedsState() {
		a.keepState(e, v.ring, c, s, v.now)
	}
	if v.trail != nil && !v.facts.Purpose.Speculative() {
		a.keepTrail(e, v.ring, c, v.trail, s, v.now)
	}
}

// visitorDay is the column's value: of visitors without cookies, at pages that
// are looked at.
func (v *view) visitorDay() {
	if v.trail != nil && !v.visit.CookiesAllowed && !v.facts.Purpose.Speculative() {
		v.facts.VisitorDay = v.trail.key.Day()
	}
}
