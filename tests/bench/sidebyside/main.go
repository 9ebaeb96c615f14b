// Command sidebyside measures what the module costs, side by side and interleaved:
// pages through a Caddy with everything on against the same Caddy without the
// directive, and durable event posts against a static answer to the same post
// and against the disk itself. Ratios count, not absolute figures.
//
// Run it with `make bench`; BENCH_ROUNDS and BENCH_TIME (a duration a round)
// make it longer.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(1)
	}
}

// setting is how long it measures.
type setting struct {
	rounds int
	round  time.Duration
}

func run() error {
	s := setting{rounds: 5, round: 2 * time.Second}
	if v := os.Getenv("BENCH_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return fmt.Errorf("BENCH_ROUNDS %q is not a number of rounds", v)
		}
		s.rounds = n
	}
	if v := os.Getenv("BENCH_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("BENCH_TIME %q is not a duration", v)
		}
		s.round = d
	}
	dir, err := os.MkdirTemp("", "session-context-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "./xcaddy")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building Caddy: %w", err)
	}
	upstream, err := startUpstream()
	if err != nil {
		return err
	}
	plain, err := startServer(binary, filepath.Join(dir, "plain"), upstream, false)
	if err != nil {
		return err
	}
	defer plain.stop()
	full, err := startServer(binary, filepath.Join(dir, "full"), upstream, true)
	if err != nil {
		return err
	}
	defer full.stop()
	fmt.Printf("%d rounds of %v each, interleaved; medians, spread in brackets\n\n", s.rounds, s.round)
	if err := benchPages(s, plain, full); err != nil {
		return err
	}
	return benchEvents(s, plain, full, dir)
}

// server is one Caddy process.
type server struct {
	addr, admin string
	cmd         *exec.Cmd
}

// startServer starts a Caddy in front of the upstream; with is everything on.
func startServer(binary, dir, upstream string, with bool) (*server, error) {
	s := &server{addr: freeAddr(), admin: freeAddr()}
	directive := ""
	if with {
		directive = `
	@mobile vars session.device.type mobile
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		rate_limit 100000000 100000000
		segment mobile @mobile
		segment everyone
		ab_test hero {
			variant control 50
			variant bold 50
		}
	}`
	}
	config := fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	log {
		level WARN
	}
}
http://%s {%s
	handle /client-api/* {
		header Content-Type application/json
		respond "{\"success\":true,\"data\":{}}"
	}
	handle {
		reverse_proxy %s
	}
}
`, s.admin, s.addr, directive, upstream)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, "run", "--config", path)
	s.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 500 {
		if conn, err := net.Dial("tcp", s.addr); err == nil {
			conn.Close()
			return s, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("no Caddy serves on %s", s.addr)
}

func (s *server) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// usage is what the process has used so far.
type usage struct {
	cpu            time.Duration
	mallocs, bytes float64
}

// usage reads the kernel's accounting and the runtime's.
func (s *server) usage() (u usage, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return u, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	for _, field := range f[11:13] { // utime and stime, in 1/100 s (proc(5))
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	res, err := http.Get("http://" + s.admin + "/debug/vars")
	if err != nil {
		return u, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
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
	return u, nil
}

// sample is one round of one variant, each figure a request.
type sample struct {
	perSecond, cpu, mallocs, bytes float64 // cpu in µs
}

// measure runs load for a round and accounts what the server used for it.
func (s *server) measure(round time.Duration, load func(time.Duration) (requests int, err error)) (sample, error) {
	before, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	n, err := load(round)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	after, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	if n == 0 {
		return sample{}, fmt.Errorf("no request was answered")
	}
	per := float64(n)
	return sample{
		perSecond: per / took.Seconds(),
		cpu:       float64((after.cpu - before.cpu).Microseconds()) / per,
		mallocs:   (after.mallocs - before.mallocs) / per,
		bytes:     (after.bytes - before.bytes) / per,
	}, nil
}

// median and spread of a figure over rounds.
func median(samples []sample, figure func(sample) float64) (mid, low, high float64) {
	v := make([]float64, len(samples))
	for i, s := range samples {
		v[i] = figure(s)
	}
	slices.SortFunc(v, cmp.Compare[float64])
	return v[len(v)/2], v[0], v[len(v)-1]
}
