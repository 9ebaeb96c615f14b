package outbox

import (
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// makeRoom is DropOldest: it deletes the oldest until size more bytes fit. Dead
// letters are among them: such an outbox refuses no rows, so nothing else would
// keep them from filling the disk, and each row from being dropped for them.
func (o *Outbox) makeRoom(size int64) {
	short := func() bool { return o.disk+size > o.maxDisk.Load() }
	o.dropWhile(short, func(*queue, string) bool { return true })
}

// freeDisk makes room on a disk that is full, though max_disk isn't reached:
// mirrors do first, as they never make Append refuse, then DropOldest. It
// reports whether there is any.
func (o *Outbox) freeDisk(size int64) bool {
	return o.mirrorsYield(size) || Overflow(o.overflow.Load()) == DropOldest && o.yield(size)
}

// yield deletes the oldest until size bytes are free, and reports whether any
// are. A mirror leaves what the outbox itself still holds: these are second
// names of the same bytes.
func (o *Outbox) yield(size int64) bool {
	end, began := int64(0), false
	short := func() bool {
		if !began {
			end, began = o.disk-size, true
		}
		return o.disk > end
	}
	return o.dropWhile(short, func(q *queue, name string) bool { return o.opt.source == nil || !o.opt.source.has(q.name, name) })
}

// mirrorsYield asks mirrors to make room on a disk that is full, and reports
// whether one did.
func (o *Outbox) mirrorsYield(size int64) (some bool) {
	for _, box := range o.mirrorBoxes(false) {
		some = box.yield(size) || some
	}
	return some
}

// mirrorBoxes are the mirrors that are open, or of these those that get new rows.
func (o *Outbox) mirrorBoxes(fed bool) (boxes []*Outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.mirrors.list {
		if m.box != nil && !(fed && m.DrainOnly) {
			boxes = append(boxes, m.box)
		}
	}
	return boxes
}

// has tells whether a segment waits here, or is a dead letter.
func (o *Outbox) has(datasource, name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queues[datasource]
	if q == nil {
		return false
	}
	_, waits := slices.BinarySearchFunc(q.sealed, name, func(s *segment, name string) int { return strings.Compare(s.name, name) })
	return waits || q.dead[name] != nil
}

// candidate is what is dropped next: a segment or a dead letter.
type candidate struct {
	q    *queue
	s    *segment
	l    *letter
	name string
	rows int
}

// before tells whether c is to go before another.
func (c candidate) before(other candidate) bool {
	if other.q == nil || c.q.low != other.q.low {
		return other.q == nil || c.q.low
	}
	return c.name < other.name
}

// dropWhile deletes the oldest of what may go while short, called under the
// lock, says so, and reports whether any went.
func (o *Outbox) dropWhile(short func() bool, may func(*queue, string) bool) (some bool) {
	o.mu.Lock()
	enough := !short()
	o.mu.Unlock()
	if enough {
		return false
	}
	o.letters.Lock()
	defer o.letters.Unlock()
	for {
		o.mu.Lock()
		var v candidate
		if short() && !(o.closed && o.opt.source != nil) {
			v = o.oldest(may)
		}
		if v.s != nil {
			v.s.busy = true
		}
		o.mu.Unlock()
		if v.q == nil || o.drop(v) != nil {
			return some
		}
		some = true
		o.tellDropped(v.q, v.rows)
	}
}

// oldest is the oldest dead letter if they have more than their half, else the
// oldest sealed segment that is not being sent; else a letter all the same. One
// of a low-priority datasource goes before the others. Under the lock.
func (o *Outbox) oldest(may func(*queue, string) bool) candidate {
	var segment, letter candidate
	var letters int64
	for _, q := range o.queues {
		for _, s := range q.sealed {
			if s.busy || s.owed || !may(q, s.name) {
				continue
			}
			if c := (candidate{q: q, s: s, name: s.name, rows: s.rows}); c.before(segment) {
				segment = c
			}
			break
		}
		for _, l := range q.dead {
			letters += l.size
			if c := (candidate{q: q, l: l, name: l.name, rows: l.rows}); c.before(letter) && may(q, l.name) {
				letter = c
			}
		}
	}
	if segment.q == nil || letter.q != nil && letters > o.maxDisk.Load()/2 {
		return letter
	}
	return segment
}

// drop deletes one. The caller holds letters.
func (o *Outbox) drop(v candidate) error {
	if v.l != nil {
		err := o.dropLetter(v.q, v.l)
		if err == nil {
			o.mu.Lock()
			o.dropped += int64(v.rows)
			o.mu.Unlock()
		}
		return err
	}
	err := existing(o.fs.Remove(filepath.Join(v.q.dir, v.s.file)))
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		v.s.busy = false
		return err
	}
	v.q.remove(v.s)
	o.disk -= v.s.size
	o.dropped += int64(v.rows)
	return nil
}

// tellDropped says that rows are gone for want of space.
func (o *Outbox) tellDropped(q *queue, rows int) {
	if times, told := o.news("drop", q.name); told {
		text := "outbox is full: the oldest rows are being dropped, as overflow drop_oldest asks; raise max_disk or mend the delivery"
		if o.opt.source != nil {
			text = "a mirror has no room on the disk: its oldest rows are being dropped, other sinks get theirs; mend its delivery, or give it more room"
		}
		o.log.Error(text, zap.String("datasource", q.name), zap.Int("rows", rows), zap.Int("times", times))
	}
	o.opt.Observer.Dropped(q.name, rows, ErrFull)
}
