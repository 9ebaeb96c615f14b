package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// profileTime is how long the CPU is watched in a round, and profileRounds how
// many rounds there are: variants alternate, as when they are measured.
const (
	profileTime   = 10 * time.Second
	profileRounds = 3
)

// profiled is where one variant's CPU time went.
type profiled struct {
	*running
	files []string // CPU profiles, one a round
	// shares of the samples, by part.
	shares map[string]float64
}

// cpu is µs a page, as the kernel accounts them to the process.
func (v profiled) cpu() float64 {
	return rig.MedianOf(v.samples, func(s rig.Sample) float64 { return s.CPU }).Mid
}

// profile writes profiles of each Caddy that is measured under load, as its
// admin API makes them, and prints what each part of the code takes of a page.
func (b *bench) profile(to string, p page) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	began, load := time.Now(), rig.LoadAverage()
	d := profileTime
	if os.Getenv("BENCH_TIME") != "" {
		d = b.Round
	}
	running, stop, err := b.start(p, func(v variant) bool { return v.kind != other })
	defer stop()
	if err != nil {
		return err
	}
	list := make([]*profiled, len(running))
	for i, v := range running {
		list[i] = &profiled{running: v}
	}
	names := []string{"plain", "injector", "consent-asked", "new-visitor", "known-visitor"}
	for round := range profileRounds {
		for i, v := range list {
			progress("%s, %s: %v, round %d of %d", v.name, p.name, d, round+1, profileRounds)
			if err := b.profileOnce(v, p, d, fmt.Sprintf("%s.%d", filepath.Join(to, names[i]), round+1)); err != nil {
				return err
			}
		}
	}
	for _, v := range list {
		if v.shares, err = sharesOf(v.files); err != nil {
			return err
		}
	}
	fmt.Printf("%s; %s.\n\n", p.name, rig.Machine(began, load))
	printParts(os.Stdout, list)
	return nil
}

// profileOnce loads one variant and writes its profiles to files that begin
// with path.
func (b *bench) profileOnce(v *profiled, p page, d time.Duration, path string) error {
	if err := v.meet(p); err != nil {
		return err
	}
	pprof := "http://" + v.server.Admin + "/debug/pprof/"
	var cpu []byte
	sample, err := v.server.Measure(func() (n int, took time.Duration, err error) {
		watched := make(chan error, 1)
		go func() {
			var err error
			cpu, err = rig.Get(fmt.Sprintf("%sprofile?seconds=%d", pprof, int(d.Seconds())))
			watched <- err
		}()
		n, took, err = wrk(b.dir, v.running, p, d+time.Second)
		return n, took, errors.Join(err, <-watched)
	})
	if err != nil {
		return err
	}
	v.samples = append(v.samples, sample)
	allocs, err := rig.Get(pprof + "allocs")
	if err != nil {
		return err
	}
	v.files = append(v.files, path+".cpu.pprof")
	return errors.Join(
		os.WriteFile(path+".cpu.pprof", cpu, 0o644),
		os.WriteFile(path+".allocs.pprof", allocs, 0o644))
}

const (
	partCaddy     = "Caddy and net/http"
	partCollector = "Go's collector"
	partScheduler = "Go's scheduler"
)

// parts are what CPU time is accounted to, by the packages of this module. What
// the runtime, the standard library and others do is their callers'.
var parts = []struct{ name, prefix string }{
	{"the page's bytes: `inject`", "sessionctx/inject."},
	{"what the request tells: `visitor`", "sessionctx/visitor."},
	{"the store", "sessionctx/store."},
	{"the outbox", "sessionctx/outbox."},
	{"the row's check: `tinybird`", "tinybird."},
	{"ids, session, token, document, row: `sessionctx`", "sessionctx."},
	{"the sink `file`", "caddymodule.(*FileSink)"},
	{"variables", "caddymodule.publishFacts"},
	{"variables", "caddymodule.(*view).publish"},
	{"variables", "caddymodule.addPlaceholders"},
	{"`caddymodule`, the rest", "caddymodule."},
	{"`caddymodule`, the rest", ""}, // the benchmark's own handler
}

// partOf accounts a stack, innermost function first.
func partOf(stack []string) string {
	part := partScheduler
	for _, f := range stack {
		switch {
		case strings.HasPrefix(f, "runtime.gc"), strings.HasPrefix(f, "runtime.bgs"), strings.HasPrefix(f, "runtime.deductSweepCredit"):
			return partCollector
		case strings.HasPrefix(f, "net/http."), strings.HasPrefix(f, "github.com/caddyserver/"):
			return partCaddy
		case strings.Contains(f, "/caddy-sessionctx/"):
			_, f, _ = strings.Cut(f, "/caddy-sessionctx/")
			for _, p := range parts {
				if strings.HasPrefix(f, p.prefix) {
					return p.name
				}
			}
		case !strings.HasPrefix(f, "runtime.") && !strings.HasPrefix(f, "internal/runtime/"):
			part = partCaddy // libraries that it brings
		}
	}
	return part
}

// sharesOf reads where the samples of CPU profiles lie.
func sharesOf(files []string) (map[string]float64, error) {
	out, err := exec.Command("go", append([]string{"tool", "pprof", "-traces", "-unit=us"}, files...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof -traces %s: %w", files, err)
	}
	shares, sum := map[string]float64{}, 0.0
	for _, trace := range strings.Split(string(out), "-----------+-")[1:] {
		lines := strings.Split(trace, "\n")[1:] // the first is the separator's rest
		// The value stands before the innermost function.
		first := strings.Fields(lines[0])
		if len(first) < 2 {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSuffix(first[0], "us"), 64)
		if err != nil {
			return nil, fmt.Errorf("go tool pprof -traces %s: %q is not a time", files, first[0])
		}
		stack := []string{first[1]}
		for _, line := range lines[1:] {
			if f := strings.Fields(line); len(f) > 0 {
				stack = append(stack, f[0])
			}
		}
		shares[partOf(stack)] += value
		sum += value
	}
	if sum == 0 {
		return nil, fmt.Errorf("go tool pprof -traces %s: no samples", files)
	}
	for part := range shares {
		shares[part] /= sum
	}
	return shares, nil
}

// printParts writes what each part takes of a page.
func printParts(w io.Writer, list []*profiled) {
	fmt.Fprint(w, "| µs of CPU a page |")
	for _, v := range list {
		fmt.Fprintf(w, " %s |", v.name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(list)))
	row := func(name string, figure func(*profiled) float64) {
		fmt.Fprintf(w, "| %s |", name)
		for _, v := range list {
			fmt.Fprintf(w, " %.1f |", figure(v))
		}
		fmt.Fprintln(w)
	}
	told := map[string]bool{}
	for _, p := range parts {
		if !told[p.name] {
			told[p.name] = true
			row(p.name, func(v *profiled) float64 { return v.cpu() * v.shares[p.name] })
		}
	}
	for _, part := range []string{partCollector, partScheduler, partCaddy} {
		row(part, func(v *profiled) float64 { return v.cpu() * v.shares[part] })
	}
	row("all", (*profiled).cpu)
}
