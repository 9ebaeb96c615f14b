package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// memoryStorage is a storage that several nodes share.
type memoryStorage struct {
	lock sync.Mutex // the advisory lock

	mu     sync.Mutex
	values map[string][]byte
	writes int
	locks  int
	fail   error
}

func (m *memoryStorage) Lock(context.Context, string) error {
	m.lock.Lock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.locks++
	return nil
}

func (m *memoryStorage) Unlock(context.Context, string) error {
	m.lock.Unlock()
	return nil
}

func (m *memoryStorage) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	v, ok := m.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(v), nil
}

func (m *memoryStorage) Store(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.values[key] = bytes.Clone(value)
	m.writes++
	return nil
}

func newMemoryStorage() *memoryStorage { return &memoryStorage{values: map[string][]byte{}} }

func testRing(m *memoryStorage, now func() time.Time) *keyRing {
	k := newKeyRing(m, 30*24*time.Hour, zap.NewNop())
	k.now = now
	return k
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func TestNodesThatStartColdMakeOneRing(t *testing.T) {
	m := newMemoryStorage()
	nodes := make([]*keyRing, 8)
	var wg sync.WaitGroup
	for i := range nodes {
		nodes[i] = testRing(m, at(noon))
		wg.Go(func() {
			if err := nodes[i].refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if m.writes != 1 {
		t.Errorf("the ring was written %d times", m.writes)
	}
	for _, n := range nodes[1:] {
		if !n.ring.Load().Equal(nodes[0].ring.Load()) {
			t.Error("two nodes have different rings")
		}
	}
}

func TestARingThatIsThereIsReadWithoutTheLock(t *testing.T) {
	m := newMemoryStorage()
	if err := testRing(m, at(noon)).refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.locks = 0
	k := testRing(m, at(noon))
	if err := k.refresh(t.Context()); err != nil || k.ring.Load() == nil || m.locks != 0 {
		t.Errorf("%v, ring %v, locked %d times", err, k.ring.Load(), m.locks)
	}
}

func TestAnUnreadableRingLeavesTheOneInMemory(t *testing.T) {
	m := newMemoryStorage()
	k := testRing(m, at(noon))
	if err := k.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	had := k.ring.Load()
	good := m.values[ringKey]
	for name, breakIt := range map[string]func(){
		"half-written":      func() { m.values[ringKey] = good[:len(good)/2] },
		"empty":             func() { m.values[ringKey] = nil },
		"storage is broken": func() { m.fail = errors.New("no disk") },
	} {
		t.Run(name, func(t *testing.T) {
			breakIt()
			if err := k.refresh(t.Context()); err == nil {
				t.Error("nothing was reported")
			}
			if k.ring.Load() != had {
				t.Error("the ring in memory is gone")
			}
			if m.writes != 1 {
				t.Error("a ring that can't be read was replaced")
			}
			m.fail = nil
			m.values[ringKey] = good
		})
	}
}

func TestRotationBySchedule(t *testing.T) {
	m := newMemoryStorage()
	k := testRing(m, at(noon))
	other := testRing(m, at(noon))
	for _, n := range []*keyRing{k, other} {
		if err := n.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := k.ring.Load()
	k.now = at(noon.Add(29 * 24 * time.Hour))
	if err := k.refresh(t.Context()); err != nil || !k.ring.Load().Equal(before) {
		t.Errorf("rotated too soon: %v", err)
	}
	late := noon.Add(31 * 24 * time.Hour)
	k.now, other.now = at(late), at(late)
	if err := k.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.ring.Load().Equal(before) || k.ring.Load().NewestKeyAt() <= late.UnixMilli() {
		t.Error("no key was added, or it is used before others can know it")
	}
	if err := other.refresh(t.Context()); err != nil || !other.ring.Load().Equal(k.ring.Load()) {
		t.Errorf("another node rotated too: %v", err)
	}
	if m.writes != 2 {
		t.Errorf("%d writes", m.writes)
	}
}

func TestPagesWaitForTheRingBriefly(t *testing.T) {
	m := newMemoryStorage()
	k := testRing(m, at(noon))
	if r := k.current(t.Context(), time.Millisecond); r != nil {
		t.Error("a ring came from nowhere")
	}
	go k.refresh(t.Context())
	if r := k.current(t.Context(), 10*time.Second); r == nil {
		t.Error("no ring though it was made")
	}
}

func TestTroubleIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		m := newMemoryStorage()
		m.fail = errors.New("no disk")
		k := newKeyRing(m, time.Hour, zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.run(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		if r := k.current(t.Context(), 2*ringReread); r == nil {
			t.Error("the ring did not come back")
		}
		cancel()
		<-done
		if n := logs.FilterMessageSnippet("can't be read or made").Len(); n != 1 {
			t.Errorf("%d lines about it", n)
		}
		if n := logs.FilterMessageSnippet("can be read again").Len(); n != 1 {
			t.Errorf("%d lines about its end", n)
		}
	})
}
