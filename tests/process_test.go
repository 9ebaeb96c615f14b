package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the Caddy under test, built once with the race detector.
var binary string

// builtBinary is the environment variable by which a test that runs itself once
// more says where that is.
const builtBinary = "SESSION_CONTEXT_TESTS_CADDY"

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "session-context-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary = os.Getenv(builtBinary); binary != "" {
		return m.Run()
	}
	binary = filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-race", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "../xcaddy")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the Caddy under test:", err)
		return 1
	}
	return m.Run()
}

// caddy is a Caddy process with directories and ports of its own. They stay
// the same over restarts.
type caddy struct {
	t     testing.TB
	exe   string // the Caddy to run, binary by default
	dir   string
	site  string // http://127.0.0.1:port
	admin string // 127.0.0.1:port
	env   []string
	// storage is where keys are: its own data directory, unless nodes share one.
	storage string
	// unready is not to be waited for: what opens behind a Caddy that serves.
	unready bool

	cmd  *exec.Cmd
	done chan struct{} // the process has ended
	log  *logBuffer
}

// newCaddy makes a Caddy that is not started yet. In Caddyfiles SITE stands
// for the site's address, PORT for its port, ADMIN for the admin's address and
// DIR for the directory.
func newCaddy(t testing.TB, env ...string) *caddy {
	t.Helper()
	c := &caddy{
		t:     t,
		exe:   binary,
		dir:   t.TempDir(),
		site:  "http://" + freeAddr(t),
		admin: freeAddr(t),
		log:   &logBuffer{},
		env:   env,
	}
	c.storage = c.path("data/caddy")
	t.Cleanup(func() {
		c.kill()
		for race := range races(c.log.String()) {
			if strings.Contains(race, "firebuzz/caddy-sessionctx") {
				t.Errorf("the race detector found a race of ours in Caddy:\n%s", race)
			} else {
				t.Logf("a race in Caddy that none of our code is part of:\n%s", race)
			}
		}
		if t.Failed() {
			t.Logf("log of Caddy:\n%s", c.log.String())
		}
	})
	return c
}

// races are the race detector's reports in a log.
func races(log string) iter.Seq[string] {
	return func(yield func(string) bool) {
		const frame = "=================="
		for part := range strings.SplitSeq(log, frame) {
			if strings.Contains(part, "WARNING: DATA RACE") && !yield(part) {
				return
			}
		}
	}
}

// startCaddy makes and starts one.
func startCaddy(t testing.TB, caddyfile string, env ...string) *caddy {
	t.Helper()
	c := newCaddy(t, env...)
	c.write(caddyfile)
	c.start()
	return c
}

// startLanding starts one whose index page is plainPage.
func startLanding(t testing.TB, caddyfile string) *caddy {
	t.Helper()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(caddyfile)
	c.start()
	return c
}

// globals are the global options that every Caddyfile here begins with; app
// is the inside of the session_context block.
func globals(app string) string {
	return "{\n\tadmin ADMIN\n\tauto_https off\n\tpersist_config off\n\tsession_context {\n" + app + "\n\t}\n}\n"
}

func (c *caddy) expand(s string) string {
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(c.site, "http://"))
	return strings.NewReplacer("SITE", c.site, "PORT", port, "ADMIN", c.admin, "DIR", c.dir).Replace(s)
}

func (c *caddy) path(name string) string { return filepath.Join(c.dir, name) }

func (c *caddy) write(caddyfile string) {
	c.t.Helper()
	if err := os.WriteFile(c.path("Caddyfile"), []byte(c.expand(caddyfile)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caddy) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.exe, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "XDG_DATA_HOME="+c.path("data"), "XDG_CONFIG_HOME="+c.path("config"))
	cmd.Env = append(cmd.Env, c.env...)
	return cmd
}

// start runs the process and waits until it serves.
func (c *caddy) start() {
	c.t.Helper()
	c.cmd = c.command("run", "--config", c.path("Caddyfile"), "--adapter", "caddyfile")
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	served := c.log.count(serving) // by an earlier process
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		close(done)
	}(c.cmd, c.done)
	eventually(c.t, 30*time.Second, "Caddy serves", func() error {
		select {
		case <-c.done:
			c.t.Fatalf("Caddy ended at its start:\n%s", c.log.String())
		default:
		}
		// All sites of the config have their sockets then.
		if c.log.count(serving) == served {
			return errors.New("it has not said so")
		}
		return nil
	})
	// Keys, store and outbox open in the background; pages and calls wait for
	// them only so long. Where a test keeps one from opening, it goes on.
	began := time.Now()
	for !c.unready && time.Since(began) < 15*time.Second {
		ready, trouble := c.ready()
		if ready || trouble && time.Since(began) > 3*time.Second {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ready reports whether all that opens in the background is open, or says why
// it isn't.
func (c *caddy) ready() (ready, trouble bool) {
	res, err := http.Get("http://" + c.admin + "/session_context/status")
	if err != nil {
		return false, true // no admin API
	}
	defer res.Body.Close()
	var st struct {
		Keys struct {
			Available bool
			Trouble   string
		}
		Store, Outbox struct {
			Open    bool
			Trouble string
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil || res.StatusCode != 200 {
		return false, true // nothing of ours is configured
	}
	// Day keys are not in the status.
	open := st.Keys.Available && st.Store.Open && st.Outbox.Open
	return open && c.stored("visitor_keys.json"), open || st.Keys.Trouble+st.Store.Trouble+st.Outbox.Trouble != ""
}

func (c *caddy) stored(name string) bool {
	_, err := os.Stat(filepath.Join(c.storage, "session_context", name))
	return err == nil
}

// serving is what a Caddy logs when its first config is in use.
const serving = "serving initial configuration"

// kill ends the process as a power cut would.
func (c *caddy) kill() {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.done
	c.cmd = nil
}

// stop ends it as an operator would.
func (c *caddy) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.t.Fatal("Caddy did not stop within 30 s")
	}
	c.cmd = nil
}

// reload gives the running process a new Caddyfile.
func (c *caddy) reload(caddyfile string) {
	c.t.Helper()
	c.write(caddyfile)
	out, err := c.command("reload", "--config", c.path("Caddyfile"), "--adapter", "caddyfile", "--address", c.admin, "--force").CombinedOutput()
	if err != nil {
		c.t.Fatalf("reload: %v\n%s", err, out)
	}
}

// metric is a counter's value, by its name and labels as the admin API shows
// them.
func (c *caddy) metric(name string) float64 {
	c.t.Helper()
	res, err := http.Get("http://" + c.admin + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// given are the addresses that freeAddr gave away.
var given sync.Map

// freeAddr is an address that nobody listens on. Its port is none of those that
// the system gives to connections (32768 and up on Linux): one of them could
// take it while the server that it is for is not there.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err != nil {
			continue
		}
		l.Close()
		addr := fmt.Sprint("127.0.0.1:", port)
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr
		}
	}
	t.Fatal("no port from 10000 to 31999 is free")
	return ""
}

// eventually tries until there is no error.
func eventually(t testing.TB, limit time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count is how often text was logged.
func (l *logBuffer) count(text string) int { return strings.Count(l.String(), text) }
