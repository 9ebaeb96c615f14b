package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// caddyBinary is the Caddy under test, built by the first who asks into the
// process's directory. It runs as a child, so that nothing of it shares a
// process with the engine's library.
var caddyBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(data, "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-buildvcs=false", "-o", path, "./xcaddy")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return path, nil
})

// caddy is a Caddy process with a directory and an admin port of its own.
type caddy struct {
	t          testing.TB
	exe, dir   string
	admin      string // host:port
	cmd        *exec.Cmd
	done       chan struct{}
	mu         sync.Mutex
	log        bytes.Buffer
	configured string // the Caddyfile
}

// startCaddy starts a Caddy and waits until what it opens in the background is
// open.
func startCaddy(t testing.TB, caddyfile func(admin, dir string) string) *caddy {
	t.Helper()
	exe, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := &caddy{t: t, exe: exe, dir: t.TempDir(), admin: freeAddr(t), done: make(chan struct{})}
	c.write(caddyfile(c.admin, c.dir))
	c.cmd = c.command("run", "--config", c.configured, "--adapter", "caddyfile")
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		c.cmd.Process.Signal(syscall.SIGKILL)
		<-c.done
		if t.Failed() {
			t.Logf("log of Caddy:\n%s", c.logged())
		}
	})
	eventually(t, 60*time.Second, "Caddy is ready", func() error {
		select {
		case <-c.done:
			t.Fatalf("Caddy ended at its start:\n%s", c.logged())
		default:
		}
		st, err := c.status()
		switch {
		case err != nil:
			return err
		case !st.Keys.Available || !st.Store.Open || !st.Outbox.Open:
			return fmt.Errorf("status %+v", st)
		}
		// Day keys are not in the status.
		_, err = os.Stat(c.data("visitor_keys.json"))
		return err
	})
	return c
}

// Write takes what the process logs.
func (c *caddy) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(p)
}

func (c *caddy) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

func (c *caddy) data(name string) string {
	return filepath.Join(c.dir, "data/caddy/session_context", name)
}

func (c *caddy) write(caddyfile string) {
	c.t.Helper()
	c.configured = filepath.Join(c.dir, "Caddyfile")
	if err := os.WriteFile(c.configured, []byte(caddyfile), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caddy) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.exe, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "XDG_DATA_HOME="+filepath.Join(c.dir, "data"), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"))
	return cmd
}

// reload gives the running process a new Caddyfile.
func (c *caddy) reload(caddyfile string) {
	c.t.Helper()
	c.write(caddyfile)
	out, err := c.command("reload", "--config", c.configured, "--adapter", "caddyfile", "--address", c.admin, "--force").CombinedOutput()
	if err != nil {
		c.t.Fatalf("reload: %v\n%s", err, out)
	}
}

// stop ends the process as an operator would.
func (c *caddy) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(60 * time.Second):
		c.t.Fatal("Caddy did not stop within 60 s")
	}
}

// caddyStatus is what the admin API tells, as far as it is needed here.
type caddyStatus struct {
	Keys   struct{ Available bool }
	Store  struct{ Open bool }
	Outbox struct {
		Open    bool
		Rows    int `json:"rows"` // that wait
		Dropped int `json:"dropped_rows"`
		// Datasources have the dead letters.
		Datasources []struct {
			Name     string `json:"name"`
			DeadRows int    `json:"dead_rows"`
		} `json:"datasources"`
	}
}

func (c *caddy) status() (caddyStatus, error) {
	var st caddyStatus
	res, err := http.Get("http://" + c.admin + "/session_context/status")
	if err != nil {
		return st, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil {
		return st, fmt.Errorf("status: %d: %w", res.StatusCode, err)
	}
	return st, nil
}

// ring is the process's key ring, with which sessions of any age can be made,
// so that nobody waits for one to end.
func (c *caddy) ring() *sessionctx.Ring {
	c.t.Helper()
	b, err := os.ReadFile(c.data("keys.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	ring, err := sessionctx.ParseRing(b)
	if err != nil {
		c.t.Fatal(err)
	}
	return ring
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually tries until there is no error.
func eventually(t testing.TB, limit time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
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
