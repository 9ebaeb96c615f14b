package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

var (
	// ErrNoLetter: no dead letter or parked batch has that id.
	ErrNoLetter = errors.New("no such dead letter")
	// ErrLetterDamaged: a letter of damaged lines can't be sent.
	ErrLetterDamaged = errors.New("holds damaged lines, not rows")
	// ErrLetterBusy: a parked batch is being sent at this moment.
	ErrLetterBusy = errors.New("is being sent")
)

// Kinds of dead letters.
const (
	// LetterRefused: rows that the sink did not take.
	LetterRefused = "refused"
	// LetterTooLarge: one row that is larger than the sink takes.
	LetterTooLarge = "too_large"
	// LetterPartial: the sink took a part; sending again may double that.
	LetterPartial = "partial"
	// LetterCopy: a copy of what the sink holds, some of it set aside. Deleted
	// before its time when the disk share is short.
	LetterCopy = "copy"
	// LetterUnconfirmed: what the sink took without saying that it holds it. The
	// letter may be all there is.
	LetterUnconfirmed = "unconfirmed"
	// LetterDamaged: lines whose checksum does not hold. Can't be sent.
	LetterDamaged = "damaged"
	// LetterInvalid: rows that would not have arrived as meant, and so were
	// never sent. See AppendInvalid.
	LetterInvalid = "invalid_row"
	// LetterParked: not dead: a batch that fails while others pass, retried
	// hourly. Requeue tries it at once, DeleteDeadLetter gives it up.
	LetterParked = "parked"
)

// Letter is a dead letter or a parked batch.
type Letter struct {
	ID         string    `json:"id"` // datasource/segment
	Datasource string    `json:"datasource"`
	Kind       string    `json:"kind"`
	Rows       int       `json:"rows"`
	Bytes      int64     `json:"bytes"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
}

type letter struct {
	name string
	file string
	rows int
	size int64
	why  reason
}

// reason is the file beside a dead letter.
type reason struct {
	Kind   string    `json:"kind"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

func (q *queue) letterID(name string) string { return q.name + "/" + name }

// DeadLetters lists dead letters and parked batches, oldest first.
func (o *Outbox) DeadLetters() []Letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := []Letter{}
	for _, q := range o.queues {
		for _, l := range q.dead {
			list = append(list, Letter{
				ID: q.letterID(l.name), Datasource: q.name, Kind: l.why.Kind,
				Rows: l.rows, Bytes: l.size, Reason: l.why.Reason, At: l.why.At,
			})
		}
		for _, s := range q.sealed {
			if s.parked {
				list = append(list, Letter{
					ID: q.letterID(s.name), Datasource: q.name, Kind: LetterParked,
					Rows: s.rows, Bytes: s.size, Reason: errorText(s.lastError), At: s.firstFail,
				})
			}
		}
	}
	slices.SortFunc(list, func(a, b Letter) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// find looks an id up, under the lock.
func (o *Outbox) find(id string) (q *queue, dead *letter, parked *segment, err error) {
	datasource, name, _ := strings.Cut(id, "/")
	if q = o.queues[datasource]; q != nil {
		if l := q.dead[name]; l != nil {
			return q, l, nil, nil
		}
		for _, s := range q.sealed {
			if s.parked && s.name == name {
				return q, nil, s, nil
			}
		}
	}
	return nil, nil, nil, fmt.Errorf("%w: %q", ErrNoLetter, id)
}

// ReadDeadLetter returns a letter's rows as newline-delimited JSON. Damaged
// lines come as objects that hold their text (or bytes) and offset.
func (o *Outbox) ReadDeadLetter(id string) ([]byte, error) {
	o.letters.Lock()
	defer o.letters.Unlock()
	o.mu.Lock()
	q, l, s, err := o.find(id)
	var path string
	switch {
	case err != nil:
	case l != nil:
		path = filepath.Join(q.dir, l.file)
	default:
		path = filepath.Join(q.dir, s.file)
	}
	o.mu.Unlock()
	if err != nil {
		return nil, err
	}
	data, err := o.fs.ReadFile(path, -1, nil)
	if err != nil {
		return nil, err
	}
	found, err := scanSegment(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return joinRows(found.rows), nil
}

// Requeue sends a dead letter again, as a batch of its own under a new name, or
// a parked batch at once. Rows that the sink already has may arrive twice.
func (o *Outbox) Requeue(id string) error {
	o.letters.Lock()
	defer o.letters.Unlock()
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	q, l, parked, err := o.find(id)
	if err != nil {
		o.mu.Unlock()
		return err
	}
	if parked != nil {
		parked.retryAt = time.Time{}
		signal(q.wake)
		o.mu.Unlock()
		return nil
	}
	if l.why.Kind == LetterDamaged {
		o.mu.Unlock()
		return fmt.Errorf("dead letter %s %w: read it, then delete it", id, ErrLetterDamaged)
	}
	s := &segment{name: q.nextName(), rows: l.rows, size: l.size}
	o.mu.Unlock()

	s.file = fileName(s.name, kindSealed, s.rows)
	if err := o.fs.Rename(filepath.Join(q.dir, l.file), filepath.Join(q.dir, s.file)); err != nil {
		return fmt.Errorf("requeuing %s: %w", id, err)
	}
	syncErr := o.fs.SyncDir(q.dir)
	_ = o.fs.Remove(filepath.Join(q.dir, fileName(l.name, kindReason, 0)))
	o.mu.Lock()
	delete(q.dead, l.name)
	// No sink has had such rows.
	s.owed = l.why.Kind == LetterInvalid && o.isFed()
	q.insert(s)
	signal(q.wake)
	signal(o.mirrors.wake)
	o.mu.Unlock()
	if syncErr != nil {
		return fmt.Errorf("requeuing %s: %w", id, syncErr)
	}
	return nil
}

// DeleteDeadLetter deletes a dead letter or a parked batch for good.
func (o *Outbox) DeleteDeadLetter(id string) error {
	o.letters.Lock()
	defer o.letters.Unlock()
	o.mu.Lock()
	q, l, parked, err := o.find(id)
	if err == nil && parked != nil {
		if parked.busy {
			err = fmt.Errorf("parked batch %s %w: try again", id, ErrLetterBusy)
		} else {
			q.remove(parked)
		}
	}
	o.mu.Unlock()
	switch {
	case err != nil:
		return err
	case parked != nil:
		if err := existing(o.fs.Remove(filepath.Join(q.dir, parked.file))); err != nil {
			o.mu.Lock()
			q.insert(parked)
			o.mu.Unlock()
			return fmt.Errorf("deleting %s: %w", id, err)
		}
		o.mu.Lock()
		o.disk -= parked.size
		o.mu.Unlock()
		return o.fs.SyncDir(q.dir)
	}
	if err := o.dropLetter(q, l); err != nil {
		return fmt.Errorf("deleting %s: %w", id, err)
	}
	return o.fs.SyncDir(q.dir)
}

// dropLetter deletes a dead letter's files. The caller holds letters.
func (o *Outbox) dropLetter(q *queue, l *letter) error {
	if err := existing(o.fs.Remove(filepath.Join(q.dir, l.file))); err != nil {
		return err
	}
	_ = o.fs.Remove(filepath.Join(q.dir, fileName(l.name, kindReason, 0)))
	o.mu.Lock()
	delete(q.dead, l.name)
	o.disk -= l.size
	o.mu.Unlock()
	return nil
}

// bury moves a segment from the queue to the dead letters: a rename, so it is
// never in both and needs no space.
func (o *Outbox) bury(q *queue, s *segment, kind string, why error) error {
	o.letters.Lock()
	defer o.letters.Unlock()
	l := &letter{name: s.name, rows: s.rows, size: s.size, why: reason{kind, errorText(why), time.Now()}}
	l.file = fileName(l.name, kindDead, l.rows)
	o.writeReason(q, l)
	if err := o.fs.Rename(filepath.Join(q.dir, s.file), filepath.Join(q.dir, l.file)); err != nil {
		return err
	}
	err := o.fs.SyncDir(q.dir)
	o.mu.Lock()
	q.remove(s)
	q.dead[l.name] = l
	if o.disk > o.sweepAbove() {
		signal(o.sweep)
	}
	o.mu.Unlock()
	if err != nil {
		o.log.Warn("syncing the outbox directory after burying a batch: a crash now would send it again", zap.String("batch", q.letterID(l.name)), zap.Error(err))
	}
	o.opt.Observer.DeadLettered(q.name, l.rows, kind)
	return nil
}

// writeReason is best effort: a dead letter without its reason is still kept.
func (o *Outbox) writeReason(q *queue, l *letter) {
	path := filepath.Join(q.dir, fileName(l.name, kindReason, 0))
	text, err := json.Marshal(l.why)
	if err == nil {
		_ = o.fs.Remove(path)
		err = o.writeFile(path, append(text, '\n'))
	}
	if err != nil {
		if times, told := o.news("reason", q.name); told {
			o.log.Warn("a dead letter's reason can't be written: the letter is kept without it; check the disk", zap.String("file", path), zap.String("reason", l.why.Reason), zap.Int("times", times), zap.Error(err))
		}
	}
}

// writeFile makes a file and syncs it; its name is not yet durable.
func (o *Outbox) writeFile(path string, data []byte) error {
	f, err := o.fs.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = o.fs.Remove(path)
	}
	return err
}

// buryDamaged writes a segment's damaged lines to a dead letter, unless it is
// there already.
func (o *Outbox) buryDamaged(q *queue, name string, lines []damage) error {
	if len(lines) == 0 {
		return nil
	}
	o.letters.Lock()
	defer o.letters.Unlock()
	letterName := name + damagedSuffix
	o.mu.Lock()
	known := q.dead[letterName] != nil
	o.mu.Unlock()
	if known {
		return nil
	}
	data := headerFor(q.name, name)
	for _, d := range lines {
		data = appendRecord(data, d.json(name))
	}
	l := &letter{name: letterName, rows: len(lines), size: int64(len(data)), why: reason{
		Kind: LetterDamaged, At: time.Now(),
		Reason: fmt.Sprintf("%d lines of segment %s have a wrong checksum", len(lines), name),
	}}
	l.file = fileName(l.name, kindDead, l.rows)
	o.writeReason(q, l)
	if err := o.placeFile(q, l.name, l.file, data); err != nil {
		return err
	}
	if err := o.fs.SyncDir(q.dir); err != nil {
		return err
	}
	o.mu.Lock()
	q.dead[l.name] = l
	o.disk += l.size
	o.damaged += int64(l.rows)
	o.mu.Unlock()
	if times, told := o.news(LetterDamaged, q.name); told {
		o.log.Error("damaged lines in an outbox segment: kept as a dead letter, the other rows go on; check the disk",
			zap.String("dead_letter", q.letterID(l.name)), zap.Int("lines", l.rows), zap.Int("times", times))
	}
	o.opt.Observer.DeadLettered(q.name, l.rows, LetterDamaged)
	return nil
}

// json tells a damaged line: as text where it is text, else as base64.
func (d damage) json(segment string) []byte {
	return describe(map[string]any{"segment": segment, "offset": d.offset}, d.line)
}

// recoverReasons joins dead letters with the reasons beside them.
func (o *Outbox) recoverReasons(q *queue, names []string) {
	for _, name := range names {
		path := filepath.Join(q.dir, fileName(name, kindReason, 0))
		l := q.dead[name]
		if l == nil {
			_ = o.fs.Remove(path)
			continue
		}
		if text, err := o.fs.ReadFile(path, headLimit*64, nil); err == nil {
			_ = json.Unmarshal(text, &l.why)
		}
	}
	for _, l := range q.dead {
		if l.why.At.IsZero() {
			l.why.At = bornAt(l.name)
		}
		if l.why.Kind == "" {
			l.why.Kind = LetterRefused
			if strings.HasSuffix(l.name, damagedSuffix) {
				l.why.Kind = LetterDamaged
			}
			l.why.Reason = "the reason was not recorded"
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
