package outbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
)

// fsys is what the outbox needs of a file system: an interface so that tests
// can fill it up, break it, and make it forget what was not synced.
type fsys interface {
	MkdirAll(dir string) error
	ReadDir(dir string) ([]dirEntry, error)
	// Create makes a file that is not there yet, for writing.
	Create(path string) (file, error)
	// ReadFile reads a file, its first limit bytes if limit is not negative,
	// into buf if they fit; it may have no room at all.
	ReadFile(path string, limit int64, buf []byte) ([]byte, error)
	// Truncate cuts a file and syncs it.
	Truncate(path string, size int64) error
	Rename(from, to string) error
	// Link gives a file a second name, which must not be taken. Not every file
	// system can.
	Link(from, to string) error
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes the directory for this process, or fails with ErrLocked.
	Lock(dir string) (io.Closer, error)
}

type file interface {
	io.WriteCloser
	Truncate(size int64) error
	// Sync makes the bytes written so far durable.
	Sync() error
}

type dirEntry struct {
	name string
	size int64
	dir  bool
}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return syncData(f.File) }

// Truncate also moves the write position: the next write must not leave a hole.
func (f osFile) Truncate(size int64) error {
	if err := f.File.Truncate(size); err != nil {
		return err
	}
	_, err := f.Seek(size, io.SeekStart)
	return err
}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) ReadDir(dir string) ([]dirEntry, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries := make([]dirEntry, 0, len(list))
	for _, e := range list {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, dirEntry{name: e.Name(), size: info.Size(), dir: e.IsDir()})
	}
	return entries, nil
}

func (osFS) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) ReadFile(path string, limit int64, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if limit < 0 {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		limit = info.Size()
	}
	buf = slices.Grow(buf[:0], int(limit))[:limit]
	n, err := io.ReadFull(f, buf)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil
	}
	return buf[:n], err
}

func (osFS) Truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Link(from, to string) error { return os.Link(from, to) }

func (osFS) Remove(path string) error { return os.Remove(path) }
