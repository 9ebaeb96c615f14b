// Command inject measures what a page costs more with the module: the CPU time
// of Caddy's process for one page, beside the requests a second, each variant
// against the same Caddy without the directive in the same round. It prints
// Markdown, says whether each bar is met, and fails only where something did
// not work.
//
// `make bench-inject` runs it with pages of 10 and 100 KB. BENCH=full measures
// all pages, BENCH=short a few seconds. BENCH_ROUNDS and BENCH_TIME (how long a
// round takes) override either. BENCH_PROFILE=<directory> measures no
// rounds, but writes CPU and allocation profiles under load there, and prints
// what each part of the code takes of a page. How to read it:
// docs/performance.md.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

func main() {
	err := error(nil)
	if len(os.Args) == 3 && os.Args[1] == upstreamArg {
		err = serveUpstream(os.Args[2])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inject:", err)
		os.Exit(1)
	}
}

// bench is what stays over the pages.
type bench struct {
	rig.Setting
	dir, root, binary string
	upstream          *rig.Server
}

func run() (err error) {
	full := false
	b := &bench{Setting: rig.Setting{Rounds: 9, Round: 2 * time.Second}}
	switch v := os.Getenv("BENCH"); v {
	case "":
	case "full":
		full, b.Round = true, 4*time.Second
	case "short":
		b.Setting = rig.Setting{Rounds: 3, Round: time.Second}
	default:
		return fmt.Errorf("BENCH %q is unknown: give full or short, or leave it out", v)
	}
	if b.Setting, err = rig.FromEnv(b.Setting); err != nil {
		return err
	}
	for _, name := range []string{"wrk", "nginx"} {
		if _, err := tool(name); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "session-context-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	list := pages(full)
	b.root = filepath.Join(b.dir, "www")
	// Its own user has to get through to the files.
	if err := os.Chmod(b.dir, 0o711); err != nil {
		return err
	}
	if err := writeFiles(b.root, list); err != nil {
		return err
	}
	progress("building Caddy")
	if b.binary, err = rig.BuildCaddy(b.dir, "tests/bench/inject/caddy"); err != nil {
		return err
	}
	if b.upstream, err = startUpstream(); err != nil {
		return err
	}
	defer b.upstream.Stop()

	if to := os.Getenv("BENCH_PROFILE"); to != "" {
		return b.profile(to, list[0])
	}
	r := report{setting: b.Setting, began: time.Now(), load: rig.LoadAverage()}
	for _, p := range list {
		measured, err := b.measure(p)
		if err != nil {
			return err
		}
		r.tables = append(r.tables, table{p, measured})
	}
	return r.write(os.Stdout)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// start starts all variants that are wanted, each fresh and checked.
func (b *bench) start(p page, wanted func(variant) bool) (list []*running, stop func(), err error) {
	stop = func() {
		for _, v := range list {
			v.server.Stop()
		}
		// Stores and rows of one page's visitors don't burden the next page.
		_ = os.RemoveAll(filepath.Join(b.dir, "run"))
	}
	for i, v := range variants() {
		if !wanted(v) {
			continue
		}
		r, err := v.start(b.binary, filepath.Join(b.dir, "run", fmt.Sprint(i)), b.root, b.upstream.Addr)
		if err != nil {
			return list, stop, err
		}
		list = append(list, r)
		if err := r.meet(p); err != nil {
			return list, stop, err
		}
		if err := checkAnswer(r, p); err != nil {
			return list, stop, err
		}
	}
	return list, stop, nil
}

// meet makes the visitor known whose cookies are sent: anew in each round, so
// that the session lives throughout.
func (v *running) meet(p page) (err error) {
	if v.returning {
		v.visitor, err = rig.Visit(v.server.Addr, p.path)
	}
	return err
}

// measure runs all rounds of one page. Each round runs every variant in turn,
// every other round backwards: what one leaves behind, a disk that still
// writes, meets another one then.
func (b *bench) measure(p page) ([]*running, error) {
	list, stop, err := b.start(p, func(variant) bool { return true })
	defer stop()
	if err != nil {
		return nil, err
	}
	for _, v := range list { // connections, pools and caches fill
		if _, _, err := wrk(b.dir, v, p, time.Second); err != nil {
			return nil, err
		}
	}
	order := slices.Clone(list)
	for round := range b.Rounds {
		progress("%s: round %d of %d", p.name, round+1, b.Rounds)
		for _, v := range order {
			if err := v.meet(p); err != nil {
				return nil, err
			}
			one, err := v.server.Measure(func() (int, time.Duration, error) { return wrk(b.dir, v, p, b.Round) })
			if err != nil {
				return nil, err
			}
			v.samples = append(v.samples, one)
		}
		slices.Reverse(order)
	}
	return list, nil
}
