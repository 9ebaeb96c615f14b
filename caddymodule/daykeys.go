package caddymodule

import (
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
	// dayKeysKey is where the day keys lie in Caddy's storage, dayKeysLock the
	// lock that is held while they are changed.
	dayKeysKey  = "session_context/visitor_keys.json"
	dayKeysLock = "session_context_visitor_keys"
)

// dayKeys keeps the keys that visitor keys are made with fresh: each is made
// before its day and destroyed after two, here and in the storage. Without
// them pages go out as ever, and visitors without cookies are new.
type dayKeys struct {
	storage storage
	reread  time.Duration
	now     func() time.Time
	log     *zap.Logger

	*dayKeysInUse
}

func newDayKeys(s storage, inUse *dayKeysInUse, reread time.Duration, log *zap.Logger) *dayKeys {
	return &dayKeys{storage: s, reread: reread, now: wallClock, log: log, dayKeysInUse: inUse}
}

// current returns the keys, or nil. After a start it waits for the first
// attempt to read them, no longer than patience.
func (d *dayKeys) current(ctx context.Context, patience time.Duration) *sessionctx.DayKeys {
	if k := d.keys.Load(); k != nil {
		return k
	}
	await(ctx, d.tried, patience)
	return d.keys.Load()
}

// run reads the keys every so often, makes those that are missing and destroys
// those whose time is over, until ctx ends.
func (d *dayKeys) run(ctx context.Context) {
	keepFresh(ctx, d.reread, d.refresh, func(err error) {
		if err == nil {
			d.log.Info("day keys of visitors can be read again")
			return
		}
		d.log.Error("day keys of visitors can't be read or made: visitors without cookies are new with each page once those in memory are over",
			zap.String("storage_key", dayKeysKey), zap.Error(err))
	})
}

// refresh reads the keys, and changes them where it is time to. Those in memory
// end with their time whether or not the storage answers.
func (d *dayKeys) refresh(ctx context.Context) error {
	if err := d.turn.take(ctx); err != nil {
		return err
	}
	defer d.turn.giveBack()
	err := d.tend(ctx)
	if ctx.Err() != nil { // the next config may have better luck
		return ctx.Err()
	}
	d.once.Do(func() { close(d.tried) })
	return err
}

func (d *dayKeys) tend(ctx context.Context) error {
	d.set(d.keys.Load().Prune(d.now().UnixMilli()))
	keys, err := d.load(ctx)
	switch {
	case err != nil && !replaceable(err):
		return err
	case err == nil:
		if tended, err := keys.Tend(rand.Reader, d.now().UnixMilli()); err != nil || tended == keys {
			d.set(keys)
			return err
		}
	}
	keys, err = d.change(ctx)
	if err != nil {
		return err
	}
	d.set(keys)
	return nil
}

// set keeps what is equal: the states of its MACs are in use.
func (d *dayKeys) set(k *sessionctx.DayKeys) {
	if !k.Equal(d.keys.Load()) {
		d.keys.Store(k)
	}
}

// replaceable reports whether new keys may take the place of what lies in the
// storage: nothing, or damage.
func replaceable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, sessionctx.ErrDayKeysDamaged)
}

func (d *dayKeys) load(ctx context.Context) (*sessionctx.DayKeys, error) {
	b, err := loaded(ctx, d.storage, dayKeysKey)
	if err != nil {
		return nil, fmt.Errorf("reading day keys from storage: %w", err)
	}
	return sessionctx.ParseDayKeys(b)
}

// change makes and destroys keys under the storage's lock. Another node may
// have been faster: then it reads only.
func (d *dayKeys) change(ctx context.Context) (after *sessionctx.DayKeys, err error) {
	err = locked(ctx, d.storage, d.log, dayKeysLock, func() error {
		before, err := d.load(ctx)
		switch {
		case errors.Is(err, sessionctx.ErrDayKeysDamaged):
			d.log.Error("day keys in storage are damaged: those in memory take their place, new ones where there are none",
				zap.String("storage_key", dayKeysKey), zap.Error(err))
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		lost := err != nil
		if lost {
			before = d.keys.Load()
		}
		after, err = before.Tend(rand.Reader, d.now().UnixMilli())
		if err != nil || after == before && !lost {
			return err
		}
		b, err := after.Marshal()
		if err != nil {
			return err
		}
		if err := d.storage.Store(ctx, dayKeysKey, b); err != nil {
			return fmt.Errorf("writing day keys to storage: %w", err)
		}
		return nil
	})
	return after, err
}
