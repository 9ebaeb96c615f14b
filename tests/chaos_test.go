package tests

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestChaos holds the outbox's law over HTTP: whatever the API acknowledged is
// delivered, or among the dead letters, or still on disk, and nothing else is
// that was not at least asked for. Clients send and repeat events, batches and
// sessions, while the sink fails in every way that it can, the disk fills up,
// the configuration changes, and the process is killed at any moment.
//
// `make chaos` kills it 200 times. CHAOS_KILLS says how often, CHAOS_SEED
// repeats a run's decisions (not its timing).
func TestChaos(t *testing.T) {
	t.Parallel()
	kills, seed := 4, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(uint64){
		"CHAOS_KILLS": func(n uint64) { kills = int(n) },
		"CHAOS_SEED":  func(n uint64) { seed = n },
	} {
		if v := os.Getenv(name); v != "" {
			n, err := strconv.ParseUint(v, 10, 63)
			if err != nil {
				t.Fatalf("%s=%q: want a number", name, v)
			}
			set(n)
		}
	}
	t.Logf("CHAOS_SEED=%d, %d kills", seed, kills)
	x := newChaos(t, seed)
	x.floods = min(kills/5, 8) // the stand-in keeps 32 MiB of each
	stop := x.clients(6)
	began := time.Now()
	for i := range kills {
		x.life()
		if i%20 == 19 {
			t.Logf("%d kills in %v: %s", i+1, time.Since(began).Round(time.Second), x.ledger.summary())
		}
	}
	x.recover()
	stop()
	x.drain()
	x.c.stop()
	x.check(kills)
}

// chaos is a Caddy to which bad things happen.
type chaos struct {
	t      testing.TB
	rng    *rand.Rand
	c      *caddy
	tb     *standin.Server
	front  *front
	disk   string // a small file system, or ""
	outbox string
	ledger ledger
	now    chaosConfig
	floods int // how often the share may still be filled
	kills  []time.Time
}

// chaosConfig is what reloads change.
type chaosConfig struct {
	url, token, maxDisk string
	minutes             int
}

func newChaos(t testing.TB, seed uint64) *chaos {
	x := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 0))}
	disk, err := smallDisk(t, "96m")
	if err != nil {
		t.Logf("without full disks, only full shares: %v", err)
		disk = t.TempDir()
	} else {
		x.disk = disk
	}
	x.outbox = filepath.Join(disk, "outbox")
	x.tb = standin.New(t)
	x.front = newFront(t, x.tb)
	x.c = newCaddy(t)
	writePage(t, x.c, "index.html", plainPage)
	x.now = x.good()
	x.c.write(x.caddyfile())
	x.c.start()
	return x
}

// good is a configuration that delivers.
func (x *chaos) good() chaosConfig {
	return chaosConfig{url: x.front.urls[0], token: standin.DefaultToken, maxDisk: "2GiB", minutes: 30}
}

func (x *chaos) caddyfile() string {
	return globals(fmt.Sprintf("\t\tsink tinybird {\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t\ttimeout 3s\n\t\t}\n\t\toutbox {\n\t\t\tpath %s\n\t\t\tmax_disk %s\n\t\t}",
		x.now.url, x.now.token, x.outbox, x.now.maxDisk)) + landing(fmt.Sprintf("%dm", x.now.minutes), "rate_limit 100000000 10000000")
}

// life is what happens from one death of the process to the next.
func (x *chaos) life() {
	for range 1 + x.rng.IntN(2) {
		x.pause(300)
		x.event()
	}
	x.pause(500)
	if x.rng.IntN(8) == 0 {
		x.c.stop()
	} else {
		x.kill()
	}
	if x.rng.IntN(5) == 0 {
		x.stillborn()
	}
	x.c.start()
}

func (x *chaos) kill() {
	x.c.kill()
	x.kills = append(x.kills, time.Now())
}

func (x *chaos) pause(ms int) { time.Sleep(time.Duration(x.rng.IntN(ms)) * time.Millisecond) }

// event is one thing that goes wrong, or is mended.
func (x *chaos) event() {
	switch n := x.rng.IntN(10); {
	case n < 4:
		for range 1 + x.rng.IntN(4) {
			ds := []string{"events_v1", "events_v1", "session_v1", "traffic_v1"}[x.rng.IntN(4)]
			x.tb.Fail(ds, sinkFaults[x.rng.IntN(len(sinkFaults))], 1+x.rng.IntN(2))
		}
	case n < 5:
		for _, ds := range []string{"events_v1", "session_v1", "traffic_v1"} {
			x.tb.Heal(ds)
		}
	case n < 8:
		x.reload(chaosConfig{
			url:     []string{x.front.urls[0], x.front.urls[1], x.front.dead}[x.rng.IntN(3)],
			token:   []string{standin.DefaultToken, standin.DefaultToken, "p.wrong"}[x.rng.IntN(3)],
			maxDisk: []string{"2GiB", "64MiB", "32MiB"}[x.rng.IntN(3)],
			minutes: 20 + x.rng.IntN(20),
		})
	case n < 9 && x.disk != "":
		free := fillDisk(x.t, x.disk)
		x.pause(600)
		if x.rng.IntN(2) == 0 { // it may die of it, and start on a full disk
			x.kill()
			x.c.start()
			x.pause(300)
		}
		free()
	case x.floods > 0:
		x.floods--
		x.fillShare()
	}
}

// fillShare sends until max_disk is reached, with a sink that takes nothing.
func (x *chaos) fillShare() {
	small := x.good()
	small.url, small.maxDisk = x.front.dead, "32MiB"
	x.reload(small)
	w := x.worker("flood", rand.New(rand.NewPCG(x.rng.Uint64(), 1)))
	for range 300 {
		if w.batch(60, strings.Repeat("x", 3500)) != "ok" {
			break
		}
	}
	x.pause(200)
	if x.rng.IntN(2) == 0 {
		x.reload(x.good())
	}
}

// reload loads a configuration as `caddy reload` does, and keeps it for later
// starts.
func (x *chaos) reload(to chaosConfig) {
	x.t.Helper()
	x.now = to
	x.c.write(x.caddyfile())
	req, err := http.NewRequest("POST", "http://"+x.c.admin+"/load", strings.NewReader(x.c.expand(x.caddyfile())))
	if err != nil {
		x.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate") // also where nothing changed
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		x.t.Errorf("reload: %v", err)
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		x.t.Errorf("reload: %s %s", res.Status, text)
	}
}

// stillborn is a process that is killed while it starts.
func (x *chaos) stillborn() {
	cmd := x.c.command("run", "--config", x.c.path("Caddyfile"), "--adapter", "caddyfile")
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.pause(1200)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	x.kills = append(x.kills, time.Now())
}

// recover ends all trouble.
func (x *chaos) recover() {
	for _, ds := range []string{"events_v1", "session_v1", "traffic_v1", "consents_v1"} {
		x.tb.Heal(ds)
	}
	x.front.rest()
	x.reload(x.good())
	time.Sleep(300 * time.Millisecond)
}

// drain waits until nothing is on its way.
func (x *chaos) drain() {
	x.reload(x.good()) // ends backoffs
	eventually(x.t, 90*time.Second, "the backlog is delivered", func() error {
		for _, end := range []string{"open", "sealed"} {
			if left, _ := filepath.Glob(filepath.Join(x.outbox, "*", "*."+end)); len(left) > 0 {
				return fmt.Errorf("%d files are left, like %s", len(left), left[0])
			}
		}
		return nil
	})
}
