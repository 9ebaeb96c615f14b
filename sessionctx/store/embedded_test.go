package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// clock is an injected one.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_800_000_000_000)
	return c
}
func (c *clock) now() time.Time       { return time.UnixMilli(c.ms.Load()) }
func (c *clock) pass(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func openAt(t testing.TB, path string, o Options) *Embedded {
	t.Helper()
	s, err := OpenEmbedded(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// damageRecord flips the last byte of a record within the file.
func damageRecord(t testing.TB, e *Embedded, name string) {
	t.Helper()
	must(t, e.db.Load().Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(entriesBucket)
		record := append([]byte{}, b.Get([]byte(name))...)
		record[len(record)-1] ^= 1
		return b.Put([]byte(name), record)
	}))
}

func TestEmbedded(t *testing.T) {
	testStore(t, func(t testing.TB) engine {
		path := filepath.Join(t.TempDir(), "sub", "store.db")
		c := newClock()
		return engine{
			open: func(t testing.TB, s Sealer) Store {
				return openAt(t, path, Options{Sealer: s, Now: c.now})
			},
			pass: c.pass,
			damage: func(t testing.TB, s Store, name string) {
				damageRecord(t, s.(*Embedded), name)
			},
		}
	})
}

func TestEmbeddedFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "store.db")
	openAt(t, path, Options{})
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", p, info.Mode(), err, want)
		}
	}
}

func TestEmbeddedIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	claim(t, s, "k", "v", "v", true)
	_, err := OpenEmbedded(path, Options{LockTimeout: 20 * time.Millisecond})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("second opening: %v", err)
	}
	must(t, s.Close())
	expect(t, openAt(t, path, Options{}), "k", "v")
}

func TestEmbeddedRefusalIsNoDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store.db")
	must(t, os.Mkdir(dir, 0o700))
	if _, err := OpenEmbedded(dir, Options{}); err == nil {
		t.Fatal("a directory was opened")
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Error("it was moved")
	}
}

// A copy of the file, taken when a call has returned, is what a crash of the
// machine at that moment would leave (fsync aside, which bbolt does).
func copyOf(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	to := filepath.Join(t.TempDir(), "copy.db")
	must(t, os.WriteFile(to, raw, 0o600))
	return to
}

func TestEmbeddedClaimIsInTheFileWhenItReturns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	for i := range 20 {
		k := fmt.Sprint("k", i)
		claim(t, s, k, "v", "v", true)
		expect(t, openAt(t, copyOf(t, path), Options{}), k, "v")
	}
	must(t, s.Delete(ctx, "k3"))
	absent(t, openAt(t, copyOf(t, path), Options{}), "k3")
}

const childEnv = "STORE_TEST_CHILD_FILE"

// TestMain is also the child that TestEmbeddedClaimSurvivesKill kills.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		s, err := OpenEmbedded(path, Options{})
		if err == nil {
			_, _, err = s.Claim(ctx, "k", []byte("v"), time.Hour)
		}
		if err == nil {
			_, err = s.Next(ctx, "s", 3, time.Hour)
			time.Sleep(200 * time.Millisecond) // for the mark
		}
		fmt.Println("claimed", err)
		select {}
	}
	os.Exit(m.Run())
}

func TestEmbeddedClaimSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+path)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line := make([]byte, len("claimed <nil>"))
	_, err = io.ReadFull(out, line)
	must(t, child.Process.Kill())
	child.Wait()
	if string(line) != "claimed <nil>" {
		t.Fatalf("child said %q, %v", line, err)
	}
	s := openAt(t, path, Options{})
	claim(t, s, "k", "other", "v", false)
	if first, err := s.Next(ctx, "s", 1, long); err != nil || first < 4 || first > 4+markAhead {
		t.Errorf("number %d, %v after a kill", first, err)
	}
}

func TestEmbeddedBeginsAnewOnDamagedFile(t *testing.T) {
	full := func(t *testing.T, path string) {
		s := openAt(t, path, Options{})
		claim(t, s, "k", "v", "v", true)
		must(t, s.Close())
	}
	for name, harm := range map[string]func(t *testing.T, path string){
		"no database":    func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("hello"), 0o600)) },
		"meta pages":     func(t *testing.T, path string) { full(t, path); scribble(t, path, 0, 8192) },
		"all but metas":  func(t *testing.T, path string) { full(t, path); scribble(t, path, 8192, 1<<20) },
		"cut after meta": func(t *testing.T, path string) { full(t, path); must(t, os.Truncate(path, 8192)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			harm(t, path)
			s := openAt(t, path, Options{})
			claim(t, s, "k2", "v", "v", true)
			if n := s.Stats().SetAside; n != 1 {
				t.Errorf("%d set aside", n)
			}
			if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
				t.Errorf("set aside: %v", aside)
			}
		})
	}
}

func scribble(t testing.TB, path string, from, to int64) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(strings.Repeat("\xff", int(min(to, info.Size())-from))), from)
	must(t, err)
}

func TestEmbeddedReplacesFileDamagedInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	for i := range 500 {
		s.Put(fmt.Sprint("k", i), make([]byte, 100), long)
	}
	claim(t, s, "k", "v", "v", true)
	scribble(t, path, 8192, 1<<30)
	if _, err := s.Get(ctx, "k7"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read of broken pages: %v", err)
	}
	eventually(t, "a new file", func() bool { _, err := s.Get(ctx, "k7"); return errors.Is(err, ErrNotFound) })
	claim(t, s, "k", "new", "new", true)

	scribble(t, path, 8192, 1<<30)
	claim(t, s, "k-of-a-broken-commit", "v", "v", true)
	if n := s.Stats().SetAside; n != 2 {
		t.Errorf("%d set aside", n)
	}
	must(t, s.Close())
	expect(t, openAt(t, path, Options{}), "k-of-a-broken-commit", "v")
}

func TestEmbeddedFlippedBytesOfValuesAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	claim(t, s, "k", strings.Repeat("needle", 20), strings.Repeat("needle", 20), true)
	must(t, s.Close())
	raw, err := os.ReadFile(path)
	must(t, err)
	raw = []byte(strings.ReplaceAll(string(raw), "needle", "needlf"))
	must(t, os.WriteFile(path, raw, 0o600))
	s = openAt(t, path, Options{})
	absent(t, s, "k")
	if st := s.Stats(); st.Damaged != 1 || st.SetAside != 0 {
		t.Errorf("%+v", st)
	}
}

func TestEmbeddedSweepsInSmallSteps(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{Now: c.now, SweepEvery: 5 * time.Millisecond, MaxPending: 1 << 20})
	const n = 2000
	for i := range n {
		s.Put(fmt.Sprint("short", i), []byte("x"), time.Second)
	}
	s.Put("long", []byte("x"), long)
	s.Put("prolonged", []byte("x"), time.Second)
	claim(t, s, "flush", "x", "x", true)
	s.Put("prolonged", []byte("y"), long)
	claim(t, s, "flush again", "x", "x", true)
	damageRecord(t, s, "v:long")
	c.pass(2 * time.Duration(expiryStep) * time.Millisecond)
	eventually(t, "all swept", func() bool { return s.Stats().Swept >= n })
	if st := s.Stats(); st.Swept != n || st.Commits < n/sweepBatch {
		t.Errorf("swept %d in %d commits", st.Swept, st.Commits)
	}
	expect(t, s, "prolonged", "y")
	c.pass(2 * long)
	eventually(t, "damaged and long ones swept", func() bool { return s.Stats().Swept == n+4 })
	must(t, s.db.Load().View(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{entriesBucket, dueBucket} {
			if k, _ := tx.Bucket(b).Cursor().First(); k != nil {
				t.Errorf("%s still holds %q", b, k)
			}
		}
		return nil
	}))
}

func TestEmbeddedPagesAreUsedAgain(t *testing.T) {
	c := newClock()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Now: c.now, SweepEvery: 2 * time.Millisecond})
	var size int64
	for round := range 8 {
		for i := range 1000 {
			s.Put(fmt.Sprint("r", round, "-", i), make([]byte, 1000), time.Second)
		}
		claim(t, s, fmt.Sprint("flush", round), "", "", true)
		c.pass(2 * time.Duration(expiryStep) * time.Millisecond)
		eventually(t, "round swept", func() bool { return s.Stats().Swept >= uint64(1000*(round+1)) })
		if round == 3 {
			size = s.Stats().FileBytes
		}
	}
	if now := s.Stats().FileBytes; now > size {
		t.Errorf("file grew from %d to %d though nothing more lives", size, now)
	}
}

func TestEmbeddedPutsAreBounded(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{MaxPending: 10, MaxPendingBytes: 1000, FlushEvery: time.Hour})
	for i := range 30 {
		s.Put(fmt.Sprint("k", i), []byte("x"), long)
	}
	if st := s.Stats(); st.Dropped != 20 || st.Pending != 10 {
		t.Errorf("dropped %d, pending %d", st.Dropped, st.Pending)
	}
	s.Put("k1", make([]byte, 2000), long)
	expect(t, s, "k1", "x")
	s.Put("k1", []byte("y"), long)
	expect(t, s, "k1", "y")
	claim(t, s, "flush", "", "", true)
	if st := s.Stats(); st.Pending != 0 {
		t.Errorf("%d pending after a claim", st.Pending)
	}
}

func TestEmbeddedPutCommitsByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{FlushEvery: time.Millisecond})
	s.Put("k", []byte("v"), long)
	eventually(t, "committed", func() bool { return s.Stats().Pending == 0 })
	expect(t, s, "k", "v")
	expect(t, openAt(t, copyOf(t, path), Options{}), "k", "v")
}

func TestEmbeddedNumbersLeaveMemory(t *testing.T) {
	c := newClock()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Now: c.now, SweepEvery: 2 * time.Millisecond})
	next(t, s, "s", 3, 1)
	inMemory := func() (n int) {
		for i := range s.numbers.shards {
			s.numbers.shards[i].mu.Lock()
			n += len(s.numbers.shards[i].byName)
			s.numbers.shards[i].mu.Unlock()
		}
		return n
	}
	c.pass(2 * time.Minute)
	eventually(t, "evicted", func() bool { return inMemory() == 0 })
	next(t, s, "s", 1, 4)
}

func TestEmbeddedNumbersSkipAfterCrashButDoNotRepeat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	for range 10 {
		_, err := s.Next(ctx, "s", 1, long)
		must(t, err)
	}
	claim(t, s, "flush", "", "", true)
	for range 50 {
		_, err := s.Next(ctx, "s", 1, long)
		must(t, err)
	}
	first, err := openAt(t, copyOf(t, path), Options{}).Next(ctx, "s", 1, long)
	if err != nil || first <= 60 || first > 60+markAhead {
		t.Errorf("number %d, %v; want one after 60", first, err)
	}
}

func TestEmbeddedCallReturnsByItsDeadlineThoughTheDiskHangs(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{})
	tx, err := s.db.Load().Begin(true) // holds up the committer as a hung fsync would
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, _, err = s.Claim(short, "k", nil, long)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	s.Put("p", []byte("v"), long)
	expect(t, s, "p", "v")
	absent(t, s, "k") // reads go on
	must(t, tx.Rollback())
	claim(t, s, "k", "again", "", false) // the claim that was given up was made
}

func TestEmbeddedConcurrentClaimsShareCommits(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 20 {
				claim(t, s, fmt.Sprint(i, "-", j), "v", "v", true)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Commits > st.Claims/4 {
		t.Errorf("%d commits for %d claims", st.Commits, st.Claims)
	}
}
