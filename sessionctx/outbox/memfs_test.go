package outbox

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// memFS is a file system that forgets what was not synced, names included, and
// fails where it is told to.
type memFS struct {
	mu      sync.Mutex
	files   map[string]*memNode // as a running process sees them
	dirs    map[string]bool
	durable map[string]*memNode // as a crash would leave them
	kept    map[string]bool     // durable directories
	names   []nameChange        // not yet durable
	locked  map[string]bool     // directories
	ops     int
	fail    func(op, path string) error // nil: all is well
}

type memNode struct {
	live, synced []byte
	lostFrom     int // bytes that a failed sync dropped: a later one won't write them
	lostTo       int
	uncut        []byte // before a truncation that is not yet synced
}

type nameChange struct {
	dir  string
	make string
	gone string
	node *memNode // nil with make: a directory
}

func newMemFS() *memFS {
	return &memFS{files: map[string]*memNode{}, dirs: map[string]bool{}, durable: map[string]*memNode{}, kept: map[string]bool{}, locked: map[string]bool{}}
}

func (m *memFS) begin(op, path string) error {
	m.ops++
	if m.fail == nil {
		return nil
	}
	return m.fail(op, path)
}

// count is how many operations there were.
func (m *memFS) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// failOn makes operations fail until it is called with nil.
func (m *memFS) failOn(f func(op, path string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

func (m *memFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("mkdir", dir); err != nil {
		return err
	}
	if m.dirs[dir] {
		return nil
	}
	m.dirs[dir] = true
	if dir == "/q" { // the outbox's own directory is made once, by an operator
		m.kept[dir] = true
		return nil
	}
	m.names = append(m.names, nameChange{dir: filepath.Dir(dir), make: dir})
	return nil
}

func (m *memFS) ReadDir(dir string) ([]dirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("readdir", dir); err != nil {
		return nil, err
	}
	if !m.dirs[dir] {
		return nil, fs.ErrNotExist
	}
	var list []dirEntry
	for path, n := range m.files {
		if filepath.Dir(path) == dir {
			list = append(list, dirEntry{name: filepath.Base(path), size: int64(len(n.live))})
		}
	}
	for d := range m.dirs {
		if filepath.Dir(d) == dir && d != dir {
			list = append(list, dirEntry{name: filepath.Base(d), dir: true})
		}
	}
	slices.SortFunc(list, func(a, b dirEntry) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

func (m *memFS) Create(path string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("create", path); err != nil {
		return nil, err
	}
	if m.files[path] != nil {
		return nil, fs.ErrExist
	}
	if !m.dirs[filepath.Dir(path)] {
		return nil, fs.ErrNotExist
	}
	n := &memNode{}
	m.files[path] = n
	m.names = append(m.names, nameChange{dir: filepath.Dir(path), make: path, node: n})
	return &memFile{m: m, n: n, path: path}, nil
}

func (m *memFS) ReadFile(path string, limit int64, buf []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("read", path); err != nil {
		return nil, err
	}
	n := m.files[path]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	data := append(buf[:0], n.live...)
	if limit >= 0 && int64(len(data)) > limit {
		data = data[:limit]
	}
	return data, nil
}

func (m *memFS) Truncate(path string, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("truncate", path); err != nil {
		return err
	}
	n := m.files[path]
	if n == nil {
		return fs.ErrNotExist
	}
	n.live = n.live[:size]
	n.sync()
	return nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("rename", from); err != nil {
		return err
	}
	n := m.files[from]
	if n == nil {
		return fs.ErrNotExist
	}
	delete(m.files, from)
	m.files[to] = n
	m.names = append(m.names, nameChange{dir: filepath.Dir(from), make: to, gone: from, node: n})
	return nil
}

func (m *memFS) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("link", from); err != nil {
		return err
	}
	n := m.files[from]
	switch {
	case n == nil, !m.dirs[filepath.Dir(to)]:
		return fs.ErrNotExist
	case m.files[to] != nil:
		return fs.ErrExist
	}
	m.files[to] = n
	m.names = append(m.names, nameChange{dir: filepath.Dir(to), make: to, node: n})
	return nil
}

func (m *memFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("remove", path); err != nil {
		return err
	}
	if m.files[path] == nil {
		return fs.ErrNotExist
	}
	delete(m.files, path)
	m.names = append(m.names, nameChange{dir: filepath.Dir(path), gone: path})
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("syncdir", dir); err != nil {
		return err
	}
	m.settleNames(dir, func() bool { return true })
	return nil
}

// settleNames makes changes in a directory durable, those that which picks.
func (m *memFS) settleNames(dir string, which func() bool) {
	var rest []nameChange
	for _, c := range m.names {
		if c.dir != dir || !which() {
			rest = append(rest, c)
			continue
		}
		if c.gone != "" {
			delete(m.durable, c.gone)
		}
		if c.make != "" && c.node == nil {
			m.kept[c.make] = true
		} else if c.make != "" {
			m.durable[c.make] = c.node
		}
	}
	m.names = rest
}

func (m *memFS) Lock(dir string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("lock", dir); err != nil {
		return nil, err
	}
	if m.locked[dir] {
		return nil, ErrLocked
	}
	m.locked[dir] = true
	return closerFunc(func() error { m.mu.Lock(); delete(m.locked, dir); m.mu.Unlock(); return nil }), nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// kill is the end of a process, not of the machine: nothing is forgotten.
func (m *memFS) kill() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.locked)
	m.fail = nil
	return m
}

// crash is what a power cut leaves: any of the unsynced changes of names, of
// each file's unsynced bytes a prefix, or zeros, and of an unsynced truncation
// either side.
func (m *memFS) crash(r *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	for dir := range m.dirs {
		m.settleNames(dir, func() bool { return r.IntN(2) == 0 })
	}
	after := newMemFS()
	for dir := range m.kept {
		if m.reachable(dir) {
			after.dirs[dir], after.kept[dir] = true, true
		}
	}
	// A file may have two names: it stays one file.
	nodes := map[*memNode]*memNode{}
	for path, n := range m.durable {
		if !after.kept[filepath.Dir(path)] {
			continue
		}
		if node := nodes[n]; node != nil {
			after.files[path], after.durable[path] = node, node
			continue
		}
		data, live := bytes.Clone(n.synced), n.live
		if n.uncut != nil && r.IntN(2) == 0 {
			live = n.uncut
		}
		if len(live) > len(data) && bytes.HasPrefix(live, data) {
			data = append(data, live[len(data):len(data)+r.IntN(len(live)-len(data)+1)]...)
			if r.IntN(4) == 0 { // the size was written, the data was not
				clear(data[len(n.synced):])
			}
		}
		node := &memNode{live: data, synced: bytes.Clone(data)}
		after.files[path], after.durable[path] = node, node
		nodes[n] = node
	}
	return after
}

// reachable tells whether a durable directory is in durable ones up to the
// outbox's own.
func (m *memFS) reachable(dir string) bool {
	for ; m.kept[dir]; dir = filepath.Dir(dir) {
		if dir == "/q" {
			return true
		}
	}
	return false
}

type memFile struct {
	m    *memFS
	n    *memNode
	path string
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.begin("write", f.path); err != nil {
		f.n.live = append(f.n.live, p[:len(p)/2]...) // a short write, as a full disk does it
		return len(p) / 2, err
	}
	f.n.live = append(f.n.live, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.begin("sync", f.path); err != nil {
		f.n.lostFrom, f.n.lostTo = len(f.n.synced), len(f.n.live)
		return err
	}
	f.n.sync()
	return nil
}

func (n *memNode) sync() {
	n.uncut = nil
	n.synced = bytes.Clone(n.live)
	if to := min(n.lostTo, len(n.synced)); to > n.lostFrom {
		clear(n.synced[n.lostFrom:to])
	}
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.begin("truncate", f.path); err != nil {
		return err
	}
	if f.n.uncut == nil {
		f.n.uncut = f.n.live
	}
	f.n.live = bytes.Clone(f.n.live[:size])
	return nil
}

func (f *memFile) Close() error { return nil }
