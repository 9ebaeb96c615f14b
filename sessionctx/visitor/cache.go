package visitor

import (
	"hash/maphash"
	"sync"
)

const cacheShards = 16

// cache remembers what was worked out for a key, for a bounded number of
// keys. Each shard has two generations: new keys go to the young one; when
// that is full it becomes the old one, and the former old one is forgotten. A
// key used while old is young again. So what is used often stays, at the cost
// of one map look-up and a read lock.
type cache[K comparable, V any] struct {
	seed   maphash.Seed
	limit  int // of one generation of one shard
	shards [cacheShards]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu         sync.RWMutex
	young, old map[K]V
	_          [64]byte // keeps the shards' locks off each other's cache line
}

// newCache makes a cache of at most size entries (rounded up to two a shard).
func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{seed: maphash.MakeSeed(), limit: max(1, size/(2*cacheShards))}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	s := c.shard(key)
	s.mu.RLock()
	v, ok := s.young[key]
	if ok {
		s.mu.RUnlock()
		return v, true
	}
	v, ok = s.old[key]
	s.mu.RUnlock()
	if ok {
		c.put(key, v)
	}
	return v, ok
}

// put stores a value. The key must not share memory with a request that it
// would keep alive.
func (c *cache[K, V]) put(key K, value V) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil {
		s.young = make(map[K]V)
	}
	if _, known := s.young[key]; !known && len(s.young) >= c.limit {
		s.old, s.young = s.young, make(map[K]V)
	}
	s.young[key] = value
}

func (c *cache[K, V]) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.young) + len(s.old)
		s.mu.RUnlock()
	}
	return n
}

func (c *cache[K, V]) shard(key K) *shard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, key)%cacheShards]
}
