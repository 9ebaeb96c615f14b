// Command outbox measures what taking a row for good costs, beside what the
// disk and Caddy can do at most, interleaved in one run: rows appended at the
// outbox's own interface against writes and syncs of 64 rows; durable event
// posts against a static answer to the same posts by the same Caddy; the
// latency of acknowledgements at half load; bytes on disk; memory during an
// outage; and how fast what has gathered is delivered. It prints Markdown, says
// whether each bar is met, and fails only where something did not work.
//
// `make bench-outbox` runs it. BENCH=short measures a few seconds; BENCH_ROUNDS
// and BENCH_TIME (how long a round takes) override either. How to read it:
// docs/performance.md.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

func main() {
	err := error(nil)
	if len(os.Args) == 4 && os.Args[1] == outageArg {
		err = serveOutage(os.Args[2], os.Args[3])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}

// bench is what all parts share.
type bench struct {
	rig.Setting
	dir   string // on the disk that is measured
	short bool
	rig.Bars
}

func run() (err error) {
	b := &bench{Setting: rig.Setting{Rounds: 9, Round: 2 * time.Second}}
	switch v := os.Getenv("BENCH"); v {
	case "":
	case "short":
		b.short, b.Setting = true, rig.Setting{Rounds: 3, Round: time.Second}
	default:
		return fmt.Errorf("BENCH %q is unknown: give short, or leave it out", v)
	}
	if b.Setting, err = rig.FromEnv(b.Setting); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "session-context-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	began, load := time.Now(), rig.LoadAverage()
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"the outbox's interface", b.measureInterface},
		{"HTTP", b.measureHTTP},
		{"an outage", b.measureOutage},
		{"catching up", b.measureCatchUp},
	} {
		progress("measuring %s", part.name)
		if err := part.measure(); err != nil {
			return fmt.Errorf("measuring %s: %w", part.name, err)
		}
	}
	b.Bars.Print()
	fmt.Printf("\n%s; %d rounds of %v.\n", rig.Machine(began, load), b.Rounds, b.Round)
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// fresh is a directory that is not there yet.
func (b *bench) fresh(name string) string {
	return filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, time.Now().UnixNano()))
}
