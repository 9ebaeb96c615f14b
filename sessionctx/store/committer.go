package store

import (
	"context"
	"errors"
	"runtime"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

type opKind uint8

const (
	opNone opKind = iota // a Put that a Delete overtook
	opPut
	opClaim
	opDelete
)

// op is one write. Until its group is taken it is guarded by Embedded.mu;
// then it belongs to the committer, and to the caller again once the group is
// done.
type op struct {
	kind   opKind
	name   string
	expiry int64
	value  []byte // put: sealed by the committer, once for all that it replaced
	record []byte // claim: sealed by the claimer
	group  *group

	won      bool
	standing []byte
}

// group is what becomes one transaction.
type group struct {
	ops  []*op
	done chan struct{}
	err  error // valid once done is closed
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// retryAfter is how long Puts wait after a commit that failed.
const retryAfter = time.Second

// submit adds writes to the group that gathers and waits for its commit.
func (e *Embedded) submit(ctx context.Context, ops ...*op) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrClosed
	}
	for _, o := range ops {
		if o.kind == opDelete {
			e.overtake(o.name)
		}
		e.gather(o)
	}
	g := e.gathering
	e.mu.Unlock()
	signal(e.urgent)

	select {
	case <-g.done:
	case <-ctx.Done():
		return e.fail("waiting for a commit to", ctx.Err())
	}
	if g.err != nil {
		return e.fail("committing to", g.err)
	}
	return nil
}

// put adds a write that nobody waits for, and gives one of e.soon and e.lazy a
// signal. False: there is no room, or the store is closed.
func (e *Embedded) put(when chan struct{}, name string, value []byte, expiry int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.overlay[name]
	bytes := e.overlayBytes + len(value)
	if old != nil {
		bytes -= len(old.value)
	}
	if e.closed || bytes > e.o.MaxPendingBytes || old == nil && len(e.overlay) >= e.o.MaxPending {
		return false
	}
	e.overlayBytes = bytes
	if old != nil && old.group == e.gathering {
		old.value, old.expiry = value, expiry
		return true
	}
	o := &op{kind: opPut, name: name, expiry: expiry, value: value}
	e.overlay[name] = o
	e.gather(o)
	signal(when)
	return true
}

// overtake makes a Put that still gathers void. One that is being committed
// comes before the Delete by itself.
func (e *Embedded) overtake(name string) {
	o := e.overlay[name]
	if o == nil {
		return
	}
	if o.group == e.gathering {
		o.kind = opNone
	}
	e.settle(o)
}

// settle takes o out of the overlay, unless a newer Put stands there.
func (e *Embedded) settle(o *op) {
	if e.overlay[o.name] == o {
		delete(e.overlay, o.name)
		e.overlayBytes -= len(o.value)
	}
}

func (e *Embedded) gather(o *op) {
	o.group = e.gathering
	e.gathering.ops = append(e.gathering.ops, o)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// soonAfter is how long marks of sequence numbers and of groups wait for
// company: what a crash takes of them, it makes others repeat or forget.
const soonAfter = 50 * time.Millisecond

// run is the committer. Claims and deletes are committed as soon as the
// previous commit is done; those that come meanwhile form the next group. Puts
// alone wait FlushEvery for company, marks soonAfter.
func (e *Embedded) run() {
	defer close(e.done)
	ticks := time.NewTicker(e.o.SweepEvery)
	defer ticks.Stop()
	wait, soon := e.o.FlushEvery, min(soonAfter, e.o.FlushEvery)
	sweeping := false
	for {
		idle := (chan struct{})(nil)
		if sweeping { // a full batch was removed: go on, but let others in
			idle = closedChan
		}
		select {
		case <-e.closing:
			e.finish()
			return
		case b := <-e.damaged:
			e.replaceBroken(b)
			continue
		case <-e.urgent:
			runtime.Gosched() // claimers that are about to submit join this group
		case <-e.soon:
			e.company(soon, nil)
		case <-e.lazy:
			if e.company(wait, e.soon) {
				e.company(soon, nil)
			}
		case <-ticks.C:
			e.evictNumbers()
			e.groups.sweep(e.now(), &e.unsure)
			sweeping = true
		case <-idle:
		}
		g := e.take()
		select { // what a claimer of this group reported comes before its commit
		case b := <-e.damaged:
			e.replaceBroken(b)
		default:
		}
		var err error
		sweeping, err = e.commit(g, sweeping)
		wait, soon = e.o.FlushEvery, min(soonAfter, e.o.FlushEvery)
		if err != nil {
			wait, soon = max(wait, retryAfter), retryAfter
		}
	}
}

// company waits for something urgent to commit with, d at most, or until the
// store is closing. It is cut short by sooner, and reports whether.
func (e *Embedded) company(d time.Duration, sooner <-chan struct{}) (cut bool) {
	select {
	case <-e.urgent:
	case <-time.After(d):
	case <-e.closing:
	case <-sooner:
		return true
	}
	return false
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// finish commits what was left at Close and closes the file.
func (e *Embedded) finish() {
	_, err := e.commit(e.take(), false)
	e.keepGroups()
	e.endErr = errors.Join(err, guard(e.db.Load().Close))
}

func (e *Embedded) take() *group {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.gathering
	e.gathering = newGroup()
	return g
}

// commit makes one transaction of a group, and of a batch of expired entries
// if sweep is set. more: there are further expired entries.
func (e *Embedded) commit(g *group, sweep bool) (more bool, err error) {
	if len(g.ops) == 0 && !sweep {
		return false, nil
	}
	e.encodePuts(g)
	more, err = e.transact(g, sweep)
	if errors.Is(err, errBroken) && e.replaceFile(err) {
		more, err = e.transact(g, sweep)
	}
	if err != nil {
		e.stats.failures.Add(1)
		e.o.Logger.Error("committing to session store", zap.String("file", e.path), zap.Error(err))
		more = false
	} else {
		e.stats.commits.Add(1)
	}

	e.mu.Lock()
	again := false
	for _, o := range g.ops {
		switch {
		case o.kind != opPut: // who waits for it hears of it
		case err == nil:
			e.settle(o)
		case e.overlay[o.name] != o: // overtaken
		case e.closed:
			e.settle(o)
			e.stats.dropped.Add(1)
		default:
			e.gather(o) // still the newest: try again later
			again = true
		}
	}
	e.mu.Unlock()
	if again {
		signal(e.lazy)
	}
	g.err = err
	close(g.done)
	return more, err
}

// maxRecords is the largest buffer that is kept for the next group, in bytes.
const maxRecords = 4 << 20

// encodePuts makes the records of the group's Puts, one after the other in a
// buffer that the next group uses again: bbolt needs them until the
// transaction has ended.
func (e *Embedded) encodePuts(g *group) {
	b := e.records[:0]
	for _, o := range g.ops {
		if o.kind == opPut {
			start := len(b)
			b = appendRecord(b, o.name, o.value, o.expiry, e.o.Sealer)
			o.record = b[start:len(b):len(b)]
		}
	}
	e.records = b
	if cap(b) > maxRecords {
		e.records = nil
	}
}

func (e *Embedded) transact(g *group, sweep bool) (more bool, err error) {
	now := e.now()
	var swept int
	var damaged uint64
	err = guard(func() error {
		swept, damaged = 0, 0
		return e.db.Load().Update(func(tx *bolt.Tx) error {
			t := openTable(tx)
			for _, o := range g.ops {
				d, err := e.apply(t, o, now)
				if err != nil {
					return err
				}
				damaged += d
			}
			if err := t.finish(); err != nil || !sweep {
				return err
			}
			var err error
			swept, more, err = t.sweep(now, sweepBatch)
			return err
		})
	})
	if err != nil {
		return false, err
	}
	e.stats.swept.Add(uint64(swept))
	e.stats.damaged.Add(damaged)
	return more, nil
}

// apply does one write. It may be run again on another file.
func (e *Embedded) apply(t *table, o *op, now int64) (damaged uint64, err error) {
	switch o.kind {
	case opPut:
		if o.expiry <= now {
			return 0, t.remove(o.name)
		}
		return 0, t.write(o.name, o.record, o.expiry)
	case opDelete:
		return 0, t.remove(o.name)
	case opClaim:
		o.won, o.standing = false, nil
		if old := t.entries.Get([]byte(o.name)); old != nil {
			standing, expiry, err := decode(o.name, old, e.o.Sealer)
			if err == nil && expiry > now {
				o.standing = standing
				return 0, nil
			}
			if err != nil {
				damaged = 1
			}
		}
		o.won = true
		return damaged, t.write(o.name, o.record, o.expiry)
	}
	return 0, nil
}
