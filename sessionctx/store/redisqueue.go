package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// queueBatch is how many entries go to the server in one pipeline.
	queueBatch = 256
	// linger is how long the queue waits for company of what woke it, unless
	// somebody waits for that: what a page writes goes in one pipeline, and
	// under load what several do.
	linger = time.Millisecond
	// drainFor is how long closing may take to write what waits.
	drainFor = 2 * time.Second
)

// queue writes behind. One batch is under way at a time, so that of two
// writes to one name the later one stays.
type queue struct {
	r *Redis

	mu     sync.Mutex
	byName map[string]*queued // the newest write of a name that is not done
	order  []*queued
	bytes  int
	closed bool

	wake    chan struct{}
	urgent  chan struct{} // somebody waits
	closing chan struct{}
	done    chan struct{}

	dropped, batches atomic.Uint64
}

// queued is a Put, the joining of members, or a Delete where record is nil.
type queued struct {
	name     string
	value    []byte
	members  []Member // record has them encoded, for its length
	record   []byte
	expiry   time.Time
	since    time.Time
	underway bool
	attempt  *attempt // somebody waits for the next attempt
}

// attempt is the outcome of one try, successful or not.
type attempt struct {
	done chan struct{}
	err  error
}

func newQueue(r *Redis) *queue {
	q := &queue{
		r:       r,
		byName:  map[string]*queued{},
		wake:    make(chan struct{}, 1),
		urgent:  make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	go q.run()
	return q
}

func (q *queue) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.byName)
}

// get returns a copy of the waiting value of a name. A nil value: it is about
// to be deleted, or its time is over.
func (q *queue) get(name string) (value []byte, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.byName[name]
	if e == nil {
		return nil, false
	}
	if e.record == nil || !time.Now().Before(e.expiry) {
		return nil, true
	}
	return append([]byte{}, e.value...), true
}

func (q *queue) put(name string, value, record []byte, expiry time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.byName[name]
	bytes := q.bytes + len(record)
	if old != nil {
		bytes -= len(old.record)
	}
	if q.closed || bytes > q.r.o.MaxPendingBytes || old == nil && len(q.byName) >= q.r.o.MaxPending {
		q.dropped.Add(1)
		return
	}
	e := q.slot(name)
	q.bytes = bytes
	e.value, e.record, e.expiry, e.since = value, record, expiry, time.Now()
	signal(q.wake)
}

// join is put for a member of a group. What of the group still waits stays with
// it: writing a member twice does no harm.
func (q *queue) join(name string, m Member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.byName[name]
	bytes := q.bytes
	var members []Member
	if old != nil {
		members = old.members
		bytes -= len(old.record)
	}
	members = mergeMembers(members, []Member{m})
	record := appendMembers(nil, members)
	bytes += len(record)
	if q.closed || bytes > q.r.o.MaxPendingBytes || old == nil && len(q.byName) >= q.r.o.MaxPending {
		q.dropped.Add(1)
		return false
	}
	since := time.Now()
	if old != nil {
		since = old.since
	}
	e := q.slot(name)
	q.bytes = bytes
	e.members, e.record, e.expiry, e.since = members, record, time.UnixMilli(lastExpiry(record)), since
	signal(q.wake)
	return true
}

// late reports whether a member waits for longer than others may be without it.
func (q *queue) late() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := time.Now().Add(-rollLate)
	for _, e := range q.byName {
		if e.members != nil && e.since.Before(limit) {
			return true
		}
	}
	return false
}

// members are those of a group that wait.
func (q *queue) members(name string) []Member {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.byName[name]; e != nil {
		return e.members
	}
	return nil
}

// slot returns the entry that a new write of a name goes into. One that is
// under way is left alone and gets a successor.
func (q *queue) slot(name string) *queued {
	e := q.byName[name]
	if e == nil || e.underway {
		e = &queued{name: name}
		q.byName[name] = e
		q.order = append(q.order, e)
	}
	return e
}

// delete waits until the name is deleted on the server.
func (q *queue) delete(ctx context.Context, name string) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	if q.r.link.down.Load() { // at least what waits here is not written later
		if old := q.byName[name]; old != nil && !old.underway {
			q.bytes -= len(old.record)
			old.value, old.record = nil, nil
		}
		q.mu.Unlock()
		return q.r.link.why()
	}
	if old := q.byName[name]; old != nil {
		q.bytes -= len(old.record)
	}
	e := q.slot(name)
	e.value, e.record, e.since = nil, nil, time.Now()
	a := e.awaited()
	q.mu.Unlock()
	signal(q.urgent)
	signal(q.wake)
	return a.wait(ctx, q.r.o.CallTimeout)
}

// settled waits until no write of a name is pending.
func (q *queue) settled(ctx context.Context, name string) error {
	q.mu.Lock()
	e := q.byName[name]
	if e == nil {
		q.mu.Unlock()
		return nil
	}
	if q.r.link.down.Load() {
		q.mu.Unlock()
		return q.r.link.why()
	}
	a := e.awaited()
	q.mu.Unlock()
	signal(q.urgent)
	signal(q.wake)
	return a.wait(ctx, q.r.o.CallTimeout)
}

func (e *queued) awaited() *attempt {
	if e.attempt == nil {
		e.attempt = &attempt{done: make(chan struct{})}
	}
	return e.attempt
}

func (a *attempt) wait(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) run() {
	defer close(q.done)
	for {
		select {
		case <-q.wake:
		case <-q.closing:
			until := time.Now().Add(drainFor)
			for q.step() && time.Now().Before(until) && !q.r.link.down.Load() {
			}
			return
		}
		for q.step() {
			select {
			case <-q.closing:
			default:
				continue
			}
			break
		}
	}
}

// step writes one batch. False: nothing waits.
func (q *queue) step() bool {
	if q.pending() == 0 {
		return false
	}
	select {
	case <-time.After(linger):
	case <-q.urgent:
	case <-q.closing:
	}
	batch := q.take()
	errs, err := through(context.Background(), q.r.link, q.r.o.CallTimeout, func(ctx context.Context, c rueidis.Client) ([]error, error) {
		return q.write(ctx, c, batch)
	})
	q.batches.Add(1)
	written, failed := q.settle(batch, errs, err)
	if failed > 0 {
		q.r.failures.Add(1)
	}
	if failed > 0 && written == 0 { // at once it would fail again
		select {
		case <-time.After(q.r.o.ProbeEvery):
		case <-q.closing:
			time.Sleep(min(q.r.o.ProbeEvery, drainFor/10))
		}
	}
	return true
}

func (q *queue) take() []*queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.order), queueBatch)
	batch := q.order[:n:n]
	q.order = q.order[n:]
	for _, e := range batch {
		e.underway = true
	}
	return batch
}

// write returns the outcome of each, and any that was no answer of the server.
func (q *queue) write(ctx context.Context, c rueidis.Client, batch []*queued) (errs []error, unanswered error) {
	now := time.Now()
	commands := make(rueidis.Commands, len(batch))
	for i, e := range batch {
		key := q.r.key(e.name)
		if e.members != nil {
			commands[i] = q.r.joining(c, e, now)
		} else if left := e.expiry.Sub(now); e.record == nil || left < time.Millisecond {
			commands[i] = c.B().Del().Key(key).Build()
		} else {
			commands[i] = c.B().Set().Key(key).Value(rueidis.BinaryString(e.record)).Px(left).Build()
		}
	}
	errs = make([]error, len(batch))
	for i, result := range c.DoMulti(ctx, commands...) {
		errs[i] = result.Error()
		if !answered(errs[i]) {
			unanswered = errs[i]
		} else {
			q.r.link.note(errs[i])
		}
	}
	return errs, unanswered
}

// settle ends what was written, and what was tried for too long; the rest
// waits for another turn: what the server did not answer ahead of what came
// later, what it refused behind it, since that may be refused again.
func (q *queue) settle(batch []*queued, errs []error, err error) (written, failed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	var ahead, behind []*queued
	for i, e := range batch {
		outcome := err
		if errs != nil {
			outcome = errs[i]
		}
		if e.attempt != nil {
			e.attempt.err = outcome
			close(e.attempt.done)
			e.attempt = nil
		}
		if outcome == nil {
			written++
			if e.members != nil {
				q.r.roll.since.raise(e.expiry.UnixMilli())
			}
		} else {
			failed++
		}
		switch {
		case q.byName[e.name] != e: // a newer write waits already
			continue
		case outcome == nil, e.record == nil: // a failed Delete is its caller's
		case now.Sub(e.since) > q.r.o.KeepPending || !now.Before(e.expiry):
			q.dropped.Add(1)
			if e.members != nil {
				q.r.unsure.extend(e.expiry.UnixMilli())
			}
		default:
			e.underway = false
			if answered(outcome) {
				behind = append(behind, e)
			} else {
				ahead = append(ahead, e)
			}
			continue
		}
		delete(q.byName, e.name)
		q.bytes -= len(e.record)
	}
	if len(ahead) > 0 {
		q.order = append(ahead, q.order...)
	}
	q.order = append(q.order, behind...)
	return written, failed
}

// close refuses further writes, drains the queue and says how many were left.
func (q *queue) close() (left int) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	close(q.closing)
	<-q.done
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.byName {
		if e.record != nil {
			left++
		}
		if e.members != nil {
			q.r.unsure.extend(e.expiry.UnixMilli())
		}
		if e.attempt != nil {
			e.attempt.err = fmt.Errorf("%w: %w", ErrUnavailable, errors.New("closed meanwhile"))
			close(e.attempt.done)
		}
	}
	q.dropped.Add(uint64(left))
	return left
}
