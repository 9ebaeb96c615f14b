package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// Every form of server passes the suite that the embedded store passes.
func TestRedis(t *testing.T) { testRedis(t, startServer(t).place(t)) }

func TestRedisOverUnixSocket(t *testing.T) {
	// Names of sockets have 108 bytes at most.
	dir, err := os.MkdirTemp("", "redis")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s := newServer(t, "--port", "0", "--unixsocket", socket)
	s.dial = func() (net.Conn, error) { return net.Dial("unix", socket) }
	s.start(t)
	option, err := rueidis.ParseURL("unix://" + socket)
	must(t, err)
	testRedis(t, place{RedisOptions{URL: "unix://" + socket}, rawClient(t, option)})
}

func TestRedisOverTLS(t *testing.T) {
	s, client, _ := startTLS(t)
	raw := rawClient(t, rueidis.ClientOption{InitAddress: []string{s.addr()}, TLSConfig: client, ForceSingleClient: true})
	testRedis(t, place{RedisOptions{URL: "rediss://" + s.addr(), TLS: client}, raw})
}

func TestRedisBehindSentinels(t *testing.T) {
	primary, _, url := startReplicated(t)
	testRedis(t, place{RedisOptions{URL: url}, primary.raw(t)})
}

func TestRedisCluster(t *testing.T) {
	nodes := startCluster(t)
	raw := rawClient(t, rueidis.ClientOption{InitAddress: []string{nodes[1].addr()}})
	testRedis(t, place{RedisOptions{URL: nodes[0].url()}, raw})
	// Keys are all over the cluster.
	for _, n := range nodes[:3] {
		if does(t, n.raw(t), "DBSIZE") == "0" {
			t.Error("a node of the cluster has no key")
		}
	}
}

// Valkey is not in every distribution; where it is, it passes too.
func TestRedisIsValkey(t *testing.T) {
	program := programPath("valkey-server")
	if program == "" {
		t.Log("valkey-server is not installed, so nothing is tried with it")
		return
	}
	s := newServer(t)
	s.program = program
	s.start(t)
	testRedis(t, s.place(t))
}

func testRedis(t *testing.T, p place) {
	n := 0
	testStore(t, func(t testing.TB) engine {
		n++
		prefix := fmt.Sprint("session_context:test", n, ":")
		return engine{
			open: func(t testing.TB, s Sealer) Store {
				o := p.o
				o.Sealer, o.KeyPrefix = s, prefix
				return openRedis(t, o)
			},
			pass: time.Sleep,
			damage: func(t testing.TB, _ Store, name string) {
				c := p.raw
				record, err := c.Do(ctx, c.B().Get().Key(prefix+name).Build()).AsBytes()
				must(t, err)
				record[len(record)-1] ^= 1
				must(t, c.Do(ctx, c.B().Set().Key(prefix+name).Value(string(record)).Keepttl().Build()).Error())
			},
		}
	})
}

func TestRedisPrefixesKeepStoresApart(t *testing.T) {
	s := startServer(t)
	a, b := s.open(t, RedisOptions{KeyPrefix: "a:"}), s.open(t, RedisOptions{KeyPrefix: "b:"})
	claim(t, a, "k", "of a", "of a", true)
	claim(t, b, "k", "of b", "of b", true)
	next(t, a, "k", 3, 1)
	next(t, b, "k", 1, 1)
	must(t, a.Delete(ctx, "k"))
	expect(t, b, "k", "of b")
}

func TestRedisSayWhatIsWrongWithTLS(t *testing.T) {
	s, client, _ := startTLS(t)
	for name, tt := range map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"an authority that is not known": {"rediss://" + s.addr(), nil, "certificate signed by unknown authority"},
		"no certificate":                 {"rediss://" + s.addr(), &tls.Config{RootCAs: client.RootCAs}, "certificate required"},
		"another name":                   {"rediss://" + s.addr(), &tls.Config{RootCAs: client.RootCAs, ServerName: "other.internal"}, "not other.internal"},
		"no TLS":                         {"redis://" + s.addr(), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRedis(t, RedisOptions{URL: tt.url, TLS: tt.tls})
			// Where the server's word comes after what is written to it, an attempt
			// ends with a reset.
			eventually(t, "the error says "+tt.want, func() bool {
				_, err := r.Get(ctx, "k")
				return errors.Is(err, ErrUnavailable) && strings.Contains(err.Error(), tt.want)
			})
		})
	}
	named := client.Clone()
	named.ServerName = "redis.internal"
	claim(t, openRedis(t, RedisOptions{URL: "rediss://" + s.addr(), TLS: named}), "k", "v", "v", true)
	claim(t, openRedis(t, RedisOptions{URL: "rediss://" + s.addr() + "?skip_verify", TLS: &tls.Config{RootCAs: x509.NewCertPool(), Certificates: client.Certificates}}), "k", "w", "v", false)
	if _, err := OpenRedis(RedisOptions{URL: s.url(), TLS: client}); err == nil || !strings.Contains(err.Error(), "rediss://") {
		t.Errorf("TLS for a URL without: %v", err)
	}
}

// The store has few connections, however many call.
func TestRedisConnectionsAreBounded(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	before := strings.Count(does(t, c, "CLIENT LIST"), "id=")
	r := s.open(t, RedisOptions{})
	done := make(chan bool)
	for i := range 500 {
		go func() {
			claim(t, r, fmt.Sprint(i), "v", "v", true)
			done <- true
		}()
	}
	for range 500 {
		<-done
	}
	if n := strings.Count(does(t, c, "CLIENT LIST"), "id=") - before; n < 1 || n > 4 {
		t.Errorf("%d connections", n)
	}
}
