package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// engine is what the shared suite needs of an engine under test.
type engine struct {
	open func(t testing.TB, s Sealer) Store // opens the same data each time
	// pass lets d go by: on an injected clock, or really.
	pass func(d time.Duration)
	// damage flips a byte in the stored record of a name.
	damage func(t testing.TB, s Store, name string)
}

var ctx = context.Background()

const long = time.Hour

// testStore is what both engines promise.
func testStore(t *testing.T, fresh func(t testing.TB) engine) {
	testGroups(t, fresh)

	t.Run("of 64 concurrent claimers one wins and all see its value", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		for round := range 20 {
			key := fmt.Sprint("race", round)
			var wg sync.WaitGroup
			standing := make([]string, 64)
			wins := make([]bool, 64)
			for i := range 64 {
				wg.Go(func() {
					v, won, err := s.Claim(ctx, key, fmt.Append(nil, i), long)
					if err != nil {
						t.Error(err)
					}
					standing[i], wins[i] = string(v), won
				})
			}
			wg.Wait()
			won := 0
			for i := range 64 {
				if wins[i] {
					won++
					if standing[i] != fmt.Sprint(i) {
						t.Errorf("winner %d got %s", i, standing[i])
					}
				}
				if standing[i] != standing[0] {
					t.Errorf("claimers got %s and %s", standing[i], standing[0])
				}
			}
			if won != 1 {
				t.Fatalf("%d winners", won)
			}
			expect(t, s, key, standing[0])
		}
		if st := s.Stats(); st.Claims != 20*64 || st.ClaimsLost != 20*63 {
			t.Errorf("claims %d, lost %d", st.Claims, st.ClaimsLost)
		}
	})

	t.Run("a claim stands after closing and opening again", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		claim(t, s, "k", "first", "first", true)
		must(t, s.Close())
		must(t, s.Close())
		if _, err := s.Get(ctx, "k"); !errors.Is(err, ErrClosed) {
			t.Errorf("Get after Close: %v", err)
		}
		if _, _, err := s.Claim(ctx, "k", nil, long); !errors.Is(err, ErrClosed) {
			t.Errorf("Claim after Close: %v", err)
		}
		if _, err := s.Next(ctx, "k", 1, long); !errors.Is(err, ErrClosed) {
			t.Errorf("Next after Close: %v", err)
		}
		if err := s.Delete(ctx, "k"); !errors.Is(err, ErrClosed) {
			t.Errorf("Delete after Close: %v", err)
		}
		s.Put("k", nil, long)
		claim(t, e.open(t, nil), "k", "second", "first", false)
	})

	t.Run("an entry ends with its time, and can be claimed anew", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		claim(t, s, "c", "old", "old", true)
		s.Put("gone", []byte("x"), 40*time.Millisecond)
		s.Put("stays", []byte("x"), long)
		if _, won, err := s.Claim(ctx, "short", []byte("old"), 40*time.Millisecond); err != nil || !won {
			t.Fatal(won, err)
		}
		e.pass(60 * time.Millisecond)
		absent(t, s, "gone")
		absent(t, s, "short")
		claim(t, s, "short", "new", "new", true)
		expect(t, s, "stays", "x")
		claim(t, s, "c", "new", "old", false)
	})

	t.Run("a put is visible at once, overwrites, and is there after closing", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		absent(t, s, "k")
		for i := range 300 {
			v := fmt.Sprint(i)
			s.Put("k", []byte(v), long)
			expect(t, s, "k", v)
			s.Put(fmt.Sprint("k", i), []byte(v), long)
		}
		s.Put("empty", nil, long)
		must(t, s.Close())
		s = e.open(t, nil)
		expect(t, s, "k", "299")
		expect(t, s, "empty", "")
		for i := range 300 {
			expect(t, s, fmt.Sprint("k", i), fmt.Sprint(i))
		}
	})

	t.Run("a claim loses to a pending put", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		s.Put("k", []byte("put"), long)
		claim(t, s, "k", "claim", "put", false)
	})

	t.Run("delete takes value and numbers, later puts stay", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		claim(t, s, "k", "1", "1", true)
		next(t, s, "k", 5, 1)
		must(t, s.Delete(ctx, "k"))
		absent(t, s, "k")
		next(t, s, "k", 1, 1)
		s.Put("k", []byte("2"), long)
		must(t, s.Delete(ctx, "k"))
		absent(t, s, "k")
		s.Put("k", []byte("3"), long)
		expect(t, s, "k", "3")
		must(t, s.Delete(ctx, "never there"))
	})

	t.Run("what ends last is what stays, whatever waits", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		for i := range 200 {
			s.Put("k", []byte("early"), long)
			must(t, s.Delete(ctx, "k"))
			s.Put("k", fmt.Append(nil, i), long)
		}
		must(t, s.Close())
		expect(t, e.open(t, nil), "k", "199")
	})

	t.Run("sequence numbers are unique, without gaps, and go on after closing", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		var mu sync.Mutex
		var got []int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for range 50 {
					n := 1 + i%3
					first, err := s.Next(ctx, "s", n, long)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for j := range n {
						got = append(got, first+int64(j))
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		slices.Sort(got)
		for i, n := range got {
			if n != int64(i+1) {
				t.Fatalf("number %d at place %d", n, i)
			}
		}
		must(t, s.Close())
		next(t, e.open(t, nil), "s", 1, int64(len(got)+1))
	})

	t.Run("sequence numbers end with their time", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		if _, err := s.Next(ctx, "s", 7, 40*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		e.pass(60 * time.Millisecond)
		next(t, s, "s", 1, 1)
	})

	t.Run("a damaged value counts as absent and can be claimed", func(t *testing.T) {
		for _, seal := range []Sealer{nil, xorSealer{}} {
			e := fresh(t)
			s := e.open(t, seal)
			for _, k := range []string{"a", "b", "c"} {
				claim(t, s, k, "value", "value", true)
			}
			e.damage(t, s, "v:a")
			e.damage(t, s, "v:b")
			absent(t, s, "a")
			expect(t, s, "c", "value")
			if n := s.Stats().Damaged; n == 0 {
				t.Error("not counted")
			}
			claim(t, s, "b", "anew", "anew", true)
			claim(t, s, "b", "late", "anew", false)
			expect(t, s, "b", "anew")
			must(t, s.Close())
		}
	})

	t.Run("a value sealed for another name does not open", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, xorSealer{})
		claim(t, s, "k", "secret", "secret", true)
		must(t, s.Close())
		s = e.open(t, xorSealer{other: true})
		absent(t, s, "k")
		if s.Stats().Damaged == 0 {
			t.Error("not counted")
		}
	})

	t.Run("what is no entry is refused", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		for _, bad := range []struct {
			key string
			len int
			ttl time.Duration
		}{{"", 0, long}, {string(make([]byte, MaxKey+1)), 0, long}, {"k", MaxValue + 1, long}, {"k", 0, 0}, {"k", 0, -1}} {
			if _, _, err := s.Claim(ctx, bad.key, make([]byte, bad.len), bad.ttl); err == nil {
				t.Errorf("%d bytes of key, %d of value, %s: taken", len(bad.key), bad.len, bad.ttl)
			}
			s.Put(bad.key, make([]byte, bad.len), bad.ttl)
		}
		if n := s.Stats().Dropped; n != 5 {
			t.Errorf("%d dropped", n)
		}
		if _, err := s.Next(ctx, "k", 0, long); err == nil {
			t.Error("no numbers reserved")
		}
		claim(t, s, string(bytes.Repeat([]byte{0xff}, MaxKey)), string(make([]byte, MaxValue)), string(make([]byte, MaxValue)), true)
	})

	t.Run("a canceled call returns", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Get(canceled, "k"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, _, err := s.Claim(canceled, "k", nil, long); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})

	t.Run("slices that went in or came out may be changed", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		v := []byte("value")
		s.Put("p", v, long)
		standing, _, err := s.Claim(ctx, "c", v, long)
		must(t, err)
		got, err := s.Get(ctx, "p")
		must(t, err)
		v[0], standing[0], got[0] = 'X', 'X', 'X'
		expect(t, s, "p", "value")
		expect(t, s, "c", "value")
	})

	t.Run("everything at once", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 60 {
					k := fmt.Sprint("k", (i+j)%7)
					bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
					_, _, err := s.Claim(bounded, k, []byte("v"), long)
					must(t, err)
					s.Put(k, []byte("w"), long)
					if _, err := s.Get(bounded, k); err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					_, err = s.Next(bounded, k, 1, long)
					must(t, err)
					if j%5 == 0 {
						must(t, s.Delete(bounded, k))
					}
					s.Stats()
					cancel()
				}
			})
		}
		wg.Wait()
	})
}

// xorSealer binds a value to its name, as a real sealer would.
type xorSealer struct{ other bool }

func (x xorSealer) mark(name string) []byte {
	if x.other {
		name = "other"
	}
	return []byte("<" + name + ">")
}

func (x xorSealer) Seal(name string, plain []byte) []byte {
	sealed := x.mark(name)
	for _, b := range plain {
		sealed = append(sealed, b^0x5a)
	}
	return sealed
}

func (x xorSealer) Open(name string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, x.mark(name))
	if !ok {
		return nil, errors.New("sealed for another name")
	}
	plain := []byte{}
	for _, b := range rest {
		plain = append(plain, b^0x5a)
	}
	return plain, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func claim(t testing.TB, s Store, key, value, standing string, won bool) {
	t.Helper()
	got, w, err := s.Claim(ctx, key, []byte(value), long)
	if err != nil || w != won || string(got) != standing {
		t.Errorf("claim of %.20q: standing %.20q, won %t, %v; want %.20q, %t", key, got, w, err, standing, won)
	}
}

func expect(t testing.TB, s Store, key, value string) {
	t.Helper()
	if got, err := s.Get(ctx, key); err != nil || string(got) != value {
		t.Errorf("get %.20q: %.20q, %v; want %.20q", key, got, err, value)
	}
}

func absent(t testing.TB, s Store, key string) {
	t.Helper()
	if got, err := s.Get(ctx, key); !errors.Is(err, ErrNotFound) {
		t.Errorf("get %.20q: %.20q, %v; want none", key, got, err)
	}
}

func next(t testing.TB, s Store, key string, n int, first int64) {
	t.Helper()
	if got, err := s.Next(ctx, key, n, long); err != nil || got != first {
		t.Errorf("next of %q: %d, %v; want %d", key, got, err, first)
	}
}

// eventually waits for something that happens in the background.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
