package outbox

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// diskRetry is how long a segment waits that the disk did not let be sealed.
const diskRetry = time.Second

// maxRest bounds the files that a failing disk leaves open.
const maxRest = 8

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
	if g.waiters == 0 && !o.closed && time.Now().Before(g.due) {
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
	var size int64
	for _, c := range g.chunks {
		size += int64(len(c.buf))
	}
	if o.opt.Overflow == DropOldest {
		o.makeRoom(size)
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
		} else if c.added > 0 {
			o.lost(c)
		}
		giveBuffer(c.buf)
		c.buf = nil
	}
	if g.seal {
		for _, q := range o.all() {
			o.seal(q)
		}
	}
	o.mu.Lock()
	o.backlog -= size
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
	o.opt.Observer.Dropped(c.q.name, c.added, c.err)
}

// write puts a chunk into its datasource's segments and syncs them. Segments
// are never larger than a body may be, so a chunk may need several.
func (o *Outbox) write(c *chunk) {
	for from := 0; from < len(c.ends); {
		n, err := o.writePart(c, from)
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
		if err := o.startSegment(q); err != nil {
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
func (o *Outbox) startSegment(q *queue) error {
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
	s.file = fileName(s.name, kindOpen, 0)
	path := filepath.Join(q.dir, s.file)
	f, err := o.fs.Create(path)
	if err != nil {
		return err
	}
	h := headerFor(q.name, s.name)
	s.header = int64(len(h))
	if _, err := f.Write(h); err != nil {
		f.Close()
		_ = o.fs.Remove(path)
		return err
	}
	s.f = f
	age := float64(o.opt.SegmentAge)
	s.sealAt = time.Now().Add(time.Duration(age * (0.8 + 0.4*rand.Float64())))
	q.open = s
	return nil
}

// giveUp takes a segment out of use after a failed write or sync. What an
// earlier commit synced is good; what follows is cut off, never believed: after
// a failed fsync the next one may succeed without having written a thing.
func (o *Outbox) giveUp(q *queue) {
	s := q.open
	q.open = nil
	s.broken = true
	q.rest = append(q.rest, s)
	o.sealRest(q)
}

// seal ends the open segment: from now on it is a request body.
func (o *Outbox) seal(q *queue) {
	if q.open == nil {
		return
	}
	q.rest = append(q.rest, q.open)
	q.open = nil
	o.sealRest(q)
}

// sealRest seals what is out of use, in order; what the disk does not let it
// seal stays for a later try and is not delivered meanwhile.
func (o *Outbox) sealRest(q *queue) {
	kept := q.rest[:0]
	var failed error
	for _, s := range q.rest {
		if err := o.sealOne(q, s); err != nil {
			failed = err
			kept = append(kept, s)
		}
	}
	clear(q.rest[len(kept):])
	q.rest = kept
	if failed != nil {
		o.log.Debug("sealing a segment", zap.String("datasource", q.name), zap.Error(failed))
	}
}

func (o *Outbox) sealOne(q *queue, s *segment) error {
	if s.broken {
		if err := s.f.Truncate(s.size); err != nil {
			return err
		}
		if err := s.f.Sync(); err != nil {
			return err
		}
		s.broken = false
	}
	if s.f != nil {
		_ = s.f.Close() // everything that counts is synced
		s.f = nil
	}
	path := filepath.Join(q.dir, s.file)
	if s.rows == 0 {
		return o.fs.Remove(path)
	}
	// The new name need not be durable: a crash that forgets it leaves an open
	// segment with the same rows, which the next Open seals.
	file := fileName(s.name, kindSealed, s.rows)
	if err := o.fs.Rename(path, filepath.Join(q.dir, file)); err != nil {
		return err
	}
	s.file = file
	o.mu.Lock()
	q.openRows -= s.rows
	q.openSize -= s.size
	q.openBorn = time.Time{}
	for _, other := range append(slices.Clone(q.rest), q.open) {
		if other != nil && other != s && other.rows > 0 && q.openBorn.IsZero() {
			q.openBorn = bornAt(other.name)
		}
	}
	q.insert(s)
	o.mu.Unlock()
	signal(q.wake)
	return nil
}

// sealAged seals segments that are old while nothing sealed waits, retries what
// the disk refused, and tells when there is more of it to do.
func (o *Outbox) sealAged() (due time.Time) {
	now := time.Now()
	sooner := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	for _, q := range o.all() {
		if len(q.rest) > 0 {
			o.sealRest(q)
			if len(q.rest) > 0 {
				sooner(now.Add(diskRetry))
			}
		}
		if q.open == nil {
			continue
		}
		o.mu.Lock()
		waiting := q.waiting(now)
		o.mu.Unlock()
		if waiting {
			continue // the courier wakes the committer when that is gone
		}
		if now.Before(q.open.sealAt) {
			sooner(q.open.sealAt)
			continue
		}
		o.seal(q)
		if len(q.rest) > 0 {
			sooner(now.Add(diskRetry))
		}
	}
	return due
}

// finish closes the files after the last commit; false if rows came meanwhile.
func (o *Outbox) finish() bool {
	o.mu.Lock()
	more := o.group != nil
	o.mu.Unlock()
	if more {
		return false
	}
	for _, q := range o.all() {
		o.sealRest(q)
		for _, s := range append(slices.Clone(q.rest), q.open) {
			if s != nil && s.f != nil {
				_ = s.f.Close()
			}
		}
	}
	return true
}

func (o *Outbox) all() []*queue {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*queue, 0, len(o.queues))
	for _, q := range o.queues {
		list = append(list, q)
	}
	return list
}
