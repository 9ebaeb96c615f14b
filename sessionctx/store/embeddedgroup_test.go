package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A crash loses groups: nobody is taken to be alone until all that could have
// been in them is over.
func TestEmbeddedGroupsAfterACrash(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	s := openAt(t, path, Options{Now: c.now})
	s.Join("k", "a", []byte("v"), long)
	s.Join("k", "b", []byte("v"), 2*long)
	written(t, s)

	crashed := openAt(t, copyOf(t, path), Options{Now: c.now})
	expectSole(t, crashed, "unavailable", "k")
	crashed.Join("k", "a", []byte("again"), 10*long)
	expectSole(t, crashed, "unavailable", "k")
	c.pass(2*long - time.Second)
	expectSole(t, crashed, "unavailable", "k")
	expectSole(t, crashed, "unavailable", "never seen")
	c.pass(time.Second + horizonStep)
	expectSole(t, crashed, "a=again", "k")
	expectSole(t, crashed, "none", "never seen")
	must(t, crashed.Close())
}

// Where every process closes the file nothing is lost; a crash later on does
// not bring back what an earlier one wrote.
func TestEmbeddedGroupsAreInTheFileOnlyBetweenProcesses(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	for i := range 3 {
		s := openAt(t, path, Options{Now: c.now, Sealer: xorSealer{}})
		s.Join(fmt.Sprint("k", i), "a", fmt.Append(nil, i), long)
		for j := range i + 1 {
			expectSole(t, s, fmt.Sprintf("a=%d", j), fmt.Sprint("k", j))
		}
		must(t, s.Close())
	}
	s := openAt(t, path, Options{Now: c.now, Sealer: xorSealer{}})
	written(t, s)
	expectSole(t, openAt(t, copyOf(t, path), Options{Now: c.now, Sealer: xorSealer{}}), "unavailable", "k0")

	c.pass(long)
	expectSole(t, s, "none", "k0")
	must(t, s.Close())
	s = openAt(t, path, Options{Now: c.now, Sealer: xorSealer{}})
	if n := s.groups.bytes.Load(); n != 0 {
		t.Errorf("%d bytes of groups that are over", n)
	}
}

func TestEmbeddedDamagedGroupMayHaveBeenAnybodys(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	s := openAt(t, path, Options{Now: c.now})
	s.Join("k", "a", []byte("v"), long)
	s.Join("l", "a", []byte("v"), 2*long)
	must(t, s.Close())
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(groupsBucket)
		record := append([]byte{}, b.Get([]byte("k"))...)
		record[len(record)-1] ^= 1
		return b.Put([]byte("k"), record)
	}))
	must(t, db.Close())

	s = openAt(t, path, Options{Now: c.now})
	expectSole(t, s, "unavailable", "k")
	if n := s.Stats().Damaged; n != 1 {
		t.Errorf("%d damaged", n)
	}
	c.pass(2*long + horizonStep)
	expectSole(t, s, "none", "k")
}

func TestEmbeddedGroupsOfAFileThatWasSetAside(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	must(t, os.WriteFile(path, []byte("no database, and long enough for two pages"+string(make([]byte, 16<<10))), 0o600))
	s := openAt(t, path, Options{Now: c.now})
	if s.Stats().SetAside != 1 {
		t.Fatal("the file was taken as it is")
	}
	expectSole(t, s, "unavailable", "k")
	c.pass(longestMember)
	expectSole(t, s, "none", "k")
}

// Groups take no more memory than they may, and give it back when they are over.
func TestEmbeddedGroupsAreBounded(t *testing.T) {
	c := newClock()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Now: c.now, MaxGroupBytes: 10_000, SweepEvery: time.Millisecond})
	for i := range 200 {
		s.Join(fmt.Sprint("k", i), "a", []byte("value"), time.Minute)
	}
	if n := s.groups.bytes.Load(); n > 10_000 || n < 9_000 {
		t.Errorf("%d bytes", n)
	}
	if s.Stats().Dropped == 0 {
		t.Error("none was dropped")
	}
	expectSole(t, s, "unavailable", "k0")
	c.pass(time.Minute)
	eventually(t, "what is over is forgotten", func() bool { return s.groups.bytes.Load() == 0 })
	expectSole(t, s, "none", "k0")
	s.Join("k0", "a", []byte("value"), time.Minute)
	expectSole(t, s, "a=value", "k0")
}
