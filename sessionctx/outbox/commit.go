package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
)

// maxSpare is the largest buffer that is kept for rows to come, in bytes. Each
// datasource has two.
const maxSpare = 4 << 20

// committer is the one goroutine that writes segments.
func (o *Outbox) committer() {
	defer close(o.committed)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	last := 0
	for {
		g, due := o.takeGroup(last)
		if g != nil {
			last = g.waiters
			o.commit(g)
		}
		if sealDue := o.sealAged(); due.IsZero() || !sealDue.IsZero() && sealDue.Before(due) {
			due = sealDue
		}
		if g != nil {
			continue
		}
		select {
		case <-o.stop:
			if o.finish() {
				return
			}
			continue
		default:
		}
		timer.Reset(untilOr(due, time.Hour))
		select {
		case <-o.wake:
		case <-timer.C:
		case <-o.stop:
		}
	}
}

func untilOr(t time.Time, otherwise time.Duration) time.Duration {
	if t.IsZero() {
		return otherwise
	}
	return max(0, time.Until(t))
}

// takeGroup takes the group that is due, or tells when it will be.
//
// Producers that the last commit released are about to come again: it lets
// them run for a moment, so that half of them don't miss this commit.
func (o *Outbox) takeGroup(last int) (g *group, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range 2 * last {
		if o.group == nil || o.group.waiters == 0 || o.group.waiters >= last {
			break
		}
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
	g = o.group
	if g == nil {
		return nil, time.Time{}
	}
	if g.waiters == 0 && g.size < commitEarly && !o.closed && time.Now().Before(g.due) {
		return nil, g.due
	}
	o.group = nil
	for _, c := range g.chunks {
		c.q.pending = nil
	}
	return g, time.Time{}
}

// commit writes a group: one write and one sync a file.
func (o *Outbox) commit(g *group) {
	start := time.Now()
	if Overflow(o.overflow.Load()) == DropOldest {
		o.makeRoom(g.size)
	}
	if len(g.chunks) == 1 {
		o.write(g.chunks[0])
	} else {
		// Files of one commit are synced side by side: three datasources cost
		// the time of one.
		var all sync.WaitGroup
		for _, c := range g.chunks {
			all.Go(func() { o.write(c) })
		}
		all.Wait()
	}
	rows := 0
	for _, c := range g.chunks {
		if c.err == nil {
			rows += len(c.ends)
			if c.why != "" {
				o.opt.Observer.DeadLettered(c.q.name, len(c.ends), LetterInvalid)
			}
		} else if c.added > 0 {
			o.lost(c)
		}
	}
	if g.seal {
		for _, q := range o.all() {
			o.seal(q)
		}
	}
	o.mu.Lock()
	o.backlog -= g.size
	for _, c := range g.chunks {
		c.q.putSpare(c.chunkBuffers)
		c.chunkBuffers = chunkBuffers{}
	}
	o.mu.Unlock()
	close(g.done)
	if rows > 0 {
		o.opt.Observer.Committed(rows, time.Since(start))
	}
}

// lost tells of added rows that nobody waits for and that could not be written.
func (o *Outbox) lost(c *chunk) {
	o.mu.Lock()
	o.dropped += int64(c.added)
	if o.closed {
		o.closeErr = c.err
	}
	o.mu.Unlock()
	if times, told := o.news("lost", c.q.name); told {
		o.log.Error("rows that nobody waited for could not be written and are lost: check the disk",
			zap.String("datasource", c.q.name), zap.Int("rows", c.added), zap.Int("times", times), zap.Error(c.err))
	}
	o.opt.Observer.Dropped(c.q.name, c.added, c.err)
}

// write puts a chunk into its datasource's segments and syncs them. Segments
// are never larger than a body may be, so a chunk may need several.
func (o *Outbox) write(c *chunk) {
	for from := 0; from < len(c.ends); {
		n, err := o.writePart(c, from)
		if full(err) && o.freeDisk(int64(len(c.buf))) {
			continue
		}
		if err != nil {
			c.err = fmt.Errorf("%w: %s: %w", ErrUnavailable, c.q.dir, err)
			return
		}
		from += n
	}
}

func (o *Outbox) writePart(c *chunk, from int) (rows int, err error) {
	q := c.q
	o.mu.Lock()
	limit := q.maxBody
	o.mu.Unlock()
	fit := 0
	if q.open != nil {
		fit = o.fit(q.open, c, from, limit)
	}
	if fit == 0 {
		if q.open != nil {
			o.seal(q)
		}
		if err := o.startSegment(q, c.why); err != nil {
			return 0, err
		}
		fit = max(1, o.fit(q.open, c, from, limit))
	}
	s := q.open
	begin, end := 0, c.ends[from+fit-1]
	if from > 0 {
		begin = c.ends[from-1]
	}
	fresh := s.size == 0
	_, err = s.f.Write(c.buf[begin:end])
	if err == nil {
		err = s.f.Sync()
	}
	if err == nil && fresh {
		// The rows are worth nothing under a name that a crash forgets.
		err = o.fs.SyncDir(q.dir)
	}
	if err != nil {
		o.giveUp(q)
		return 0, err
	}
	grown := int64(end - begin)
	body := grown - int64(fit)*(recordOverhead-1)
	if fresh {
		grown += s.header
	}
	s.size += grown
	s.body += body
	s.rows += fit
	o.mu.Lock()
	o.disk += grown
	q.openRows += fit
	q.openSize += grown
	if q.openBorn.IsZero() {
		q.openBorn = bornAt(s.name)
	}
	o.mu.Unlock()
	if s.rows >= o.opt.SegmentRows || s.body >= limit {
		o.seal(q)
	}
	return fit, nil
}

// fit counts the rows of a chunk that a segment still has room for.
func (o *Outbox) fit(s *segment, c *chunk, from int, limit int64) int {
	n, room := 0, limit-s.body
	start := 0
	if from > 0 {
		start = c.ends[from-1]
	}
	for from+n < len(c.ends) && s.rows+n < o.opt.SegmentRows {
		size := int64(c.ends[from+n]-start) - recordOverhead + 1
		if size > room {
			break
		}
		room -= size
		start = c.ends[from+n]
		n++
	}
	return n
}

func headerFor(datasource, name string) []byte {
	sequence, _ := sequenceOf(name)
	return appendHeader(nil, header{Datasource: datasource, Sequence: sequence, Created: bornAt(name).UTC()})
}

// startSegment makes a new file with its header, neither yet durable.
func (o *Outbox) startSegment(q *queue, why string) error {
	if len(q.rest) >= maxRest {
		return fmt.Errorf("%d segments can't be closed properly", len(q.rest))
	}
	if !q.made {
		if err := o.fs.MkdirAll(q.dir); err != nil {
			return err
		}
		if err := o.fs.SyncDir(o.dir); err != nil {
			return err
		}
		q.made = true
	}
	o.mu.Lock()
	s := &segment{name: q.nextName()}
	o.mu.Unlock()
	age := o.opt.SegmentAge
	s.file = fileName(s.name, kindOpen, 0)
	if q.of != nil {
		age = o.invalidAge(q)
		s.file = fileName(s.name, kindInvalid, 0)
		s.why = reason{LetterInvalid, why, time.Now()}
	}
	path := filepath.Join(q.dir, s.file)
	f, err := o.fs.Create(path)
	if err != nil {
		q.made = !errors.Is(err, fs.ErrNotExist) // deleted by hand: the next try makes it again
		return err
	}
	h := headerFor(q.name, s.name)
	s.header = int64(len(h))
	if _, err := f.Write(h); err != nil {
		f.Close()
		_ = o.fs.Remove(path)
		return err
	}
	if q.of != nil {
		o.writeReason(q, &letter{name: s.name, why: s.why})
	}
	s.f = f
	s.sealAt = time.Now().Add(time.Duration(float64(age) * (0.8 + 0.4*rand.Float64())))
	q.open = s
	return nil
}

// all are the queues that segments are written for.
func (o *Outbox) all() []*queue {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*queue, 0, len(o.queues))
	for _, q := range o.queues {
		list = append(list, q)
		if q.invalid != nil {
			list = append(list, q.invalid)
		}
	}
	return list
}
