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

// What a crash or a lack of room left unsure stays so when the file is closed
// in order and opened again, and when a crash follows.
func TestEmbeddedGroupsStayUnsure(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, c *clock, path string) *Embedded{
		"after a crash": func(t *testing.T, c *clock, path string) *Embedded {
			s := openAt(t, path, Options{Now: c.now})
			s.Join("k", "a", nil, long)
			written(t, s)
			return openAt(t, copyOf(t, path), Options{Now: c.now})
		},
		"without room": func(t *testing.T, c *clock, path string) *Embedded {
			s := openAt(t, path, Options{Now: c.now, MaxGroupBytes: 1})
			s.Join("k", "a", nil, long)
			written(t, s)
			return s
		},
		"in a file that was set aside": func(t *testing.T, c *clock, path string) *Embedded {
			must(t, os.WriteFile(path, []byte("no database"), 0o600))
			s := openAt(t, path, Options{Now: c.now})
			written(t, s)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			s := lose(t, c, filepath.Join(t.TempDir(), "store.db"))
			c.pass(long - time.Second)
			expectSole(t, openAt(t, copyOf(t, s.path), Options{Now: c.now}), "unavailable", "k")
			must(t, s.Close())
			s = openAt(t, s.path, Options{Now: c.now})
			expectSole(t, s, "unavailable", "k")
			expectSole(t, openAt(t, copyOf(t, s.path), Options{Now: c.now}), "unavailable", "k")
			c.pass(longestMember)
			expectSole(t, s, "none", "k")
		})
	}
}

// A file that breaks in use takes no group with it, and neither does its
// successor's crash go unnoticed.
func TestEmbeddedGroupsOutliveTheirFile(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	s := openAt(t, path, Options{Now: c.now})
	s.Join("k", "a", []byte("v"), 2*long)
	written(t, s)
	scribble(t, path, 8192, 1<<30)
	claim(t, s, "of a broken commit", "v", "v", true)
	if s.Stats().SetAside != 1 {
		t.Fatal("the file was not broken")
	}
	s.Join("l", "b", nil, long)
	written(t, s)
	expectSole(t, s, "a=v", "k")
	crashed := openAt(t, copyOf(t, path), Options{Now: c.now})
	c.pass(2*long - time.Second)
	expectSole(t, crashed, "unavailable", "k")
	must(t, s.Close())
	expectSole(t, openAt(t, path, Options{Now: c.now}), "a=v", "k")
}

func TestEmbeddedGroupsUnderAClockThatIsSet(t *testing.T) {
	swept := func(s *Embedded) { eventually(t, "swept", func() bool { return s.groups.bytes.Load() == 0 }) }
	options := func(c *clock) Options { return Options{Now: c.now, SweepEvery: time.Millisecond} }
	t.Run("ahead and back: those it forgot may live again", func(t *testing.T) {
		path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
		s := openAt(t, path, options(c))
		s.Join("k", "a", []byte("v"), long)
		c.pass(2 * long)
		swept(s)
		expectSole(t, s, "none", "k")
		c.pass(-2 * long)
		expectSole(t, s, "unavailable", "k")
		must(t, s.Close())
		s = openAt(t, path, options(c))
		expectSole(t, s, "unavailable", "k")
		c.pass(long)
		expectSole(t, s, "none", "k")
	})
	t.Run("back over a restart", func(t *testing.T) {
		path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
		s := openAt(t, path, Options{Now: c.now})
		s.Join("k", "a", []byte("v"), long)
		c.pass(2 * long)
		must(t, s.Close())
		c.pass(-2 * long)
		expectSole(t, openAt(t, path, Options{Now: c.now}), "unavailable", "k")
	})
	t.Run("years ahead: it does not last for years", func(t *testing.T) {
		const years = 20 * 365 * 24 * time.Hour
		path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
		o := options(c)
		o.MaxGroupBytes = 200
		s := openAt(t, path, o)
		c.pass(years)
		s.Join("k", "a", []byte("v"), long)
		s.Join("l", "too large", make([]byte, 200), long)
		written(t, s)
		c.pass(-years)
		swept(s)
		crashed := openAt(t, copyOf(t, path), options(c))
		must(t, s.Close())
		s = openAt(t, path, options(c))
		for _, s := range []*Embedded{s, crashed} {
			expectSole(t, s, "unavailable", "k")
		}
		c.pass(longestMember + horizonStep)
		for _, s := range []*Embedded{s, crashed} {
			expectSole(t, s, "none", "k")
		}
	})
}

// Nobody knows how far a damaged horizon was.
func TestEmbeddedDamagedHorizon(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "store.db"), newClock()
	s := openAt(t, path, Options{Now: c.now})
	s.Join("k", "a", []byte("v"), long)
	written(t, s)
	crashed := openAt(t, copyOf(t, path), Options{Now: c.now})
	damageRecord(t, crashed, horizonName)
	crashed = openAt(t, copyOf(t, crashed.path), Options{Now: c.now})
	c.pass(longestMember - time.Second)
	expectSole(t, crashed, "unavailable", "k")
	c.pass(time.Second + horizonStep)
	expectSole(t, crashed, "none", "k")
}

// Living counts what Sole would look at, whether or not Sole can be sure.
func TestEmbeddedLiving(t *testing.T) {
	c := newClock()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Now: c.now})
	expect := func(key string, want int) {
		t.Helper()
		if n := s.Living(key); n != want {
			t.Errorf("%d living in %s, want %d", n, key, want)
		}
	}
	expect("k", 0)
	s.Join("k", "a", []byte("v"), time.Minute)
	expect("k", 1)
	s.Join("k", "a", []byte("longer"), 2*time.Minute)
	expect("k", 1)
	s.Join("k", "b", nil, time.Minute)
	s.Join("k", "c", nil, time.Minute)
	expect("k", 2)
	expect("l", 0)
	s.Lack(time.Hour)
	expect("k", 2)
	c.pass(time.Minute)
	expect("k", 1)
	c.pass(time.Minute)
	expect("k", 0)
	must(t, s.Close())
	expect("k", 0)
}
