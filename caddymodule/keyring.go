package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

const (
	// ringKey is where the ring lies in Caddy's storage, ringLock the lock
	// that is held while it is made or rotated.
	ringKey  = "session_context/keys.json"
	ringLock = "session_context_keys"

	// ringPatience is how long a page waits for the ring after a start,
	// before it goes out untouched.
	ringPatience = 250 * time.Millisecond
	ringReread   = time.Minute
	ringKeep     = 400 * 24 * time.Hour // browsers keep no cookie longer
)

// storage is what of Caddy's storage the ring needs.
type storage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
}

// keyRing keeps the ring of an app fresh. It is loaded without a lock, and
// made under one only if it is missing: a lock that a killed process left
// behind would cost every start seconds.
type keyRing struct {
	storage storage
	rotate  time.Duration
	now     func() time.Time
	log     *zap.Logger

	ring  atomic.Pointer[sessionctx.Ring]
	ready chan struct{}
	once  sync.Once
	down  atomic.Bool // the last attempt to read failed
}

func newKeyRing(s storage, rotate time.Duration, log *zap.Logger) *keyRing {
	return &keyRing{storage: s, rotate: rotate, now: time.Now, log: log, ready: make(chan struct{})}
}

// current returns the ring, or nil if it isn't there within patience.
func (k *keyRing) current(ctx context.Context, patience time.Duration) *sessionctx.Ring {
	if r := k.ring.Load(); r != nil {
		return r
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-k.ready:
	case <-t.C:
	case <-ctx.Done():
	}
	return k.ring.Load()
}

// run loads or makes the ring, then re-reads it every minute and rotates it
// when that is due, until ctx ends. Requests never make it read.
func (k *keyRing) run(ctx context.Context) {
	wait := 100 * time.Millisecond
	for {
		err := k.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if k.down.Swap(false) {
				k.log.Info("key ring can be read again")
			}
			wait = ringReread
		default:
			if !k.down.Swap(true) {
				k.log.Error("key ring can't be read or made: pages go out without context until it can; what was read before stays in use",
					zap.String("storage_key", ringKey), zap.Error(err))
			}
			wait = min(2*wait, ringReread)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// refresh reads the ring, makes it if there is none and rotates it if it is
// time.
func (k *keyRing) refresh(ctx context.Context) error {
	ring, err := k.load(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ring, err = k.change(ctx, func(r *sessionctx.Ring) (*sessionctx.Ring, error) {
			if r != nil {
				return r, nil // another node was faster
			}
			k.log.Info("making a key ring", zap.String("storage_key", ringKey))
			return sessionctx.NewRing(rand.Reader, k.now().UnixMilli())
		})
	case err == nil && k.due(ring):
		ring, err = k.change(ctx, func(r *sessionctx.Ring) (*sessionctx.Ring, error) {
			if r == nil || !k.due(r) {
				return r, nil
			}
			now := k.now().UnixMilli()
			k.log.Info("rotating keys by schedule", zap.Duration("every", k.rotate))
			r, err := r.Rotate(rand.Reader, now)
			if err != nil {
				return nil, err
			}
			return r.Prune(now, ringKeep.Milliseconds()), nil
		})
	}
	if err != nil {
		return err
	}
	if !ring.Equal(k.ring.Load()) {
		k.ring.Store(ring)
	}
	k.once.Do(func() { close(k.ready) })
	return nil
}

func (k *keyRing) due(r *sessionctx.Ring) bool {
	return k.now().UnixMilli()-r.NewestKeyAt() > k.rotate.Milliseconds()
}

func (k *keyRing) load(ctx context.Context) (*sessionctx.Ring, error) {
	b, err := k.storage.Load(ctx, ringKey)
	if err != nil {
		return nil, fmt.Errorf("reading key ring from storage: %w", err)
	}
	return sessionctx.ParseRing(b)
}

// change edits the ring under the storage's lock. edit gets nil if there is
// no ring yet; returning what it got leaves storage alone.
func (k *keyRing) change(ctx context.Context, edit func(*sessionctx.Ring) (*sessionctx.Ring, error)) (*sessionctx.Ring, error) {
	if err := k.storage.Lock(ctx, ringLock); err != nil {
		return nil, fmt.Errorf("locking key ring in storage: %w", err)
	}
	defer func() {
		// The context may be over; the lock has to go all the same.
		if err := k.storage.Unlock(context.WithoutCancel(ctx), ringLock); err != nil {
			k.log.Warn("key ring's lock in storage could not be released", zap.Error(err))
		}
	}()
	before, err := k.load(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	after, err := edit(before)
	if err != nil || after == before {
		return after, err
	}
	b, err := after.Marshal()
	if err != nil {
		return nil, err
	}
	if err := k.storage.Store(ctx, ringKey, b); err != nil {
		return nil, fmt.Errorf("writing key ring to storage: %w", err)
	}
	return after, nil
}
