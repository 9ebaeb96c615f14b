package tests

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestModules: the build has what it should.
func TestModules(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(binary, "list-modules").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{
		"session_context", "http.handlers.session_context", "http.handlers.session_context_api",
		"session_context.stores.embedded", "session_context.stores.redis",
		"session_context.sinks.file", "session_context.sinks.kafka", "session_context.sinks.tinybird",
		"session_context.geo.headers", "session_context.geo.mmdb",
	} {
		if !strings.Contains(string(out), "\n"+m+"\n") {
			t.Errorf("no module %s", m)
		}
	}
}

// TestValidateTouchesNothing: `caddy validate` makes no file of ours and takes
// no lock, also beside a server that runs.
func TestValidateTouchesNothing(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals("") + landing("30m"))
	validate := func() {
		out, err := c.command("validate", "--config", c.path("Caddyfile"), "--adapter", "caddyfile").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Valid configuration") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	validate()
	if _, err := os.Stat(c.path("data/caddy/session_context")); !os.IsNotExist(err) {
		t.Errorf("validating made a directory: %v", err)
	}
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	validate()
	v.post("events/session/init", with(s.ids(), "token", s.Session.Token)).ok(t)
	for _, name := range []string{"outbox", "store.db", "keys.json"} {
		info, err := os.Stat(c.path("data/caddy/session_context/" + name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v: others may read it", name, info.Mode())
		}
	}
}

// TestReloadsUnderLoad: reloads lose no event, break no page and take the new
// sink into use.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	old, next := standin.New(t), standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	config := func(s *standin.Server, minutes int) string {
		return globals(tinybirdSink(s)) + landing(fmt.Sprintf("%dm", minutes), "rate_limit 1000000 100000")
	}
	c.write(config(old, 10))
	c.start()
	s := newVisitor(t, c.site, desktop, false).visit("/")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := 0
	for worker := range 4 {
		wg.Go(func() {
			v := newVisitor(t, c.site, desktop, false)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				event := map[string]any{
					"token": s.Session.Token, "event_id": "click", "event_type": "engagement", "event_uuid": fmt.Sprintf("%d-%d", worker, n),
				}
				a, err := v.tryCall("POST", "events/track", event)
				for err != nil {
					// A reload closes idle connections; a request that is
					// on its way into one is sent again, as browsers do.
					a, err = v.tryCall("POST", "events/track", event)
				}
				if a.status != 200 {
					t.Errorf("an event during reloads: %d %s", a.status, a.body)
					return
				}
				mu.Lock()
				acknowledged++
				mu.Unlock()
				res, body, err := v.tryPage("/")
				for err != nil {
					res, body, err = v.tryPage("/")
				}
				if res.StatusCode != 200 || !strings.Contains(body, "data-session-context") {
					t.Errorf("a page during reloads: %d\n%s", res.StatusCode, body)
				}
			}
		})
	}
	noPanics(t, c)
	wg.Go(func() { // who watches it asks at any moment
		for {
			select {
			case <-stop:
				return
			default:
			}
			res, err := http.Get("http://" + c.admin + "/session_context/status")
			if err != nil {
				continue // the admin API is put up anew
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("the status during reloads: %s", res.Status)
			}
		}
	})
	for i := range 10 {
		sink := old
		if i%2 == 0 {
			sink = next
		}
		c.reload(config(sink, 10+i))
	}
	c.reload(config(next, 10))
	close(stop)
	wg.Wait()
	eventually(t, 30*time.Second, "all events arrive", func() error {
		a, _ := old.Distinct("events_v1")
		b, _ := next.Distinct("events_v1")
		seen := map[any]bool{}
		for _, r := range append(a, b...) {
			seen[r["row_id"]] = true
		}
		if len(seen) != acknowledged {
			return fmt.Errorf("%d arrived of %d", len(seen), acknowledged)
		}
		return nil
	})
	if next.Count("events_v1") == 0 {
		t.Error("the new sink got nothing")
	}
	c.stop()
}

// TestStopDelivers: a graceful stop leaves nothing behind that a start doesn't
// find.
func TestStopDelivers(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/session/init", with(s.ids(), "token", s.Session.Token)).ok(t)
	c.stop()
	c.start()
	waitRows(t, tb, "session_v1", 1)
	waitRows(t, tb, "traffic_v1", 1)
}

// TestSecondProcess: a second Caddy on the same outbox and store serves pages,
// says what is wrong, and takes over when the first is gone.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m"))
	newVisitor(t, c.site, desktop, false).visit("/")

	d := newCaddy(t)
	writePage(t, d, "index.html", plainPage)
	shared := fmt.Sprintf("\t\tstore embedded %s\n\t\toutbox {\n\t\t\tpath %s\n\t\t}", c.path("data/caddy/session_context/store.db"), c.path("data/caddy/session_context/outbox"))
	d.write(globals(shared) + landing("30m"))
	d.start()
	v := newVisitor(t, d.site, desktop, false)
	s := v.visit("/")
	if a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("an event with the outbox locked got %d %s", a.status, a.body)
	}
	eventually(t, 10*time.Second, "the log says what is wrong", func() error {
		if l := d.log.String(); !strings.Contains(l, "outbox directory is in use") || !strings.Contains(l, "database file is in use") {
			return fmt.Errorf("it doesn't")
		}
		return nil
	})
	c.stop()
	eventually(t, 15*time.Second, "events are taken", func() error {
		if a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
}

// TestMetrics: figures are on Caddy's own endpoint and go on over a reload.
func TestMetrics(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/session/init", with(s.ids(), "token", s.Session.Token)).ok(t)
	waitRows(t, tb, "session_v1", 1)
	c.reload(globals(tinybirdSink(tb)) + landing("20m"))
	v.visit("/")
	if a := v.post("events/track", "{"); a.status != 400 {
		t.Errorf("broken JSON got %d", a.status)
	}
	if res, _ := v.page("/missing"); res.StatusCode != 404 {
		t.Errorf("a page that isn't there got %d", res.StatusCode)
	}
	for name, want := range map[string]float64{
		`caddy_session_context_pages_total{campaign="cmp_1",outcome="injected"}`:            2,
		`caddy_session_context_pages_total{campaign="cmp_1",outcome="status"}`:              1,
		`caddy_session_context_api_answers_total{code="ok",route="events/session/init"}`:    1,
		`caddy_session_context_api_answers_total{code="invalid_json",route="events/track"}`: 1,
		`caddy_session_context_delivered_rows_total{datasource="session_v1"}`:               1,
	} {
		if got := c.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestDiskTrouble: the API says that it can't take events; pages go out.
func TestDiskTrouble(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	// A file stands where directories should be.
	if err := os.WriteFile(c.path("blocked"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.write(globals("\t\tstore embedded DIR/blocked/store.db\n\t\toutbox {\n\t\t\tpath DIR/blocked/outbox\n\t\t}") + landing("30m"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	a := v.post("events/batch-track", map[string]any{"token": s.Session.Token, "events": []any{map[string]any{"event_id": "a", "event_type": "system"}}})
	if a.status != 503 || len(a.body) != 0 || a.header.Get("Retry-After") == "" {
		t.Errorf("a batch with no disk got %d %q", a.status, a.body)
	}
	if _, body := v.page("/"); !strings.Contains(body, "data-session-context") {
		t.Error("the page has no context")
	}
}

// TestKeysUnavailable: a ring that can't be read never stops a page.
func TestKeysUnavailable(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals("") + landing("30m", "debug"))
	if err := os.MkdirAll(c.path("data/caddy/session_context"), 0o700); err != nil {
		t.Fatal(err)
	}
	ring := c.path("data/caddy/session_context/keys.json")
	if err := os.WriteFile(ring, []byte(`{"version":1,"keys":[{"id":"secretsecret`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	res, body := v.page("/")
	if res.StatusCode != 200 || body != plainPage || res.Header.Get("Session-Context") != "skipped; reason=keys_unavailable" {
		t.Errorf("%d %v\n%s", res.StatusCode, res.Header, body)
	}
	if a := v.post("events/track", map[string]any{"event_id": "a", "event_type": "system"}); a.status != 503 || a.Code != "keys_unavailable" {
		t.Errorf("the API: %d %s", a.status, a.body)
	}
	if strings.Contains(c.log.String(), "secretsecret") {
		t.Error("the log shows the ring")
	}
	if err := os.Remove(ring); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "pages have their context", func() error {
		if _, body := v.page("/"); !strings.Contains(body, "data-session-context") {
			return fmt.Errorf("they don't")
		}
		return nil
	})
}

// TestReloadWhileStorageIsDown: a reload goes on with the keys that the process
// has, though it can't read them again.
func TestReloadWhileStorageIsDown(t *testing.T) {
	t.Parallel()
	c := startAskingEach(t, "", "")
	site := func(options string) string { return strings.Replace(askingEachSite, "OPTIONS", options, 1) }
	dir := c.path("data/caddy/session_context")
	names := []string{"keys.json", "visitor_keys.json"}
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	for _, name := range names {
		if err := errors.Join(os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".away")), os.MkdirAll(filepath.Join(dir, name, "in the way"), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // also what the first reload was handed
		c.reload(globals("") + site("rate_limit 1000 1000"))
	}
	if next := v.visit("/a.html", v.from("/")...); next.Session.SessionID != s.Session.SessionID {
		t.Error("a visitor without cookies is not found again")
	}
	event := map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "conversion"}
	v.post("events/track", event).ok(t)
	c.warns("keys_failing")

	for _, name := range names {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, name)), os.Rename(filepath.Join(dir, name+".away"), filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	c.reload(globals("") + site(""))
	c.warns()
	v.post("events/track", event).ok(t)

	// Another storage has other keys.
	c.reload(strings.Replace(globals(""), "{\n", "{\n\tstorage file_system DIR/other\n", 1) + site(""))
	waitContext(t, c)
	if a := v.post("events/track", event); a.status != 401 || a.Code != "invalid_session" {
		t.Errorf("keys went from one storage to another: %d %s", a.status, a.Code)
	}
}
