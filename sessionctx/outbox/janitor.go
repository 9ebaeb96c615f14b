package outbox

import (
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
