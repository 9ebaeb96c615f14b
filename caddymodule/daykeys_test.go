package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func testDayKeys(m *memoryStorage, now func() time.Time) *dayKeys {
	d := newDayKeys(m, &newKeysInUse().days, defaultReread, zap.NewNop())
	d.now = now
	return d
}

func keyOn(d *dayKeys, day time.Time) (sessionctx.VisitorKey, bool) {
	f := sessionctx.Facts{ClientIP: netip.MustParseAddr("203.0.113.7"), UserAgent: "agent"}
	return d.keys.Load().VisitorKey(day.UnixMilli(), "ws_1", &f)
}

func TestNodesShareTheKeyOfEachDay(t *testing.T) {
	m := newMemoryStorage()
	clock := noon
	now := func() time.Time { return clock }
	nodes := make([]*dayKeys, 6)
	for i := range nodes {
		nodes[i] = testDayKeys(m, now)
	}
	var gone [][]byte
	for day := range 5 {
		clock = noon.AddDate(0, 0, day)
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(func() {
				if err := n.refresh(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for offset, want := range map[int]bool{-2: false, -1: day > 0, 0: true, 1: true} {
			first, _ := keyOn(nodes[0], clock.AddDate(0, 0, offset))
			for _, n := range nodes {
				if key, ok := keyOn(n, clock.AddDate(0, 0, offset)); ok != want || key != first {
					t.Errorf("day %d, key of %+d: there: %v, want %v; equal: %v", day, offset, ok, want, key == first)
				}
			}
		}
		if m.writes != day+1 {
			t.Errorf("day %d: the keys were written %d times", day, m.writes)
		}
		stored := m.values[dayKeysKey]
		if n := bytes.Count(stored, []byte(`"secret"`)); n != min(day+2, 3) {
			t.Errorf("day %d: %d keys in the storage:\n%s", day, n, stored)
		}
		for _, secret := range gone {
			if bytes.Contains(stored, secret) {
				t.Errorf("day %d: a key of more than two days ago is in the storage", day)
			}
		}
		if day >= 1 { // the oldest one's time is over with the next day
			_, rest, _ := bytes.Cut(stored, []byte(`"secret": "`))
			gone = append(gone, bytes.Clone(rest[:43]))
		}
	}
}

func TestDayKeysThatCantBeRead(t *testing.T) {
	m := newMemoryStorage()
	clock := noon
	d := testDayKeys(m, func() time.Time { return clock })
	m.fail = errors.New("no disk")
	if err := d.refresh(t.Context()); err == nil {
		t.Error("nothing was reported")
	}
	// The first attempt is over: no page waits.
	if k := d.current(t.Context(), time.Hour); k != nil {
		t.Error("keys came from nowhere")
	}
	m.fail = nil
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	had, ok := keyOn(d, noon)
	if !ok {
		t.Fatal("no key")
	}

	m.fail = errors.New("no disk")
	clock = noon.AddDate(0, 0, 1)
	if err := d.refresh(t.Context()); err == nil {
		t.Error("nothing was reported")
	}
	if got, ok := keyOn(d, noon); !ok || got != had {
		t.Error("yesterday's key is gone from memory")
	}
	clock = noon.AddDate(0, 0, 2)
	d.refresh(t.Context())
	if _, ok := keyOn(d, noon); ok {
		t.Error("a key outlived two days in memory, since the storage could not be read")
	}
	m.fail = nil

	for name, stored := range map[string]string{
		"half-written": string(m.values[dayKeysKey][:40]), "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			clock = noon
			d := testDayKeys(newMemoryStorage(), func() time.Time { return clock })
			m := d.storage.(*memoryStorage)
			if err := d.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			had, _ := keyOn(d, noon)
			m.values[dayKeysKey] = []byte(stored)
			if err := d.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			fresh := testDayKeys(m, func() time.Time { return clock })
			if err := fresh.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*dayKeys{d, fresh} {
				if got, ok := keyOn(n, noon); !ok || got != had {
					t.Error("what was in memory did not take the place of what was damaged")
				}
			}
		})
	}
	t.Run("of a newer version", func(t *testing.T) {
		newer := `{"version":9,"keys":[]}`
		m.values[dayKeysKey] = []byte(newer)
		if err := testDayKeys(m, at(noon)).refresh(t.Context()); err == nil || string(m.values[dayKeysKey]) != newer {
			t.Errorf("%v; in the storage: %s", err, m.values[dayKeysKey])
		}
	})
}

func TestTroubleWithDayKeysIsLoggedOnceWithoutSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		m := newMemoryStorage()
		m.fail = errors.New("no disk")
		d := newDayKeys(m, &newKeysInUse().days, defaultReread, zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.run(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		time.Sleep(2 * defaultReread)
		if k := d.keys.Load(); k == nil {
			t.Error("no keys though the storage is back")
		}
		m.mu.Lock()
		stored := string(m.values[dayKeysKey])
		m.values[dayKeysKey] = []byte(stored[:len(stored)-10])
		m.mu.Unlock()
		time.Sleep(2 * defaultReread)
		cancel()
		<-done
		for text, want := range map[string]int{"can't be read or made": 1, "can be read again": 1, "are damaged": 1} {
			if n := logs.FilterMessageSnippet(text).Len(); n != want {
				t.Errorf("%d lines with %q", n, text)
			}
		}
		_, secret, _ := strings.Cut(stored, `"secret": "`)
		for _, e := range logs.All() {
			for _, f := range e.Context {
				if strings.Contains(f.String, secret[:20]) {
					t.Error("a secret is in the log")
				}
			}
		}
	})
}
