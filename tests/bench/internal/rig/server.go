package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// BuildCaddy builds the main package pkg of this module into dir.
func BuildCaddy(dir, pkg string) (binary string, err error) {
	binary = filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "github.com/firebuzz/caddy-sessionctx/"+pkg)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building %s: %w", pkg, err)
	}
	return binary, nil
}

// Server is a process that serves HTTP.
type Server struct {
	Addr  string
	Admin string // of a Caddy's admin API, or ""

	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs cmd and waits until it accepts connections on addr.
func Start(cmd *exec.Cmd, addr, admin string) (*Server, error) {
	s := &Server{Addr: addr, Admin: admin, cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	go func() {
		_ = cmd.Wait()
		close(s.done)
	}()
	for range 1000 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return s, nil
		}
		select {
		case <-s.done:
			return nil, fmt.Errorf("%s ended at its start, see above", strings.Join(cmd.Args, " "))
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.Stop()
	return nil, fmt.Errorf("%s does not serve on %s within 20 s", strings.Join(cmd.Args, " "), addr)
}

// StartCaddy starts a Caddy in a directory of its own; site is the inside of
// its one site block.
func StartCaddy(binary, dir, site string) (*Server, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Load that ends breaks off what is under way: handlers that buffer report
	// each such page as an error.
	config := fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	log {
		level ERROR
		exclude http.log.error
	}
}
http://%s {
%s
}
`, admin, addr, site)
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "run", "--config", path)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	return Start(cmd, addr, admin)
}

// Stop ends the process; nil is allowed.
func (s *Server) Stop() {
	if s == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// Sample is one round of one server, each figure for one request.
type Sample struct {
	PerSecond      float64
	CPU            float64 // µs
	Mallocs, Bytes float64 // 0 where there is no admin API to ask
}

// Measure runs load and accounts to each of the n requests what the server
// used, until it has come to rest: work put off to after the answer counts.
func (s *Server) Measure(load func() (n int, took time.Duration, err error)) (Sample, error) {
	before, err := s.usage()
	if err != nil {
		return Sample{}, err
	}
	n, took, err := load()
	if err != nil {
		return Sample{}, err
	}
	if n == 0 {
		return Sample{}, fmt.Errorf("load on %s: no request was answered", s.Addr)
	}
	if err := s.rest(); err != nil {
		return Sample{}, err
	}
	after, err := s.usage()
	if err != nil {
		return Sample{}, err
	}
	per := float64(n)
	return Sample{
		PerSecond: per / took.Seconds(),
		CPU:       float64((after.cpu - before.cpu).Nanoseconds()) / 1000 / per,
		Mallocs:   (after.mallocs - before.mallocs) / per,
		Bytes:     (after.bytes - before.bytes) / per,
	}, nil
}

// rest waits until the server uses less than 1 % of a core, 10 s at most.
func (s *Server) rest() error {
	const look = 100 * time.Millisecond
	last, err := s.cpu()
	for range 100 {
		if err != nil {
			return err
		}
		time.Sleep(look)
		var now time.Duration
		if now, err = s.cpu(); now-last < look/100 {
			return err
		}
		last = now
	}
	return err
}

// cpu is the time used by the process and its children (nginx has a worker).
func (s *Server) cpu() (sum time.Duration, err error) {
	pid := s.cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	for _, id := range append(strings.Fields(string(b)), strconv.Itoa(pid)) {
		n, err := strconv.Atoi(id)
		if err != nil {
			return 0, err
		}
		used, err := CPUTime(n)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

type usage struct {
	cpu            time.Duration
	mallocs, bytes float64
}

// usage is what the server has used so far.
func (s *Server) usage() (u usage, err error) {
	if s.Admin != "" {
		body, err := Get("http://" + s.Admin + "/debug/vars")
		if err != nil {
			return u, err
		}
		var vars struct {
			Memstats struct{ Mallocs, TotalAlloc float64 }
		}
		if err := json.Unmarshal(body, &vars); err != nil {
			return u, fmt.Errorf("reading /debug/vars: %w", err)
		}
		u.mallocs, u.bytes = vars.Memstats.Mallocs, vars.Memstats.TotalAlloc
	}
	u.cpu, err = s.cpu()
	return u, err
}

// Get is the body of an answer that must be a 200.
func Get(url string) ([]byte, error) {
	res, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return body, err
}
