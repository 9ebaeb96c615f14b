package tests

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// storeFault is something that a store does to its nodes.
type storeFault struct {
	name       string
	begin, end func(*redis, []*holder)
	// silent: no call is answered, so that after some none is sent.
	silent bool
	// slow: all work is done, but later than a page waits.
	slow bool
	// reads are answered in time.
	reads bool
}

var storeFaults = []storeFault{
	{
		name: "killed", silent: true,
		begin: func(r *redis, _ []*holder) { r.kill() },
		end:   func(r *redis, _ []*holder) { r.start() },
	},
	{
		name: "stopped", silent: true,
		begin: func(r *redis, _ []*holder) { _ = r.cmd.Process.Signal(syscall.SIGSTOP) },
		end:   func(r *redis, _ []*holder) { _ = r.cmd.Process.Signal(syscall.SIGCONT) },
	},
	{
		name: "slower than calls wait", silent: true,
		begin: func(_ *redis, ways []*holder) { eachWay(ways, 3*time.Second) },
		end:   func(_ *redis, ways []*holder) { eachWay(ways, 0) },
	},
	{
		name: "slower than pages wait", slow: true,
		begin: func(_ *redis, ways []*holder) { eachWay(ways, 40*time.Millisecond) },
		end:   func(_ *redis, ways []*holder) { eachWay(ways, 0) },
	},
	{
		name: "full", reads: true,
		begin: func(r *redis, _ []*holder) { r.do("CONFIG SET maxmemory 1") },
		end:   func(r *redis, _ []*holder) { r.do("CONFIG SET maxmemory 0") },
	},
}

func eachWay(ways []*holder, delay time.Duration) {
	for _, w := range ways {
		w.slow(delay)
	}
}

// storeWalk goes on while a store fails and heals, again and again.
type storeWalk struct {
	*fleet
	t    testing.TB
	ways []*holder
	n    int
	// known has a session of before the faults, and the last number that the
	// store gave to an event of it.
	known *sessionContext
	last  int
}

// TestNodesWithoutTheirStore: whatever becomes of Redis, each node's pages go
// out, events are taken and delivered, and all nodes renew a session to the same
// one; the operator is told; a store that is silent is asked no more; and all
// that ends by itself.
func TestNodesWithoutTheirStore(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	w := &storeWalk{t: t}
	var stores []string
	for range 2 {
		way := holdBack(t, "127.0.0.1:"+r.port)
		w.ways = append(w.ways, way)
		stores = append(stores, "redis redis://"+way.addr+"/0")
	}
	w.fleet = newFleet(t, "10m", stores...)
	w.known = newVisitor(t, w.nodes[0].site, desktop, false).visit("/?utm_source=google")
	eventually(t, 60*time.Second, "visitors without cookies are known at the other node", func() error {
		if v, s := w.someone(w.nodes[0]); !w.goesOn(v, s, w.nodes[1]) {
			return fmt.Errorf("they aren't")
		}
		return nil
	})
	for _, fault := range storeFaults {
		t.Run(fault.name, func(t *testing.T) {
			w.t, w.fleet.t = t, t
			w.through(&fault, r)
		})
	}
	t.Run("restarted empty", func(t *testing.T) {
		w.t, w.fleet.t = t, t
		w.forgotten(r)
	})
	w.delivered()
}

func (w *storeWalk) expired() *minted {
	return mint(w.t, w.nodes[0].ring(), "cmp_1", 12*time.Minute, 10*time.Minute)
}

// renewed is the session that all nodes make of a token, with one span if none
// of them had to do without its store meanwhile.
func (w *storeWalk) renewed(token string) string {
	w.t.Helper()
	derived := func() (n float64) {
		for _, c := range w.nodes {
			n += c.metric(`caddy_session_context_renewals_total{outcome="derived"}`)
		}
		return n
	}
	before, first := derived(), ""
	for _, c := range w.nodes {
		got := renewedBy(w.t, c, map[string]any{"token": token})
		if first == "" {
			first = got
		}
		if got != first && (sessionOf(got) != sessionOf(first) || derived() == before) {
			w.t.Errorf("one node renewed to %s, another to %s", first, got)
		}
	}
	return sessionOf(first)
}

// sessionOf is the id in what renewedBy tells.
func sessionOf(renewed string) string { return strings.Fields(renewed)[0] }

// someone is a visitor without cookies, on the index page.
func (w *storeWalk) someone(c *caddy) (*visitor, *sessionContext) {
	w.n++
	v := newVisitor(w.t, c.site, fmt.Sprint(desktop, asked, w.n), false)
	v.host = fleetHost
	return v, v.visit("/?utm_source=before")
}

// goesOn reports whether the next page, at another node, is the same session's.
func (w *storeWalk) goesOn(v *visitor, s *sessionContext, at *caddy) bool {
	w.t.Helper()
	v.site = at.site
	next := v.visit("/a.html", v.from("/?utm_source=before")...)
	return next.Session.SessionID == s.Session.SessionID
}

// mayGoOn is goesOn for a store that answers: it does, unless the node says why
// not. A page waits only so long, and what could not be written for half a minute
// makes a node unsure of who is alone.
func (w *storeWalk) mayGoOn(v *visitor, s *sessionContext, at *caddy) {
	w.t.Helper()
	excuses := func() float64 {
		return at.continuations("timeout") + at.continuations("unavailable") + at.continuations("none")
	}
	before := excuses()
	if !w.goesOn(v, s, at) && excuses() == before {
		w.t.Error("a visitor without cookies has a new session, and the node does not say why")
	}
}

func (w *storeWalk) through(fault *storeFault, r *redis) {
	t := w.t
	nodes := w.nodes
	w.works("before")
	before := w.expired()
	settled := w.renewed(before.token())
	v, s := w.someone(nodes[0])
	r.has(s)

	fault.begin(r, w.ways)
	// Healed whatever fails below, or the next fault would begin in this one.
	healed := false
	defer func() {
		if !healed {
			fault.end(r, w.ways)
		}
	}()
	for _, c := range nodes {
		newVisitor(t, c.site, iPhone, true).visit("/")
	}
	if fault.reads {
		w.mayGoOn(v, s, nodes[1])
	} else if w.goesOn(v, s, nodes[1]) {
		t.Error("a page found its session in a store that does not answer in time")
	}
	during := w.expired()
	for _, c := range nodes {
		if n := w.event(c, w.known); (n > 0) != fault.slow {
			t.Errorf("an event has the number %d", n)
		} else if n > 0 {
			w.last = w.higher(n)
		}
	}
	derived := w.renewed(during.token())
	if want, err := during.RenewDerived(during.ring, during.campaign, time.Now().UnixMilli()); err != nil || derived != want.ID {
		t.Errorf("the nodes renewed to %s, want %s: %v", derived, want.ID, err)
	}
	for i, c := range nodes {
		if fault.slow {
			continue
		}
		if fault.silent {
			w.spared(c, w.ways[i])
		}
		st, code := c.status()
		if code != 1 || len(st.Warnings) != 1 || st.Warnings[0].Code != "store_failing" || (st.Store.Trouble != "") != (fault.silent || fault.reads) {
			t.Errorf("status says, with exit code %d: %+v", code, st)
		}
		if c.metric("caddy_session_context_store_errors_total") == 0 || c.metric(`caddy_session_context_renewals_total{outcome="derived"}`) == 0 {
			t.Error("metrics don't say that the store fails")
		}
	}

	fault.end(r, w.ways)
	healed = true
	w.works("after")
	// Lines go on as one, and what was settled before still is.
	if again := w.renewed(before.token()); again != settled {
		t.Errorf("before %s, after %s", settled, again)
	}
	if again := w.renewed(during.token()); again != derived {
		t.Errorf("during %s, after %s", derived, again)
	}
	for _, c := range nodes {
		// What a server refused is told for a minute.
		if st, _ := c.status(); st.Store.Trouble != "" && !fault.reads {
			t.Errorf("after it, status still says %q", st.Store.Trouble)
		}
	}
}

// spared: a node that has had no answer for a while sends nothing more for the
// sake of a call.
func (w *storeWalk) spared(c *caddy, way *holder) {
	w.t.Helper()
	eventually(w.t, 30*time.Second, "the node takes its store for silent", func() error {
		w.event(c, w.known)
		if st, _ := c.status(); st.Store.Trouble == "" {
			return fmt.Errorf("it doesn't")
		}
		return nil
	})
	const numbers = "INCRBY"
	before := way.asked.count(numbers)
	for range 20 {
		w.event(c, w.known)
	}
	if after := way.asked.count(numbers); after != before {
		w.t.Errorf("for 20 events a silent store was asked for %d numbers", after-before)
	}
}

// higher holds a number against the last one of the known session.
func (w *storeWalk) higher(n int) int {
	w.t.Helper()
	if n <= w.last {
		w.t.Errorf("number %d comes after %d", n, w.last)
	}
	return max(n, w.last)
}

// works: by itself each node comes to settle renewals and to number events, on
// from the last number.
func (w *storeWalk) works(when string) {
	w.t.Helper()
	for i, c := range w.nodes {
		eventually(w.t, 60*time.Second, when+" the fault the node has its store", func() error {
			if n := w.event(c, w.known); n > 0 {
				w.last = w.higher(n)
			} else {
				return fmt.Errorf("events have no number")
			}
			count := func() float64 { return c.metric(`caddy_session_context_renewals_total{outcome="renewed"}`) }
			renewed := count()
			renewedBy(w.t, c, map[string]any{"token": w.expired().token()})
			if count() == renewed {
				return fmt.Errorf("renewals are not settled")
			}
			v, s := w.someone(c)
			w.mayGoOn(v, s, w.nodes[1-i])
			return nil
		})
	}
}

// forgotten: what a store without persistence costs when it is started anew.
func (w *storeWalk) forgotten(r *redis) {
	t := w.t
	w.works("before")
	before := w.expired()
	settled := w.renewed(before.token())
	v, s := w.someone(w.nodes[0])
	r.has(s)
	// What its node has not seen answered it would write again. It has, once it
	// wrote more.
	_, later := w.someone(w.nodes[0])
	r.has(later)
	r.forget()
	w.last = 0 // numbers begin anew
	w.works("after")
	if w.goesOn(v, s, w.nodes[1]) {
		t.Error("a session is known to a store that was empty")
	}
	again := w.renewed(before.token())
	if again != settled {
		t.Errorf("before %s, after %s", settled, again)
	}
	// An event that names nothing but its session has lost it. Ids that are
	// given in full prove it still; from then on it is known again.
	reference := newVisitor(t, w.nodes[0].site, v.agent, false)
	event := map[string]any{"session_id": s.Session.SessionID, "event_id": "click", "event_type": "conversion", "event_uuid": "lost", "metadata": map[string]any{"uuid": "lost"}}
	if a := reference.post("events/track", event); a.status != 401 {
		t.Errorf("an event of a session that is lost got %d %s", a.status, a.body)
	}
	reference.post("events/session/init", s.ids()).ok(t)
	eventually(t, 20*time.Second, "the session is known again", func() error {
		reference.site = w.nodes[1].site
		if a := reference.post("events/track", event); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	w.taken.take("lost", s.Session.SessionID)
}
