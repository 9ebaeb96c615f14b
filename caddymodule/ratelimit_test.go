package caddymodule

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestLimitersRefillByTheClock(t *testing.T) {
	now := noon
	l := newLimiters(func() time.Time { return now })
	of := limit{limitClient, 60, 5}
	for i := range 5 {
		if _, ok := l.allow(of, "a", 1); !ok {
			t.Fatalf("request %d of the burst was refused", i+1)
		}
	}
	wait, ok := l.allow(of, "a", 1)
	if ok || wait <= 0 || wait > time.Second {
		t.Errorf("beyond the burst: %v, %v", wait, ok)
	}
	if !l.exhausted(of, "a") || l.exhausted(of, "b") {
		t.Error("exhausted is wrong")
	}
	if _, ok := l.allow(of, "b", 1); !ok {
		t.Error("another client was refused")
	}
	if _, ok := l.allow(limit{limitClient, 600, 120}, "a", 1); !ok {
		t.Error("a site with other limits shares the bucket")
	}
	if _, ok := l.allow(limit{limitSession, 60, 5}, "a", 1); !ok {
		t.Error("another kind shares the bucket")
	}
	now = now.Add(time.Second)
	if _, ok := l.allow(of, "a", 1); !ok {
		t.Error("a second gave no token back")
	}
	if _, ok := l.allow(of, "c", 1000); !ok {
		t.Error("more tokens than the bucket holds are refused for ever")
	}
}

func TestLimitersForgetTheQuiet(t *testing.T) {
	now := noon
	l := newLimiters(func() time.Time { return now })
	of := limit{limitClient, 60, 5}
	for i := range maxLimits + 10 {
		l.allow(of, fmt.Sprint(i), 1)
	}
	if n := len(l.keys); n != maxLimits {
		t.Errorf("%d keys are kept", n)
	}
	l.forget()
	if len(l.keys) != maxLimits {
		t.Error("buckets that are in use were forgotten")
	}
	now = now.Add(time.Minute)
	l.forget()
	if n := len(l.keys); n != 0 {
		t.Errorf("%d quiet keys are left", n)
	}
}

func TestClientNames(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":  "2001:db8:1:2::/64",
		"2001:db8:1:3:3:4:5:6": "2001:db8:1:3::/64",
	} {
		if got := clientName(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s is limited as %s, want %s", ip, got, want)
		}
	}
}

func TestSeenSessionsForgetTheOldest(t *testing.T) {
	s := newSeenSessions()
	id := func(i int) string { return fmt.Sprintf("00000000-0000-8000-8000-%012x", i) }
	for i := range 2*seenGeneration + 1 {
		s.add(id(i), 1)
	}
	if s.has(id(0), 1) || !s.has(id(2*seenGeneration), 1) || !s.has(id(seenGeneration), 1) {
		t.Error("it forgets the wrong ones")
	}
	if s.has(id(2*seenGeneration), 2) {
		t.Error("a session with another end is taken for the same")
	}
	if n := len(s.young) + len(s.old); n > 2*seenGeneration {
		t.Errorf("%d are kept", n)
	}
}
