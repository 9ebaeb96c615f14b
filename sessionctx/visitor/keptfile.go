package visitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// errUnsettled is a file that changed while it was read.
var errUnsettled = errors.New("file changed while it was read")

// keptFile is what a file says, held in memory. The file may be replaced,
// rewritten or removed at any time; a replacement that can't be read leaves the
// former one in force. A look at what is in force takes no lock.
type keptFile[T any] struct {
	path string
	what string // in errors, before the path
	read func(path string) (*T, error)

	current atomic.Pointer[keptState[T]]

	reading sync.Mutex
	refused *fileState // that could not be read, so as not to try it again
}

// keptState is one state of the file.
type keptState[T any] struct {
	is   *T
	file fileState
}

// fileState tells one state of a file from another.
type fileState struct {
	size    int64
	modTime time.Time
	file    os.FileInfo // for the identity of a file replaced by renaming
	missing bool
}

func (a fileState) equal(b fileState) bool {
	return a.size == b.size && a.modTime.Equal(b.modTime) && a.missing == b.missing &&
		(a.file == nil || b.file == nil || os.SameFile(a.file, b.file))
}

func stat(path string) (fileState, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return fileState{missing: true}, err
	}
	return fileState{size: fi.Size(), modTime: fi.ModTime(), file: fi}, nil
}

// get is what is in force; nil before the file was read for the first time.
func (k *keptFile[T]) get() *T {
	if s := k.current.Load(); s != nil {
		return s.is
	}
	return nil
}

// file is the state of the file that is in force.
func (k *keptFile[T]) file() fileState {
	if s := k.current.Load(); s != nil {
		return s.file
	}
	return fileState{missing: true}
}

// Refresh reads the file if it has changed, and reports whether what it says is
// in force from now on. On error the former stays, and the same file is not
// tried, nor its absence reported, a second time. A file that is being written
// is left for later; where nothing is in force yet, that is an error.
func (k *keptFile[T]) Refresh() (changed bool, err error) {
	k.reading.Lock()
	defer k.reading.Unlock()
	now, _ := stat(k.path)
	first := k.current.Load() == nil
	if !first && now.equal(k.file()) {
		k.refused = nil
		return false, nil
	}
	if k.refused != nil && now.equal(*k.refused) {
		return false, nil
	}
	s, err := k.readWhole()
	switch {
	case err == nil:
		k.current.Store(s)
		k.refused = nil
		return true, nil
	case errors.Is(err, errUnsettled) && !first:
		return false, nil
	}
	k.refused = &now
	if of := (*fs.PathError)(nil); errors.As(err, &of) {
		err = of.Err // the path is named once
	}
	return false, fmt.Errorf("reading %s %s: %w", k.what, k.path, err)
}

// readWhole reads the file, which must stay the same meanwhile.
func (k *keptFile[T]) readWhole() (*keptState[T], error) {
	before, err := stat(k.path)
	if err != nil {
		return nil, err
	}
	is, err := k.read(k.path)
	after, gone := stat(k.path)
	switch {
	case gone != nil:
		return nil, gone
	case !before.equal(after):
		return nil, errUnsettled
	case err != nil:
		return nil, err
	}
	return &keptState[T]{is, after}, nil
}

// Watch looks at the file every so often, until ctx ends, and refreshes what is
// in force once the file has changed and then kept still for one interval. report
// is called with nil for each new state in force, else with the error.
func (k *keptFile[T]) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	seen := k.file()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, _ := stat(k.path)
		settled := now.equal(seen)
		seen = now
		if !settled {
			continue
		}
		if changed, err := k.Refresh(); changed || err != nil {
			report(err)
		}
	}
}
