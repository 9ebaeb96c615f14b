package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRedisEntriesEndByTheServer(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(t, RedisOptions{}), srv.raw(t)
	claim(t, s, "k", "v", "v", true)
	s.Put("p", []byte("v"), long)
	next(t, s, "k", 2, 1)
	eventually(t, "written", func() bool { return s.Stats().Pending == 0 })
	for _, key := range []string{"session_context:v:k", "session_context:v:p", "session_context:n:k"} {
		left, err := c.Do(ctx, c.B().Pttl().Key(key).Build()).AsInt64()
		if err != nil || left <= 0 || left > long.Milliseconds() {
			t.Errorf("%s: %d ms left, %v", key, left, err)
		}
	}
}

func TestRedisTwoNodesShareClaimsAndNumbers(t *testing.T) {
	srv := startServer(t)
	a, b := srv.open(t, RedisOptions{}), srv.open(t, RedisOptions{})
	claim(t, a, "k", "a", "a", true)
	claim(t, b, "k", "b", "a", false)
	next(t, a, "s", 3, 1)
	next(t, b, "s", 1, 4)
	a.Put("p", []byte("x"), long)
	eventually(t, "seen by the other", func() bool { v, _ := b.Get(ctx, "p"); return string(v) == "x" })
}

func TestRedisDamagedNumberStartsAnew(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(t, RedisOptions{}), srv.raw(t)
	must(t, c.Do(ctx, c.B().Set().Key("session_context:n:s").Value("junk").Build()).Error())
	next(t, s, "s", 2, 1)
	next(t, s, "s", 1, 3)
	must(t, c.Do(ctx, c.B().Lpush().Key("session_context:n:list").Element("junk").Build()).Error())
	next(t, s, "list", 1, 1)
	if n := s.Stats().Damaged; n != 2 {
		t.Errorf("%d damaged", n)
	}
}

func TestRedisKilledAndStartedAgain(t *testing.T) {
	srv := startServer(t)
	s := srv.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	claim(t, s, "k", "v", "v", true)
	srv.kill()

	began := time.Now()
	for i := range 50 {
		if _, _, err := s.Claim(ctx, fmt.Sprint(i), nil, long); !errors.Is(err, ErrUnavailable) {
			t.Errorf("claim with redis down: %v", err)
		}
		if _, err := s.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) {
			t.Errorf("get with redis down: %v", err)
		}
		if _, err := s.Next(ctx, "k", 1, long); !errors.Is(err, ErrUnavailable) {
			t.Errorf("next with redis down: %v", err)
		}
	}
	if err := s.Delete(ctx, "k"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("delete with redis down: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("151 calls took %s", took)
	}
	s.Put("p", []byte("kept"), long)
	expect(t, s, "p", "kept")
	if st := s.Stats(); !st.Down || st.Failures == 0 {
		t.Errorf("%+v", st)
	}

	srv.start(t)
	eventually(t, "it answers again", func() bool { _, err := s.Get(ctx, "k"); return err == nil })
	claim(t, s, "k", "other", "v", false)
	eventually(t, "the put is written", func() bool { return s.Stats().Pending == 0 })
	c := srv.raw(t)
	if n, err := c.Do(ctx, c.B().Exists().Key("session_context:v:p").Build()).AsInt64(); n != 1 {
		t.Error(n, err)
	}
}

func TestRedisOpensWhileTheServerIsDown(t *testing.T) {
	srv := startServer(t)
	srv.kill()
	began := time.Now()
	s := srv.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond})
	if took := time.Since(began); took > time.Second {
		t.Errorf("opening took %s", took)
	}
	if _, err := s.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	srv.start(t)
	eventually(t, "connected", func() bool { _, _, err := s.Claim(ctx, "k", []byte("v"), long); return err == nil })
}

// A port that accepts and never answers stands for a hung server.
func TestRedisThatHangsKeepsDeadlines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s, err := OpenRedis(RedisOptions{URL: "redis://" + l.Addr().String(), DialTimeout: 2 * time.Second})
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.Get(short, "k"); !errors.Is(err, ErrUnavailable) || time.Since(began) > time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	s.Put("k", nil, long)
	began = time.Now()
	s.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("closing took %s", took)
	}
}

func TestRedisStoppedProcessKeepsDeadlines(t *testing.T) {
	srv := startServer(t)
	s := srv.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond, CallTimeout: 2 * time.Second})
	claim(t, s, "k", "v", "v", true)
	must(t, srv.cmd.Process.Signal(syscall.SIGSTOP))
	for i := range 20 {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		began := time.Now()
		if _, err := s.Get(short, "k"); !errors.Is(err, ErrUnavailable) || time.Since(began) > time.Second {
			t.Errorf("call %d: %v after %s", i, err, time.Since(began))
		}
		cancel()
	}
	if !s.Stats().Down {
		t.Error("circuit is not open")
	}
	must(t, srv.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, "it answers again", func() bool { _, err := s.Get(ctx, "k"); return err == nil })
}

func TestRedisPutsAreBounded(t *testing.T) {
	srv := startServer(t)
	srv.kill()
	s := srv.open(t, RedisOptions{MaxPending: 10, ProbeEvery: 10 * time.Millisecond})
	for i := range 30 {
		s.Put(fmt.Sprint("k", i), []byte("x"), long)
	}
	if st := s.Stats(); st.Dropped != 20 || st.Pending != 10 {
		t.Errorf("dropped %d, pending %d", st.Dropped, st.Pending)
	}
}

func TestRedisPutIsGivenUpInTheEnd(t *testing.T) {
	srv := startServer(t)
	srv.kill()
	s := srv.open(t, RedisOptions{KeepPending: 20 * time.Millisecond, ProbeEvery: 10 * time.Millisecond})
	s.Put("k", []byte("x"), long)
	eventually(t, "given up", func() bool { st := s.Stats(); return st.Dropped == 1 && st.Pending == 0 })
}

func TestRedisURLs(t *testing.T) {
	for url, ok := range map[string]bool{
		"redis://127.0.0.1:1/3":                                   true,
		"rediss://user:pw@127.0.0.1:1":                            true,
		"redis://127.0.0.1:1?addr=127.0.0.1:2&master_set=primary": true,
		"unix:///nowhere/redis.sock":                              true,
		"http://127.0.0.1":                                        false,
		"redis://user:hunter2@127.0.0.1:port/x":                   false,
		"redis://user:hunter2@127.0.0.1:1/x":                      false,
		"":                                                        false,
	} {
		s, err := OpenRedis(RedisOptions{URL: url})
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
		if s != nil {
			if strings.Contains(s.link.address, "pw") {
				t.Error("password in messages")
			}
			s.Close()
		}
	}
}

// What a page writes, a state and a visitor key, goes in one pipeline.
func TestRedisWritesOfAPageGoTogether(t *testing.T) {
	r := startServer(t).open(t, RedisOptions{})
	next(t, r, "connected", 1, 1)
	const pages = 50
	for i := range pages {
		before := r.Stats().Commits
		r.Put(fmt.Sprint(i), []byte("state"), long)
		r.Join("visitor", fmt.Sprint(i), []byte("page"), long)
		eventually(t, "written", func() bool { return r.Stats().Pending == 0 && r.Stats().Commits > before })
	}
	// A page in ten may be interrupted between the two for a millisecond.
	if n := r.Stats().Commits; n > pages+pages/10 {
		t.Errorf("%d pipelines for %d pages", n, pages)
	}
}
