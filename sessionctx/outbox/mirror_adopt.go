package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// adopt takes sealed segments of another outbox's datasource in, under the
// names that they have there, and returns how many of the list, in its order,
// are dealt with: durably here, or dropped for want of space and counted. Those
// that are here already, whole or in halves, are left as they are.
func (o *Outbox) adopt(datasource string, list []*handover) (n int, err error) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return 0, ErrClosed
	}
	q := o.queue(datasource)
	o.mu.Unlock()
	if err := o.fs.MkdirAll(q.dir); err != nil {
		return 0, err
	}
	if !q.made { // nobody else looks: nothing is appended here
		if err := o.fs.SyncDir(o.dir); err != nil {
			return 0, err
		}
		q.made = true
	}
	for _, h := range list {
		if err = o.adoptOne(q, h); err != nil {
			break
		}
		n++
	}
	// What was found here may be from a try whose names were not synced.
	if syncErr := o.fs.SyncDir(q.dir); syncErr != nil {
		return 0, syncErr
	}
	return n, err
}

func (o *Outbox) adoptOne(q *queue, h *handover) error {
	o.mu.Lock()
	here, err := q.holds(h)
	o.mu.Unlock()
	if here || err != nil {
		return err
	}
	o.makeRoom(h.size)
	o.mu.Lock()
	tooMuch := o.disk+h.size > o.maxDisk.Load() // of what is being sent
	if tooMuch {
		o.dropped += int64(h.rows)
	}
	o.mu.Unlock()
	if tooMuch {
		o.tellDropped(q, h.rows)
		return nil
	}
	err = o.linkOrCopy(q, h)
	for full(err) && o.opt.source.mirrorsYield(h.size) {
		err = o.linkOrCopy(q, h)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // delivered meanwhile by a try from before this mirror was there
	case err != nil:
		return err
	}
	s := &segment{name: h.name, file: h.file, rows: h.rows, size: h.size, sealedAt: h.sealedAt}
	o.mu.Lock()
	sequence, _ := sequenceOf(h.name)
	q.lastSeq = max(q.lastSeq, sequence)
	q.insert(s)
	o.disk += s.size
	for ds, first := range o.opt.After {
		if other := o.queues[ds]; other != nil && first == q.name {
			signal(other.wake) // it may have waited for the hand-over
		}
	}
	o.mu.Unlock()
	signal(q.wake)
	return nil
}

// linkOrCopy gives a file a second name; where the file system can't, or one
// file has too many names already, it makes a second file.
func (o *Outbox) linkOrCopy(q *queue, h *handover) error {
	to := filepath.Join(q.dir, h.file)
	err := o.fs.Link(h.path, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil // of an earlier try
	}
	data, readErr := o.fs.ReadFile(h.path, -1, nil)
	if readErr != nil {
		return readErr
	}
	temp := filepath.Join(q.dir, fileName(h.name, kindTemp, 0))
	_ = o.fs.Remove(temp)
	if copyErr := o.writeFile(temp, data); copyErr != nil {
		return fmt.Errorf("linking %s: %w; copying it: %w", to, err, copyErr)
	}
	if copyErr := o.fs.Rename(temp, to); copyErr != nil {
		_ = o.fs.Remove(temp)
		return copyErr
	}
	return nil
}

// holds tells, under the lock, whether a segment is here: itself, what it was
// split into, or what it was split from, waiting or dead.
func (q *queue) holds(h *handover) (bool, error) {
	same := func(name string, size int64) (bool, error) {
		if name == h.name && size != h.size {
			return false, fmt.Errorf("another segment is called %s: it has to be delivered first", q.letterID(name))
		}
		return !strings.HasSuffix(name, damagedSuffix) && (strings.HasPrefix(name, h.name) || strings.HasPrefix(h.name, name)), nil
	}
	for _, s := range q.sealed {
		if here, err := same(s.name, s.size); here || err != nil {
			return here, err
		}
	}
	for _, l := range q.dead {
		if here, err := same(l.name, l.size); here || err != nil {
			return here, err
		}
	}
	return false, nil
}

// withholds tells whether rows of a datasource that were there at a time have
// not yet been handed over to the mirrors.
func (o *Outbox) withholds(datasource string, t time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queues[datasource]
	if q == nil {
		return false
	}
	if !q.openBorn.IsZero() && !q.openBorn.After(t) {
		return true
	}
	for _, s := range q.sealed {
		if s.owed && !bornAt(s.name).After(t) {
			return true
		}
	}
	return false
}
