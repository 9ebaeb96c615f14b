package caddymodule

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

const (
	// ringKey is where the ring lies in Caddy's storage, ringLock the lock
	// that is held while it is made or changed.
	ringKey  = "session_context/keys.json"
	ringLock = "session_context_keys"

	// ringPatience is how long a page waits for the ring after a start,
	// before it goes out untouched.
	ringPatience = 250 * time.Millisecond

	defaultRotate = 30 * 24 * time.Hour
	defaultReread = time.Minute
)

// keyRing keeps the ring of an app fresh. It is loaded without a lock, and
// made under one only if it is missing: a lock that a killed process left
// behind would cost every start seconds.
type keyRing struct {
	storage        storage
	rotate, reread time.Duration
	now            func() time.Time
	log            *zap.Logger

	*ringInUse
}

// ringState says how re-reading goes.
type ringState struct {
	readAt time.Time // when storage was last read; zero: never
	err    error     // why it or a change failed at the last attempt
}

func newKeyRing(s storage, inUse *ringInUse, rotate, reread time.Duration, log *zap.Logger) *keyRing {
	return &keyRing{storage: s, rotate: rotate, reread: reread, now: wallClock, log: log, ringInUse: inUse}
}

// current returns the ring, or nil if it isn't there within patience.
func (k *keyRing) current(ctx context.Context, patience time.Duration) *sessionctx.Ring {
	if r := k.ring.Load(); r != nil {
		return r
	}
	await(ctx, k.ready, patience)
	return k.ring.Load()
}

// run loads or makes the ring, then re-reads it every so often and rotates it
// when that is due, until ctx ends. Requests never make it read.
func (k *keyRing) run(ctx context.Context) {
	keepFresh(ctx, k.reread, k.refresh, func(err error) {
		if err == nil {
			k.log.Info("key ring is in order again")
			return
		}
		k.log.Error("key ring can't be read, made or rotated: what was read before stays in use; as long as there is nothing, pages go out without context",
			zap.String("storage_key", ringKey), zap.Error(err))
	})
}

// refresh reads the ring, makes it if there is none, and rotates and prunes
// it if it is time.
func (k *keyRing) refresh(ctx context.Context) error {
	if err := k.turn.take(ctx); err != nil {
		return err
	}
	defer k.turn.giveBack()
	err := k.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = k.change(ctx, k.makeOrRestore)
	}
	if ring := k.ring.Load(); err == nil && k.tend(ring) {
		// What was read is in use by now, whatever becomes of this.
		err = k.change(ctx, k.rotateAndPrune)
	}
	if ctx.Err() != nil { // that says nothing about the storage, to the next config neither
		return ctx.Err()
	}
	k.state.Store(&ringState{readAt: k.state.Load().readAt, err: err})
	if err != nil {
		theMetrics.keyRingFails.Inc()
	}
	return err
}

// read takes the ring in storage into use.
func (k *keyRing) read(ctx context.Context) error {
	b, ring, err := k.load(ctx)
	if err != nil {
		return err
	}
	k.use(b, ring)
	return nil
}

func (k *keyRing) load(ctx context.Context) ([]byte, *sessionctx.Ring, error) {
	b, err := loaded(ctx, k.storage, ringKey)
	if err != nil {
		return nil, nil, fmt.Errorf("reading key ring from storage: %w", err)
	}
	if ring := k.ring.Load(); ring != nil && bytes.Equal(b, k.raw) {
		return b, ring, nil
	}
	ring, err := sessionctx.ParseRing(b)
	return b, ring, err
}

// use takes a ring into use that storage holds as b.
func (k *keyRing) use(b []byte, ring *sessionctx.Ring) {
	k.raw = b
	k.state.Store(&ringState{readAt: k.now(), err: k.state.Load().err})
	if k.ring.Swap(ring) == nil {
		close(k.ready)
	}
}

// tend reports whether the ring is to be rotated or pruned.
func (k *keyRing) tend(r *sessionctx.Ring) bool {
	return k.due(r) || r.Prune(k.now().UnixMilli()) != r
}

func (k *keyRing) due(r *sessionctx.Ring) bool {
	return k.now().UnixMilli()-r.NewestKeyAt() > k.rotate.Milliseconds()
}

// makeOrRestore is the ring where storage has none: a new one or, where one
// was in use until now, that one again. Else whichever node came first would
// make all visitors new.
func (k *keyRing) makeOrRestore(r *sessionctx.Ring) (*sessionctx.Ring, error) {
	if r != nil {
		return r, nil // another node was faster
	}
	if had := k.ring.Load(); had != nil {
		k.log.Warn("key ring is gone from storage: the one in use is written back", zap.String("storage_key", ringKey))
		return had, nil
	}
	k.log.Info("making a key ring", zap.String("storage_key", ringKey))
	return sessionctx.NewRing(rand.Reader, k.now().UnixMilli())
}

func (k *keyRing) rotateAndPrune(r *sessionctx.Ring) (*sessionctx.Ring, error) {
	if r == nil {
		return nil, errNoRing
	}
	now := k.now().UnixMilli()
	if k.due(r) {
		k.log.Info("rotating keys by schedule", zap.Duration("every", k.rotate))
		next, err := r.Rotate(rand.Reader, sessionctx.SessionKeys, now)
		if err != nil {
			return nil, err
		}
		r = next
	}
	return r.Prune(now), nil
}

var errNoRing = errors.New("key ring is gone from storage: it is made or written back within a minute; try again")

// change edits the ring under the storage's lock and takes the result into
// use. edit gets nil if there is no ring; returning what it got leaves storage
// alone. The caller holds the turn.
func (k *keyRing) change(ctx context.Context, edit func(*sessionctx.Ring) (*sessionctx.Ring, error)) error {
	return locked(ctx, k.storage, k.log, ringLock, func() error {
		b, before, err := k.load(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		after, err := edit(before)
		if err != nil {
			return err
		}
		if after != before {
			if b, err = after.Marshal(); err != nil {
				return err
			}
			if err := k.storage.Store(ctx, ringKey, b); err != nil {
				return fmt.Errorf("writing key ring to storage: %w", err)
			}
		}
		k.use(b, after)
		return nil
	})
}
