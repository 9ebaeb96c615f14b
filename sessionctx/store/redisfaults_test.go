package store

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// observed is a logger, and its lines that contain a text.
func observed() (*zap.Logger, func(text string) []observer.LoggedEntry) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), func(text string) []observer.LoggedEntry {
		return logs.Filter(func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, text) }).All()
	}
}

// front passes connections on to a server that can be changed, and can delay
// what that answers.
type front struct {
	l  net.Listener
	mu sync.Mutex

	to    string
	delay time.Duration
}

func startFront(t *testing.T, to string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &front{l: l, to: to}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			to := f.to
			f.mu.Unlock()
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go f.pass(server, client, false)
			go f.pass(client, server, true)
		}
	}()
	return f
}

func (f *front) set(to string, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to, f.delay = to, delay
}

func (f *front) pass(to, from net.Conn, answers bool) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if answers {
			f.mu.Lock()
			delay := f.delay
			f.mu.Unlock()
			time.Sleep(delay)
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func TestRedisThatIsSlowIsSpared(t *testing.T) {
	s := startServer(t)
	f := startFront(t, s.addr())
	r := openRedis(t, RedisOptions{URL: "redis://" + f.l.Addr().String(), CallTimeout: 100 * time.Millisecond, ProbeEvery: 10 * time.Millisecond, TripAfter: 3})
	eventually(t, "connected", func() bool { _, _, err := r.Claim(ctx, "k", []byte("v"), long); return err == nil })
	f.set(s.addr(), time.Second)
	for range 3 {
		if _, err := r.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("slow: %v", err)
		}
	}
	if !r.Stats().Down {
		t.Error("the circuit is closed")
	}
	// Nobody waits any more: a thousand calls take less than two would have.
	began := time.Now()
	for range 1000 {
		if _, err := r.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("1000 calls took %s", took)
	}
	r.Put("p", []byte("kept"), long)
	f.set(s.addr(), 0)
	eventually(t, "it answers again", func() bool { v, err := r.Get(ctx, "k"); return err == nil && string(v) == "v" })
	eventually(t, "the put is written", func() bool { return r.Stats().Pending == 0 })
	// A connection may still be held up by an answer of before.
	eventually(t, "it can be read", func() bool { v, err := r.Get(ctx, "p"); return err == nil && string(v) == "kept" })
}

func TestRedisThatIsFull(t *testing.T) {
	s := startServer(t, "--maxmemory-policy", "noeviction")
	c := s.raw(t)
	log, lines := observed()
	r := s.open(t, RedisOptions{Logger: log, ProbeEvery: 10 * time.Millisecond})
	claim(t, r, "k", "v", "v", true)
	r.Join("g", "m", []byte("v"), long)
	// A server that is full takes no roll call either, which groups can't do without.
	eventually(t, "written, and the roll called", func() bool {
		_, err := r.Sole(ctx, "g")
		return err == nil && r.Stats().Pending == 0
	})
	does(t, c, "CONFIG SET maxmemory 1")
	for range 20 {
		_, _, err := r.Claim(ctx, "new", []byte("v"), long)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory is full") {
			t.Fatalf("claim: %v", err)
		}
		if _, err := r.Next(ctx, "n", 1, long); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("next: %v", err)
		}
	}
	// What can be done is done: the circuit stays closed.
	expect(t, r, "k", "v")
	if m, err := r.Sole(ctx, "g"); err != nil || m.Name != "m" {
		t.Errorf("sole: %v, %v", m, err)
	}
	r.Put("p", []byte("kept"), long)
	must(t, r.Delete(ctx, "k"))
	if st := r.Stats(); st.Down || !strings.Contains(st.Trouble, "maxmemory is full") || st.Pending == 0 {
		t.Errorf("%+v", st)
	}
	if n := len(lines("redis store refuses calls")); n != 1 {
		t.Errorf("%d lines in the log of 40 refusals of one kind", n)
	}
	does(t, c, "CONFIG SET maxmemory 0")
	eventually(t, "the put is written", func() bool { return r.Stats().Pending == 0 })
	claim(t, r, "new", "v", "v", true)
	expect(t, r, "p", "kept")
}

// What the server refuses again and again holds up nothing else.
func TestRedisRefusedPutsDelayNoOther(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	r := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond, KeepPending: time.Hour})
	for i := range queueBatch + 10 {
		does(t, c, fmt.Sprint("LPUSH session_context:g:bad", i, " x"))
		r.Join(fmt.Sprint("bad", i), "m", []byte("v"), long)
	}
	r.Put("good", []byte("v"), long)
	eventually(t, "written", func() bool { return does(t, c, "EXISTS session_context:v:good") == "1" })
	if n := r.Stats().Pending; n < queueBatch+10 {
		t.Errorf("%d still wait", n)
	}
}

func TestRedisThatEvictsOrForgetsIsToldOnce(t *testing.T) {
	s := startServer(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
	log, lines := observed()
	r := s.open(t, RedisOptions{Logger: log, ProbeEvery: 10 * time.Millisecond})
	eventually(t, "told", func() bool { return len(r.Stats().Advice) == 2 })
	advice := strings.Join(r.Stats().Advice, "\n")
	for _, want := range []string{"allkeys-lru", "noeviction", "64.00M", "appendonly"} {
		if !strings.Contains(advice, want) {
			t.Errorf("%s lacks %s", advice, want)
		}
	}
	s.kill()
	eventually(t, "found out", func() bool { r.Get(ctx, "k"); return r.Stats().Down })
	s.start(t)
	eventually(t, "back", func() bool { _, err := r.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
	does(t, s.raw(t), "CONFIG SET maxmemory-policy noeviction")
	s.kill()
	eventually(t, "found out", func() bool { r.Get(ctx, "k"); return r.Stats().Down })
	s.args = []string{"--maxmemory", "64mb"}
	s.start(t)
	eventually(t, "mended", func() bool { return len(r.Stats().Advice) == 0 && !r.Stats().Down })
	if n := len(lines("set up to lose")); n != 2 {
		t.Errorf("%d lines in the log for two settings", n)
	}
}

func TestRedisAdvice(t *testing.T) {
	for info, want := range map[string]int{
		"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n":  0,
		"maxmemory:1\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n":   0,
		"maxmemory:1\r\nmaxmemory_policy:volatile-ttl\r\naof_enabled:1\r\n": 1,
		"maxmemory:1\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n":  2,
		"# a service that tells nothing\r\n":                                0,
	} {
		if got := accountOf(info).advice(); len(got) != want {
			t.Errorf("%q: %q, want %d", info, got, want)
		}
	}
}

func TestRedisStartedAgainEmpty(t *testing.T) {
	s := startServer(t, "--appendonly", "no")
	r := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	claim(t, r, "k", "v", "v", true)
	next(t, r, "n", 5, 1)
	does(t, s.raw(t), "SET session_context:v:bad junk")
	claim(t, r, "bad", "v", "v", true) // loads a script
	s.kill()
	eventually(t, "found out", func() bool { r.Get(ctx, "k"); return r.Stats().Down })
	s.start(t)
	eventually(t, "it answers", func() bool { _, err := r.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
	claim(t, r, "k", "w", "w", true)
	next(t, r, "n", 1, 1)
	does(t, s.raw(t), "SET session_context:v:bad junk")
	claim(t, r, "bad", "w", "w", true)
}

// A name or an address that leads to the primary leads to another one after a
// failover; the old one goes on as a replica, with our connections open.
func TestRedisThatBecomesAReplicaIsLeft(t *testing.T) {
	a, b := startServer(t), startServer(t)
	ca, cb := a.raw(t), b.raw(t)
	does(t, cb, "REPLICAOF 127.0.0.1 "+a.port)
	eventually(t, "in step", func() bool { return inStep(cb) })
	f := startFront(t, a.addr())
	log, lines := observed()
	r := openRedis(t, RedisOptions{URL: "redis://" + f.l.Addr().String(), Logger: log, ProbeEvery: 20 * time.Millisecond})
	claim(t, r, "k", "v", "v", true)
	eventually(t, "copied", func() bool { return does(t, cb, "EXISTS session_context:v:k") == "1" })
	does(t, cb, "REPLICAOF NO ONE")
	does(t, ca, "REPLICAOF 127.0.0.1 "+b.port)
	_, _, err := r.Claim(ctx, "k2", []byte("v"), long)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is a replica") {
		t.Errorf("claim at a replica: %v", err)
	}
	r.Put("p", []byte("kept"), long)
	f.set(b.addr(), 0)
	// A client has several connections, each dialed when a call first takes it:
	// where one was dialed before the name led to the primary, calls that take it
	// are refused, and the first of them makes a new client.
	eventually(t, "it found the primary", func() bool {
		for i := range 100 {
			if _, _, err := r.Claim(ctx, fmt.Sprint("k", i), []byte("v"), long); err != nil {
				return false
			}
		}
		return true
	})
	claim(t, r, "k", "w", "v", false)
	eventually(t, "the put is written", func() bool { return r.Stats().Pending == 0 })
	if does(t, cb, "EXISTS session_context:v:p") != "1" {
		t.Error("the put went elsewhere")
	}
	if n := len(lines("redis store refuses calls")); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

func TestRedisThatLoadsIsSparedUntilItHas(t *testing.T) {
	s := startServer(t, "--appendonly", "no")
	c := s.raw(t)
	r := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	claim(t, r, "k", "v", "v", true)
	for i := range 300 {
		does(t, c, fmt.Sprintf("SET filler%d %s", i, strings.Repeat("x", 1000)))
	}
	does(t, c, "SAVE")
	s.kill()
	// Ten milliseconds a key, and answers in between.
	s.args = append(s.args, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
	s.launch(t)
	seen := false
	eventually(t, "loaded", func() bool {
		v, err := r.Get(ctx, "k")
		seen = seen || err != nil && strings.Contains(err.Error(), "reads its data") && errors.Is(err, ErrUnavailable)
		if err != nil && errors.Is(err, ErrNotFound) {
			t.Error("what is not loaded yet counts as absent")
		}
		return err == nil && string(v) == "v"
	})
	if !seen {
		t.Error("the server was never seen to load")
	}
}
