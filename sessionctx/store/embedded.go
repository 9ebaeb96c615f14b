package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// Options of an embedded store. The zero value is ready to use.
type Options struct {
	// Sealer encrypts values; nil leaves them plain. A checksum guards them
	// in either case.
	Sealer Sealer
	// Now is the clock that entries live and end by. Default: time.Now.
	Now func() time.Time
	// Logger hears of damage. Default: none.
	Logger *zap.Logger
	// LockTimeout is how long opening waits for another process to let go of
	// the file. Default: 1s.
	LockTimeout time.Duration
	// FlushEvery is how long a Put waits for a claim to ride along with
	// before it is committed by itself. Default: 200ms.
	FlushEvery time.Duration
	// SweepEvery is how often expired entries are looked for. Default: 10s.
	SweepEvery time.Duration
	// MaxPending and MaxPendingBytes bound the Puts that wait. Further ones
	// are dropped. Defaults: 16384 and 32 MiB.
	MaxPending      int
	MaxPendingBytes int
	// MaxGroupBytes bounds the memory of groups that live; what they took before
	// they changed or ended may take as much again, until it is cleared away. Of
	// what can't join, nobody is taken to be alone for as long as it would have
	// lived. Default: 64 MiB, some 250,000 groups.
	MaxGroupBytes int64
}

func (o Options) withDefaults() Options {
	orDefault(&o.LockTimeout, time.Second)
	orDefault(&o.FlushEvery, 200*time.Millisecond)
	orDefault(&o.SweepEvery, 10*time.Second)
	orDefault(&o.MaxPending, 16384)
	orDefault(&o.MaxPendingBytes, 32<<20)
	orDefault(&o.MaxGroupBytes, 64<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// maxReads bounds the reads that are under way, so that a hung disk strands a
// bounded number of goroutines and not one a page.
const maxReads = 256

// Embedded is a Store in one bbolt file. One goroutine, the committer, makes
// all writes: concurrent ones share a transaction and its fsyncs. Groups are in
// memory; see groups.
//
// The file grows by what lives at the busiest time, in steps of 16 MiB, and
// never shrinks; pages of expired entries are used again, some minutes after
// they expired. An entry takes its key twice, its value, and some 40 bytes, in
// pages half to fully used: count on 1 KiB for a value of 400 bytes. The list
// of free pages is written with each commit: after a rush whose entries have
// expired commits stay a little slower (8 bytes a free page of 4 KiB).
type Embedded struct {
	path    string
	o       Options
	db      atomic.Pointer[bolt.DB]
	reads   chan struct{}
	numbers counters
	groups  *groups

	mu           sync.Mutex
	closed       bool
	overlay      map[string]*op // the newest Put of a name that is not committed
	overlayBytes int
	gathering    *group

	records []byte // the committer's: what encodePuts made last

	urgent  chan struct{}
	soon    chan struct{}
	lazy    chan struct{}
	damaged chan breakage
	closing chan struct{}
	done    chan struct{}
	unsure  unsure
	endErr  error // of the last commit and of closing the file; valid once done is closed
	end     sync.Once

	stats embeddedStats
}

type embeddedStats struct {
	claims, lost, commits, swept, dropped, damaged, setAside, failures atomic.Uint64
}

var _ Store = (*Embedded)(nil)

// OpenEmbedded opens the database file at path, or makes it (mode 0600, and
// its directory 0700). ErrLocked: another process has it. A file that cannot
// be read as a database is renamed to path + ".damaged-" + time and a new one
// begun: what it held is lost to us, but pages go out.
func OpenEmbedded(path string, o Options) (*Embedded, error) {
	o = o.withDefaults()
	e := &Embedded{
		path:      path,
		o:         o,
		reads:     make(chan struct{}, maxReads),
		overlay:   map[string]*op{},
		gathering: newGroup(),
		groups:    newGroups(),
		urgent:    make(chan struct{}, 1),
		soon:      make(chan struct{}, 1),
		lazy:      make(chan struct{}, 1),
		damaged:   make(chan breakage, 1),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
	}
	db, err := e.openFile()
	if err != nil {
		return nil, err
	}
	e.db.Store(db)
	if e.stats.setAside.Load() > 0 {
		e.missing(e.expiry(longestMember))
	}
	e.numbers.init()
	go e.run()
	return e, nil
}

// Claim implements [Store].
func (e *Embedded) Claim(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, bool, error) {
	if err := checkEntry(key, value, ttl); err != nil {
		return nil, false, fmt.Errorf("claiming: %w", err)
	}
	name := valueName(key)
	// What the file holds is durable: such a claim is lost without a commit.
	if standing, err := e.lookup(ctx, name, false); err == nil {
		e.stats.claims.Add(1)
		e.stats.lost.Add(1)
		return standing, false, nil
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, errBroken) {
		return nil, false, err // a broken file is replaced before the commit
	}
	expiry := e.expiry(ttl)
	o := &op{kind: opClaim, name: name, expiry: expiry, record: encode(name, value, expiry, e.o.Sealer)}
	if err := e.submit(ctx, o); err != nil {
		return nil, false, err
	}
	e.stats.claims.Add(1)
	if !o.won {
		e.stats.lost.Add(1)
		return o.standing, false, nil
	}
	return value, true, nil
}

// Get implements [Store].
func (e *Embedded) Get(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return e.lookup(ctx, valueName(key), true)
}

// Put implements [Store].
func (e *Embedded) Put(key string, value []byte, ttl time.Duration) {
	if checkEntry(key, value, ttl) != nil || !e.put(e.lazy, valueName(key), value, e.expiry(ttl)) {
		e.stats.dropped.Add(1)
	}
}

// Delete implements [Store].
func (e *Embedded) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	e.numbers.forget(counterName(key))
	return e.submit(ctx,
		&op{kind: opDelete, name: valueName(key)},
		&op{kind: opDelete, name: counterName(key)})
}

// Stats implements [Store].
func (e *Embedded) Stats() Stats {
	e.mu.Lock()
	pending := len(e.overlay)
	e.mu.Unlock()
	s := Stats{
		Claims:     e.stats.claims.Load(),
		ClaimsLost: e.stats.lost.Load(),
		Commits:    e.stats.commits.Load(),
		Swept:      e.stats.swept.Load(),
		Dropped:    e.stats.dropped.Load(),
		Damaged:    e.stats.damaged.Load(),
		SetAside:   e.stats.setAside.Load(),
		Failures:   e.stats.failures.Load(),
		Pending:    pending,
	}
	if _, err := e.unsure.check(e.now); err != nil {
		s.Unsure = err.Error()
	}
	if info, err := os.Stat(e.path); err == nil {
		s.FileBytes = info.Size()
	}
	return s
}

// Close implements [Store]. It commits what waits, sequence numbers to the
// last, and releases the file.
func (e *Embedded) Close() error {
	e.end.Do(func() {
		marks := e.numbers.close()
		e.mu.Lock()
		for _, m := range marks {
			e.gather(m)
		}
		e.closed = true
		e.mu.Unlock()
		close(e.closing)
	})
	<-e.done
	return e.endErr
}

func (e *Embedded) now() int64 { return e.o.Now().UnixMilli() }

func (e *Embedded) expiry(ttl time.Duration) int64 { return e.now() + ttl.Milliseconds() }

// lookup finds the living value of a name: in the overlay, if pending ones
// count, else in the file. A pending Put hides what the file holds.
func (e *Embedded) lookup(ctx context.Context, name string, pending bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, e.fail("reading", err)
	}
	now := e.now()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, ErrClosed
	}
	if o := e.overlay[name]; o != nil {
		defer e.mu.Unlock()
		if !pending || o.expiry <= now {
			return nil, ErrNotFound
		}
		return append([]byte{}, o.value...), nil
	}
	e.mu.Unlock()

	record, err := e.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, ErrNotFound
	}
	value, expiry, err := decode(name, record, e.o.Sealer)
	if err != nil {
		e.stats.damaged.Add(1)
		return nil, ErrNotFound
	}
	if expiry <= now {
		return nil, ErrNotFound
	}
	return value, nil
}

// read copies a record out of the file; nil means none.
func (e *Embedded) read(ctx context.Context, name string) ([]byte, error) {
	select {
	case e.reads <- struct{}{}:
	default:
		return nil, e.fail("reading", fmt.Errorf("%d reads are under way: the disk does not keep up", maxReads))
	}
	record, err := bounded(ctx, func() (record []byte, err error) {
		defer func() { <-e.reads }()
		db := e.db.Load()
		err = guard(func() error {
			return db.View(func(tx *bolt.Tx) error {
				if v := tx.Bucket(entriesBucket).Get([]byte(name)); v != nil {
					record = append([]byte{}, v...)
				}
				return nil
			})
		})
		if errors.Is(err, errBroken) {
			select {
			case e.damaged <- breakage{db, err}:
			default: // another is on its way
			}
		}
		return record, err
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, e.fail("reading", err)
	}
	return record, nil
}

// fail counts a call that ends in ErrUnavailable.
func (e *Embedded) fail(doing string, cause error) error {
	if !errors.Is(cause, ErrUnsure) {
		e.stats.failures.Add(1)
	}
	return unavailable(doing+" "+e.path, cause)
}
