package caddymodule

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// storage is what of Caddy's storage the module needs: for the key ring and
// for the day keys, which all nodes share.
type storage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
}

// lockPatience is how long a lock of the storage is waited for. Caddy's file
// storage takes 10 s to see that who held it is dead; other storages may never
// see it, and what lies there has to be re-read all the same.
const lockPatience = 30 * time.Second

// locked runs f while the lock of that name is held.
func locked(ctx context.Context, s storage, log *zap.Logger, name string, f func() error) error {
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	if err := s.Lock(patient, name); err != nil {
		return fmt.Errorf("locking %s in storage: %w", name, err)
	}
	defer func() {
		// The context may be over; the lock has to go all the same.
		if err := s.Unlock(context.WithoutCancel(ctx), name); err != nil {
			log.Warn("lock in storage could not be released", zap.String("lock", name), zap.Error(err))
		}
	}()
	return f()
}

// loaded reads a value, no longer than ctx lasts. Storages on a hung disk or a
// dead connection may go on for longer: who has the turn would keep it then from
// the next config, whose storage may be well.
func loaded(ctx context.Context, s storage, key string) ([]byte, error) {
	type answer struct {
		value []byte
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		b, err := s.Load(ctx, key)
		done <- answer{b, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keepFresh calls refresh at once and every so often, sooner after a failure,
// until ctx ends. tell hears of the first failure in a row, and with nil of its
// end.
func keepFresh(ctx context.Context, every time.Duration, refresh func(context.Context) error, tell func(error)) {
	wait, failing := 100*time.Millisecond, false
	for {
		err := refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != failing {
			failing = failed
			tell(err)
		}
		if failing {
			wait = min(2*wait, every)
		} else {
			wait = every
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

// await waits until ready is closed, no longer than patience.
func await(ctx context.Context, ready <-chan struct{}, patience time.Duration) {
	select {
	case <-ready:
		return
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ready:
	case <-t.C:
	case <-ctx.Done():
	}
}
