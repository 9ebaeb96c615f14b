package caddymodule

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// keysInUse are the keys that this process has from one storage. Configs with
// the same storage share them, so that after a reload pages have their context
// at once, however slow the storage is, and go on having it while it is down.
type keysInUse struct {
	ring ringInUse
	days dayKeysInUse
}

// ringInUse is a key ring, with what it takes to re-read it.
type ringInUse struct {
	ring  atomic.Pointer[sessionctx.Ring]
	ready chan struct{} // closed when there is a ring
	state atomic.Pointer[ringState]

	turn turn
	// raw is what the ring was read from; it belongs to who has the turn.
	raw []byte
}

// dayKeysInUse are the keys that visitor keys are made with.
type dayKeysInUse struct {
	keys atomic.Pointer[sessionctx.DayKeys]
	// tried is closed when they were read, made or given up for the first time.
	tried chan struct{}
	once  sync.Once
	turn  turn
}

// turn is had by one at a time, who waits for it no longer than a context lasts:
// by who reads storage and sets the keys, so that what was read later isn't
// replaced by what was read earlier.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) giveBack() { <-t }

func newKeysInUse() *keysInUse {
	u := &keysInUse{
		ring: ringInUse{ready: make(chan struct{}), turn: newTurn()},
		days: dayKeysInUse{tried: make(chan struct{}), turn: newTurn()},
	}
	u.ring.state.Store(&ringState{})
	return u
}

// Destruct implements caddy.Destructor: what nobody uses is garbage.
func (*keysInUse) Destruct() error { return nil }

// keysByStorage are those of all configs, by the storage's name.
var keysByStorage = caddy.NewUsagePool()

// holdKeys takes hold of the keys from a storage, until release. A storage
// without a name of its own can't be recognized, and its keys are not shared.
func holdKeys(s storage) (u *keysInUse, release func()) {
	named, ok := s.(fmt.Stringer)
	if !ok {
		return newKeysInUse(), func() {}
	}
	name := fmt.Sprintf("%T %s", s, named)
	// The constructor doesn't fail.
	v, _, _ := keysByStorage.LoadOrNew(name, func() (caddy.Destructor, error) { return newKeysInUse(), nil })
	return v.(*keysInUse), sync.OnceFunc(func() { _, _ = keysByStorage.Delete(name) })
}
