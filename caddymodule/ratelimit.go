package caddymodule

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiters bounds requests by key: a client, a session, or a client's failed
// proofs. What has been quiet long enough to be full again is forgotten.
type limiters struct {
	now func() time.Time

	mu   sync.Mutex
	keys map[limitKey]*rate.Limiter
}

// limitKind is what a limit counts.
type limitKind byte

const (
	limitClient limitKind = iota
	limitSession
	limitFailedProofs
	limitElsewhere // a client's calls from other sites
)

// limit is a bucket's size. Sites with different limits count apart.
type limit struct {
	kind             limitKind
	perMinute, burst int
}

// failedProofs is how often a client may fail to prove its session.
var failedProofs = limit{limitFailedProofs, 30, 30}

type limitKey struct {
	limit
	name string
}

const (
	limitSweep = time.Minute
	// maxLimits bounds the memory that made-up clients can cost: about
	// 30 MB. Beyond it new keys are not limited until the next sweep.
	maxLimits = 200_000
)

func newLimiters(now func() time.Time) *limiters {
	return &limiters{now: now, keys: map[limitKey]*rate.Limiter{}}
}

// allow takes tokens of the key's bucket, no more than it can hold. If there
// are too few it says how long until there are enough.
func (l *limiters) allow(of limit, name string, tokens int) (wait time.Duration, ok bool) {
	now := l.now()
	l.mu.Lock()
	k := limitKey{of, name}
	b := l.keys[k]
	if b == nil {
		if len(l.keys) >= maxLimits {
			l.mu.Unlock()
			return 0, true
		}
		b = rate.NewLimiter(rate.Limit(of.perMinute)/60, of.burst)
		k.name = strings.Clone(name) // it may be part of a longer text
		l.keys[k] = b
	}
	l.mu.Unlock()
	tokens = min(tokens, of.burst)
	if b.AllowN(now, tokens) {
		return 0, true
	}
	missing := float64(tokens) - b.TokensAt(now)
	return time.Duration(missing / float64(b.Limit()) * float64(time.Second)), false
}

// exhausted reports whether the key's bucket is empty, taking nothing.
func (l *limiters) exhausted(of limit, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.keys[limitKey{of, name}]
	return b != nil && b.TokensAt(l.now()) < 1
}

// sweep forgets full buckets every minute until ctx ends.
func (l *limiters) sweep(ctx context.Context) {
	t := time.NewTicker(limitSweep)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.forget()
		case <-ctx.Done():
			return
		}
	}
}

func (l *limiters) forget() {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, b := range l.keys {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(l.keys, k)
		}
	}
}

// clientName is what a client is limited by: its address, or the /64 that an
// IPv6 client may choose addresses from.
func clientName(ip netip.Addr) string {
	if ip.Is6() {
		p, err := ip.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return ip.String()
}
