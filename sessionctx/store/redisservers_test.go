package store

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// server is a real redis-server on a loopback port of its own.
type server struct {
	program   string // redis-server, unless set
	dir, port string
	args      []string
	dial      func() (net.Conn, error)
	cmd       *exec.Cmd
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t, args...)
	s.start(t)
	return s
}

func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), port: freePort(t), args: args}
	s.dial = func() (net.Conn, error) { return net.Dial("tcp", s.addr()) }
	t.Cleanup(s.kill)
	return s
}

// freePort is one that nobody listens on; nor on the one of a cluster's bus.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if port >= 55535 {
			continue
		}
		if bus, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port+10000)); err == nil {
			bus.Close()
			return fmt.Sprint(port)
		}
	}
}

// programPath is where a program lies; "" if it is not installed. Servers lie
// in sbin on some systems.
func programPath(name string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); exec.Command(path, "--version").Run() == nil {
			return path
		}
	}
	return ""
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.launch(t)
	s.ready(t)
}

// launch starts it without waiting for it.
func (s *server) launch(t testing.TB) {
	t.Helper()
	if s.program == "" {
		s.program = programPath("redis-server")
	}
	if s.program == "" {
		t.Fatal("redis-server is not installed: run make setup")
	}
	s.cmd = exec.Command(s.program, append([]string{"--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", ""}, s.args...)...)
	must(t, s.cmd.Start())
}

// startSentinel starts one that watches a primary. Three make a quorum of two.
func startSentinel(t testing.TB, primary *server) *server {
	t.Helper()
	s := newServer(t)
	conf := filepath.Join(s.dir, "sentinel.conf")
	must(t, os.WriteFile(conf, []byte(strings.Join([]string{
		"port " + s.port, "bind 127.0.0.1", "dir " + s.dir,
		"sentinel monitor primary 127.0.0.1 " + primary.port + " 2",
		"sentinel down-after-milliseconds primary 1000",
		"sentinel failover-timeout primary 5000", "",
	}, "\n")), 0o600))
	s.cmd = exec.Command(programPath("redis-server"), conf, "--sentinel")
	must(t, s.cmd.Start())
	s.ready(t)
	return s
}

// ready waits until the server answers, if only that it wants a password.
func (s *server) ready(t testing.TB) {
	t.Helper()
	eventually(t, "redis-server answers", func() bool {
		c, err := s.dial()
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "PING\r\n")
		answer := make([]byte, 5)
		n, _ := c.Read(answer)
		return strings.HasPrefix(string(answer[:n]), "+PONG") || strings.HasPrefix(string(answer[:n]), "-NOA")
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }
func (s *server) url() string  { return "redis://" + s.addr() + "/0" }

func (s *server) open(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	o.URL = s.url()
	return openRedis(t, o)
}

func openRedis(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	if o.CallTimeout == 0 {
		o.CallTimeout = 5 * time.Second // a busy machine is no failure
	}
	isNew(o)
	return openAsIs(t, o)
}

// isNew tells the nodes of a server that it is new. By itself none could know
// that it was not emptied, and be sure of any group before all that may have
// been lost had ended. Where nobody answers nothing is told.
func isNew(o RedisOptions) {
	o = o.withDefaults()
	option, err := o.client()
	if err != nil {
		return
	}
	c, err := rueidis.NewClient(option)
	if err != nil {
		return
	}
	defer c.Close()
	for _, key := range rollKeys(c, o.KeyPrefix) {
		if n, err := c.Do(ctx, c.B().Hlen().Key(key).Build()).AsInt64(); err == nil && n == 0 {
			c.Do(ctx, c.B().Hset().Key(key).FieldValue().FieldValue("unsure", "0").Build())
		}
	}
}

func openAsIs(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r, err := OpenRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// raw is a client of this server alone.
func (s *server) raw(t testing.TB) rueidis.Client {
	t.Helper()
	return rawClient(t, rueidis.ClientOption{InitAddress: []string{s.addr()}, ForceSingleClient: true})
}

func rawClient(t testing.TB, o rueidis.ClientOption) rueidis.Client {
	t.Helper()
	o.DisableCache = true
	c, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// does runs a command, words apart by blanks, and gives its answer as text.
func does(t testing.TB, c rueidis.Client, command string) string {
	t.Helper()
	words := strings.Fields(command)
	v, err := c.Do(ctx, c.B().Arbitrary(words...).Build()).ToAny()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Errorf("%s: %v", command, err)
	}
	return fmt.Sprint(v)
}

// place is where a store lies: how it is opened, and a way around it.
type place struct {
	o   RedisOptions
	raw rueidis.Client
}

func (s *server) place(t testing.TB) place {
	return place{RedisOptions{URL: s.url()}, s.raw(t)}
}

// startCluster is one of three primaries, each with a replica.
func startCluster(t testing.TB) []*server {
	t.Helper()
	var nodes []*server
	var clients []rueidis.Client
	for range 6 {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "2000", "--cluster-announce-ip", "127.0.0.1", "--repl-diskless-sync-delay", "0")
		nodes, clients = append(nodes, s), append(clients, s.raw(t))
	}
	for i, c := range clients[:3] {
		does(t, c, fmt.Sprint("CLUSTER ADDSLOTSRANGE ", []int{0, 5461, 10923}[i], " ", []int{5460, 10922, 16383}[i]))
	}
	for i, c := range clients {
		does(t, c, fmt.Sprint("CLUSTER SET-CONFIG-EPOCH ", i+1))
	}
	for _, s := range nodes[1:] {
		does(t, clients[0], "CLUSTER MEET 127.0.0.1 "+s.port)
	}
	for i, c := range clients[3:] {
		id, err := clients[i].Do(ctx, c.B().Arbitrary("CLUSTER", "MYID").Build()).ToString()
		must(t, err)
		eventually(t, "the replica knows its primary", func() bool {
			return c.Do(ctx, c.B().Arbitrary("CLUSTER", "REPLICATE", id).Build()).Error() == nil
		})
	}
	for _, c := range clients {
		eventually(t, "the cluster is up", func() bool {
			info, _ := c.Do(ctx, c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
			all, _ := c.Do(ctx, c.B().Arbitrary("CLUSTER", "NODES").Build()).ToString()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:6") &&
				strings.Count(all, "slave") == 3 && !strings.Contains(all, "handshake")
		})
	}
	for _, c := range clients[3:] {
		eventually(t, "replicas are in step", func() bool { return inStep(c) })
	}
	return nodes
}

func inStep(replica rueidis.Client) bool {
	info, _ := replica.Do(ctx, replica.B().Info().Section("replication").Build()).ToString()
	return strings.Contains(info, "master_link_status:up")
}

// startReplicated is a primary, its replica, and three sentinels that watch
// them.
func startReplicated(t testing.TB) (primary, replica *server, url string) {
	t.Helper()
	primary = startServer(t, "--repl-diskless-sync-delay", "0")
	replica = startServer(t, "--replicaof", "127.0.0.1 "+primary.port, "--repl-diskless-sync-delay", "0")
	eventually(t, "the replica is in step", func() bool { return inStep(replica.raw(t)) })
	var sentinels []*server
	for range 3 {
		sentinels = append(sentinels, startSentinel(t, primary))
	}
	c := sentinels[0].raw(t)
	eventually(t, "the sentinels know each other", func() bool {
		info, _ := c.Do(ctx, c.B().Info().Section("sentinel").Build()).ToString()
		return strings.Contains(info, "slaves=1,sentinels=3")
	})
	return primary, replica, fmt.Sprintf("redis://%s/0?addr=%s&addr=%s&master_set=primary",
		sentinels[0].addr(), sentinels[1].addr(), sentinels[2].addr())
}

// startTLS is a server that wants certificates of an authority of its own,
// which files holds, and what a client needs.
func startTLS(t testing.TB) (s *server, client *tls.Config, files certificates) {
	t.Helper()
	files = makeCertificates(t)
	s = newServer(t, "--port", "0", "--tls-cert-file", files.cert, "--tls-key-file", files.key,
		"--tls-ca-cert-file", files.ca, "--tls-auth-clients", "yes")
	s.args = append(s.args, "--tls-port", s.port)
	client = files.client(t)
	s.dial = func() (net.Conn, error) { return tls.Dial("tcp", s.addr(), client) }
	s.start(t)
	return s, client, files
}
