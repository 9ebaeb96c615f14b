package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// sole says in words what Sole found.
func sole(s Store, keys ...string) string {
	m, err := s.Sole(ctx, keys...)
	switch {
	case err == nil:
		return m.Name + "=" + string(m.Value)
	case errors.Is(err, ErrNotFound):
		return "none"
	case errors.Is(err, ErrSeveral):
		return "several"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return err.Error()
}

func expectSole(t testing.TB, s Store, want string, keys ...string) {
	t.Helper()
	if got := sole(s, keys...); got != want {
		t.Errorf("sole of %q: %s, want %s", keys, got, want)
	}
}

// written waits until nothing of the store waits to be written.
func written(t testing.TB, s Store) {
	t.Helper()
	eventually(t, "all is written", func() bool { return s.Stats().Pending == 0 })
}

func testGroups(t *testing.T, fresh func(t testing.TB) engine) {
	t.Run("a group has no, one or several living members", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, xorSealer{})
		steps := func() {
			expectSole(t, s, "none", "k")
			s.Join("k", "a", []byte("1"), long)
			expectSole(t, s, "a=1", "k")
			s.Join("k", "a", []byte("2"), long)
			expectSole(t, s, "a=2", "k")
			expectSole(t, s, "none", "l")
			s.Join("k", "b", nil, long)
			expectSole(t, s, "several", "k")
		}
		steps()
		written(t, s)
		expectSole(t, s, "several", "k")
		s.Join("l", "a", []byte("3"), long)
		written(t, s)
		expectSole(t, s, "a=3", "l")
		must(t, s.Close())
		s = e.open(t, xorSealer{})
		expectSole(t, s, "several", "k")
		expectSole(t, s, "a=3", "l")
	})

	t.Run("members of several groups are counted together", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		s.Join("today", "a", []byte("new"), long)
		expectSole(t, s, "a=new", "today", "yesterday")
		expectSole(t, s, "a=new", "yesterday", "today")
		s.Join("yesterday", "a", []byte("old"), long)
		written(t, s)
		expectSole(t, s, "a=new", "today", "yesterday")
		s.Join("yesterday", "b", nil, long)
		expectSole(t, s, "several", "today", "yesterday")
		expectSole(t, s, "a=new", "today")
	})

	t.Run("of many members the last one is found alone", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		expectSole(t, s, "none", "k") // it is connected, which may take as long as they live
		for _, i := range rand.Perm(20) {
			ttl := 200 * time.Millisecond
			if i == 7 {
				ttl = long
			}
			s.Join("k", fmt.Sprint(i), []byte("v"), ttl)
		}
		expectSole(t, s, "several", "k")
		e.pass(250 * time.Millisecond)
		expectSole(t, s, "7=v", "k")
		written(t, s)
		s.Join("k", "8", nil, long)
		expectSole(t, s, "several", "k")
	})

	t.Run("of joining at once none is lost", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		var wg sync.WaitGroup
		for i := range 50 {
			for who := range 2 {
				wg.Go(func() { s.Join(fmt.Sprint("k", i), fmt.Sprint(who), nil, long) })
			}
		}
		wg.Wait()
		must(t, s.Close())
		s = e.open(t, nil)
		for i := range 50 {
			expectSole(t, s, "several", fmt.Sprint("k", i))
		}
	})

	t.Run("what can't join makes unsure", func(t *testing.T) {
		e := fresh(t)
		s := e.open(t, nil)
		s.Join("k", "a", nil, long)
		expectSole(t, s, "a=", "k")
		s.Join("l", "a", make([]byte, MaxValue+1), 100*time.Millisecond)
		expectSole(t, s, "unavailable", "k")
		if n := s.Stats().Dropped; n != 1 {
			t.Errorf("%d dropped", n)
		}
		e.pass(150 * time.Millisecond)
		expectSole(t, s, "a=", "k")
	})

	t.Run("a group's end is a call's", func(t *testing.T) {
		s := fresh(t).open(t, nil)
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Sole(canceled, "k"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		v := []byte("v")
		s.Join("k", "a", v, long)
		m, err := s.Sole(ctx, "k")
		must(t, err)
		m.Value[0] = 'X'
		expectSole(t, s, "a=v", "k")
		must(t, s.Close())
		if _, err := s.Sole(ctx, "k"); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		s.Join("k", "b", nil, long)
	})
}

// Two nodes see each other's members, and neither undoes the other's.
func TestRedisTwoNodesShareGroups(t *testing.T) {
	srv := startServer(t)
	a, b := srv.open(t, RedisOptions{}), srv.open(t, RedisOptions{})
	for i := range 50 {
		k := fmt.Sprint("k", i)
		a.Join(k, "a", []byte("1"), long)
		b.Join(k, "b", []byte("2"), long)
	}
	written(t, a)
	written(t, b)
	for i := range 50 {
		expectSole(t, a, "several", fmt.Sprint("k", i))
		expectSole(t, b, "several", fmt.Sprint("k", i))
	}
	a.Join("one", "a", []byte("1"), long)
	written(t, a)
	expectSole(t, b, "a=1", "one")
	// The hash ends with its members.
	left, err := srv.raw(t).Do(ctx, srv.raw(t).B().Pttl().Key("session_context:g:one").Build()).AsInt64()
	if err != nil || left <= 0 || left > long.Milliseconds() {
		t.Errorf("the group lives %d ms more, %v", left, err)
	}
	c := srv.raw(t)
	for i := range 20 {
		a.Join("many", fmt.Sprint(i), nil, long)
	}
	written(t, a)
	if n, err := c.Do(ctx, c.B().Hlen().Key("session_context:g:many").Build()).AsInt64(); err != nil || n != groupKeeps {
		t.Errorf("a group keeps %d members, %v", n, err)
	}
}

func TestRedisDamagedMemberMayHaveBeenAnothers(t *testing.T) {
	srv := startServer(t)
	s := srv.open(t, RedisOptions{Sealer: xorSealer{}})
	s.Join("k", "a", []byte("value"), long)
	written(t, s)
	c, key := srv.raw(t), "session_context:g:k"
	fields, err := c.Do(ctx, c.B().Hgetall().Key(key).Build()).AsStrMap()
	must(t, err)
	for f, record := range fields {
		record = record[:len(record)-1] + string(record[len(record)-1]^1)
		must(t, c.Do(ctx, c.B().Hset().Key(key).FieldValue().FieldValue(f, record).Build()).Error())
	}
	expectSole(t, s, "unavailable", "k")
	s.Join("k", "b", []byte("value"), long)
	written(t, s)
	if got := sole(s, "k"); got != "several" && got != "unavailable" {
		t.Errorf("%s beside a damaged member", got)
	}
	if s.Stats().Damaged == 0 {
		t.Error("not counted")
	}
}

func TestRedisMemberThatIsGivenUpMakesUnsure(t *testing.T) {
	srv := startServer(t)
	s := srv.open(t, RedisOptions{KeepPending: 20 * time.Millisecond, ProbeEvery: 10 * time.Millisecond})
	s.Join("k", "a", []byte("v"), long)
	written(t, s)
	expectSole(t, s, "a=v", "k")
	srv.kill()
	expectSole(t, s, "unavailable", "k")
	s.Join("k", "b", nil, long)
	eventually(t, "given up", func() bool { return s.Stats().Dropped == 1 })
	srv.start(t)
	eventually(t, "the server answers", func() bool { _, err := s.Get(ctx, "x"); return errors.Is(err, ErrNotFound) })
	// Without b the server would call a alone.
	expectSole(t, s, "unavailable", "k")
}

// However members come and go, in however many lots, two are enough to tell
// who is alone.
func TestTwoMembersAreEnough(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var all, kept []Member
		for range 1 + r.IntN(12) {
			m := Member{Name: string(rune('a' + r.IntN(6))), Value: []byte{byte(r.IntN(256))}}
			// A member may only be prolonged.
			for _, o := range all {
				if o.Name == m.Name {
					m.expiry = o.expiry
				}
			}
			m.expiry += r.Int64N(20)
			all = slices.DeleteFunc(all, func(o Member) bool { return o.Name == m.Name })
			all = append(all, m)
			kept = mergeMembers(kept, []Member{m})
		}
		for now := range int64(60) {
			want, wantErr := soleOf(now, all)
			got, err := soleOf(now, kept)
			if err != wantErr || got.Name != want.Name || !bytes.Equal(got.Value, want.Value) {
				t.Fatalf("seed %d at %d: %v, %v of two; %v, %v of all", seed, now, got, err, want, wantErr)
			}
		}
		back, err := decodeMembers(appendMembers(nil, kept))
		if err != nil || len(back) != len(kept) {
			t.Fatalf("seed %d: %v, %v after encoding, want %v", seed, back, err, kept)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add(appendMembers(nil, []Member{{"a", []byte("value"), 1}, {"b", nil, 2}}))
	f.Add([]byte{1, 'a', 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		members, err := decodeMembers(b)
		if err != nil {
			return
		}
		again, err := decodeMembers(appendMembers(nil, members))
		if err != nil || len(again) != len(members) {
			t.Errorf("%v, then %v, %v", members, again, err)
		}
	})
}
