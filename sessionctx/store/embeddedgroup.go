package store

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// groups are an embedded store's. They live in memory, because their names are
// hashes: in the file each commit would write a page for every one of them.
// Close writes them there, and whoever opens the file takes them out again.
//
// A crash loses them. What looks alone afterwards may not be, until the last
// member that could have been lost has ended. That is never later than the
// horizon, which lies in the file; but for a member that raised it and for
// which the crash came first, within soonAfter.
type groups struct {
	seed   maphash.Seed
	shards [groupShards]groupShard
	bytes  atomic.Int64
	swept  int // the shard that is swept next

	// horizon (Unix ms) is what the file has, or will have in a moment;
	// raising guards its rise.
	horizon atomic.Int64
	raising sync.Mutex
}

type groupShard struct {
	mu      sync.Mutex
	closed  bool
	members groupTable
}

const (
	groupShards = 64
	// sweptAtOnce is how many shards are looked through at a time: all of them
	// in less than three minutes.
	sweptAtOnce = 4
	// groupOverhead is about what a group takes beside its name and members.
	groupOverhead = 64
	// horizonName is the entry whose end is the horizon. It is written anew
	// when a member would outlive it, and reaches that much further then.
	horizonName = "h:groups"
	horizonStep = 10 * time.Minute
	// unsureName is the entry whose end is, from Close on, until when the
	// groups in the file may lack a member.
	unsureName = "h:unsure"
)

// groupsBucket is in the file only while no process has it open.
var groupsBucket = []byte("groups")

func newGroups() *groups { return &groups{seed: maphash.MakeSeed()} }

// shard is where a group is, and the hash it has there.
func (g *groups) shard(key string) (*groupShard, uint64) {
	h := maphash.String(g.seed, key)
	return &g.shards[h%groupShards], h
}

func groupSize(key int, encoded []byte) int64 { return int64(key + len(encoded) + groupOverhead) }

// join adds a member. False: there is no room, or the store is closed.
func (g *groups) join(key string, m Member, limit int64) bool {
	s, h := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	old, clash := s.members.get(h, key)
	if clash {
		return false
	}
	var buf [512]byte
	encoded := buf[:0]
	grown := int64(0)
	if len(old) > 0 {
		older, _ := decodeMembers(old) // it was encoded here
		encoded = appendMembers(encoded, mergeMembers(older, []Member{m}))
		grown = int64(len(encoded) - len(old))
	} else {
		encoded = appendMember(encoded, &m)
		grown = groupSize(len(key), encoded)
	}
	if g.bytes.Add(grown) > limit || !s.members.fits(key, encoded) {
		g.bytes.Add(-grown)
		return false
	}
	s.members.set(h, key, encoded)
	return true
}

// of are the members of a group. False: the store is closed.
func (g *groups) of(key string) ([]Member, bool) {
	s, h := g.shard(key)
	s.mu.Lock()
	encoded, _ := s.members.get(h, key)
	encoded, closed := bytes.Clone(encoded), s.closed
	s.mu.Unlock()
	members, _ := decodeMembers(encoded)
	return members, !closed
}

// living is how many members of a group live at now.
func (g *groups) living(key string, now int64) (n int) {
	s, h := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	encoded, _ := s.members.get(h, key)
	for expiry := range expiries(encoded) {
		if expiry > now {
			n++
		}
	}
	return n
}

// sweep forgets groups whose last member has ended, a few shards at a time, and
// those that a clock that ran ahead would keep for ever. Should the clock be set
// back, u knows of them. The committer calls it.
func (g *groups) sweep(now int64, u *unsure) {
	latest := now + longestMember.Milliseconds()
	for range sweptAtOnce {
		s := &g.shards[g.swept%groupShards]
		g.swept++
		s.mu.Lock()
		s.members.deleteFunc(func(key, encoded []byte) bool {
			last := lastExpiry(encoded)
			if now < last && last <= latest {
				return false
			}
			u.extend(min(last, latest))
			g.bytes.Add(-groupSize(len(key), encoded))
			return true
		})
		s.mu.Unlock()
	}
}

// close takes all groups out; none can join from then on.
func (g *groups) close() map[string][]byte {
	all := map[string][]byte{}
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		s.closed = true
		s.members.each(func(key, encoded []byte) { all[string(key)] = encoded })
		s.members = groupTable{}
		s.mu.Unlock()
	}
	return all
}

// Join implements [Store].
func (e *Embedded) Join(key, member string, value []byte, ttl time.Duration) {
	m := Member{member, value, e.expiry(ttl)}
	if checkMember(key, member, value, ttl) != nil || !e.groups.join(key, m, e.o.MaxGroupBytes) {
		e.stats.dropped.Add(1)
		e.missing(m.expiry)
		return
	}
	e.raiseHorizon(m.expiry)
}

// Lack implements [Store].
func (e *Embedded) Lack(ttl time.Duration) { e.missing(e.expiry(ttl)) }

// missing says that groups may lack a member that lives until expiry. A crash
// must not make that forgotten either.
func (e *Embedded) missing(expiry int64) {
	e.unsure.extend(expiry)
	e.raiseHorizon(expiry)
}

// raiseHorizon has the file know that members may live until expiry.
func (e *Embedded) raiseHorizon(expiry int64) {
	g := e.groups
	if expiry <= g.horizon.Load() {
		return
	}
	g.raising.Lock()
	defer g.raising.Unlock()
	if expiry <= g.horizon.Load() {
		return
	}
	// Where there is no room the next member tries again.
	if horizon := expiry + horizonStep.Milliseconds(); e.put(e.soon, horizonName, nil, horizon) {
		g.horizon.Store(horizon)
	}
}

// keepHorizon has a file that took the place of a broken one know it too.
func (e *Embedded) keepHorizon() {
	g := e.groups
	g.raising.Lock()
	defer g.raising.Unlock()
	if h := g.horizon.Load(); h > 0 && !e.put(e.soon, horizonName, nil, h) {
		g.horizon.Store(0) // the next member tries again
	}
}

// Sole implements [Store].
func (e *Embedded) Sole(ctx context.Context, keys ...string) (Member, error) {
	if err := ctx.Err(); err != nil {
		return Member{}, e.fail("reading group", err)
	}
	members := make([][]Member, len(keys))
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return Member{}, fmt.Errorf("reading group: %w", err)
		}
		var open bool
		if members[i], open = e.groups.of(key); !open {
			return Member{}, ErrClosed
		}
	}
	now, err := e.unsure.check(e.now)
	if err != nil {
		return Member{}, e.fail("reading group", err)
	}
	return soleOf(now, members...)
}

// Living is how many members of the key's group are living, as far as is known:
// those that Sole would find, without what makes it unsure. It looks into memory
// only.
func (e *Embedded) Living(key string) int { return e.groups.living(key, e.now()) }

// takeGroups moves the groups from the file into memory. Where its last user
// did not close it, what that one had is lost. A file that takes the place of a
// broken one has nothing to tell, and takes nothing from memory.
func (e *Embedded) takeGroups(tx *bolt.Tx) error {
	entries := tx.Bucket(entriesBucket)
	horizon := e.endOf(entries, horizonName)
	e.groups.horizon.CompareAndSwap(0, horizon)
	e.unsure.extend(e.endOf(entries, unsureName))
	b := tx.Bucket(groupsBucket)
	if b == nil {
		e.unsure.extend(horizon)
		return nil
	}
	now, damaged := e.now(), 0
	err := b.ForEach(func(k, record []byte) error {
		key := string(k)
		value, expiry, err := decode(groupName(key), record, e.o.Sealer)
		var members []Member
		if err == nil {
			members, err = decodeMembers(value)
		}
		if err != nil {
			damaged++ // nobody knows whose it was
			return nil
		}
		if expiry <= now {
			e.unsure.extend(expiry)
			return nil
		}
		for _, m := range members {
			if !e.groups.join(key, m, e.o.MaxGroupBytes) {
				e.unsure.extend(m.expiry)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if damaged > 0 {
		e.stats.damaged.Add(uint64(damaged))
		e.unsure.extend(max(horizon, now))
	}
	return tx.DeleteBucket(groupsBucket)
}

// endOf is when an entry ends; 0 where there is none. A damaged one may have
// ended as late as any.
func (e *Embedded) endOf(entries *bolt.Bucket, name string) int64 {
	record := entries.Get([]byte(name))
	if record != nil && verify(name, record) != nil {
		return e.expiry(longestMember + horizonStep)
	}
	return expiryOf(record)
}

// writeGroups puts the groups into the file, for the next to open it.
func (e *Embedded) writeGroups(all map[string][]byte) error {
	now := e.now()
	return e.db.Load().Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(groupsBucket)
		if err != nil {
			return err
		}
		b.FillPercent = fillPercent
		for _, key := range slices.Sorted(maps.Keys(all)) {
			encoded := all[key]
			expiry := lastExpiry(encoded)
			if expiry <= now {
				e.unsure.extend(expiry)
				continue
			}
			if err := b.Put([]byte(key), encode(groupName(key), encoded, expiry, e.o.Sealer)); err != nil {
				return err
			}
		}
		until := e.unsure.until.Load()
		if until == 0 {
			return nil
		}
		t := openTable(tx)
		if err := t.write(unsureName, encode(unsureName, nil, until, e.o.Sealer), until); err != nil {
			return err
		}
		return t.finish()
	})
}

// keepGroups writes the groups before the file is closed. Where it can't they
// are lost as in a crash.
func (e *Embedded) keepGroups() {
	if err := guard(func() error { return e.writeGroups(e.groups.close()) }); err != nil {
		e.stats.failures.Add(1)
		e.o.Logger.Warn("groups of the session store are lost: who is alone in one is unknown for a while", zap.String("file", e.path), zap.Error(err))
	}
}
