package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// errBroken: the database's pages make no sense. bbolt checks none of them
// but the two first, and answers with a panic or a fault.
var errBroken = errors.New("database file is damaged")

// guard turns such a panic or fault into errBroken.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errBroken, p)
		}
	}()
	return f()
}

// openFile opens the database, and begins a new one where the old is damaged.
func (e *Embedded) openFile() (*bolt.DB, error) {
	if err := os.MkdirAll(filepath.Dir(e.path), 0o700); err != nil {
		return nil, fmt.Errorf("making directory of session store: %w", err)
	}
	for range 3 {
		db, opened, err := e.tryOpen()
		if err == nil {
			return db, nil
		}
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("opening session store %s: %w by another process or instance; stop that one or choose another path", e.path, ErrLocked)
		}
		if !isDamage(err) {
			return nil, fmt.Errorf("opening session store %s: %w", e.path, err)
		}
		// Another process may have set it aside and begun anew while we waited
		// for the lock: what lies there now is not what we found damaged.
		if current, statErr := os.Stat(e.path); statErr != nil || !os.SameFile(opened, current) {
			continue
		}
		if err := e.setAside(err); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("opening session store %s: damaged again and again; check the disk", e.path)
}

// tryOpen opens the file as it is. opened describes the file that was
// locked, whatever lies at the path later.
func (e *Embedded) tryOpen() (db *bolt.DB, opened fs.FileInfo, err error) {
	options := &bolt.Options{
		Timeout:      e.o.LockTimeout,
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(path, flag, mode)
			if err != nil {
				return nil, err
			}
			opened, err = f.Stat()
			if err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		},
	}
	err = guard(func() (err error) {
		if db, err = bolt.Open(e.path, 0o600, options); err != nil {
			return err
		}
		return db.Update(func(tx *bolt.Tx) error {
			if _, err := tx.CreateBucketIfNotExists(entriesBucket); err != nil {
				return err
			}
			if _, err := tx.CreateBucketIfNotExists(dueBucket); err != nil {
				return err
			}
			return e.takeGroups(tx)
		})
	})
	if err != nil && db != nil && !errors.Is(err, errBroken) {
		err = errors.Join(err, db.Close())
	}
	return db, opened, err
}

// isDamage tells damage from refusals of the system (permissions, full disk),
// which leave the file in its place.
func isDamage(err error) bool {
	for _, e := range []error{errBroken, bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum, bolterrors.ErrIncompatibleValue} {
		if errors.Is(err, e) {
			return true
		}
	}
	var errno syscall.Errno
	var path *fs.PathError
	return !errors.As(err, &errno) && !errors.As(err, &path)
}

func (e *Embedded) setAside(cause error) error {
	aside := e.path + ".damaged-" + e.o.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(e.path, aside); err != nil {
		return fmt.Errorf("setting damaged session store aside: %w", err)
	}
	e.stats.setAside.Add(1)
	e.o.Logger.Error("session store was damaged: set aside, begun anew",
		zap.String("file", e.path), zap.String("aside", aside), zap.Error(cause))
	return nil
}

// breakage is a reader's report to the committer.
type breakage struct {
	db    *bolt.DB
	cause error
}

func (e *Embedded) replaceBroken(b breakage) {
	if b.db == e.db.Load() {
		e.replaceFile(b.cause)
	}
}

// replaceFile sets a database aside that turned out damaged in use. Only the
// committer calls it. The old one is left open: a broken tree may hold its
// locks for ever, and readers may be inside its mapping.
func (e *Embedded) replaceFile(cause error) bool {
	if err := e.setAside(cause); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.o.Logger.Error("session store", zap.Error(err))
		return false
	}
	db, err := e.openFile()
	if err != nil {
		e.o.Logger.Error("session store", zap.Error(err), zap.Duration("next_try_after", time.Second))
		return false
	}
	e.db.Store(db)
	e.keepHorizon()
	return true
}
