package tinybird_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/tinybird"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const (
	table      = "events_v1"
	rowsSent   = 6
	poisonous  = `"row_id":"row-4"`
	shortLimit = 400 * time.Millisecond
)

// rows are good ones, of which one can be told from the others.
func rows(t testing.TB) []outbox.Row {
	t.Helper()
	text, err := os.ReadFile("../../tinybird/testdata/" + table + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(text, &row); err != nil {
		t.Fatal(err)
	}
	var list []outbox.Row
	for i := range rowsSent {
		row["row_id"] = fmt.Sprintf("row-%d", i)
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, outbox.Row{Datasource: table, JSON: text})
	}
	return list
}

// life is an outbox that is delivered through a client until it is ended.
type life struct {
	t   testing.TB
	box *outbox.Outbox
}

func begin(t testing.TB, dir, url string, timeout time.Duration) *life {
	t.Helper()
	box, err := outbox.Open(dir, outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t, box}
	l.through(url, timeout)
	t.Cleanup(l.end)
	return l
}

func (l *life) through(url string, timeout time.Duration) {
	l.t.Helper()
	client, err := tinybird.New(tinybird.Config{URL: url, Token: standin.DefaultToken, Timeout: timeout})
	if err != nil {
		l.t.Fatal(err)
	}
	l.box.SetSink(client)
}

func (l *life) end() { l.box.Close() }

func (l *life) until(what string, holds func(outbox.Stats) bool) {
	l.t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(l.box.Stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("%s: not within a minute: %+v", what, l.box.Stats())
		}
	}
}

func (l *life) untilState(state outbox.State) {
	l.t.Helper()
	l.until("delivery is "+string(state), func(st outbox.Stats) bool { return st.Datasources[table].State == state })
}

func (l *life) untilEmpty() {
	l.t.Helper()
	l.until("nothing waits", func(st outbox.Stats) bool { return st.Rows == 0 })
}

func poisoned(body []byte) bool { return strings.Contains(string(body), poisonous) }

// Every answer and fault of the delivery's table, by the stand-in, through an
// outbox that is closed and opened again in between. What is tried again is
// tried with the same bytes.
func TestDeliveryTable(t *testing.T) {
	const (
		again = "sent again"  // the batch fails, and goes through after a restart
		held  = "held"        // it is kept until the configuration is mended
		once  = "sent once"   // it is over after one request
		split = "sent halved" // parts of it go through
	)
	moved := http.Header{"Location": {"https://api.us-east.tinybird.co/v0/events"}}
	for _, c := range []struct {
		name    string
		fault   standin.Fault
		forever bool
		then    string
		timeout time.Duration
		letter  string // kind of the one dead letter
		dead    int    // rows in it
		says    string // in what is told while it fails, or in the dead letter
	}{
		{name: "200, fewer rows counted", fault: standin.Fault{CommitFirst: true, Body: `{"successful_rows":5,"quarantined_rows":0}`}, then: once, letter: outbox.LetterPartial, dead: rowsSent, says: "6 rows were sent"},
		{name: "200, more rows counted", fault: standin.Fault{CommitFirst: true, Body: `{"successful_rows":7,"quarantined_rows":0}`}, then: once, letter: outbox.LetterPartial, dead: rowsSent, says: "counts 7 written"},
		{name: "200, some in quarantine", fault: standin.Fault{CommitFirst: true, Body: `{"successful_rows":4,"quarantined_rows":2}`}, then: once, letter: outbox.LetterCopy, dead: rowsSent, says: "events_v1_quarantine"},
		{name: "200 of somebody else", fault: standin.Fault{Status: 200, Body: "<html>welcome</html>"}, then: held, says: "no row counts"},
		{name: "202", fault: standin.Fault{CommitFirst: true, Status: 202}, then: once, letter: outbox.LetterUnconfirmed, dead: rowsSent, says: "not confirmed"},
		{name: "400 about a row", fault: standin.Fault{Status: 400, Body: `{"error":"Invalid JSON at line 3"}`, When: poisoned}, forever: true, then: split, letter: outbox.LetterRefused, dead: 1, says: "Invalid JSON"},
		{name: "400 about the request", fault: standin.Fault{Status: 400, Body: `{"error":"Missing required parameter name"}`}, then: held, says: "datasource's name"},
		{name: "401", fault: standin.Fault{Status: 401}, then: held, says: "DATASOURCE:APPEND"},
		{name: "403", fault: standin.Fault{Status: 403}, then: held, says: "DATASOURCE:APPEND"},
		{name: "404", fault: standin.Fault{Status: 404}, then: held, says: "region"},
		{name: "405", fault: standin.Fault{Status: 405}, then: held, says: "API host"},
		{name: "301", fault: standin.Fault{Status: 301, Header: moved}, then: held, says: "redirected to https://api.us-east.tinybird.co"},
		{name: "302", fault: standin.Fault{Status: 302, Header: moved}, then: held, says: "redirected"},
		{name: "307", fault: standin.Fault{Status: 307, Header: moved}, then: held, says: "redirected"},
		{name: "308", fault: standin.Fault{Status: 308, Header: moved}, then: held, says: "redirected"},
		{name: "408", fault: standin.Fault{Status: 408}, then: again, says: "408"},
		{name: "413", fault: standin.Fault{Status: 413, When: func(b []byte) bool { return strings.Count(string(b), "\n") > 2 }}, forever: true, then: split},
		{name: "413, one row", fault: standin.Fault{Status: 413, When: poisoned}, forever: true, then: split, letter: outbox.LetterTooLarge, dead: 1, says: "413"},
		{name: "422", fault: standin.Fault{CommitFirst: true, Status: 422}, then: once, letter: outbox.LetterPartial, dead: rowsSent, says: "view failed"},
		{name: "500", fault: standin.Fault{Status: 500}, then: again, says: "500"},
		{name: "502", fault: standin.Fault{Status: 502}, then: again, says: "502"},
		{name: "503", fault: standin.Fault{Status: 503, Header: http.Header{"Retry-After": {"1"}}}, then: again, says: "503"},
		{name: "504", fault: standin.Fault{Status: 504}, then: again, says: "504"},
		{name: "no answer", fault: standin.Fault{Hang: -1}, then: again, timeout: shortLimit, says: "no answer"},
		{name: "written, but no answer", fault: standin.Fault{CommitFirst: true, Hang: -1}, then: again, timeout: shortLimit, says: "no answer"},
		{name: "answer cut off", fault: standin.Fault{CommitFirst: true, TruncateBody: true}, then: again, says: "broke off"},
		{name: "written, then the connection died", fault: standin.Fault{CommitFirst: true, CloseConn: true}, then: again},
		{name: "connection died before the body was read", fault: standin.Fault{BeforeBody: true, CloseConn: true}, then: again},
		{name: "answer that drips", fault: standin.Fault{CommitFirst: true, SlowDrip: time.Millisecond}, then: once},
		{name: "answer that drips for too long", fault: standin.Fault{CommitFirst: true, SlowDrip: 100 * time.Millisecond}, then: again, timeout: shortLimit, says: "broke off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tb := standin.New(t)
			times := 1
			if c.forever {
				times = -1
			}
			tb.Fail(table, c.fault, times)
			dir := t.TempDir()
			l := begin(t, dir, tb.URL, c.timeout)
			if err := l.box.Append(t.Context(), rows(t)...); err != nil {
				t.Fatal(err)
			}
			said := ""
			switch c.then {
			case again, held:
				state := outbox.StateFailing
				if c.then == held {
					state = outbox.StateHeld
				}
				l.untilState(state)
				st := l.box.Stats()
				said = st.Datasources[table].LastError
				if st.Rows != rowsSent || st.Datasources[table].DeadLetters != 0 {
					t.Errorf("while it fails: %+v", st)
				}
				l.end()
				l = begin(t, dir, tb.URL, 0)
			}
			l.untilEmpty()
			letters := l.box.DeadLetters()
			if c.letter == "" && len(letters) > 0 || c.letter != "" && (len(letters) != 1 || letters[0].Kind != c.letter || letters[0].Rows != c.dead) {
				t.Fatalf("dead letters %+v", letters)
			}
			if c.letter != "" {
				said = letters[0].Reason
			}
			if !strings.Contains(said, c.says) || strings.Contains(said, standin.DefaultToken) {
				t.Errorf("said %q, want %q in it and no token", said, c.says)
			}
			arrived, conflicts := tb.Distinct(table)
			want := rowsSent
			if c.then == split {
				want -= c.dead
			}
			if len(arrived) != want || len(conflicts) > 0 {
				t.Errorf("%d rows arrived, want %d; conflicts %v", len(arrived), want, conflicts)
			}
			judgeBatches(t, c.then == once, c.then == split, tb.Batches(table))
		})
	}
}

// judgeBatches holds the tries against each other.
func judgeBatches(t *testing.T, once, split bool, batches []standin.Batch) {
	t.Helper()
	if split {
		return
	}
	if once != (len(batches) == 1) {
		t.Errorf("%d requests", len(batches))
	}
	hashes := map[string]bool{}
	for _, b := range batches {
		if b.WireSHA256 != "" { // read before the fault acted
			hashes[b.WireSHA256+" "+b.PlainSHA256] = true
		}
	}
	if len(hashes) != 1 {
		t.Errorf("other bytes at another try: %v", hashes)
	}
}

// A 429 is waited for as it asks, in each form that it may ask in.
func TestThrottledAsEachHeaderAsks(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for _, c := range []struct {
		name   string
		header func() http.Header
		least  time.Duration
	}{
		{"no header", func() http.Header { return nil }, 5 * time.Second},
		{"Retry-After in seconds", func() http.Header { return http.Header{"Retry-After": {"2"}} }, 2 * time.Second},
		{"Retry-After with a fraction", func() http.Header { return http.Header{"Retry-After": {"1.5"}} }, 1500 * time.Millisecond},
		{"Retry-After as a date", func() http.Header {
			return http.Header{"Retry-After": {at(3 * time.Second).UTC().Format(http.TimeFormat)}}
		}, time.Second},
		{"X-RateLimit-Reset in seconds", func() http.Header { return http.Header{"X-RateLimit-Reset": {"2"}} }, 2 * time.Second},
		{"X-RateLimit-Reset as the epoch", func() http.Header {
			return http.Header{"X-RateLimit-Reset": {fmt.Sprint(at(3 * time.Second).Unix())}}
		}, time.Second},
		{"both", func() http.Header { return http.Header{"Retry-After": {"2"}, "X-RateLimit-Reset": {"60"}} }, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tb := standin.New(t)
			dir := t.TempDir()
			box, err := outbox.Open(dir, outbox.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			if err := box.Append(t.Context(), rows(t)...); err != nil {
				t.Fatal(err)
			}
			if err := box.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			tb.Fail(table, standin.Fault{Status: 429, Header: c.header()}, 1)
			l := &life{t, box}
			l.through(tb.URL, 0)
			l.untilEmpty()
			batches := tb.Batches(table)
			if len(batches) != 2 || batches[0].WireSHA256 != batches[1].WireSHA256 {
				t.Fatalf("requests %+v", batches)
			}
			if d := batches[1].Started.Sub(batches[0].Answered); d < c.least-10*time.Millisecond {
				t.Errorf("tried again after %v, asked for %v", d, c.least)
			}
			if len(box.DeadLetters()) > 0 {
				t.Errorf("dead letters %+v", box.DeadLetters())
			}
		})
	}
}

// What keeps a request from a server is told, and ends with another URL; rows
// wait meanwhile.
func TestUnreachableUntilTheURLIsMended(t *testing.T) {
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for _, c := range []struct{ name, url, says string }{
		{"no such host", "https://api.tinybird.invalid", "api.tinybird.invalid"},
		{"a certificate that nobody vouches for", tls.URL, "certificate"},
		{"no TLS where it is asked for", strings.Replace(plain.URL, "http://", "https://", 1), "HTTP response to HTTPS client"},
		{"TLS where none is asked for", strings.Replace(tls.URL, "https://", "http://", 1), "400"},
		{"nobody listens", "http://" + free.Addr().String(), "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tb := standin.New(t)
			l := begin(t, t.TempDir(), c.url, 0)
			if err := l.box.Append(context.Background(), rows(t)...); err != nil {
				t.Fatal(err)
			}
			l.until("it fails", func(st outbox.Stats) bool { return st.Datasources[table].State != outbox.StateOK })
			st := l.box.Stats()
			if said := st.Datasources[table].LastError; !strings.Contains(said, c.says) || strings.Contains(said, standin.DefaultToken) {
				t.Errorf("said %q, want %q in it", said, c.says)
			}
			if st.Rows != rowsSent {
				t.Errorf("%d rows wait", st.Rows)
			}
			l.through(tb.URL, 0)
			l.untilEmpty()
			if n := len(tb.Batches(table)); n != 1 || tb.Count(table) != rowsSent {
				t.Errorf("%d requests, %d rows", n, tb.Count(table))
			}
		})
	}
}
