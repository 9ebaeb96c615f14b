package store

import (
	"encoding/binary"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Entries lie in one bucket by name. A second one, the due list, is ordered by
// time and says which names may be over when, so that sweeping reads only
// what is due. Its keys are a time (8 bytes, Unix ms, rounded up to expiryStep)
// and a serial number (8 bytes); its values are names, each with its length
// before it. A transaction appends to it once for each time, wherever its
// names lie: an index by name would double the pages that a commit writes.
//
// A name is listed again when its rounded time changes, and stays where it was
// before: an entry that is prolonged again and again costs its name once a
// step, until then. A damaged list leaves its entries, dueNames at most, in
// the file until they are written again; they are over all the same.
var (
	entriesBucket = []byte("entries")
	dueBucket     = []byte("due")
)

const (
	// expiryStep is how much longer than it lives an entry may take up space.
	expiryStep = int64(5 * time.Minute / time.Millisecond)
	// dueNames is how many names share a list.
	dueNames = 64
	// fillPercent is how full a page is left when it is split. Most names begin
	// with a time, as do all lists, so that what is new comes last: bbolt's
	// half full pages would never fill up.
	fillPercent = 0.9
	// sweepBatch is how many names a transaction looks at, rounded up to whole
	// lists: a claim in it waits a fraction of a millisecond longer.
	sweepBatch = 2 * dueNames
)

// table is the two buckets within one transaction.
type table struct {
	entries, due *bolt.Bucket
	names        map[int64][]string // to be listed by finish
	key          []byte             // a name as bytes; bbolt keeps a copy
}

func openTable(tx *bolt.Tx) *table {
	t := &table{entries: tx.Bucket(entriesBucket), due: tx.Bucket(dueBucket), names: map[int64][]string{}}
	t.entries.FillPercent, t.due.FillPercent = fillPercent, fillPercent
	return t
}

func dueTime(expiry int64) int64 {
	return (expiry + expiryStep - 1) / expiryStep * expiryStep
}

func (t *table) write(name string, record []byte, expiry int64) error {
	due := dueTime(expiry)
	t.key = append(t.key[:0], name...)
	// What is due at the same time is listed there: whoever empties a list
	// finds all its entries over.
	old := t.entries.Get(t.key)
	if old == nil || dueTime(expiryOf(old)) != due || verify(name, old) != nil {
		t.names[due] = append(t.names[due], name)
	}
	return t.entries.Put(t.key, record)
}

func (t *table) remove(name string) error {
	return t.entries.Delete([]byte(name))
}

// finish lists the names that were written.
func (t *table) finish() error {
	for due, names := range t.names {
		for len(names) > 0 {
			n := min(len(names), dueNames)
			size := 0
			for _, name := range names[:n] {
				size += len(name) + 2
			}
			list := make([]byte, 0, size)
			for _, name := range names[:n] {
				list = binary.AppendUvarint(list, uint64(len(name)))
				list = append(list, name...)
			}
			names = names[n:]
			serial, err := t.due.NextSequence()
			if err != nil {
				return err
			}
			key := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(due))
			if err := t.due.Put(binary.BigEndian.AppendUint64(key, serial), list); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep removes entries whose time is over, and those that do not verify, as
// nobody will ever be shown them. more: it stopped at the limit.
func (t *table) sweep(now int64, limit int) (removed int, more bool, err error) {
	var lists [][]byte
	var names []string
	c := t.due.Cursor()
	for k, list := c.First(); k != nil; k, list = c.Next() {
		if len(k) >= 8 && int64(binary.BigEndian.Uint64(k)) > now {
			break
		}
		if len(names) >= limit || len(lists) >= limit {
			more = true
			break
		}
		lists = append(lists, append([]byte{}, k...))
		names = appendNames(names, list)
	}
	for _, k := range lists {
		if err := t.due.Delete(k); err != nil {
			return 0, false, err
		}
	}
	for _, name := range names {
		record := t.entries.Get([]byte(name))
		if record == nil || verify(name, record) == nil && expiryOf(record) > now {
			continue
		}
		if err := t.entries.Delete([]byte(name)); err != nil {
			return 0, false, err
		}
		removed++
	}
	return removed, more, nil
}

// appendNames reads a list as far as it makes sense.
func appendNames(names []string, list []byte) []string {
	for len(list) > 0 {
		n, width := binary.Uvarint(list)
		if width <= 0 || n > uint64(len(list)-width) {
			break
		}
		list = list[width:]
		names = append(names, string(list[:n]))
		list = list[n:]
	}
	return names
}
