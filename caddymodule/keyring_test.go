package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// memoryStorage is a storage that several nodes share.
type memoryStorage struct {
	lock sync.Mutex // the advisory lock

	mu     sync.Mutex
	values map[string][]byte
	writes int
	reads  int
	locks  int
	fail   error
	dead   bool // the lock is held by a process that died
}

func (m *memoryStorage) Lock(ctx context.Context, _ string) error {
	m.mu.Lock()
	dead := m.dead
	m.mu.Unlock()
	if dead {
		<-ctx.Done()
		return ctx.Err()
	}
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
	m.reads++
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
	k := newKeyRing(m, &newKeysInUse().ring, 30*24*time.Hour, defaultReread, zap.NewNop())
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

// broken are ring files that can't be read, by name; good is one that can.
func broken(good []byte) map[string][]byte {
	return map[string][]byte{
		"half-written":        good[:len(good)/2],
		"empty":               {},
		"zeros":               make([]byte, len(good)),
		"a later version":     bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"without its version": bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 0`), 1),
		"without keys":        []byte(`{"version": 1}`),
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
	states := broken(good)
	states["storage is broken"] = nil
	for name, bad := range states {
		t.Run(name, func(t *testing.T) {
			m.values[ringKey] = bad
			if bad == nil {
				m.fail = errors.New("no disk")
			}
			if err := k.refresh(t.Context()); err == nil {
				t.Error("nothing was reported")
			}
			if k.ring.Load() != had {
				t.Error("the ring in memory is gone")
			}
			if l, ok := k.list(); !ok || l.Trouble == "" || len(l.Keys) != 1 {
				t.Errorf("operators see %+v", l)
			}
			for _, o := range []keyOrder{{}, {Revoke: true}} {
				if err := k.obey(t.Context(), o); err == nil {
					t.Error("a command changed a ring that can't be read")
				}
			}
			if m.writes != 1 {
				t.Error("a ring that can't be read was replaced")
			}
			m.fail = nil
			m.values[ringKey] = good
			if err := k.refresh(t.Context()); err != nil || k.ring.Load() != had {
				t.Errorf("repaired: %v", err)
			}
			if l, _ := k.list(); l.Trouble != "" {
				t.Errorf("repaired, but operators see %q", l.Trouble)
			}
		})
	}
}

func TestAStartWithAnUnreadableRingHealsWhenItIsRepaired(t *testing.T) {
	m := newMemoryStorage()
	if err := testRing(m, at(noon)).refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := m.values[ringKey]
	for name, bad := range broken(good) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemoryStorage()
				m.values[ringKey] = bad
				k := testRing(m, at(noon))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { k.run(ctx); close(done) }()
				if r := k.current(t.Context(), time.Hour); r != nil {
					t.Error("a ring came from a file that can't be read")
				}
				if _, ok := k.list(); ok {
					t.Error("operators are shown a ring")
				}
				if m.writes != 0 {
					t.Error("the file was replaced")
				}
				m.mu.Lock()
				m.values[ringKey] = good
				m.mu.Unlock()
				if r := k.current(t.Context(), 2*defaultReread); r == nil {
					t.Error("the repaired ring is not read")
				}
				cancel()
				<-done
			})
		})
	}
}

// The log says which keys a command made and dropped, named or not.
func TestKeyCommandsAreLogged(t *testing.T) {
	k := testRing(newMemoryStorage(), at(noon))
	core, logs := observer.New(zap.InfoLevel)
	k.log = zap.New(core)
	if err := k.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := k.ring.Load().List(sessionctx.SessionKeys, noon.UnixMilli())[0].ID
	for _, o := range []keyOrder{{}, {Revoke: true}} {
		if err := k.obey(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	lines := logs.FilterMessage("keys changed by command").All()
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	made, dropped := fmt.Sprint(lines[0].ContextMap()["made"]), fmt.Sprint(lines[1].ContextMap()["dropped"])
	if made == "[]" || strings.Contains(made, first) || dropped != "["+first+"]" {
		t.Errorf("made %s, then dropped %s; the first was %s", made, dropped, first)
	}
}

func TestARingThatVanishedIsWrittenBack(t *testing.T) {
	m := newMemoryStorage()
	k, other := testRing(m, at(noon)), testRing(m, at(noon))
	for _, n := range []*keyRing{k, other} {
		if err := n.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	good := m.values[ringKey]
	delete(m.values, ringKey)
	if err := k.obey(t.Context(), keyOrder{}); !errors.Is(err, errNoRing) {
		t.Errorf("a command meanwhile: %v", err)
	}
	for _, n := range []*keyRing{k, other} {
		if err := n.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(m.values[ringKey], good) || m.writes != 2 {
		t.Errorf("the ring in storage is another one, after %d writes", m.writes)
	}
	fresh := testRing(m, at(noon))
	if err := fresh.refresh(t.Context()); err != nil || !fresh.ring.Load().Equal(k.ring.Load()) {
		t.Errorf("a node that starts then has another ring: %v", err)
	}
}

// A lock that its holder can't release any more, in a storage that doesn't see
// that, stops rotation and nothing else.
func TestALockHeldByADeadProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryStorage()
		began := time.Now()
		if err := testRing(m, at(began)).refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.dead = true
		late := began.Add(31 * 24 * time.Hour) // rotation is due
		k := testRing(m, at(late))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.run(ctx); close(done) }()
		before := k.current(t.Context(), time.Millisecond)
		if before == nil {
			t.Fatal("a start waits for the lock of a ring that is there")
		}
		if err := k.obey(t.Context(), keyOrder{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a command: %v", err)
		}
		// What another node wrote is read all the same.
		m.mu.Lock()
		m.dead = false
		m.mu.Unlock()
		other := testRing(m, at(late))
		if err := other.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		m.dead = true
		m.mu.Unlock()
		time.Sleep(2*defaultReread + lockPatience)
		if !k.ring.Load().Equal(other.ring.Load()) {
			t.Error("the ring is no longer re-read")
		}
		cancel()
		<-done
	})
}

func TestAStartWithoutARingWaitsForADeadLockInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryStorage()
		m.dead = true
		k := testRing(m, at(noon))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.run(ctx); close(done) }()
		began := time.Now()
		if r := k.current(t.Context(), ringPatience); r != nil || time.Since(began) != ringPatience {
			t.Errorf("a page waited %v", time.Since(began))
		}
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.dead = false
		m.mu.Unlock()
		if r := k.current(t.Context(), lockPatience+2*defaultReread); r == nil {
			t.Error("no ring though the lock is free")
		}
		cancel()
		<-done
	})
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
		k := newKeyRing(m, &newKeysInUse().ring, time.Hour, defaultReread, zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.run(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		if r := k.current(t.Context(), 2*defaultReread); r == nil {
			t.Error("the ring did not come back")
		}
		synctest.Wait() // the ring is there a moment before the reading's end
		cancel()
		<-done
		if n := logs.FilterMessageSnippet("can't be read, made or rotated").Len(); n != 1 {
			t.Errorf("%d lines about it", n)
		}
		if n := logs.FilterMessageSnippet("in order again").Len(); n != 1 {
			t.Errorf("%d lines about its end", n)
		}
	})
}
