package store

import (
	"encoding/binary"
	"math"
)

// groupTable is a map from groups' keys to their encoded members that holds no
// pointers: there may be a quarter of a million groups, and the collector would
// walk through two pointers of each, all of them far from any cache. Records lie
// one after the other; what is replaced or removed is dead until enough of it
// has gathered. Its owner locks it.
type groupTable struct {
	at   map[uint64]uint32 // hash of a key → where its record begins
	b    []byte
	dead int // bytes of b
}

// A record is the lengths of key and members, then both.
const groupHead = 2 + 4

// compactAt is how many dead bytes are worth moving the living for, if they are
// more than half of all.
const compactAt = 16 << 10

// record are the parts of the record at i, and where the next one begins.
func (t *groupTable) record(i uint32) (key, members []byte, end uint32) {
	r := t.b[i:]
	k, m := uint32(binary.LittleEndian.Uint16(r)), binary.LittleEndian.Uint32(r[2:])
	return r[groupHead : groupHead+k], r[groupHead+k : groupHead+k+m], i + groupHead + k + m
}

// get are the members of a group, good until the next set. Hash is the key's.
// Clash: another key has that hash, and this one can have no group.
func (t *groupTable) get(hash uint64, key string) (members []byte, clash bool) {
	i, ok := t.at[hash]
	if !ok {
		return nil, false
	}
	k, members, _ := t.record(i)
	if string(k) != key {
		return nil, true
	}
	return members, false
}

// fits reports whether there is room for a group.
func (t *groupTable) fits(key string, members []byte) bool {
	return uint64(len(t.b))+groupHead+uint64(len(key))+uint64(len(members)) <= math.MaxUint32
}

// set puts members in the place of those of the key, which must not clash and
// has to fit.
func (t *groupTable) set(hash uint64, key string, members []byte) {
	if i, known := t.at[hash]; known {
		_, old, end := t.record(i)
		if len(old) == len(members) {
			copy(old, members)
			return
		}
		t.dead += int(end - i)
	}
	if t.at == nil {
		t.at = map[uint64]uint32{}
	}
	t.at[hash] = uint32(len(t.b))
	t.b = binary.LittleEndian.AppendUint16(t.b, uint16(len(key)))
	t.b = binary.LittleEndian.AppendUint32(t.b, uint32(len(members)))
	t.b = append(t.b, key...)
	t.b = append(t.b, members...)
	if t.dead > compactAt && t.dead > len(t.b)/2 {
		t.compact()
	}
}

// deleteFunc removes the groups for which over is true, and gives their memory
// back where that is worth it.
func (t *groupTable) deleteFunc(over func(key, members []byte) bool) {
	for hash, i := range t.at {
		if key, members, end := t.record(i); over(key, members) {
			delete(t.at, hash)
			t.dead += int(end - i)
		}
	}
	if t.dead > len(t.b)/2 {
		t.compact()
	}
}

// compact moves the living together.
func (t *groupTable) compact() {
	// The map is made anew too: one never gets smaller.
	living := groupTable{at: make(map[uint64]uint32, len(t.at)), b: make([]byte, 0, len(t.b)-t.dead)}
	for hash, i := range t.at {
		_, _, end := t.record(i)
		living.at[hash] = uint32(len(living.b))
		living.b = append(living.b, t.b[i:end]...)
	}
	if len(living.at) == 0 {
		living = groupTable{}
	}
	*t = living
}

// each calls f with every group.
func (t *groupTable) each(f func(key, members []byte)) {
	for _, i := range t.at {
		key, members, _ := t.record(i)
		f(key, members)
	}
}
