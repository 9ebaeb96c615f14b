package tests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestWhileThePageStreams: calls by ids alone find the session while its page
// is still on its way, and after the visitor has left in the middle of it.
func TestWhileThePageStreams(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	release := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<html><head><title>x</title></head><body>first")
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(upstream.CloseClientConnections)
	c := startCaddy(t, globals(tinybirdSink(tb))+`
SITE {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		identity cookieless
		segment everyone
	}
	reverse_proxy `+strings.TrimPrefix(upstream.URL, "http://")+`
}
`)
	req, _ := http.NewRequest("GET", c.site+"/?utm_source=google", nil)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("User-Agent", desktop)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(page.String(), "first") {
		n, err := res.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		page.Write(buf[:n])
	}
	s := parseContext(t, page.String())
	v := newVisitor(t, c.site, desktop, false)
	batch := map[string]any{"events": []any{map[string]any{"session_id": s.Session.SessionID, "event_id": "early", "event_type": "engagement"}}}
	v.post("events/batch-track", batch).ok(t)
	res.Body.Close() // the visitor leaves
	batch["events"].([]any)[0].(map[string]any)["event_id"] = "late"
	v.post("events/batch-track", batch).ok(t)
	close(release)

	waitRows(t, tb, "events_v1", 2)
	row := waitRows(t, tb, "session_v1", 1)[0]
	expect(t, "session", row, map[string]any{"original_utm_source": "google", "attribution_source": "server", "segment_id": "everyone"})
	expect(t, "view that was cut off", waitRows(t, tb, "traffic_v1", 1)[0], map[string]any{"session_id": s.Session.SessionID, "status": 200})
}

// TestRejectedReload: a config that fails to start leaves the running one's
// sink in place.
func TestRejectedReload(t *testing.T) {
	t.Parallel()
	mine, other := standin.New(t), standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	good := globals(tinybirdSink(mine)) + landing("30m")
	c.write(good)
	c.start()
	occupied := httptest.NewServer(nil)
	defer occupied.Close()
	bad := globals(tinybirdSink(other)) + landing("30m") + "\n" + occupied.URL + " {\n\trespond hello\n}\n"
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	for i := range 6 { // apps start in random order
		c.write(bad)
		if out, err := c.command("reload", "--config", c.path("Caddyfile"), "--adapter", "caddyfile", "--address", c.admin, "--force").CombinedOutput(); err == nil {
			t.Fatalf("the config was taken:\n%s", out)
		}
		v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system", "event_uuid": fmt.Sprint(i)}).ok(t)
	}
	waitRows(t, mine, "events_v1", 6)
	if n := other.Count("events_v1"); n != 0 {
		t.Errorf("%d rows went to the sink of a config that was rejected", n)
	}
}

// TestOutboxMoves: events in an outbox whose path a reload changes are
// delivered all the same, and no page waits for its closing.
func TestOutboxMoves(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<html><head></head><body>first")
		w.(http.Flusher).Flush()
		time.Sleep(1500 * time.Millisecond)
		io.WriteString(w, " last</body></html>")
	}))
	defer upstream.Close()
	c := newCaddy(t)
	config := func(path string) string {
		return globals(tinybirdSink(tb)+"\n\t\toutbox {\n\t\t\tpath DIR/"+path+"\n\t\t}") + "\nSITE {\n\t" + campaignBlock +
			"\n\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") + "\n}\n"
	}
	c.write(config("a"))
	c.start()
	// The sink hangs, so that closing the outbox would take its time.
	tb.Fail("events_v1", standin.Fault{Hang: 4 * time.Second, Status: 503}, 1)
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	for i := range 20 {
		v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system", "event_uuid": fmt.Sprint(i)}).ok(t)
	}
	took := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		newVisitor(t, c.site, desktop, false).page("/")
		took <- time.Since(began)
	}()
	time.Sleep(300 * time.Millisecond)
	c.reload(config("b"))
	waitRows(t, tb, "events_v1", 20)
	if d := <-took; d > 4*time.Second {
		t.Errorf("a page of 1.5 s took %v", d)
	}
	eventually(t, 10*time.Second, "the old directory is let go of", func() error {
		out, err := os.ReadDir(c.path("a/events_v1"))
		if err != nil {
			return err
		}
		for _, e := range out {
			if !e.IsDir() {
				return fmt.Errorf("%s is left", e.Name())
			}
		}
		return nil
	})
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "b", "event_type": "system"}).ok(t)
	waitRows(t, tb, "events_v1", 21)
}

// TestOneContextAPage: a page that includes another, and a handler inside
// another, give one context; the outermost counts.
func TestOneContextAPage(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", strings.Replace(plainPage, "Hello", `Hello {{httpInclude "/part.html"}}`, 1))
	writePage(t, c, "part.html", plainPage)
	writePage(t, c, "inner/index.html", plainPage)
	c.write(globals(tinybirdSink(tb)) + `
SITE {
	` + campaignBlock + `
	root DIR/www
	handle /inner/* {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_2
			identity cookieless
		}
		file_server
	}
	handle {
		templates
		file_server
	}
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	v.visit("/") // fails for two contexts
	s := v.visit("/inner/")
	if s.CampaignID != "cmp_1" {
		t.Errorf("the page of two handlers has campaign %s", s.CampaignID)
	}
	v.post("events/batch-track", map[string]any{"events": []any{map[string]any{"session_id": s.Session.SessionID, "event_id": "a", "event_type": "system"}}}).ok(t)
	rows := waitRows(t, tb, "traffic_v1", 2)
	if len(rows) != 2 {
		t.Errorf("%d views of two pages", len(rows))
	}
	if _, body := v.page("/inner/missing"); strings.Contains(body, "data-session-context") {
		t.Errorf("an error page outside handle_errors was injected:\n%s", body)
	}
}

// TestPlaceholdersAreEmptyWhereUnset: nothing is printed literally, on no kind
// of request.
func TestPlaceholdersAreEmptyWhereUnset(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals("") + `
SITE {
	header >X-Session "[{session.id}{session.ab.none}{session.what}]"
	` + campaignBlock + `
	root DIR/www
	file_server
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	res, _ := v.page("/", "Sec-Fetch-Dest", "style", "Sec-Fetch-Mode", "no-cors")
	if got := res.Header.Get("X-Session"); got != "[]" {
		t.Errorf("a stylesheet has %q", got)
	}
	if a := v.post("events/track", "{}"); a.header.Get("X-Session") != "[]" {
		t.Errorf("an API answer has %q", a.header.Get("X-Session"))
	}
	s := v.visit("/")
	res, body := v.page("/")
	if got := res.Header.Get("X-Session"); got != "["+parseContext(t, body).Session.SessionID+"]" || s.Session.SessionID == "" {
		t.Errorf("a page has %q", got)
	}
}

// TestBatchBounds: one request can't make thousands of rows, or a huge answer.
func TestBatchBounds(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	batch := func(n int, event string) string {
		return `{"token":"` + s.Session.Token + `","events":[` + strings.TrimSuffix(strings.Repeat(event+",", n), ",") + `]}`
	}
	const event = `{"event_id":"a","event_type":"system"}`
	if a := v.post("events/batch-track", batch(501, event)); a.status != 413 || a.Code != "too_many_events" {
		t.Errorf("501 events: %d %s", a.status, a.body)
	}
	a := v.post("events/batch-track", batch(400, "1")[:len(batch(400, "1"))-2]+","+event+"]}").ok(t)
	if len(a.Data["rejected"].([]any)) != 20 || a.Data["processed_events"] != 1.0 {
		t.Errorf("answer of %d bytes: %.300s", len(a.body), a.body)
	}
	taken := 0
	for range 10 {
		if a := v.post("events/batch-track", batch(500, event)); a.status == 200 {
			taken++
		}
	}
	if taken > 6 { // a burst of 120: each batch costs 26
		t.Errorf("%d batches of 500 events were taken at once", taken)
	}
}
