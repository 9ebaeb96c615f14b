package caddymodule

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func metKey(n int) *sessionctx.VisitorKey {
	var k sessionctx.VisitorKey
	binary.BigEndian.PutUint64(k[:], uint64(n))
	return &k
}

func TestHowManySessionsOfAVisitorKeyAreKnown(t *testing.T) {
	m, k := newMet(), metKey(1)
	expect := func(now int64, want int) {
		t.Helper()
		if got := m.living(k, now); got != want {
			t.Errorf("at %d: %d sessions, want %d", now, got, want)
		}
	}
	expect(0, 0)
	m.add(k, "a", 100)
	m.add(k, "a", 120) // prolonged: still one
	expect(50, 1)
	expect(120, 0)
	m.add(k, "b", 110)
	expect(105, 2)
	expect(115, 1)
	m.add(k, "c", 90) // ends before both that are known
	expect(95, 2)
	expect(115, 1)
	m.add(k, "d", 200) // takes the place of the one that ends first
	expect(115, 2)
	expect(150, 1)
	m.add(k, "a", 300)
	expect(150, 2)
	expect(250, 1)
	if n := m.living(metKey(2), 0); n != 0 {
		t.Errorf("another visitor has %d", n)
	}
}

func TestKnownVisitorsForgetTheOldest(t *testing.T) {
	m := newMet()
	for i := range 2*metGeneration + 1 {
		m.add(metKey(i), fmt.Sprint(i), 100)
	}
	for i, want := range map[int]int{0: 0, metGeneration: 1, 2 * metGeneration: 1} {
		if n := m.living(metKey(i), 0); n != want {
			t.Errorf("visitor %d has %d sessions, want %d", i, n, want)
		}
	}
	if n := len(m.young) + len(m.old); n > 2*metGeneration {
		t.Errorf("%d are kept", n)
	}
}
