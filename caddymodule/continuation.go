package caddymodule

import (
	"context"
	"errors"
	"hash/maphash"
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
	key   sessionctx.VisitorKey
	group string // the key's in the store
	page  sessionctx.PageID
	// member is the name of the visitor's session under the key; empty for the
	// session's own.
	member string
	// nameless is a session that counts as one of the key, but that nobody
	// finds by it.
	nameless bool
}

func newTrail(key sessionctx.VisitorKey) *trail {
	return &trail{key: key, group: visitorPrefix + key.Index()}
}

// longestSession is the longest session_duration of all campaigns that this
// process has had, in ns.
var longestSession highest

// highest is the highest number that it was raised to.
type highest struct{ atomic.Int64 }

func (h *highest) raise(n int64) {
	for {
		old := h.Load()
		if n <= old || h.CompareAndSwap(old, n) {
			return
		}
	}
}

// longestCounts is how long a session counts at most as one of its visitor key;
// 0 before there is a campaign.
func longestCounts() time.Duration { return 2 * time.Duration(longestSession.Load()) }

// lastStore is the key of the store that the process used last, and how many
// configs use one.
var lastStore struct {
	sync.Mutex
	key   string
	users int
}

// useStore begins to use a store, and reports whether it takes the place of
// another.
func useStore(key string) (instead bool) {
	lastStore.Lock()
	defer lastStore.Unlock()
	instead = lastStore.users > 0 && key != lastStore.key
	lastStore.key = key
	lastStore.users++
	return instead
}

func leaveStore() {
	lastStore.Lock()
	defer lastStore.Unlock()
	lastStore.users--
}

// visitorKey is today's key of a visitor for whom one may be computed.
func (a *App) visitorKey(ctx context.Context, c *sessionctx.Campaign, f *sessionctx.Facts, now time.Time) (sessionctx.VisitorKey, bool) {
	key, ok := a.dayKeys.current(ctx, ringPatience).VisitorKey(now.UnixMilli(), c.WorkspaceID, f)
	if !ok {
		a.blind.raise(now.Add(2 * c.SessionDuration).UnixMilli())
		e := a.engine()
		defer e.release()
		a.tellBlind(e, now)
	}
	return key, ok
}

// tellBlind tells the store for how long this node is blind: to others whom it
// does not know of look alone, too.
func (a *App) tellBlind(e engine, now time.Time) {
	left := time.Duration(a.blind.Load()-now.UnixMilli()) * time.Millisecond
	if left <= 0 {
		return
	}
	select {
	case <-e.store.ready:
		e.store.value.Lack(left)
	default: // a later page will
	}
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
	t := newTrail(key)
	t.page = arrival.Page
	in.Visitor = &t.key
	// Where nothing is injected no page is written down either; what this node
	// has not shown to the visitor it need not look for to show it again.
	if h.Inject == "off" || !arrival.MayContinue(&in.Carried) {
		return t
	}
	e := h.app.engine()
	defer e.release()
	met := t.met(e, in.Now)
	if met == 0 && arrival.MayOnlyReload() {
		return t
	}
	why := sessionctx.ContinuedSeveral
	if met < 2 {
		why = t.find(ctx, h.app, e, in, &arrival)
	}
	h.app.metrics.continued.WithLabelValues(string(why)).Inc()
	return t
}

// groupMemory is a store that has the groups in memory.
type groupMemory interface {
	// Living is how many members of the key's group are living; 2 stands for
	// more.
	Living(key string) int
}

// met is how many sessions of the key still count, as far as this node knows;
// 2 stands for more. It waits for nothing.
func (t *trail) met(e engine, now time.Time) int {
	select {
	case <-e.store.ready:
	default:
		return 0
	}
	if m, ok := e.store.value.(groupMemory); ok {
		return m.Living(t.group)
	}
	return visitorsMet.living(&t.key, now.UnixMilli())
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
	shown, member, err := a.shown(ctx, e, in.Ring, in.Campaign, in.Facts, t, in.Now)
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
func (a *App) shown(ctx context.Context, e engine, ring *sessionctx.Ring, c *sessionctx.Campaign, f *sessionctx.Facts, today *trail, now time.Time) (*sessionctx.Shown, string, error) {
	if now.UnixMilli() < a.blind.Load() {
		return nil, "", store.ErrUnavailable
	}
	select {
	case <-e.store.ready:
	default:
		return nil, "", store.ErrUnavailable
	}
	keys := []sessionctx.VisitorKey{today.key}
	names := []string{today.group}
	// Of yesterday, what counts still counts for a while after midnight.
	midnight := now.Truncate(24 * time.Hour) // UTC
	if now.Sub(midnight) <= longestCounts() {
		if y, ok := a.dayKeys.keys.Load().VisitorKey(midnight.UnixMilli()-1, c.WorkspaceID, f); ok {
			keys, names = append(keys, y), append(names, visitorPrefix+y.Index())
		}
	}
	m, err := e.store.value.Sole(ctx, names...)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrSeveral) && !errors.Is(err, store.ErrUnsure) {
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
		a.tellBlind(e, now)
	default:
		a.blind.raise(now.Add(ttl).UnixMilli())
		return
	}
	member := t.member
	if member == "" {
		member = s.OriginalID
	}
	if _, ok := e.store.value.(groupMemory); !ok {
		visitorsMet.add(&t.key, member, now.Add(ttl).UnixMilli())
	}
	var sealed []byte
	if !t.nameless {
		sealed = ring.SealShown(&t.key, &sessionctx.Shown{Page: t.page, SessionID: s.ID, OriginalID: s.OriginalID}, now.UnixMilli())
	}
	e.store.value.Join(t.group, member, sealed, ttl)
}

// visitorsMet are the visitors whose pages this process has served of late, over
// reloads too, where the store can't say at once.
var visitorsMet = newMet()

// met remembers, for each visitor key, the two sessions that count longest of
// those that this node has given out: enough to know that there are several
// without a look into the store. It forgets keys, and is empty at first.
type met struct {
	seed maphash.Seed

	mu sync.Mutex
	recent[[8]byte, metPair]
}

type metPair struct {
	members [2]uint64 // hashes of their names
	until   [2]int64  // Unix ms
}

const metGeneration = 50_000

func newMet() *met {
	return &met{seed: maphash.MakeSeed(), recent: newRecent[[8]byte, metPair](metGeneration)}
}

// living is how many sessions of the key still count, as far as this node
// knows; 2 stands for more.
func (m *met) living(k *sessionctx.VisitorKey, now int64) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, _ := m.get([8]byte(k[:]))
	for _, until := range p.until {
		if until > now {
			n++
		}
	}
	return n
}

func (m *met) add(k *sessionctx.VisitorKey, member string, until int64) {
	h := maphash.String(m.seed, member)
	m.mu.Lock()
	defer m.mu.Unlock()
	p, _ := m.get([8]byte(k[:]))
	if p.members[0] == h {
		p.until[0] = max(p.until[0], until)
	} else if at := 1; p.members[at] == h || until > p.until[at] {
		p.members[at], p.until[at] = h, max(until, p.until[at])
	}
	if p.until[1] > p.until[0] { // the longer one first
		p.members[0], p.members[1] = p.members[1], p.members[0]
		p.until[0], p.until[1] = p.until[1], p.until[0]
	}
	m.put([8]byte(k[:]), p)
}

// keep writes down what later requests need to know of the page's session, and
// of the page, unless it may never be seen. A new session of a page that is
// fetched ahead is counted under the visitor key all the same: once somebody
// looks at the page, before its script has said so, a link in it must not lead
// to the session of the only other one there. (What the browser throws away to
// ask again is nobody's page.)
func (v *view) keep(e engine) {
	a, c, s := v.handler.app, v.handler.campaign, &v.visit.Session
	if v.visit.NeedsState() {
		a.keepState(e, v.ring, c, s, v.now)
	}
	switch {
	case v.trail == nil:
	case !v.facts.Purpose.Speculative():
		a.keepTrail(e, v.ring, c, v.trail, s, v.now)
	case v.visit.New && v.facts.Purpose != sessionctx.PurposeRetried:
		a.keepTrail(e, v.ring, c, &trail{key: v.trail.key, group: v.trail.group, nameless: true}, s, v.now)
	}
}

// visitorDay is the column's value: of visitors without cookies, at pages that
// are looked at.
func (v *view) visitorDay() {
	if v.trail != nil && !v.visit.CookiesAllowed && !v.facts.Purpose.Speculative() {
		v.facts.VisitorDay = v.trail.key.Day()
	}
}
