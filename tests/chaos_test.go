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
// the configuration changes, and the process is killed at any moment. It holds
// for each of two sinks, the second of which mirrors the first.
//
// `make chaos` kills it 200 times. CHAOS_KILLS says how often at least: a busy
// machine kills more, until enough was acknowledged for the law to show
// something. CHAOS_SEED repeats a run's decisions (not its timing).
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
	lives := 0
	for lives < kills || x.ledger.good() < goodPerKill*kills && lives < 10*kills {
		x.life()
		if lives++; lives%20 == 0 {
			t.Logf("%d lives in %v: %s", lives, time.Since(began).Round(time.Second), x.ledger.summary())
		}
	}
	x.recover()
	stop()
	x.drain()
	x.c.stop()
	if good := x.ledger.good(); good < goodPerKill*kills {
		t.Errorf("only %d answers were good: the run shows nothing", good)
	}
	x.check()
	t.Logf("after %d lives and %d kills: %s", lives, len(x.kills), x.ledger.summary())
}

// goodPerKill is how many answers must be good in a run, for each kill asked
// for.
const goodPerKill = 20

// chaos is a Caddy to which bad things happen.
type chaos struct {
	t      testing.TB
	rng    *rand.Rand
	c      *caddy
	sinks  []*chaosSink
	disk   string // a small file system, or ""
	outbox string
	ledger ledger
	now    chaosConfig
	floods int // how often the share may still be filled
	kills  []time.Time
}

// chaosSink is where rows go.
type chaosSink struct {
	name  string
	tb    *standin.Server
	front *front
	dir   string // what waits for it
}

// chaosConfig is what reloads change.
type chaosConfig struct {
	// urls and tokens of the sinks.
	urls, tokens [2]string
	maxDisk      string
	minutes      int
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
	for _, s := range []*chaosSink{{name: "first", dir: x.outbox}, {name: "second", dir: filepath.Join(x.outbox, "mirror.second")}} {
		s.tb = standin.New(t)
		s.front = newFront(t, s.tb)
		x.sinks = append(x.sinks, s)
	}
	x.c = newCaddy(t)
	writePage(t, x.c, "index.html", plainPage)
	x.now = x.good()
	x.c.write(x.caddyfile())
	x.c.start()
	return x
}

// good is a configuration that delivers.
func (x *chaos) good() chaosConfig {
	good := chaosConfig{maxDisk: "2GiB", minutes: 30}
	for i, s := range x.sinks {
		good.urls[i], good.tokens[i] = s.front.urls[0], standin.DefaultToken
	}
	return good
}

func (x *chaos) caddyfile() string {
	app := fmt.Sprintf("\t\toutbox {\n\t\t\tpath %s\n\t\t\tmax_disk %s\n\t\t}", x.outbox, x.now.maxDisk)
	for i, s := range x.sinks {
		app += fmt.Sprintf("\n\t\tsink tinybird {\n\t\t\tname %s\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t\ttimeout 3s\n\t\t}", s.name, x.now.urls[i], x.now.tokens[i])
	}
	return globals(app) + landing(fmt.Sprintf("%dm", x.now.minutes), "rate_limit 100000000 10000000")
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
			x.sinks[x.rng.IntN(len(x.sinks))].tb.Fail(ds, sinkFaults[x.rng.IntN(len(sinkFaults))], 1+x.rng.IntN(2))
		}
	case n < 5:
		x.heal()
	case n < 8:
		to := chaosConfig{
			maxDisk: []string{"2GiB", "64MiB", "32MiB"}[x.rng.IntN(3)],
			minutes: 20 + x.rng.IntN(20),
		}
		for i, s := range x.sinks {
			to.urls[i] = []string{s.front.urls[0], s.front.urls[1], s.front.dead}[x.rng.IntN(3)]
			to.tokens[i] = []string{standin.DefaultToken, standin.DefaultToken, "p.wrong"}[x.rng.IntN(3)]
		}
		x.reload(to)
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

// heal ends the sinks' faults.
func (x *chaos) heal() {
	for _, s := range x.sinks {
		for _, ds := range []string{"events_v1", "session_v1", "traffic_v1", "consents_v1"} {
			s.tb.Heal(ds)
		}
	}
}

// fillShare sends until max_disk is reached, with a first sink that takes
// nothing.
func (x *chaos) fillShare() {
	small := x.good()
	small.urls[0], small.maxDisk = x.sinks[0].front.dead, "32MiB"
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
	x.heal()
	for _, s := range x.sinks {
		s.front.rest()
	}
	x.reload(x.good())
	time.Sleep(300 * time.Millisecond)
}

// drain waits until nothing is on its way.
func (x *chaos) drain() {
	x.reload(x.good()) // ends backoffs
	eventually(x.t, 90*time.Second, "the backlog is delivered", func() error {
		for _, end := range []string{"open", "sealed"} {
			for _, s := range x.sinks {
				if left, _ := filepath.Glob(filepath.Join(s.dir, "*", "*."+end)); len(left) > 0 {
					return fmt.Errorf("%d files are left, like %s", len(left), left[0])
				}
			}
		}
		return nil
	})
}
