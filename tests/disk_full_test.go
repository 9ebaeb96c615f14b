package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestDiskFull fills the outbox's share of a disk, and then the disk, while
// the sink takes nothing: traffic stops first, then the API says that it is
// full, pages go out all the time, and all works again by itself when there is
// room. Nothing that was acknowledged is lost.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk, err := smallDisk(t, "48m")
	if err != nil {
		t.Skipf("A FULL DISK WAS NOT TESTED, only a full share by the package's own tests: no small file system can be mounted: %v", err)
	}
	tb := standin.New(t)
	tb.Fail("events_v1", standin.Fault{Status: 503}, -1)
	tb.Fail("traffic_v1", standin.Fault{Status: 503}, -1)
	config := func(maxDisk string) string {
		return globals(tinybirdSink(tb)+fmt.Sprintf("\n\t\toutbox {\n\t\t\tpath %s\n\t\t\tmax_disk %s\n\t\t}", filepath.Join(disk, "outbox"), maxDisk)) +
			landing("30m", "rate_limit 1000000 1000000")
	}
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(config("32MiB"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	clickID := clickIDOf(t, v, map[string]any{"token": s.Session.Token})
	sent, acknowledged := 0, map[string]bool{}
	// fill sends batches until the API refuses, and returns the route's code.
	fill := func(until func() bool) string {
		for range 400 {
			if until != nil && until() {
				return "ok"
			}
			var events []any
			var uuids []string
			for range 60 {
				sent++
				uuids = append(uuids, fmt.Sprint(sent))
				events = append(events, map[string]any{
					"event_id": "click", "event_type": "conversion", "event_uuid": fmt.Sprint(sent),
					"metadata": map[string]any{"uuid": fmt.Sprint(sent), "pad": strings.Repeat("x", 3500)},
				})
			}
			a := v.post("events/batch-track", map[string]any{"token": s.Session.Token, "events": events})
			if a.status == 200 {
				for _, uuid := range uuids {
					acknowledged[uuid] = true
				}
				continue
			}
			if a.status != 503 || len(a.body) != 0 || a.header.Get("Retry-After") == "" {
				t.Fatalf("a batch for which there is no room got %d %q", a.status, a.body)
			}
			// For a single one there may still be room.
			for range 100 {
				if a := v.post("events/track", with(events[0].(map[string]any), "token", s.Session.Token, "event_uuid", fmt.Sprint("single-", sent))); a.status != 200 {
					return a.Code
				}
				sent++
			}
		}
		t.Fatal("the API was never full")
		return ""
	}
	page := func(when string) {
		t.Helper()
		if res, body := v.page("/"); res.StatusCode != 200 || !strings.Contains(body, "data-session-context") {
			t.Errorf("a page with %s: %d\n%s", when, res.StatusCode, body)
		}
	}
	pagesLost := func() float64 { return c.metric("caddy_session_context_page_rows_lost_total") }

	// Traffic stops first.
	if code := fill(func() bool { page("the share nearly full"); return pagesLost() > 0 }); code != "ok" {
		t.Errorf("an event got %s while traffic was still taken", code)
	}
	if a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}); a.status != 200 {
		t.Errorf("with the share full for traffic an event got %d %s", a.status, a.body)
	}
	// Then all of the share is used.
	if code := fill(nil); code != "outbox_full" {
		t.Errorf("with the share full: %s", code)
	}
	page("the share full")
	for v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}).status == 200 { // the last gap
	}
	for i := range sessionctx.MaxConversions + 5 {
		a := elsewhere(t, c.site, sold(clickID, "event_uuid", i, "page_url", "https://shop.example/"+strings.Repeat("x", 900)))
		if a.status != 503 || a.Code != "outbox_full" {
			t.Fatalf("conversion %d for which there is no room got %d %s", i, a.status, a.body)
		}
	}
	// More share than there is disk.
	c.reload(config("1GiB"))
	if code := fill(nil); code != "outbox_unavailable" {
		t.Errorf("with the disk full: %s", code)
	}
	page("the disk full")
	if l := c.log.String(); !strings.Contains(l, "no space left on device") {
		t.Error("the log does not say that the disk is full")
	}
	// It may die and start so.
	c.kill()
	c.start()
	page("a start on a full disk")

	// The sink works again, and all the rest follows by itself.
	tb.Heal("traffic_v1")
	tb.Heal("events_v1")
	eventually(t, 30*time.Second, "an event is taken", func() error {
		a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"})
		if a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	elsewhere(t, c.site, sold(clickID, "event_uuid", "at last")).ok(t) // those that were refused have used up nothing
	eventually(t, 60*time.Second, "every acknowledged event arrives", func() error {
		rows, _ := tb.Distinct("events_v1")
		missing := len(acknowledged)
		for _, r := range rows {
			_, after, _ := strings.Cut(fmt.Sprint(r["metadata"]), `"uuid":"`)
			uuid, _, _ := strings.Cut(after, `"`)
			if acknowledged[uuid] {
				missing--
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing", missing, len(acknowledged))
		}
		return nil
	})
	if len(acknowledged) < 1000 {
		t.Errorf("only %d events filled the disk", len(acknowledged))
	}
}

// TestADeadMirrorLeavesRoom: what waits for a mirror that takes nothing fills
// the disk, more than once over. The first sink gets every event all the same,
// no call is refused, and the mirror keeps the newest.
func TestADeadMirrorLeavesRoom(t *testing.T) {
	t.Parallel()
	disk, err := smallDisk(t, "12m")
	if err != nil {
		t.Skipf("A FULL DISK WAS NOT TESTED: no small file system can be mounted: %v", err)
	}
	first, dead := standin.New(t), standin.New(t)
	dead.Fail("events_v1", standin.Fault{Status: 503}, -1)
	c := startLanding(t, globals(namedSink("a", first)+namedSink("b", dead)+fmt.Sprintf("\n\t\toutbox {\n\t\t\tpath %s\n\t\t}", filepath.Join(disk, "outbox")))+
		landing("30m", "rate_limit 1000000 1000000"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	const batches, size = 110, 60 // of 3.7 kB: 24 MB
	for b := range batches {
		var events []any
		for i := range size {
			events = append(events, map[string]any{
				"event_id": "click", "event_type": "conversion", "event_uuid": fmt.Sprint(b, "-", i),
				"metadata": map[string]any{"uuid": fmt.Sprint(b, "-", i), "pad": strings.Repeat("x", 3500)},
			})
		}
		if a := v.post("events/batch-track", map[string]any{"token": s.Session.Token, "events": events}); a.status != 200 {
			t.Fatalf("batch %d got %d %s", b, a.status, a.Code)
		}
		time.Sleep(10 * time.Millisecond) // for the first sink to take some
	}
	eventually(t, 60*time.Second, "the first sink gets every event", func() error {
		if n := first.Count("events_v1"); n < batches*size {
			return fmt.Errorf("it has %d of %d", n, batches*size)
		}
		return nil
	})
	if n := c.metric(`caddy_session_context_mirror_dropped_rows_total{datasource="events_v1",sink="b"}`); n == 0 || n >= batches*size {
		t.Errorf("the mirror dropped %v rows of %d", n, batches*size)
	}
	dead.Heal("events_v1")
	c.mustOutbox("flush")
	newest := fmt.Sprint(batches-1, "-", size-1)
	eventually(t, 60*time.Second, "the mirror gets the newest", func() error {
		return arrived(dead, "events_v1", newest)
	})
}
