package caddymodule

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiters bounds requests by key: a client, a session, or a client's failed
// proofs. What has been quiet long enough to be full again is forgotten.
type limiters struct {
	now func() time.Time

	mu   sync.Mutex
	keys map[limitKey]*limit
}

// limitKind is what a limit counts.
type limitKind byte

const (
	limitClient limitKind = iota
	limitSession
	limitFailedProofs
)

type limitKey struct {
	kind limitKind
	name string
}

type limit struct {
	bucket *rate.Limiter
}

const (
	limitSweep = time.Minute
	// maxLimits bounds the memory that made-up clients can cost: about
	// 30 MB. Beyond it new keys are not limited until the next sweep.
	maxLimits = 200_000
)

func newLimiters(now func() time.Time) *limiters {
	return &limiters{now: now, keys: map[limitKey]*limit{}}
}

// allow takes one token of the key's bucket. If there is none it says how
// long until there is.
func (l *limiters) allow(kind limitKind, name string, perMinute, burst int) (wait time.Duration, ok bool) {
	now := l.now()
	l.mu.Lock()
	k := limitKey{kind, name}
	e := l.keys[k]
	if e == nil {
		if len(l.keys) >= maxLimits {
			l.mu.Unlock()
			return 0, true
		}
		e = &limit{bucket: rate.NewLimiter(rate.Limit(perMinute)/60, burst)}
		l.keys[k] = e
	}

	l.mu.Unlock()
	if e.bucket.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - e.bucket.TokensAt(now)
	return time.Duration(missing / float64(e.bucket.Limit()) * float64(time.Second)), false
}

// exhausted reports whether the key's bucket is empty, taking nothing.
func (l *limiters) exhausted(kind limitKind, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[limitKey{kind, name}]
	return e != nil && e.bucket.TokensAt(l.now()) < 1
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
	for k, e := range l.keys {
		if e.bucket.TokensAt(now) >= float64(e.bucket.Burst()) {
			delete(l.keys, k)
		}
	}
}

// clientName is what a client is limited by: its address, or the /64 that an
// IPv6 client may choose addresses from.
func clientName(ip netip.Addr) string {
	if !ip.IsValid() {
		return "unknown"
	}
	if ip.Is6() {
		p, err := ip.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return ip.String()
}
