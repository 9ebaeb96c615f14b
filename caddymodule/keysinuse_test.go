package caddymodule

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// namedStorage is one that configs can recognize, as Caddy's file storage is.
// While it is stalled nothing is read from it.
type namedStorage struct {
	*memoryStorage
	name    string
	stalled chan struct{}
}

func (s *namedStorage) String() string { return s.name }

func (s *namedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if s.stalled != nil {
		select {
		case <-s.stalled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.memoryStorage.Load(ctx, key)
}

// keysConfig is what a config has of keys.
type keysConfig struct {
	ring    *keyRing
	days    *dayKeys
	release func()
}

func newKeysConfig(s storage) *keysConfig {
	u, release := holdKeys(s)
	c := &keysConfig{
		ring: newKeyRing(s, &u.ring, defaultRotate, defaultReread, zap.NewNop()),
		days: newDayKeys(s, &u.days, defaultReread, zap.NewNop()), release: release,
	}
	c.ring.now, c.days.now = at(noon), at(noon)
	return c
}

func (c *keysConfig) refresh(t *testing.T) {
	t.Helper()
	if err := errors.Join(c.ring.refresh(t.Context()), c.days.refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// beginRefresh reads both, and is back when nothing goes on by itself any more.
// What came of each comes later.
func (c *keysConfig) beginRefresh(ctx context.Context) (done [2]chan error) {
	for i, refresh := range []func(context.Context) error{c.ring.refresh, c.days.refresh} {
		ended := make(chan error, 1)
		go func() { ended <- refresh(ctx) }()
		done[i] = ended
	}
	synctest.Wait()
	return done
}

// TestAReloadWaitsForNoStorage: a config has the keys of the one before it,
// though its own storage says nothing.
func TestAReloadWaitsForNoStorage(t *testing.T) {
	m := newMemoryStorage()
	stalled := make(chan struct{})
	defer close(stalled)
	before := newKeysConfig(&namedStorage{m, t.Name(), nil})
	before.refresh(t)
	for name, s := range map[string]struct {
		storage storage
		keys    bool
	}{
		"the same":              {&namedStorage{m, t.Name(), stalled}, true},
		"another":               {&namedStorage{m, t.Name() + "2", stalled}, false},
		"one without a name":    {struct{ storage }{&namedStorage{m, "", stalled}}, false},
		"another of that name":  {&struct{ namedStorage }{namedStorage{m, t.Name(), stalled}}, false},
		"the same, once more":   {&namedStorage{m, t.Name(), stalled}, true},
		"one that is read well": {&namedStorage{m, t.Name() + "3", nil}, false},
	} {
		t.Run(name, func(t *testing.T) {
			after := newKeysConfig(s.storage)
			defer after.release()
			if got := after.ring.current(t.Context(), 0) != nil; got != s.keys {
				t.Errorf("it has a ring: %v", got)
			}
			if got := after.days.current(t.Context(), 0) != nil; got != s.keys {
				t.Errorf("it has day keys: %v", got)
			}
			l, ok := after.ring.list()
			if ok != s.keys || ok && l.ReadAt != noon.UnixMilli() {
				t.Errorf("operators see %+v", l)
			}
		})
	}
	before.release()
	before.release() // once is enough
	last := newKeysConfig(&namedStorage{m, t.Name(), stalled})
	defer last.release()
	if last.ring.current(t.Context(), 0) != nil || last.days.current(t.Context(), 0) != nil {
		t.Error("keys are kept that no config uses")
	}
}

// deafStorage goes on reading after its context has ended, as on a hung disk.
type deafStorage struct {
	*namedStorage
	hung chan struct{}
}

func (s *deafStorage) Load(ctx context.Context, key string) ([]byte, error) {
	<-s.hung
	return s.memoryStorage.Load(ctx, key)
}

// TestAHungStorageHoldsUpItsOwnConfigOnly: the next one may have a connection
// that works.
func TestAHungStorageHoldsUpItsOwnConfigOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryStorage()
		well := &namedStorage{m, t.Name(), nil}
		hung := make(chan struct{})
		before, after := newKeysConfig(well), newKeysConfig(well)
		defer before.release()
		defer after.release()
		deaf := &deafStorage{well, hung}
		before.ring.storage, before.days.storage = deaf, deaf
		ctx, cancel := context.WithCancel(t.Context())
		done := before.beginRefresh(ctx)
		cancel()
		for _, err := range done {
			<-err
		}
		after.refresh(t)
		had := after.ring.ring.Load()
		close(hung) // what comes so late changes nothing
		synctest.Wait()
		if after.ring.ring.Load() != had || before.ring.ring.Load() != had {
			t.Error("the ring was replaced")
		}
	})
}

// TestAConfigThatEndsLeavesNoTrouble: that its reading was broken off says
// nothing about the storage.
func TestAConfigThatEndsLeavesNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryStorage()
		before := newKeysConfig(&namedStorage{m, t.Name(), make(chan struct{})})
		after := newKeysConfig(&namedStorage{m, t.Name(), nil})
		defer after.release()
		ctx, cancel := context.WithCancel(t.Context())
		done := before.beginRefresh(ctx)
		cancel()
		for _, err := range done {
			if err := <-err; !errors.Is(err, context.Canceled) {
				t.Errorf("it read on: %v", err)
			}
		}
		before.release()
		if l, _ := after.ring.list(); l.Trouble != "" {
			t.Errorf("the next config has trouble: %s", l.Trouble)
		}
		select {
		case <-after.days.tried:
			t.Error("the next config takes the day keys for tried")
		default:
		}
		after.refresh(t)
	})
}

// TestTheLaterReadingWins, whichever config it is of.
func TestTheLaterReadingWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryStorage()
		slow := make(chan struct{})
		before := newKeysConfig(&namedStorage{m, t.Name(), slow})
		defer before.release()
		after := newKeysConfig(&namedStorage{m, t.Name(), nil})
		defer after.release()
		begun := time.Now()
		first := before.beginRefresh(t.Context())
		second := after.beginRefresh(t.Context())
		if m.reads > 0 {
			t.Error("the later config read first, and what the earlier one reads would replace it")
		}
		close(slow)
		for _, err := range slices.Concat(first[:], second[:]) {
			if err := <-err; err != nil {
				t.Error(err)
			}
		}
		if after.ring.current(t.Context(), 0) == nil || time.Since(begun) > time.Second {
			t.Error("it did not go on")
		}
	})
}
