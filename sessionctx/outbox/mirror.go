package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Mirror is a further sink that gets the same rows. What waits for it lies in a
// directory of its own, mirror.NAME in the outbox's, as a second name of the
// same files: no byte is written twice. It has its own order, backoff and dead
// letters, and as much of the disk as the outbox has, beside it.
//
// A mirror never makes Append refuse, and holds the outbox's own sink up for
// mirrorPatience at most: when its share of the disk is used up, or the disk is
// full, its oldest segments and dead letters go, and when its directory can't be
// written new segments do. Both are counted as its Dropped.
type Mirror struct {
	// Name is the mirror's for good: by it a later Outbox, or a later call of
	// SetMirrors, finds what still waits. Letters, digits, _ and -, 64 at most.
	Name string
	Sink Sink
	// Observer is told of this mirror's deliveries; the one that it was opened
	// with stays. Default: nobody.
	Observer Observer
	// DrainOnly mirrors get no new rows; what an earlier mirror of that name
	// left is delivered.
	DrainOnly bool
}

const (
	mirrorPrefix = "mirror." // the dot: no datasource is called so
	marksFile    = "marks"

	// mirrorPatience is how long segments wait for a mirror that can't take
	// them.
	mirrorPatience = time.Minute
)

// mirrors is the outbox's share in this. Under Outbox.mu.
type mirrors struct {
	list    []*mirror // as configured
	parting []*mirror // named no more, and owed what came while they were
	leaving []*mirror // to be closed
	feeding bool      // one of the list gets new rows
	running bool      // the feeder
	wake    chan struct{}
}

// mirror is one that is in use.
type mirror struct {
	name string
	dir  string

	// Under the mu of the outbox that feeds it.
	Mirror
	changed bool    // its sink, since the feeder looked
	resized bool    // its share of the disk
	box     *Outbox // nil until it is open
	// sealed is closed when all that a parting mirror is owed has been sealed.
	sealed <-chan struct{}

	// The feeder's own, after SetMirrors made it.
	// marks are, by datasource, up to where segments were handed over: those of
	// that sequence and below need not be, should they still be there after a
	// restart. An older mark costs duplicates, a newer one would cost rows.
	marks   map[string]int64
	unsaved bool
	// failing tells since when, by datasource; under "" that it can't be opened.
	// What one datasource's directory fails to do says nothing of the others.
	failing  map[string]time.Time
	reported bool
}

// SetMirrors says which mirrors there are, from now on. Call it before SetSink,
// so that nothing leaves the outbox that they have not got. A new one gets what
// is waiting for delivery, too. One that is no longer named lets go of its
// files; they stay, for when it is named again.
func (o *Outbox) SetMirrors(list []Mirror) error {
	for i, m := range list {
		if !validMirrorName(m.Name) {
			return fmt.Errorf("mirror name %q: want 1 to 64 letters, digits, _ and -", m.Name)
		}
		if slices.ContainsFunc(list[:i], func(other Mirror) bool { return other.Name == m.Name }) {
			return fmt.Errorf("two mirrors are called %q: give one another name", m.Name)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	old := append(o.mirrors.list, o.mirrors.parting...)
	o.mirrors.list, o.mirrors.parting, o.mirrors.feeding = nil, nil, false
	fresh := false
	for _, want := range list {
		if want.Observer == nil {
			want.Observer = NopObserver{}
		}
		at := slices.IndexFunc(old, func(m *mirror) bool { return m.name == want.Name })
		var m *mirror
		if at >= 0 {
			m = old[at]
			fresh = fresh || m.DrainOnly && !want.DrainOnly
			old = slices.Delete(old, at, at+1)
		} else {
			m = &mirror{name: want.Name, dir: filepath.Join(o.dir, mirrorPrefix+want.Name), failing: map[string]time.Time{}}
			m.marks = o.readMarks(m.dir)
			for ds, mark := range m.marks {
				// A clock that was set back must not make names that look as if
				// they had been handed over.
				q := o.queue(ds)
				q.lastSeq = max(q.lastSeq, mark)
			}
			fresh = fresh || !want.DrainOnly
		}
		m.Mirror, m.changed, m.sealed = want, true, nil
		o.mirrors.list = append(o.mirrors.list, m)
		o.mirrors.feeding = o.mirrors.feeding || !want.DrainOnly
	}
	for _, m := range old {
		o.part(m)
	}
	if fresh {
		// Those on their way too: they may come back.
		for _, q := range o.queues {
			for _, s := range q.sealed {
				s.owed = true
			}
		}
	}
	if !o.mirrors.running {
		o.mirrors.running = true
		o.workers.Go(o.feeder)
	}
	signal(o.mirrors.wake)
	return nil
}

// part lets a mirror go, under the lock: once it has what was acknowledged while
// it was named, some of which may be in open segments.
func (o *Outbox) part(m *mirror) {
	if m.DrainOnly {
		o.mirrors.leaving = append(o.mirrors.leaving, m)
		return
	}
	if m.sealed == nil {
		m.sealed = o.sealSoon()
	}
	o.mirrors.parting = append(o.mirrors.parting, m)
	o.mirrors.feeding = true
}

func validMirrorName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// readMarks returns none where the file is missing or damaged: then segments
// are handed over again, and rows collapse by their ids.
func (o *Outbox) readMarks(dir string) map[string]int64 {
	marks := map[string]int64{}
	path := filepath.Join(dir, marksFile)
	_ = o.fs.Remove(path + "." + kindTemp) // of a process that ended as it wrote
	data, err := o.fs.ReadFile(path, headLimit*64, nil)
	if err == nil {
		err = json.Unmarshal(data, &marks)
	}
	for ds, mark := range marks {
		if !validDatasource(ds) || mark < 0 {
			err = fmt.Errorf("%q: %d is no mark", ds, mark)
		}
	}
	if err == nil {
		return marks
	}
	if !errors.Is(err, fs.ErrNotExist) {
		o.log.Warn("what a mirror already has is not known: it gets what waits again", zap.String("file", path), zap.Error(err))
	}
	return map[string]int64{}
}

// saveMarks replaces the file. Nothing is synced: an old or broken one costs
// duplicates only.
func (o *Outbox) saveMarks(m *mirror) {
	data, err := json.Marshal(m.marks)
	path := filepath.Join(m.dir, marksFile)
	temp := path + "." + kindTemp
	if err == nil {
		_ = o.fs.Remove(temp)
		var f file
		if f, err = o.fs.Create(temp); err == nil {
			_, err = f.Write(data)
			err = errors.Join(err, f.Close())
		}
	}
	if err == nil {
		err = o.fs.Rename(temp, path)
	}
	if err != nil {
		o.log.Debug("noting what a mirror has", zap.String("file", path), zap.Error(err))
		return
	}
	m.unsaved = false
}

// Mirror returns the queue of a mirror that is in use, for its dead letters and
// figures; nil if there is none or it is not open. Rows are not appended to it.
func (o *Outbox) Mirror(name string) *Outbox {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.mirrors.list {
		if m.name == name {
			return m.box
		}
	}
	return nil
}

// MirrorNames are those that Mirror knows, in the order of SetMirrors.
func (o *Outbox) MirrorNames() (names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.mirrors.list {
		if m.box != nil {
			names = append(names, m.name)
		}
	}
	return names
}

// MirrorStats is what waits for a mirror.
type MirrorStats struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// InUse is false for what a mirror left that is configured no more, or not
	// open; it has Rows and Bytes then, of what is not a dead letter.
	InUse bool `json:"in_use"`
	Stats
}

// Mirrors tells of all mirrors, those that left something included, by name.
func (o *Outbox) Mirrors() []MirrorStats {
	list := []MirrorStats{}
	boxes := map[string]*Outbox{}
	o.mu.Lock()
	for _, m := range o.mirrors.list {
		boxes[m.name] = m.box
	}
	o.mu.Unlock()
	for name, box := range boxes {
		if box != nil {
			list = append(list, MirrorStats{Name: name, Path: box.dir, InUse: true, Stats: box.Stats()})
		}
	}
	entries, err := o.fs.ReadDir(o.dir)
	if err != nil {
		return list
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.name, mirrorPrefix)
		if !ok || !e.dir || boxes[name] != nil {
			continue
		}
		left := MirrorStats{Name: name, Path: filepath.Join(o.dir, e.name)}
		left.Rows, left.Bytes = o.waitingIn(left.Path)
		if left.Rows > 0 {
			list = append(list, left)
		}
	}
	slices.SortFunc(list, func(a, b MirrorStats) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// waitingIn counts sealed rows by the names of files.
func (o *Outbox) waitingIn(dir string) (rows, bytes int64) {
	datasources, _ := o.fs.ReadDir(dir)
	for _, ds := range datasources {
		if !ds.dir || !validDatasource(ds.name) {
			continue
		}
		files, _ := o.fs.ReadDir(filepath.Join(dir, ds.name))
		for _, f := range files {
			if _, kind, n, ok := parseFileName(f.name); ok && kind == kindSealed {
				rows += int64(n)
				bytes += f.size
			}
		}
	}
	return rows, bytes
}
