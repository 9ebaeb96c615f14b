package outbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// headLimit is more than any header line.
const headLimit = 1024

// recoverAll reads what an earlier Outbox left. It runs before anything else.
func (o *Outbox) recoverAll() error {
	entries, err := o.fs.ReadDir(o.dir)
	if err != nil {
		return err
	}
	// A directory that is here need not be here after a power cut: an earlier
	// process may have ended between making and syncing it.
	if err := o.fs.SyncDir(o.dir); err != nil {
		return err
	}
	for dir := o.dir; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		err := o.fs.SyncDir(dir)
		if source := o.opt.source; err != nil && source != nil && dir == source.dir {
			return err // a mirror that a power cut forgets has lost what was delivered to others
		}
		// Another may belong to somebody else, who keeps it by other means.
	}
	for _, e := range entries {
		if !e.dir || !validDatasource(e.name) {
			continue
		}
		q := o.newQueue(e.name)
		q.made = true
		o.queues[q.name] = q
		if err := o.recoverQueue(q); err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) recoverQueue(q *queue) error {
	// No file is removed for the sake of another whose name may be forgotten.
	if err := o.fs.SyncDir(q.dir); err != nil {
		return err
	}
	entries, err := o.fs.ReadDir(q.dir)
	if err != nil {
		return err
	}
	var open, invalid []dirEntry
	var reasons []string
	for _, e := range entries {
		path := filepath.Join(q.dir, e.name)
		name, kind, rows, ok := parseFileName(e.name)
		if !ok || e.dir {
			o.log.Warn("file in the outbox that is not ours: left alone", zap.String("file", path))
			continue
		}
		if n, ok := sequenceOf(name); ok {
			q.lastSeq = max(q.lastSeq, n)
		}
		switch kind {
		case kindTemp:
			if err := o.fs.Remove(path); err != nil {
				return err
			}
		case kindOpen:
			open = append(open, e)
		case kindInvalid:
			invalid = append(invalid, e)
		case kindSealed:
			if err := o.checkHead(q, path); err != nil {
				return err
			}
			q.insert(&segment{name: name, file: e.name, rows: rows, size: e.size, sealedAt: bornAt(name)})
			o.disk += e.size
		case kindDead:
			q.dead[name] = &letter{name: name, file: e.name, rows: rows, size: e.size}
			o.disk += e.size
		case kindReason:
			reasons = append(reasons, name)
		}
	}
	for _, e := range invalid {
		if err := o.recoverInvalid(q, e); err != nil {
			return err
		}
	}
	o.recoverReasons(q, reasons)
	for _, e := range open {
		if err := o.recoverOpen(q, e); err != nil {
			return err
		}
	}
	// Last, as a whole may have been found under its name as an open segment.
	if err := o.dropHalves(q); err != nil {
		return err
	}
	return o.fs.SyncDir(q.dir)
}

// checkHead refuses a newer program's file, and one of another datasource.
func (o *Outbox) checkHead(q *queue, path string) error {
	head, err := o.fs.ReadFile(path, headLimit, nil)
	if err != nil {
		return err
	}
	return checkHeader(q, path, head)
}

func checkHeader(q *queue, path string, data []byte) error {
	line, _, _ := strings.Cut(string(data[:min(len(data), headLimit)]), "\n")
	h, version, ok := parseHeader([]byte(line))
	if !ok {
		return nil // damaged: its rows have checksums of their own
	}
	if err := checkVersion(version); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if h.Datasource != "" && h.Datasource != q.name {
		return fmt.Errorf("%s holds rows of %q: move it into that directory", path, h.Datasource)
	}
	return nil
}

// dropHalves removes halves whose whole still stands: the split did not end, so
// none of them was sent.
func (o *Outbox) dropHalves(q *queue) error {
	var kept []*segment
	for _, s := range q.sealed { // ascending: a whole comes before its halves
		whole := slices.ContainsFunc(kept, func(w *segment) bool { return strings.HasPrefix(s.name, w.name) })
		if !whole {
			kept = append(kept, s)
			continue
		}
		if err := o.fs.Remove(filepath.Join(q.dir, s.file)); err != nil {
			return err
		}
		o.disk -= s.size
	}
	q.sealed = kept
	return nil
}

// readFound reads the whole of a segment of the queue that a start found.
func (o *Outbox) readFound(q *queue, path string) (scan, error) {
	data, err := o.fs.ReadFile(path, -1, nil)
	if err != nil {
		return scan{}, err
	}
	if err := checkHeader(q, path, data); err != nil {
		return scan{}, err
	}
	found, err := scanSegment(data)
	if err != nil {
		return scan{}, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

// recoverOpen seals a segment that was being written: cuts a torn tail, moves
// damaged lines to the dead letters, keeps the rest.
func (o *Outbox) recoverOpen(q *queue, e dirEntry) error {
	path := filepath.Join(q.dir, e.name)
	name, _, _, _ := parseFileName(e.name)
	if slices.ContainsFunc(q.sealed, func(s *segment) bool { return s.name == name }) {
		return o.fs.Remove(path) // an earlier start copied it, see sealFound
	}
	found, err := o.readFound(q, path)
	if err != nil {
		return err
	}
	s := &segment{name: name, file: e.name, rows: len(found.rows), size: found.whole, sealedAt: bornAt(name)}
	if cut := len(found.tail); cut > 0 {
		o.cut += int64(cut)
		o.log.Info("cut a torn write off an outbox segment", zap.String("file", path), zap.Int("bytes", cut))
	}
	err = o.buryDamaged(q, s.name, found.damaged)
	switch {
	case full(err):
		// Deliveries make room. The damaged lines stay in the file until it is
		// sent itself, see load.
		err = o.sealInPlace(q, s, path)
	case err != nil:
	case s.rows == 0:
		return o.fs.Remove(path)
	default:
		s, err = o.sealFound(q, s, path, found.rows)
	}
	if err != nil {
		return err
	}
	q.insert(s)
	o.disk += s.size
	return nil
}

// sealFound seals what was found of an open segment, as a fresh copy: bytes
// that a dead process wrote may be in memory only, and after an fsync that
// failed there no later one of the old file would write them. They must be on
// disk before they are sent, or a later start would send fewer. Without the
// space for a copy, the old file is cut and synced in its place.
func (o *Outbox) sealFound(q *queue, s *segment, path string, rows [][]byte) (*segment, error) {
	copied, err := o.writeSealed(q, s.name, rows)
	if err == nil {
		copied.sealedAt = s.sealedAt
		if err := o.fs.SyncDir(q.dir); err != nil {
			return nil, err
		}
		return copied, o.fs.Remove(path)
	}
	if !full(err) {
		return nil, err
	}
	return s, o.sealInPlace(q, s, path)
}

// sealInPlace makes the open segment's file the sealed one, without its tail.
func (o *Outbox) sealInPlace(q *queue, s *segment, path string) error {
	if err := o.fs.Truncate(path, s.size); err != nil {
		return err
	}
	s.file = fileName(s.name, kindSealed, s.rows)
	return o.fs.Rename(path, filepath.Join(q.dir, s.file))
}

// full tells whether the disk, or the user's share of it, has no room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// load reads a sealed segment's rows, which are good until the next one is
// read. Damaged lines go to the dead letters, once.
func (o *Outbox) load(q *queue, s *segment) ([][]byte, error) {
	path := filepath.Join(q.dir, s.file)
	data, err := o.fs.ReadFile(path, -1, q.text)
	if err != nil {
		return nil, err
	}
	// A segment is never much larger than a body may be. (Growing and clearing
	// such a place for each would cost more than to read it.)
	q.text = data
	found, err := scanSegment(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(found.tail) > 0 { // it was whole when it was sealed
		found.damaged = append(found.damaged, damage{found.whole, found.tail})
	}
	if err := o.buryDamaged(q, s.name, found.damaged); err != nil {
		return nil, err
	}
	return found.rows, nil
}

// insert puts a segment among the sealed ones, under the lock.
func (q *queue) insert(s *segment) {
	if s.sealedAt.IsZero() {
		s.sealedAt = time.Now()
	}
	at, _ := slices.BinarySearchFunc(q.sealed, s.name, func(a *segment, name string) int { return strings.Compare(a.name, name) })
	q.sealed = slices.Insert(q.sealed, at, s)
}

// remove takes a segment out of the sealed ones, under the lock.
func (q *queue) remove(s *segment) bool {
	at := slices.Index(q.sealed, s)
	if at < 0 {
		return false
	}
	q.sealed = slices.Delete(q.sealed, at, at+1)
	return true
}
