package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// AppendInvalid is Append for rows that no sink is to get, since they would not
// arrive as meant: they become dead letters of the kind LetterInvalid, durable
// when it returns. why is their letter's reason; where a letter holds rows of
// several calls, that of the first. It should quote no values: letters are
// listed without their rows.
//
// What is no JSON object on one line is kept as an object that holds its text.
// Such rows have no right to push others out: under DropOldest they make room
// among the dead letters, see there.
func (o *Outbox) AppendInvalid(ctx context.Context, why string, rows ...Row) error {
	return o.append(ctx, nonEmpty(why), storable(rows))
}

// AddInvalid is AppendInvalid without waiting, as Add is Append.
func (o *Outbox) AddInvalid(why string, rows ...Row) error {
	if len(rows) == 0 {
		return nil
	}
	_, _, err := o.take(storable(rows), nonEmpty(why), false, nil)
	return err
}

func nonEmpty(why string) string {
	if why == "" {
		return "no reason was given"
	}
	return why
}

// storable makes rows that can be written as lines out of any.
func storable(rows []Row) []Row {
	out := make([]Row, len(rows))
	for i, r := range rows {
		out[i] = r
		if checkLine(r) != nil {
			out[i].JSON = describe(map[string]any{}, r.JSON)
		}
	}
	return out
}

// describe tells bytes that are no row: as text where they are text, else as
// base64.
func describe(m map[string]any, line []byte) []byte {
	if utf8.Valid(line) {
		m["text"] = string(line)
	} else {
		m["base64"] = line
	}
	text, _ := json.Marshal(m) // strings, bytes and numbers always encode
	return text
}

// Rows of AppendInvalid are written as others are, by the committer, to a
// segment of their own: N.invalid. When that is sealed it is a dead letter, and
// at a start it becomes one. invalidRows is the part of a queue that does so:
// it shares the directory and the names, and has no courier. Under Outbox.mu.
func (q *queue) invalidRows() *queue {
	if q.invalid == nil {
		q.invalid = &queue{name: q.name, dir: q.dir, of: q, maxBody: q.maxBody}
	}
	return q.invalid
}

// invalidAge is how long a segment of invalid rows stays open: longer with each
// letter that there is, so that a fault that hits every row makes hundreds of
// files a day, not one a commit.
func (o *Outbox) invalidAge(q *queue) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	letters := 1
	for _, l := range q.of.dead {
		if l.why.Kind == LetterInvalid {
			letters++
		}
	}
	return time.Duration(letters) * o.opt.SegmentAge
}

// sealInvalid makes a dead letter of a segment, by a rename that need not be
// durable: without it, the next start makes the letter.
func (o *Outbox) sealInvalid(q *queue, s *segment) error {
	o.letters.Lock()
	defer o.letters.Unlock()
	l := &letter{name: s.name, file: fileName(s.name, kindDead, s.rows), rows: s.rows, size: s.size, why: s.why}
	err := o.fs.Rename(filepath.Join(q.dir, s.file), filepath.Join(q.dir, l.file))
	gone := errors.Is(err, fs.ErrNotExist) // deleted by hand
	if err != nil && !gone {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	q.openRows -= s.rows
	q.openSize -= s.size
	if gone {
		o.disk -= s.size
	} else {
		q.of.dead[l.name] = l
	}
	return nil
}

// recoverInvalid makes a dead letter of what a start found of such a segment:
// a fresh copy, for the reasons that sealFound has.
func (o *Outbox) recoverInvalid(q *queue, e dirEntry) error {
	path := filepath.Join(q.dir, e.name)
	name, _, _, _ := parseFileName(e.name)
	if q.dead[name] != nil {
		return o.fs.Remove(path) // an earlier start copied it
	}
	found, err := o.readFound(q, path)
	if err != nil {
		return err
	}
	o.cut += int64(len(found.tail))
	// On a full disk the damaged lines stay in the file, as in recoverOpen.
	if err := o.buryDamaged(q, name, found.damaged); err != nil && (!full(err) || len(found.rows) == 0) {
		return err
	}
	if len(found.rows) == 0 {
		return o.fs.Remove(path)
	}
	l := &letter{name: name, file: fileName(name, kindDead, len(found.rows)), rows: len(found.rows), size: found.whole}
	l.why = reason{Kind: LetterInvalid, Reason: "the reason was not recorded", At: bornAt(name)}
	if err := o.copyLetter(q, l, path, found.rows); err != nil {
		return err
	}
	q.dead[name] = l
	o.disk += l.size
	return nil
}

func (o *Outbox) copyLetter(q *queue, l *letter, path string, rows [][]byte) error {
	data := headerFor(q.name, l.name)
	for _, row := range rows {
		data = appendRecord(data, row)
	}
	err := o.placeFile(q, l.name, l.file, data)
	if full(err) {
		if err := o.fs.Truncate(path, l.size); err != nil {
			return err
		}
		return o.fs.Rename(path, filepath.Join(q.dir, l.file))
	}
	if err != nil {
		return err
	}
	l.size = int64(len(data))
	if err := o.fs.SyncDir(q.dir); err != nil {
		return err
	}
	return o.fs.Remove(path)
}

// placeFile makes a file in one step; its name is not yet durable.
func (o *Outbox) placeFile(q *queue, name, file string, data []byte) error {
	temp := filepath.Join(q.dir, fileName(name, kindTemp, 0))
	_ = o.fs.Remove(temp)
	err := o.writeFile(temp, data)
	for full(err) && o.mirrorsYield(int64(len(data))) {
		err = o.writeFile(temp, data)
	}
	if err != nil {
		return err
	}
	if err := o.fs.Rename(temp, filepath.Join(q.dir, file)); err != nil {
		_ = o.fs.Remove(temp)
		return err
	}
	return nil
}
