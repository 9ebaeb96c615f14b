// Command events measures what taking an event costs, side by side and
// interleaved: durable event posts against a static answer to the same post by
// the same Caddy without the directive, and against the disk itself. Ratios
// count, not absolute figures.
//
// `make bench` runs it; BENCH_ROUNDS and BENCH_TIME (how long a round takes)
// make it longer. Pages are measured by the program inject beside it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "events:", err)
		os.Exit(1)
	}
}

// site answers posts and shows a page; with the directive before, the posts
// never get here.
const site = `	handle /client-api/* {
		header Content-Type application/json
		respond "{\"success\":true,\"data\":{}}"
	}
	handle {
		header Content-Type "text/html; charset=utf-8"
		respond "<!doctype html><html><head><title>x</title></head><body>x</body></html>"
	}`

func run() error {
	setting, err := rig.FromEnv(rig.Setting{Rounds: 5, Round: 2 * time.Second})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "session-context-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := rig.BuildCaddy(dir, "xcaddy")
	if err != nil {
		return err
	}
	plain, err := rig.StartCaddy(binary, filepath.Join(dir, "plain"), site)
	if err != nil {
		return err
	}
	defer plain.Stop()
	full, err := rig.StartCaddy(binary, filepath.Join(dir, "full"), rig.EverythingOn("")+site)
	if err != nil {
		return err
	}
	defer full.Stop()
	fmt.Printf("%d rounds of %v each, interleaved; medians, spread in brackets\n\n", setting.Rounds, setting.Round)
	return benchEvents(setting, plain, full, filepath.Join(dir, "raw"))
}
