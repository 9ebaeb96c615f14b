package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A node that has a way of its own to the server.
func (f *front) open(t *testing.T, o RedisOptions) *Redis {
	t.Helper()
	o.URL = "redis://" + f.l.Addr().String()
	o.ProbeEvery = 10 * time.Millisecond
	return openRedis(t, o)
}

// cut holds up what the server says, from now on, and lets no other connection
// be made.
func (f *front) cut() { f.set("127.0.0.1:1", time.Hour) }

// shortly is how long members live where what is unsure shall end.
func shortly() time.Duration { return 6 * time.Second }

// soleAtLast waits until the store is of an opinion.
func soleAtLast(t testing.TB, s Store, want, key string) {
	t.Helper()
	eventually(t, "sole of "+key+" is "+want, func() bool { return sole(s, key) == want })
}

// neverAlone looks for a while, past the silence that nodes are given.
func neverAlone(t testing.TB, s Store, key string) {
	t.Helper()
	for end := time.Now().Add(2 * rollSilence); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got := sole(s, key); got != "unavailable" && got != "several" {
			t.Fatalf("sole of %s: %s, and another's member may be missing", key, got)
		}
	}
}

// unsureBecause waits until the store says why it is not sure.
func unsureBecause(t testing.TB, s Store, why string) {
	t.Helper()
	eventually(t, "unsure because "+why, func() bool { return strings.Contains(s.Stats().Unsure, why) })
}

// x joins at a; y at b, which can't write. Who finds x is not sure until y has
// ended, or b has written it.
func TestRedisNodeCutOffMakesOthersUnsure(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	f := startFront(t, srv.addr())
	a, b := srv.open(t, RedisOptions{}), f.open(t, RedisOptions{CallTimeout: 100 * time.Millisecond})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	soleAtLast(t, b, "x=v", "k")
	f.cut()
	b.Join("k", "y", []byte("v"), long)
	eventually(t, "the silence is noticed", func() bool { return sole(a, "k") == "unavailable" })
	unsureBecause(t, a, b.roll.node)
	// Who starts now knows it too.
	c := srv.open(t, RedisOptions{})
	neverAlone(t, c, "k")
	expectSole(t, a, "unavailable", "k")
	if n := a.Stats().Failures; n > 0 {
		t.Errorf("%d failures of a store that works", n)
	}
	f.set(srv.addr(), 0)
	soleAtLast(t, a, "several", "k")
	soleAtLast(t, c, "several", "k")
}

// A node that is killed with what it was about to write is waited for as long as
// that may count, and then forgotten.
func TestRedisNodeKilledMakesOthersUnsureForAWhile(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	a := srv.open(t, RedisOptions{LongestMember: shortly})
	f := startFront(t, srv.addr())
	b := f.open(t, RedisOptions{LongestMember: shortly, CallTimeout: 100 * time.Millisecond})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	soleAtLast(t, b, "x=v", "k")
	f.cut() // for ever
	unsureBecause(t, a, b.roll.node)
	expectSole(t, a, "unavailable", "k")
	soleAtLast(t, a, "x=v", "k")
	// Its line goes when no clock has it count.
	raw := srv.raw(t)
	must(t, raw.Do(ctx, raw.B().Hset().Key("session_context:nodes").FieldValue().FieldValue(b.roll.node, "9 1 2").Build()).Error())
	eventually(t, "its line is swept", func() bool {
		return !strings.Contains(does(t, raw, "HGETALL session_context:nodes"), b.roll.node)
	})
}

func TestRedisNodeThatSaysGoodbyeIsNotMissed(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	a, b := srv.open(t, RedisOptions{}), srv.open(t, RedisOptions{})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	soleAtLast(t, b, "x=v", "k")
	soleAtLast(t, a, "x=v", "k")
	b.Join("l", "y", []byte("v"), long)
	must(t, b.Close())
	raw := srv.raw(t)
	if lines := does(t, raw, "HGETALL session_context:nodes"); strings.Contains(lines, b.roll.node) || !strings.Contains(lines, a.roll.node) {
		t.Errorf("the roll is %s", lines)
	}
	for end := time.Now().Add(2 * rollSilence); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if why := a.Stats().Unsure; why != "" {
			t.Fatal(why)
		}
	}
	soleAtLast(t, a, "y=v", "l")
}

// What one node had to give up all know of, those too that start when it is
// gone.
func TestRedisAllKnowWhatANodeGaveUp(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	a, b := srv.open(t, RedisOptions{}), srv.open(t, RedisOptions{KeepPending: 20 * time.Millisecond, ProbeEvery: 10 * time.Millisecond})
	raw := srv.raw(t)
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	does(t, raw, "LPUSH session_context:g:bad x")
	b.Join("bad", "y", nil, long)
	unsureBecause(t, a, "members that are not known")
	must(t, b.Close())
	expectSole(t, a, "unavailable", "k")
	expectSole(t, srv.open(t, RedisOptions{}), "unavailable", "k")
	a.Lack(2 * long)
	must(t, a.Close())
	c := srv.open(t, RedisOptions{})
	expectSole(t, c, "unavailable", "k")
	if until := c.unsure.until.Load(); until < time.Now().Add(long+long/2).UnixMilli() {
		t.Errorf("unsure until %s", readable(until))
	}
}

// Whatever takes the groups away takes the roll too, or leaves an older one.
func TestRedisThatLostGroupsMakesAllUnsure(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, s *server){
		"FLUSHALL": func(t *testing.T, s *server) { does(t, s.raw(t), "FLUSHALL") },
		"started again empty": func(t *testing.T, s *server) {
			s.kill()
			s.args, s.dir = append(s.args, "--appendonly", "no"), t.TempDir()
			s.start(t)
		},
		// What a replica had that takes over, say.
		"older data": func(t *testing.T, s *server) {
			raw := s.raw(t)
			lines, err := raw.Do(ctx, raw.B().Hgetall().Key("session_context:nodes").Build()).AsStrMap()
			must(t, err)
			for node, line := range lines {
				if n, rest, is := strings.Cut(line, " "); is {
					line = fmt.Sprint(n[:1], " ", rest)
					must(t, raw.Do(ctx, raw.B().Hset().Key("session_context:nodes").FieldValue().FieldValue(node, line).Build()).Error())
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			a, b := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond}), s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
			a.Join("k", "x", []byte("v"), long)
			b.Join("k", "y", []byte("v"), long)
			written(t, a)
			written(t, b)
			eventually(t, "some lines were written", func() bool { return acked(a) > 11 && acked(b) > 11 })
			lose(t, s)
			raw := s.raw(t)
			eventually(t, "it is told to all", func() bool {
				fields, err := raw.Do(ctx, raw.B().Hgetall().Key("session_context:nodes").Build()).AsStrMap()
				var until int64
				fmt.Sscan(fields["unsure"], &until)
				return err == nil && until > time.Now().Add(long-time.Minute).UnixMilli()
			})
			a.Join("k", "x", []byte("v"), long)
			neverAlone(t, a, "k")
			neverAlone(t, b, "k")
			expectSole(t, s.open(t, RedisOptions{}), "unavailable", "k")
		})
	}
}

// acked is the last line of the store's that is in the roll, 0 before the first.
func acked(r *Redis) uint64 {
	if parts := r.roll.parts.Load(); parts != nil {
		return (*parts)[0].acked
	}
	return 0
}

// A server that was killed and has everything, but perhaps not what came since
// the last line: only that is missed.
func TestRedisStartedAgainMayLackTheLast(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	after := acked(a)
	eventually(t, "two more lines", func() bool { return acked(a) > after+2 })
	s.kill()
	s.start(t)
	soleAtLast(t, a, "x=v", "k")
	a.Join("l", "y", []byte("v"), 2*long)
	written(t, a)
	a.roll.since.raise(time.Now().Add(2 * long).UnixMilli()) // as if no line had come since
	s.kill()
	s.start(t)
	unsureBecause(t, a, "members that are not known")
}

// Nobody who was there says that nothing is missing.
func TestRedisStartedAgainWithItsNodesMayLackAnything(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.open(t, RedisOptions{})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	must(t, a.Close())
	a = s.open(t, RedisOptions{})
	soleAtLast(t, a, "x=v", "k")
	must(t, a.Close())
	s.kill()
	s.start(t)
	expectSole(t, s.open(t, RedisOptions{}), "unavailable", "k")
}

// Where nothing is known a server may have been emptied: nobody is sure before
// what may have been in it has ended.
func TestRedisWithoutARollMayHaveBeenEmptied(t *testing.T) {
	s := startServer(t)
	span := time.Second
	r := openAsIs(t, RedisOptions{URL: s.url(), LongestMember: func() time.Duration { return span }})
	expectSole(t, r, "unavailable", "k")
	want := time.Now().Add(clocksApart + span)
	if until := time.UnixMilli(r.unsure.until.Load()); until.Sub(want).Abs() > time.Minute {
		t.Errorf("unsure until %s, want %s", until, want)
	}
	s = startServer(t)
	r = openAsIs(t, RedisOptions{URL: s.url()})
	expectSole(t, r, "unavailable", "k")
	want = time.Now().Add(longestMember)
	if until := time.UnixMilli(r.unsure.until.Load()); until.Sub(want).Abs() > time.Minute {
		t.Errorf("unsure until %s, want %s", until, want)
	}
}

// What a full server drops may be a group, and nothing else shows it.
func TestRedisThatEvictsMakesUnsure(t *testing.T) {
	s := startServer(t, "--maxmemory-policy", "allkeys-lru")
	raw := s.raw(t)
	a := s.open(t, RedisOptions{})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	soleAtLast(t, a, "x=v", "k")
	eventually(t, "the server was looked at", func() bool { return a.link.advice.Load() != nil })
	look := func() { a.link.advise(*a.link.client.Load()) } // as it is once a minute
	look()
	if a.link.evicted.Load() {
		t.Error("nothing was evicted")
	}
	must(t, raw.Do(ctx, raw.B().Set().Key("big").Value(strings.Repeat("x", 8<<20)).Build()).Error())
	does(t, raw, "CONFIG SET maxmemory 4mb")
	eventually(t, "something is evicted", func() bool { return accountOf(does(t, raw, "INFO stats")).evicted() > 0 })
	does(t, raw, "CONFIG SET maxmemory 0")
	does(t, raw, "CONFIG SET maxmemory-policy noeviction")
	look()
	unsureBecause(t, a, "members that are not known")
	look()
	if a.link.evicted.Load() {
		t.Error("what was evicted before counts again")
	}
	must(t, raw.Do(ctx, raw.B().Arbitrary("CONFIG", "SET", "maxmemory-policy", "allkeys-lru").Build()).Error())
	does(t, raw, "CONFIG SET maxmemory 1gb")
	look()
	if !a.link.evicted.Load() {
		t.Error("a server that evicts, and has done so, may do it at any time")
	}
}

// A node whose members wait says nothing, so that others don't count on it.
func TestRedisNodeWithWhatWaitsIsSilent(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	raw := srv.raw(t)
	a, b := srv.open(t, RedisOptions{}), srv.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	a.Join("k", "x", []byte("v"), long)
	written(t, a)
	soleAtLast(t, b, "x=v", "k")
	does(t, raw, "LPUSH session_context:g:bad x")
	b.Join("bad", "y", nil, long)
	unsureBecause(t, a, b.roll.node)
	does(t, raw, "DEL session_context:g:bad")
	written(t, b)
	soleAtLast(t, a, "x=v", "k")
}

// Clocks are a node's own only where they say when a member ends.
func TestWhatIsKnownOfTheOthers(t *testing.T) {
	now := time.Now()
	const server = int64(5_000_000) // far from ours
	alive := rollLine{"alive", server - 2500, now.UnixMilli() + 1000}
	for name, c := range map[string]struct {
		view *rollView
		age  time.Duration
		want string
	}{
		"not read":                      {nil, 0, "lately"},
		"nobody else":                   {&rollView{now: server}, 0, ""},
		"read long ago":                 {&rollView{now: server}, rollSilence + 1, "lately"},
		"one who was heard of":          {&rollView{now: server, others: []rollLine{alive}}, 0, ""},
		"one who was, then":             {&rollView{now: server, others: []rollLine{alive}}, time.Second, "alive"},
		"one who is silent":             {&rollView{now: server, others: []rollLine{{"mute", server - 3001, now.UnixMilli() + 1}}}, 0, "mute"},
		"one who no longer counts":      {&rollView{now: server, others: []rollLine{{"mute", server - 3001, now.UnixMilli()}}}, 0, ""},
		"one who was heard of tomorrow": {&rollView{now: server, others: []rollLine{{"early", server + 86_400_000, now.UnixMilli() + 1}}}, 0, "early"},
		"one of two":                    {&rollView{now: server, others: []rollLine{alive, {"mute", 0, now.UnixMilli() + 1}}}, 0, "mute"},
	} {
		l := &roll{}
		if c.view != nil {
			c.view.asked = now.Add(-c.age)
		}
		l.parts.Store(&[]rollPart{{view: &rollView{now: server, asked: now}}, {view: c.view}})
		err := l.sure(now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := (&roll{}).sure(now); !errors.Is(err, errNoNews) {
		t.Error(err)
	}
}

// Each primary of a cluster has a part of the roll.
func TestRedisClusterPartsOfTheRoll(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	r := openRedis(t, RedisOptions{URL: nodes[0].url(), ProbeEvery: 10 * time.Millisecond})
	r.Join("k", "x", []byte("v"), long)
	written(t, r)
	soleAtLast(t, r, "x=v", "k")
	parts := *r.roll.parts.Load()
	if len(parts) != rollParts {
		t.Errorf("%d parts", len(parts))
	}
	for _, n := range nodes[:3] {
		keys := strings.Count(does(t, n.raw(t), "KEYS *"), "session_context:nodes:")
		if keys < 4 {
			t.Errorf("a primary has %d parts", keys)
		}
	}
	// One of them loses what it had.
	for _, n := range nodes[:3] {
		if raw := n.raw(t); !strings.Contains(does(t, raw, "KEYS *"), "session_context:g:k") {
			does(t, raw, "FLUSHALL")
			break
		}
	}
	unsureBecause(t, r, "members that are not known")
}
