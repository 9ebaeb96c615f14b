package tests

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestKillLosesNothing: the process is killed again and again while clients
// send events and the sink fails at times; every event that was acknowledged
// arrives.
func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("10m", "rate_limit 1000000 100000"))
	s := newVisitor(t, c.site, desktop, false).visit("/?utm_source=google")

	var (
		mu           sync.Mutex
		acknowledged = map[string]bool{}
		stop         = make(chan struct{})
		wg           sync.WaitGroup
	)
	for worker := range 8 {
		wg.Go(func() {
			v := newVisitor(t, c.site, desktop, false)
			v.client.Timeout = 10 * time.Second
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				uuid := fmt.Sprintf("%d-%d", worker, n)
				a, err := v.tryCall("POST", "events/track", map[string]any{
					"token": s.Session.Token, "event_id": "click", "event_type": "conversion", "event_uuid": uuid,
					"metadata": map[string]any{"uuid": uuid},
				})
				if err != nil || a.status != 200 {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				mu.Lock()
				acknowledged[`{"uuid":"`+uuid+`"}`] = true
				mu.Unlock()
			}
		})
	}
	const kills = 5
	for range kills {
		switch rng.IntN(4) {
		case 0:
			tb.Fail("events_v1", standin.Fault{Status: 503}, 2)
		case 1:
			tb.Fail("events_v1", standin.Fault{CommitFirst: true, CloseConn: true}, 1)
		case 2:
			tb.Fail("session_v1", standin.Fault{Status: 429}, 1)
		}
		time.Sleep(time.Duration(300+rng.IntN(900)) * time.Millisecond)
		c.kill()
		c.start()
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	tb.Heal("events_v1")
	tb.Heal("session_v1")

	if len(acknowledged) < 50 {
		t.Fatalf("only %d events were acknowledged: the test shows nothing", len(acknowledged))
	}
	missing := func() int {
		rows, _ := tb.Distinct("events_v1")
		n := len(acknowledged)
		for _, r := range rows {
			if acknowledged[fmt.Sprint(r["metadata"])] {
				n--
			}
		}
		return n
	}
	eventually(t, 60*time.Second, "every acknowledged event arrives", func() error {
		if n := missing(); n > 0 {
			return fmt.Errorf("%d of %d are missing", n, len(acknowledged))
		}
		return nil
	})
	if n := len(waitRows(t, tb, "session_v1", 1)); n != 1 {
		t.Errorf("%d session rows", n)
	}
	t.Logf("%d events acknowledged over %d kills, none lost", len(acknowledged), kills)
}
