package tests

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// ledger is what clients asked for and what they were told.
type ledger struct {
	mu       sync.Mutex
	events   map[string]*entry // by uuid
	sessions map[string]*entry // by session id
	codes    map[string]int
}

// entry is one event or session.
type entry struct {
	session string
	acked   bool
	// open: a try had no answer, or one that does not say whether it is stored.
	open bool
	// sequences are the numbers that answers told.
	sequences []int64
}

func (l *ledger) entry(of *map[string]*entry, id, session string) *entry {
	if *of == nil {
		*of = map[string]*entry{}
	}
	e := (*of)[id]
	if e == nil {
		e = &entry{session: session}
		(*of)[id] = e
	}
	return e
}

// good is how many answers acknowledged what they were asked for.
func (l *ledger) good() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.codes["ok"]
}

func (l *ledger) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	acked := func(of map[string]*entry) (n int) {
		for _, e := range of {
			if e.acked {
				n++
			}
		}
		return n
	}
	return fmt.Sprintf("%d events asked for, %d acknowledged, %d sessions, answers %v", len(l.events), acked(l.events), acked(l.sessions), l.codes)
}

// told notes an answer for events of a session, or for the session itself.
// last is the sequence number of the last event, 0 if it was not told.
func (l *ledger) told(session string, uuids []string, a *answer, err error) (code string) {
	switch {
	case err != nil:
		code = "no answer"
	case a.status == 200:
		code = "ok"
	case a.Code != "":
		code = a.Code
	default:
		code = fmt.Sprint(a.status) // a batch's refusal has no body
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.codes == nil {
		l.codes = map[string]int{}
	}
	l.codes[code]++
	s := l.entry(&l.sessions, session, session)
	// A refusal in which the outbox had no part stored nothing. Whether a full
	// one stands behind a 503 without a body can't be told.
	open := code == "no answer" || code == "503" || code == "outbox_unavailable" || code == "unavailable"
	s.acked, s.open = s.acked || code == "ok", s.open || open
	last, n := int64(0), int64(len(uuids))
	if code == "ok" && n > 0 {
		number, _ := a.Data["event_sequence"].(float64)
		last = int64(number)
	}
	for i, uuid := range uuids {
		e := l.entry(&l.events, uuid, session)
		e.acked, e.open = e.acked || code == "ok", e.open || open
		if last > 0 {
			e.sequences = append(e.sequences, last-n+1+int64(i))
		}
	}
	return code
}

// worker is a client with a session.
type worker struct {
	x       *chaos
	name    string
	rng     *rand.Rand
	v       *visitor
	session *sessionContext
	n       int
}

func (x *chaos) worker(name string, rng *rand.Rand) *worker {
	w := &worker{x: x, name: fmt.Sprintf("%s-%x", name, rng.Uint32()), rng: rng, v: newVisitor(x.t, x.c.site, desktop, false)}
	w.v.client.Timeout = 15 * time.Second
	return w
}

// clients start to send; stop waits until they have ended.
func (x *chaos) clients(n int) (stop func()) {
	quit := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		w := x.worker(fmt.Sprint(i), rand.New(rand.NewPCG(x.rng.Uint64(), 2)))
		all.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-time.After(time.Duration(5+w.rng.IntN(40)) * time.Millisecond):
					w.step()
				}
			}
		})
	}
	return func() { close(quit); all.Wait() }
}

func (w *worker) step() {
	switch n := w.rng.IntN(20); {
	case n == 0:
		w.session = nil // somebody new
	case n == 1:
		w.bad()
	case n < 6:
		w.batch(2+w.rng.IntN(20), "")
	default:
		w.send("events/track", []string{w.uuid()}, "")
	}
}

func (w *worker) uuid() string {
	w.n++
	return fmt.Sprintf("%s-%d", w.name, w.n)
}

// visit makes a session, and its row unless an event is to bring that.
func (w *worker) visit() bool {
	if w.session != nil {
		return true
	}
	res, body, err := w.v.tryPage("/?utm_source=chaos")
	if err != nil || res.StatusCode != 200 {
		time.Sleep(50 * time.Millisecond)
		return false
	}
	if !contextPattern.MatchString(body) {
		return false // the keys are not there yet: the page goes out without
	}
	w.session = parseContext(w.v.t, body)
	if w.rng.IntN(2) == 0 {
		call := with(w.session.ids(), "token", w.session.Session.Token)
		w.try(func() string {
			a, err := w.v.tryCall("POST", "events/session/init", call)
			return w.x.ledger.told(w.session.Session.SessionID, nil, a, err)
		})
	}
	return true
}

// batch sends n events at once; it returns the last answer's code.
func (w *worker) batch(n int, pad string) string {
	uuids := make([]string, n)
	for i := range uuids {
		uuids[i] = w.uuid()
	}
	return w.send("events/batch-track", uuids, pad)
}

// send sends events, again with the same bytes if need be.
func (w *worker) send(route string, uuids []string, pad string) string {
	if !w.visit() {
		return ""
	}
	s := w.session.Session
	events := make([]any, len(uuids))
	for i, uuid := range uuids {
		events[i] = map[string]any{
			"event_id": "click", "event_type": "conversion", "event_uuid": uuid,
			"metadata": map[string]any{"uuid": uuid, "pad": pad},
		}
	}
	body := map[string]any{"token": s.Token, "events": events}
	if route == "events/track" {
		body = with(events[0].(map[string]any), "token", s.Token)
	}
	return w.try(func() string {
		a, err := w.v.tryCall("POST", route, body)
		return w.x.ledger.told(s.SessionID, uuids, a, err)
	})
}

// bad sends what must never be stored.
func (w *worker) bad() {
	if !w.visit() {
		return
	}
	uuid := w.uuid() + "-bad"
	a, err := w.v.tryCall("POST", "events/track", map[string]any{
		"token": w.session.Session.Token, "event_id": "click", "event_type": "nonsense", "event_uuid": uuid, "metadata": map[string]any{"uuid": uuid},
	})
	if err == nil {
		w.x.ledger.told(w.session.Session.SessionID, []string{uuid}, a, nil)
	}
}

// try repeats a call that was not taken, and gives up now and then, as clients
// do.
func (w *worker) try(call func() string) (code string) {
	for range 1 + w.rng.IntN(5) {
		if code = call(); code == "ok" {
			return code
		}
		if code == "session_expired" || code == "invalid_session" {
			w.session = nil
			return code
		}
		time.Sleep(time.Duration(20+w.rng.IntN(200)) * time.Millisecond)
	}
	return code
}
