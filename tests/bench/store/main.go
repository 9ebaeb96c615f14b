// Command store measures claims a second by 64 clients at the stores, beside
// what the engine below can do at most, interleaved in one run: redis against
// raw rueidis on the same server, embedded against raw bbolt with group commit.
// It prints Markdown, says whether each bar is met, and fails only where
// something did not work.
//
// `make bench-store` runs it. BENCH=short measures a few seconds; BENCH_ROUNDS
// and BENCH_TIME (how long a variant is loaded in a round) override either. How
// to read it: docs/performance.md.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

// bar is the share of raw claims a second that a store has to reach.
const bar = 0.7

func run() error {
	setting := rig.Setting{Rounds: 9, Round: 2 * time.Second}
	switch v := os.Getenv("BENCH"); v {
	case "":
	case "short":
		setting = rig.Setting{Rounds: 3, Round: time.Second}
	default:
		return fmt.Errorf("BENCH %q is unknown: give short, or leave it out", v)
	}
	setting, err := rig.FromEnv(setting)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "session-context-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	began, load := time.Now(), rig.LoadAverage()
	server, err := startRedis(dir)
	if err != nil {
		return fmt.Errorf("%w; scripts/setup.sh bench installs it", err)
	}
	defer server.Stop()

	variants := []*variant{
		{name: "raw rueidis, `SET NX GET PX`", open: func() (claimer, error) { return openRueidis(server.Addr) }},
		{name: "redis", open: func() (claimer, error) { return openRedis(server.Addr) }, of: 0},
		{name: "raw bbolt, a transaction for whatever waits", open: func() (claimer, error) { return openBbolt(dir) }},
		{name: "embedded", open: func() (claimer, error) { return openEmbedded(dir) }, of: 2},
	}
	order := []int{0, 1, 2, 3}
	for round := range setting.Rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, setting.Rounds)
		for _, i := range order {
			if err := variants[i].measure(setting.Round); err != nil {
				return fmt.Errorf("%s: %w", variants[i].name, err)
			}
		}
		slices.Reverse(order)
	}

	var bars rig.Bars
	fmt.Printf("**Claims** of %d bytes by %d clients, one in ten for a key that is taken\n\n", len(value), clients)
	fmt.Printf("| | claims/s | of raw | CPU µs a claim | claims a transaction |\n|---|---|---|---|---|\n")
	for i, v := range variants {
		share, together := "", "–"
		if i != v.of && i%2 == 1 {
			ratios := make([]float64, setting.Rounds)
			for r := range ratios {
				ratios[r] = v.rates[r] / variants[v.of].rates[r]
			}
			ratio := rig.Median(ratios)
			share = ratio.Text(2)
			bars.Bar(fmt.Sprintf("%s ≥ %.1f of %s", v.name, bar, variants[v.of].name), share, ratio.Mid >= bar)
		}
		if len(v.together) > 0 {
			together = rig.Median(v.together).Text(1)
		}
		fmt.Printf("| %s | %s | %s | %s | %s |\n", v.name, rig.Median(v.rates).Text(0), share, rig.Median(v.cpu).Text(1), together)
	}
	bars.Print()
	fmt.Printf("\n%s; %s; %d rounds of %v.\n", rig.Machine(began, load), serverVersion(), setting.Rounds, setting.Round)
	return nil
}

// startRedis starts a server that keeps what it is told, as one for sessions
// should.
func startRedis(dir string) (*rig.Server, error) {
	addr, err := rig.FreeAddr()
	if err != nil {
		return nil, err
	}
	return rig.Start(exec.Command("redis-server", "--bind", "127.0.0.1", "--port", addr[len("127.0.0.1:"):], "--dir", dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--logfile", "redis.log"), addr, "")
}

func serverVersion() string {
	out, _ := exec.Command("redis-server", "--version").Output()
	var version string
	fmt.Sscanf(string(out), "Redis server v=%s", &version)
	return "Redis " + version
}
