package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// server is a real redis-server on a loopback port of its own.
type server struct {
	dir, port string
	args      []string
	cmd       *exec.Cmd
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	s := &server{dir: t.TempDir(), port: port, args: args}
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		binary = "/usr/bin/redis-server"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatal("redis-server is not installed: run make setup")
	}
	s.cmd = exec.Command(binary, append([]string{"--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", ""}, s.args...)...)
	must(t, s.cmd.Start())
	eventually(t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "PING\r\n")
		answer := make([]byte, 5)
		n, _ := c.Read(answer)
		return string(answer[:n]) == "+PONG"
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) url() string { return "redis://127.0.0.1:" + s.port + "/0" }

func (s *server) open(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	o.URL = s.url()
	if o.CallTimeout == 0 {
		o.CallTimeout = 5 * time.Second // a busy machine is no failure
	}
	r, err := OpenRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (s *server) raw(t testing.TB) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:" + s.port}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRedis(t *testing.T) { testRedis(t, startServer(t)) }

func TestRedisCluster(t *testing.T) {
	srv := startServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-announce-ip", "127.0.0.1")
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{"127.0.0.1:" + srv.port}, DisableCache: true, ForceSingleClient: true})
	must(t, err)
	defer c.Close()
	must(t, c.Do(ctx, c.B().Arbitrary("CLUSTER", "ADDSLOTSRANGE", "0", "16383").Build()).Error())
	eventually(t, "the cluster is up", func() bool {
		info, _ := c.Do(ctx, c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
		return strings.Contains(info, "cluster_state:ok")
	})
	testRedis(t, srv)
}

func testRedis(t *testing.T, srv *server) {
	n := 0
	testStore(t, func(t testing.TB) engine {
		n++
		prefix := fmt.Sprint("test", n, ":")
		return engine{
			open: func(t testing.TB, s Sealer) Store {
				return srv.open(t, RedisOptions{Sealer: s, KeyPrefix: prefix})
			},
			pass: time.Sleep,
			damage: func(t testing.TB, _ Store, name string) {
				c := srv.raw(t)
				record, err := c.Do(ctx, c.B().Get().Key(prefix+name).Build()).AsBytes()
				must(t, err)
				record[len(record)-1] ^= 1
				must(t, c.Do(ctx, c.B().Set().Key(prefix+name).Value(string(record)).Keepttl().Build()).Error())
			},
		}
	})
}

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
