package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// Sequence numbers are handed out from memory. The file holds a mark: the
// first number that may not have been handed out. It is written ahead of the
// numbers by markAhead, behind the call: a crash skips up to that many, and
// repeats only numbers that were handed out in the last soonAfter. Whoever
// leaves memory, idle or at Close, leaves the exact number.
const (
	markAhead   = 64
	numbersIdle = int64(time.Minute / time.Millisecond)
)

type counter struct {
	next       int64 // the next number to hand out
	mark       int64 // what the file says, or will in a moment; next <= mark
	expiry     int64
	markExpiry int64 // the expiry that was written with the mark
	used       int64 // Unix ms of the last call
}

// counters are spread over shards, each held for the whole of a call: the
// first call of a key reads the file under it, once.
type counters struct {
	seed   maphash.Seed
	shards [64]counterShard
}

type counterShard struct {
	mu     sync.Mutex
	byName map[string]*counter // nil once closed
}

func (c *counters) init() {
	c.seed = maphash.MakeSeed()
	for i := range c.shards {
		c.shards[i].byName = map[string]*counter{}
	}
}

func (c *counters) shard(name string) *counterShard {
	return &c.shards[maphash.String(c.seed, name)%uint64(len(c.shards))]
}

func (c *counters) forget(name string) {
	s := c.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// close returns a Put of each counter's exact number; no more are handed out.
func (c *counters) close() []*op {
	var marks []*op
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for name, n := range s.byName {
			if n.next != n.mark {
				marks = append(marks, &op{kind: opPut, name: name, expiry: n.expiry, value: markValue(n.next)})
			}
		}
		s.byName = nil
		s.mu.Unlock()
	}
	return marks
}

// Next implements [Store].
func (e *Embedded) Next(ctx context.Context, key string, n int, ttl time.Duration) (int64, error) {
	if err := checkReserve(key, n, ttl); err != nil {
		return 0, fmt.Errorf("reserving: %w", err)
	}
	name := counterName(key)
	s := e.numbers.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		return 0, ErrClosed
	}
	now := e.now()
	c := s.byName[name]
	if c == nil {
		next, err := e.loadNumber(ctx, name)
		if err != nil {
			return 0, err
		}
		c = &counter{next: next, mark: next}
		s.byName[name] = c
	} else if c.expiry <= now {
		*c = counter{next: 1, mark: 1}
	}
	first := c.next
	c.next += int64(n)
	c.used = now
	c.expiry = now + ttl.Milliseconds()
	if c.next > c.mark || c.expiry-c.markExpiry > ttl.Milliseconds()/4 {
		mark := c.next + markAhead
		if e.put(e.soon, name, markValue(mark), c.expiry) {
			c.mark, c.markExpiry = mark, c.expiry
		} else {
			e.stats.dropped.Add(1) // the next call tries again
		}
	}
	return first, nil
}

func (e *Embedded) loadNumber(ctx context.Context, name string) (int64, error) {
	value, err := e.lookup(ctx, name, true)
	if errors.Is(err, ErrNotFound) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	if len(value) != 8 || int64(binary.BigEndian.Uint64(value)) < 1 {
		e.stats.damaged.Add(1)
		return 1, nil
	}
	return int64(binary.BigEndian.Uint64(value)), nil
}

// evictNumbers frees the memory of counters that were idle for a minute.
func (e *Embedded) evictNumbers() {
	now := e.now()
	for i := range e.numbers.shards {
		s := &e.numbers.shards[i]
		if !s.mu.TryLock() {
			continue // somebody reads a slow disk under it: next time
		}
		for name, c := range s.byName {
			switch {
			case c.expiry <= now:
				delete(s.byName, name)
			case now-c.used < numbersIdle:
			case e.put(e.soon, name, markValue(c.next), c.expiry):
				delete(s.byName, name)
			}
		}
		s.mu.Unlock()
	}
}

func markValue(next int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(next))
}
