package outbox

import (
	"errors"
	"fmt"
	"path/filepath"

	"go.uber.org/zap"
)

// settle does the disk work of a final outcome. When it fails, the outcome is
// kept and only this is tried again: the batch is not sent twice for a disk's
// sake.
func (o *Outbox) settle(q *queue, s *segment, out Outcome) error {
	switch out.Verdict {
	case VerdictDelivered:
		if out.Reason != nil && s.rows > 0 {
			kind, text := LetterCopy, "the sink did not take every row as it should: a copy is among the dead letters; look at what it says, mend the datasource, delete the copy"
			if out.Quarantined == 0 {
				kind, text = LetterUnconfirmed, "the sink does not say that it holds the rows: they are kept among the dead letters; compare the row counts, then send them again or delete them"
			}
			if err := o.bury(q, s, kind, out.Reason); err != nil {
				return err
			}
			if times, told := o.news(kind, q.name); told {
				o.log.Warn(text,
					zap.String("dead_letter", q.letterID(s.name)), zap.Int("rows", s.rows),
					zap.Int("quarantined", out.Quarantined), zap.Int("times", times), zap.Error(out.Reason))
			}
			return nil
		}
		return o.unlink(q, s)
	case VerdictSplit:
		if s.rows == 1 {
			return o.buryLoud(q, s, LetterTooLarge, out.Reason)
		}
		o.lowerLimit(q, s)
		return o.split(q, s)
	case VerdictBlame:
		if s.rows == 1 {
			return o.buryLoud(q, s, LetterRefused, out.Reason)
		}
		return o.split(q, s)
	case VerdictDeadLetter:
		return o.buryLoud(q, s, LetterPartial, out.Reason)
	}
	return fmt.Errorf("sink answered with unknown verdict %d", out.Verdict)
}

func (o *Outbox) buryLoud(q *queue, s *segment, kind string, why error) error {
	if err := o.bury(q, s, kind, why); err != nil {
		return err
	}
	if times, told := o.news(kind, q.name); told {
		o.log.Error("rows went to the dead letters, where they are kept: see to the reason, then send them again or delete them", zap.String("dead_letter", q.letterID(s.name)),
			zap.String("kind", kind), zap.Int("rows", s.rows), zap.Int("times", times), zap.Error(why))
	}
	return nil
}

// unlink removes a delivered segment. Its name is synced away so that a crash
// does not send it again; if that fails it may, with the same bytes.
func (o *Outbox) unlink(q *queue, s *segment) error {
	if err := existing(o.fs.Remove(filepath.Join(q.dir, s.file))); err != nil {
		return err
	}
	_ = o.fs.SyncDir(q.dir)
	o.mu.Lock()
	q.remove(s)
	o.disk -= s.size
	o.mu.Unlock()
	return nil
}

// lowerLimit learns from a sink that found a body too large. It is forgotten
// at the next start: learning again costs one request.
func (o *Outbox) lowerLimit(q *queue, s *segment) {
	const floor = 64 << 10
	body := s.size - int64(s.rows)*(recordOverhead-1)
	o.mu.Lock()
	q.maxBody = min(q.maxBody, max(floor, body/2))
	o.mu.Unlock()
}

// split replaces a segment by two halves that are sealed segments themselves.
// They count only when the whole is gone (see dropHalves), so a crash at any
// point leaves either the whole or both halves.
func (o *Outbox) split(q *queue, s *segment) error {
	rows, err := o.load(q, s)
	if err != nil {
		return err
	}
	if len(rows) < 2 { // damage since it was read last
		return o.buryLoud(q, s, LetterRefused, errors.New("too damaged to be split"))
	}
	middle := len(rows) / 2
	older, err := o.writeSealed(q, s.name+"a", rows[:middle])
	if err != nil {
		return err
	}
	younger, err := o.writeSealed(q, s.name+"b", rows[middle:])
	if err != nil {
		return err
	}
	if err := o.fs.SyncDir(q.dir); err != nil {
		return err
	}
	if err := o.fs.Remove(filepath.Join(q.dir, s.file)); err != nil {
		return err
	}
	if err := o.fs.SyncDir(q.dir); err != nil {
		o.log.Warn("syncing the outbox directory after a split: a crash now would send the whole again",
			zap.String("batch", q.letterID(s.name)), zap.Error(err))
	}
	o.mu.Lock()
	q.remove(s)
	older.sealedAt, younger.sealedAt = s.sealedAt, s.sealedAt
	older.owed, younger.owed = s.owed, s.owed
	q.insert(older)
	q.insert(younger)
	o.disk += older.size + younger.size - s.size
	o.mu.Unlock()
	return nil
}

// writeSealed makes a sealed segment in one step; its name is not yet durable.
func (o *Outbox) writeSealed(q *queue, name string, rows [][]byte) (*segment, error) {
	data := headerFor(q.name, name)
	for _, row := range rows {
		data = appendRecord(data, row)
	}
	s := &segment{name: name, file: fileName(name, kindSealed, len(rows)), rows: len(rows), size: int64(len(data))}
	return s, o.placeFile(q, name, s.file, data)
}
