package outbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// sinkInUse counts the deliveries through a sink, so that one that was replaced
// can be closed when the last has ended. Under Outbox.mu.
type sinkInUse struct {
	Sink
	users    int
	replaced bool
	released chan struct{}
}

// releaseIfUnused lets go of a sink whose last delivery has ended.
func (o *Outbox) releaseIfUnused(s *sinkInUse) {
	if !s.replaced || s.users > 0 {
		return
	}
	close(s.released)
	if c, ok := s.Sink.(io.Closer); ok {
		o.closers.Go(func() {
			if err := c.Close(); err != nil {
				o.log.Warn("closing a sink", zap.Error(err))
			}
		})
	}
}

// SetSink starts delivery, or lets it go on through another sink: the next try
// of every batch uses that one, at once where delivery was failing or held. Nil
// stops delivery; rows gather on disk. The channel that it returns is closed
// when nothing is being delivered through the sink before this one any more;
// that one is closed then if it is an io.Closer.
func (o *Outbox) SetSink(sink Sink) (released <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.sink
	o.sink = nil
	if sink != nil && !o.closed {
		o.sink = &sinkInUse{Sink: sink, released: make(chan struct{})}
	}
	for _, q := range o.queues {
		q.delivery.throttled = false
		q.delivery.untold = true
		q.delivery.hurry()
		signal(q.wake)
	}
	if old == nil || o.closed {
		none := make(chan struct{})
		close(none)
		return none
	}
	old.replaced = true
	o.releaseIfUnused(old)
	return old.released
}

// courier delivers a datasource's segments, one at a time.
func (o *Outbox) courier(q *queue) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		o.mu.Lock()
		s, wait := o.next(q, time.Now())
		var sink *sinkInUse
		if s != nil {
			s.busy = true
			sink = o.sink
			sink.users++
		}
		o.mu.Unlock()
		if s == nil {
			if wait == forever {
				wait = time.Hour
			}
			timer.Reset(wait)
			select {
			case <-q.wake:
			case <-timer.C:
			case <-o.stop:
				return
			}
			continue
		}
		outcome := o.attempt(q, s, sink)
		o.mu.Lock()
		sink.users--
		o.releaseIfUnused(sink)
		replaced := sink.replaced
		o.mu.Unlock()
		if replaced && outcome.Verdict.again() {
			o.release(q, s) // that tells nothing of the sink in its place
			continue
		}
		o.conclude(q, s, outcome)
	}
}

// attempt sends a segment, unless the sink has answered already and only the
// disk did not follow.
func (o *Outbox) attempt(q *queue, s *segment, sink Sink) Outcome {
	if s.settled != nil {
		return *s.settled
	}
	rows, err := o.load(q, s)
	if errors.Is(err, fs.ErrNotExist) {
		if times, told := o.news("deleted", q.name); told {
			o.log.Error("a segment was deleted by somebody else: its rows are lost; keep others from the outbox's directory",
				zap.String("batch", q.letterID(s.name)), zap.Int("rows", s.rows), zap.Int("times", times))
		}
		o.opt.Observer.Dropped(q.name, s.rows, err)
		rows, err = nil, nil
	}
	if err != nil {
		return Retry(0, fmt.Errorf("reading segment %s: %w", filepath.Join(q.dir, s.file), err))
	}
	o.mu.Lock()
	s.rows = len(rows)
	o.mu.Unlock()
	if len(rows) == 0 {
		return Delivered(0, nil) // every line is damaged, and is a dead letter by now
	}
	return sink.Deliver(o.ctx, Batch{Datasource: q.name, Name: s.name, Rows: len(rows), Body: joinRows(rows)})
}

// conclude does what an outcome asks for.
func (o *Outbox) conclude(q *queue, s *segment, out Outcome) {
	if o.ctx.Err() != nil && out.Verdict == VerdictRetry {
		o.release(q, s) // Close ended the try: that tells nothing of the sink
		return
	}
	switch out.Verdict {
	case VerdictRetry:
		o.failed(q, s, out)
	case VerdictThrottle:
		o.throttle(q, s, out)
	case VerdictHold:
		o.hold(q, s, out)
	default:
		if o.postpone(s, out) {
			return
		}
		if err := o.settle(q, s, out); err != nil {
			s.settled = &out
			o.failed(q, s, Retry(0, err))
			return
		}
		o.passed(q, s, out)
		if doubt := o.doubt(q, s, out); doubt != nil {
			o.hold(q, s, Hold(doubt))
		}
	}
}

// doubt slows down a sink that blames row after row: a schema that fits none
// must not turn the whole queue into dead letters, and one bad row must not
// stop it for ever. So it goes on by one row a probe until one is accepted.
func (o *Outbox) doubt(q *queue, s *segment, out Outcome) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out.Verdict != VerdictBlame || s.rows > 1 {
		return nil
	}
	q.delivery.blamed++
	if q.delivery.blamed < blameLimit {
		return nil
	}
	return fmt.Errorf("%d rows in a row were refused and none accepted: compare the schema of %s with what is sent: %w", q.delivery.blamed, q.name, out.Reason)
}

// postpone keeps an answer for a segment that a mirror, new since it was sent,
// has yet to get: it would be gone, or halved.
func (o *Outbox) postpone(s *segment, out Outcome) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !s.owed {
		return false
	}
	s.settled = &out
	s.busy = false
	return true
}

// release gives a segment back untried.
func (o *Outbox) release(q *queue, s *segment) {
	o.mu.Lock()
	s.busy = false
	o.mu.Unlock()
}

func (o *Outbox) failed(q *queue, s *segment, out Outcome) {
	now := time.Now()
	o.mu.Lock()
	s.busy = false
	s.lastError = out.Reason
	if s.failures == 0 {
		s.firstFail = now
	}
	s.failures++
	park := !s.parked && s.suspect(now) && q.delivery.lastPass.After(s.lastFail)
	s.parked = s.parked || park
	s.lastFail = now
	if s.parked {
		// Its failures tell nothing of the others.
		s.retryAt = now.Add(max(parkedRetry, out.After))
		o.mu.Unlock()
		if park {
			o.log.Warn("a batch fails while others pass: parked, retried hourly; see to the reason, then send it again, or delete it",
				zap.String("batch", q.letterID(s.name)), zap.Int("rows", s.rows), zap.Error(out.Reason))
			signal(o.wake) // it no longer keeps the open segment open
		}
		o.opt.Observer.Retried(q.name, out.Reason)
		return
	}
	q.delivery.failures++
	q.delivery.throttled = out.After > 0
	q.delivery.notBefore = now.Add(max(backoff(q.delivery.failures), out.After))
	o.mu.Unlock()
	o.opt.Observer.Retried(q.name, out.Reason)
	o.setState(q, StateFailing, out.Reason)
	signal(o.wake) // a suspect batch no longer keeps the open segment open
}

func (o *Outbox) throttle(q *queue, s *segment, out Outcome) {
	o.mu.Lock()
	s.busy = false
	q.delivery.throttled = true
	q.delivery.throttles++
	lasting := q.delivery.throttles >= throttlesTold
	q.delivery.notBefore = time.Now().Add(max(out.After, backoffMin))
	o.mu.Unlock()
	o.opt.Observer.Retried(q.name, out.Reason)
	if lasting {
		o.setState(q, StateFailing, out.Reason)
	}
}

func (o *Outbox) hold(q *queue, s *segment, out Outcome) {
	o.mu.Lock()
	s.busy = false
	if s.parked {
		s.retryAt = time.Now().Add(parkedRetry)
	}
	q.delivery.throttled = false
	q.delivery.notBefore = time.Now().Add(holdProbe)
	o.mu.Unlock()
	o.opt.Observer.Retried(q.name, out.Reason)
	o.setState(q, StateHeld, out.Reason)
}

// passed is after a settled outcome: the sink works.
func (o *Outbox) passed(q *queue, s *segment, out Outcome) {
	now := time.Now()
	accepted := out.Verdict == VerdictDelivered && s.rows > 0
	o.mu.Lock()
	d := &q.delivery
	d.failures, d.throttles, d.throttled, d.notBefore = 0, 0, false, time.Time{}
	if accepted {
		d.blamed = 0
		d.lastPass = now
	}
	recovered := d.state != StateOK
	held := d.state == StateHeld
	for _, other := range o.queues {
		if o.opt.After[other.name] == q.name {
			other.delivery.unordered = false
			signal(other.wake)
		}
		if recovered && other.delivery.state == StateFailing {
			other.delivery.hurry() // what kept this one from the sink may have kept them
			signal(other.wake)
		}
	}
	o.mu.Unlock()
	signal(o.wake) // nothing sealed may wait any more
	if accepted {
		o.opt.Observer.Delivered(q.name, s.rows, out.Quarantined)
	}
	// Refused rows don't end a hold that their refusal made; any other answer
	// to a whole batch shows that the configuration works.
	if accepted || out.Verdict == VerdictDeadLetter || !held {
		o.setState(q, StateOK, nil)
	}
}

// setState logs a change of state, once, and what goes wrong through another
// sink: it may be something else.
func (o *Outbox) setState(q *queue, state State, reason error) {
	o.mu.Lock()
	was, untold := q.delivery.state, q.delivery.untold
	q.delivery.state = state
	q.delivery.untold = false
	q.delivery.lastError = reason
	o.mu.Unlock()
	if was == state && (state == StateOK || !untold) {
		return
	}
	log := o.log.With(zap.String("datasource", q.name))
	switch state {
	case StateOK:
		log.Info("delivery works again")
	case StateFailing:
		log.Warn("delivery is failing: rows are kept on disk and tried again until they are taken; see to the sink if it lasts", zap.Error(reason))
	case StateHeld:
		log.Error("delivery is held until the configuration is mended: rows are kept on disk, and one is tried each minute", zap.Error(reason))
	}
	o.opt.Observer.StateChanged(q.name, state, reason)
}
