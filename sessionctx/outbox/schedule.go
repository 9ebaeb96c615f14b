package outbox

import (
	"math/rand/v2"
	"time"
)

const (
	backoffMin = time.Second
	backoffMax = 5 * time.Minute

	// A batch is suspect after this many failures over this time. It is parked
	// when it fails again although another of its datasource has passed since.
	suspectAfter = 10
	suspectFor   = 15 * time.Minute
	parkedRetry  = time.Hour

	// holdProbe is how often a wrong configuration is tried again.
	holdProbe = time.Minute

	// throttlesTold: a sink that throttles so often in a row is no longer in a
	// hurry for a moment, but too slow for what comes.
	throttlesTold = 10

	// orderHold bounds how long Options.After holds a batch.
	orderHold = 10 * time.Second

	// blameLimit: so many single rows blamed with none accepted in between is
	// no longer the rows' fault.
	blameLimit = 8

	forever = time.Duration(-1)
)

// delivery is how a datasource's deliveries go. Under Outbox.mu.
type delivery struct {
	state     State
	untold    bool // nothing was said of the state since the sink was set
	lastError error
	failures  int       // in a row
	notBefore time.Time // of the next try
	lastPass  time.Time // when a batch was accepted last
	throttled bool      // notBefore is the sink's wish
	throttles int       // such wishes in a row
	byTurns   bool      // a suspect batch had the last turn
	blamed    int       // rows buried by Blame since one was accepted
	unordered bool      // a hold ran out: hold no more until the other moves
}

// hurry ends a backoff, but not what a sink asked for.
func (d *delivery) hurry() {
	if !d.throttled {
		d.notBefore = time.Time{}
	}
}

// attempts is how a segment's deliveries went. Under Outbox.mu.
type attempts struct {
	busy      bool // being sent, or being removed
	failures  int
	firstFail time.Time
	lastFail  time.Time
	lastError error
	parked    bool
	retryAt   time.Time // of a parked one
	heldSince time.Time // by Options.After
	settled   *Outcome  // the sink has answered, only the disk work is missing
}

func (a *attempts) suspect(now time.Time) bool {
	return a.failures >= suspectAfter && now.Sub(a.firstFail) >= suspectFor
}

// waiting tells whether a sealed segment is on its way. While one is, the open
// segment grows instead of adding to the queue.
func (q *queue) waiting(now time.Time) bool {
	for _, s := range q.sealed {
		if !s.parked && !s.suspect(now) {
			return true
		}
	}
	return false
}

// next picks the segment to try, or tells how long to wait (forever: until
// woken). Under Outbox.mu.
//
// The oldest goes first. One that fails while others pass must not stop them:
// a suspect and the oldest of the others take turns, and parked ones come back
// by their own clock.
func (o *Outbox) next(q *queue, now time.Time) (*segment, time.Duration) {
	if o.sink == nil || o.closed {
		return nil, forever
	}
	if d := q.delivery.notBefore.Sub(now); d > 0 {
		return nil, d
	}
	wait := forever
	sooner := func(d time.Duration) {
		if wait == forever || d < wait {
			wait = d
		}
	}
	var suspect, fresh *segment
	for _, s := range q.sealed {
		switch {
		case s.busy, s.owed:
		case s.parked:
			if d := s.retryAt.Sub(now); d > 0 {
				sooner(d)
			} else {
				return s, 0
			}
		case s.suspect(now):
			if suspect == nil {
				suspect = s
			}
		case fresh == nil:
			fresh = s
		}
	}
	if fresh != nil {
		if d := o.heldBack(q, fresh, now); d > 0 {
			sooner(d)
			fresh = nil
		}
	}
	switch {
	case suspect != nil && (fresh == nil || !q.delivery.byTurns):
		q.delivery.byTurns = true
		return suspect, 0
	case fresh != nil:
		q.delivery.byTurns = false
		return fresh, 0
	}
	return nil, wait
}

// heldBack tells how long a segment has to wait for older rows of the
// datasource that goes before its own.
func (o *Outbox) heldBack(q *queue, s *segment, now time.Time) time.Duration {
	after := o.opt.After[q.name]
	first := o.queues[after]
	if after == "" || q.delivery.unordered {
		return 0
	}
	older := first != nil && first.holdsOlder(s.sealedAt)
	if !older && o.opt.source != nil {
		older = o.opt.source.withholds(after, s.sealedAt)
	}
	if !older {
		return 0
	}
	if s.heldSince.IsZero() {
		s.heldSince = now
	}
	left := orderHold - now.Sub(s.heldSince)
	if left <= 0 {
		q.delivery.unordered = true
	}
	return left
}

// holdsOlder tells whether rows wait that were there at a time.
func (q *queue) holdsOlder(t time.Time) bool {
	if !q.openBorn.IsZero() && !q.openBorn.After(t) {
		return true
	}
	for _, s := range q.sealed {
		if !s.parked && !bornAt(s.name).After(t) {
			return true
		}
	}
	return false
}

// backoff is full jitter: anything up to 1 s, 2 s, 4 s … 5 min.
func backoff(failures int) time.Duration {
	limit := backoffMax
	if failures < 10 {
		limit = min(limit, backoffMin<<max(0, failures-1))
	}
	return rand.N(limit) + time.Millisecond
}
