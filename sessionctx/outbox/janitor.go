package outbox

import (
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// janitor deletes dead letters when their time is over, and copies of
// quarantined rows (the sink holds these too) when space is short.
func (o *Outbox) janitor() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		o.sweepLetters(time.Now())
		select {
		case <-tick.C:
		case <-o.sweep:
		case <-o.stop:
			return
		}
	}
}

// sweepAbove is how full the outbox gets before copies are deleted.
func (o *Outbox) sweepAbove() int64 { return o.maxDisk.Load() / 4 * 3 }

func (o *Outbox) sweepLetters(now time.Time) {
	o.letters.Lock()
	defer o.letters.Unlock()
	type entry struct {
		q *queue
		l *letter
	}
	var old, copies []entry
	o.mu.Lock()
	for _, q := range o.queues {
		for _, l := range q.dead {
			switch {
			case now.Sub(l.why.At) > o.opt.DeadLetterAge:
				old = append(old, entry{q, l})
			case l.why.Kind == LetterCopy:
				copies = append(copies, entry{q, l})
			}
		}
	}
	excess := o.disk - o.sweepAbove()
	o.mu.Unlock()
	slices.SortFunc(copies, func(a, b entry) int { return a.l.why.At.Compare(b.l.why.At) })
	for _, e := range copies {
		if excess <= 0 {
			break
		}
		excess -= e.l.size
		old = append(old, e)
	}
	for _, e := range old {
		if err := o.dropLetter(e.q, e.l); err != nil {
			if times, told := o.news("sweep", e.q.name); told {
				o.log.Warn("an old dead letter can't be deleted: it is tried each minute; check the disk", zap.String("dead_letter", e.q.letterID(e.l.name)), zap.Int("times", times), zap.Error(err))
			}
		}
	}
}

// makeRoom is DropOldest: it deletes sealed segments until size more bytes fit.
func (o *Outbox) makeRoom(size int64) {
	for {
		q, s := o.victim(size)
		if s == nil {
			return
		}
		err := o.fs.Remove(filepath.Join(q.dir, s.file))
		o.mu.Lock()
		if err != nil {
			s.busy = false
			o.mu.Unlock()
			return
		}
		q.remove(s)
		o.disk -= s.size
		o.dropped += int64(s.rows)
		o.mu.Unlock()
		if times, told := o.news("drop", q.name); told {
			o.log.Error("outbox is full: the oldest rows are being dropped, as overflow drop_oldest asks; raise max_disk or mend the delivery",
				zap.String("datasource", q.name), zap.Int("rows", s.rows), zap.Int("times", times))
		}
		o.opt.Observer.Dropped(q.name, s.rows, ErrFull)
	}
}

// victim picks the oldest sealed segment that is not being sent, one of a
// low-priority datasource if there is one, and marks it busy.
func (o *Outbox) victim(size int64) (*queue, *segment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.disk+size <= o.maxDisk.Load() {
		return nil, nil
	}
	var queue *queue
	var oldest *segment
	for _, q := range o.queues {
		for _, s := range q.sealed {
			if s.busy || s.owed {
				continue
			}
			if oldest == nil || q.low && !queue.low || q.low == queue.low && s.name < oldest.name {
				queue, oldest = q, s
			}
			break
		}
	}
	if oldest != nil {
		oldest.busy = true
	}
	return queue, oldest
}
