package tinybird

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

var testNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name        string
		status      int
		header      map[string]string
		body        string
		cut         error
		want        outbox.Verdict
		after       time.Duration
		quarantined int
		says        string // part of the reason; "-" for none
	}{
		{name: "every row written", status: 200, body: `{"successful_rows":10,"quarantined_rows":0}`, want: outbox.VerdictDelivered, says: "-"},
		{name: "some rows quarantined", status: 200, body: `{"successful_rows":7,"quarantined_rows":3}`, want: outbox.VerdictDelivered, quarantined: 3, says: "3 of 10 rows are in events_v1_quarantine"},
		{name: "all rows quarantined", status: 200, body: `{"successful_rows":0,"quarantined_rows":10}`, want: outbox.VerdictDelivered, quarantined: 10, says: "10 of 10"},
		{name: "fewer rows counted than sent", status: 200, body: `{"successful_rows":8,"quarantined_rows":1}`, want: outbox.VerdictDeadLetter, says: "10 rows were sent, the answer counts 8 written and 1 quarantined"},
		{name: "more rows counted than sent", status: 200, body: `{"successful_rows":11,"quarantined_rows":0}`, want: outbox.VerdictDeadLetter},
		{name: "counts that make no sense", status: 200, body: `{"successful_rows":-1,"quarantined_rows":11}`, want: outbox.VerdictDeadLetter},
		{name: "a 200 that broke off", status: 200, body: `{"successful_rows":1`, cut: io.ErrUnexpectedEOF, want: outbox.VerdictRetry, says: "broke off"},
		{name: "a 200 of a captive portal", status: 200, body: `<html>welcome</html>`, want: outbox.VerdictHold, says: "no row counts"},
		{name: "a 200 with one count", status: 200, body: `{"successful_rows":10}`, want: outbox.VerdictHold},
		{name: "a 200 without a body", status: 200, want: outbox.VerdictHold},
		{name: "accepted, not confirmed", status: 202, body: `{"successful_rows":10,"quarantined_rows":0}`, want: outbox.VerdictDelivered, says: "not confirmed"},
		{name: "another kind of success", status: 204, want: outbox.VerdictHold},
		{name: "moved", status: 301, header: map[string]string{"Location": "https://api.us-east.tinybird.co/v0/events?name=x"}, want: outbox.VerdictHold, says: "redirected to https://api.us-east.tinybird.co,"},
		{name: "redirected nowhere", status: 307, want: outbox.VerdictHold, says: "redirected"},
		{name: "a row is blamed", status: 400, body: `{"error":"Invalid JSON at line 3"}`, want: outbox.VerdictBlame, says: "line 3"},
		{name: "a row is blamed, otherwise worded", status: 400, body: `{"error":"could not parse record"}`, want: outbox.VerdictBlame},
		{name: "the name is missing", status: 400, body: `{"error":"Missing required parameter name"}`, want: outbox.VerdictHold, says: "Missing required parameter"},
		{name: "a name of JSON and a request fault is a request fault", status: 400, body: `{"error":"invalid value for parameter 'format': json"}`, want: outbox.VerdictHold},
		{name: "a bad token by 400", status: 400, body: `{"error":"could not parse token"}`, want: outbox.VerdictHold},
		{name: "a 400 without a word", status: 400, want: outbox.VerdictHold, says: "events_v1 is the datasource's name"},
		{name: "unauthorized", status: 401, want: outbox.VerdictHold, says: "DATASOURCE:APPEND for events_v1"},
		{name: "forbidden", status: 403, body: `{"error":"invalid token"}`, want: outbox.VerdictHold, says: "DATASOURCE:APPEND"},
		{name: "not found", status: 404, want: outbox.VerdictHold, says: "region"},
		{name: "method not allowed", status: 405, want: outbox.VerdictHold, says: "API host"},
		{name: "request timeout", status: 408, want: outbox.VerdictRetry},
		{name: "too large", status: 413, want: outbox.VerdictSplit},
		{name: "a view failed", status: 422, body: `{"error":"MV failed"}`, want: outbox.VerdictDeadLetter, says: "MV failed"},
		{name: "too early", status: 425, want: outbox.VerdictRetry},
		{name: "throttled for seconds", status: 429, header: map[string]string{"Retry-After": "12"}, want: outbox.VerdictThrottle, after: 12 * time.Second},
		{name: "throttled by the reset header", status: 429, header: map[string]string{"X-RateLimit-Reset": "3"}, want: outbox.VerdictThrottle, after: 3 * time.Second},
		{name: "throttled without a word", status: 429, want: outbox.VerdictThrottle, after: defaultWait},
		{name: "internal error", status: 500, body: `{"error":"boom"}`, want: outbox.VerdictRetry, says: "boom"},
		{name: "bad gateway", status: 502, want: outbox.VerdictRetry},
		{name: "unavailable, with a wait", status: 503, header: map[string]string{"Retry-After": "30"}, want: outbox.VerdictRetry, after: 30 * time.Second},
		{name: "gateway timeout", status: 504, want: outbox.VerdictRetry},
		{name: "a teapot", status: 418, want: outbox.VerdictHold},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			out := answer{c.status, h, []byte(c.body), c.cut, "api.example", "events_v1", 10, testNow}.outcome()
			if out.Verdict != c.want || out.After != c.after || out.Quarantined != c.quarantined {
				t.Errorf("got %+v", out)
			}
			switch {
			case c.says == "-" && out.Reason != nil:
				t.Errorf("reason %v", out.Reason)
			case c.says != "-" && (out.Reason == nil || !strings.Contains(out.Reason.Error(), c.says)):
				t.Errorf("reason %v, want %q in it", out.Reason, c.says)
			}
			if c.cut != nil && !errors.Is(out.Reason, c.cut) {
				t.Errorf("reason does not wrap the cause: %v", out.Reason)
			}
		})
	}
}

func TestWaitOf(t *testing.T) {
	for _, c := range []struct {
		name, retryAfter, reset string
		want                    time.Duration
		ok                      bool
	}{
		{"no header", "", "", 0, false},
		{"whole seconds", "7", "", 7 * time.Second, true},
		{"a fraction", "0.25", "", 250 * time.Millisecond, true},
		{"a date", "Tue, 24 Nov 2026 12:00:42 GMT", "", 42 * time.Second, true},
		{"a date in the past", "Tue, 24 Nov 2026 11:00:00 GMT", "", 0, true},
		{"a date in the far future is capped", "Tue, 24 Nov 2099 11:00:00 GMT", "", maxWait, true},
		{"negative", "-5", "", 0, true},
		{"a day is capped", "86400", "", maxWait, true},
		{"reset in seconds", "", "9", 9 * time.Second, true},
		{"reset as the epoch", "", "1795521630", 30 * time.Second, true},
		{"reset as the epoch in milliseconds", "", "1795521630000", 30 * time.Second, true},
		{"reset in the past", "", "1700000000", 0, true},
		{"both: Retry-After wins", "2", "9", 2 * time.Second, true},
		{"an unreadable Retry-After yields", "soon", "9", 9 * time.Second, true},
		{"not a number", "NaN", "", 0, false},
		{"infinite", "Inf", "", 0, false},
		{"beyond any float", "1e999", "", 0, false},
		{"large", "1e300", "", maxWait, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.retryAfter != "" {
				h.Set("Retry-After", c.retryAfter)
			}
			if c.reset != "" {
				h.Set("X-RateLimit-Reset", c.reset)
			}
			if got, ok := waitOf(h, testNow); got != c.want || ok != c.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func FuzzOutcome(f *testing.F) {
	f.Add(200, []byte(`{"successful_rows":1,"quarantined_rows":0}`), "1", "2")
	f.Add(429, []byte(``), "1e400", "99999999999999")
	f.Add(400, []byte("{\"error\":\"\xff\x00\"}"), "", "")
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter, reset string) {
		h := http.Header{"Retry-After": {retryAfter}, "X-Ratelimit-Reset": {reset}}
		out := answer{status, h, body, nil, "api.example", "events_v1", 1, testNow}.outcome()
		if out.After < 0 || out.After > maxWait {
			t.Errorf("wait of %v", out.After)
		}
		if out.Verdict != outbox.VerdictDelivered && out.Reason == nil {
			t.Error("no reason")
		}
		if out.Reason != nil && (strings.ContainsAny(out.Reason.Error(), "\n\r\x00") || len(out.Reason.Error()) > 2000) {
			t.Errorf("reason %q", out.Reason)
		}
		if out.Verdict == outbox.VerdictDelivered && status != 200 && status != 202 {
			t.Errorf("%d counts as delivered", status)
		}
	})
}
