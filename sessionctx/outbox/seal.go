package outbox

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// diskRetry is how long a segment waits that the disk did not let be sealed.
const diskRetry = time.Second

// maxRest bounds the files that a failing disk leaves open.
const maxRest = 8

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
	rest := q.rest
	q.rest = nil
	var failed error
	for i, s := range rest {
		if err := o.sealOne(q, s, rest[i+1:]); err != nil {
			failed = err
			q.rest = append(q.rest, s)
		}
	}
	if failed != nil {
		o.log.Debug("sealing a segment", zap.String("datasource", q.name), zap.Error(failed))
	}
}

// sealOne seals a segment; those of later come after it.
func (o *Outbox) sealOne(q *queue, s *segment, later []*segment) error {
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
		return existing(o.fs.Remove(path))
	}
	if q.of != nil {
		return o.sealInvalid(q, s)
	}
	// The new name need not be durable: a crash that forgets it leaves an open
	// segment with the same rows, which the next Open seals.
	file := fileName(s.name, kindSealed, s.rows)
	if err := existing(o.fs.Rename(path, filepath.Join(q.dir, file))); err != nil {
		return err
	}
	s.file = file
	o.mu.Lock()
	q.openRows -= s.rows
	q.openSize -= s.size
	q.openBorn = time.Time{}
	for _, other := range append(slices.Concat(q.rest, later), q.open) {
		if other != nil && other.rows > 0 && q.openBorn.IsZero() {
			q.openBorn = bornAt(other.name)
		}
	}
	s.owed = o.isFed()
	q.insert(s)
	o.mu.Unlock()
	signal(q.wake)
	signal(o.mirrors.wake)
	return nil
}

// existing forgives a file that somebody deleted: the courier tells of it, and
// it must not stop those that are there.
func existing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
		sealAt := q.open.sealAt
		behind := o.mirrorsBehind(q.name, now)
		o.mu.Lock()
		waiting, fed := q.waiting(now), o.isFed()
		if fed {
			sealAt = sealAt.Add(o.mirrorDelay(q, waiting, behind))
		}
		o.mu.Unlock()
		if waiting && !fed {
			continue // the courier wakes the committer when that is gone
		}
		if now.Before(sealAt) {
			sooner(sealAt)
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
