package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestBadInput: whatever a client sends wrong gets a 4xx with a stable code,
// stores nothing and leaves no secret in the log.
func TestBadInput(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals(tinybirdSink(tb)) + `
SITE {
	handle /other/* {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_2
			allow_origin https://partner.example
		}
		uri strip_prefix /other
		root DIR/www
		file_server
	}
	handle {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_1
			rate_limit 100000 100000
		}
		root DIR/www
		file_server
	}
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	mine := v.visit("/")
	foreign := v.visit("/other/")
	ids := mine.ids()
	token := mine.Session.Token
	event := map[string]any{"session_id": mine.Session.SessionID, "event_id": "page-view", "event_type": "engagement", "token": token}
	flip := func(s string, at int) string {
		b := []byte(s)
		b[at] ^= 1
		return string(b)
	}

	const track, init, renew, batch = "events/track", "events/session/init", "events/session/renew", "events/batch-track"
	json := func(v map[string]any) map[string]any { return v }
	for _, tt := range []struct {
		name   string
		route  string
		body   any
		header []string
		status int
		code   string
	}{
		{"no body", track, "", nil, 400, "invalid_json"},
		{"broken JSON", track, `{"event_id":`, nil, 400, "invalid_json"},
		{"JSON that is no object", track, `[1]`, nil, 400, "invalid_json"},
		{"a field that occurs twice", track, `{"event_id":"a","event_id":"b"}`, nil, 400, "invalid_json"},
		{"text after the object", track, `{} {}`, nil, 400, "invalid_json"},
		{"nesting without end", track, strings.Repeat(`{"a":`, 9000), nil, 400, "invalid_json"},
		{"a body of 10 MB", track, `{"a":"` + strings.Repeat("x", 10<<20) + `"}`, nil, 413, "body_too_large"},
		{"a body just over the limit", track, `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "body_too_large"},
		{"a content type that is a form", track, event, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"},
		{"a charset that is not UTF-8", track, event, []string{"Content-Type", "application/json; charset=utf-16"}, 415, "unsupported_media_type"},
		{"a compressed body", track, event, []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type"},
		{"an event without id", track, with(event, "event_id", nil), nil, 400, "invalid_event"},
		{"an event id that is an object", track, with(event, "event_id", json(map[string]any{"a": 1})), nil, 400, "invalid_event"},
		{"an unknown event type", track, with(event, "event_type", "buy"), nil, 400, "invalid_event"},
		{"no proof at all", track, with(event, "token", nil, "session_id", nil), nil, 401, "invalid_session"},
		{"a forged token", track, with(event, "token", flip(token, len(token)-5)), nil, 401, "invalid_session"},
		{"a token with another key id", track, with(event, "token", flip(token, 0)), nil, 401, "invalid_session"},
		{"a truncated token", track, with(event, "token", token[:len(token)/2]), nil, 401, "invalid_session"},
		{"a token that is not ours", track, with(event, "token", "abc"), nil, 401, "invalid_session"},
		{"a token that is an object", track, with(event, "token", json(map[string]any{})), nil, 401, "invalid_session"},
		{"a token that is a list", track, with(event, "token", []any{}), nil, 401, "invalid_session"},
		{"a token of absurd size", track, with(event, "token", strings.Repeat("A", 50_000)), nil, 401, "invalid_session"},
		{"a token with another campaign", init, with(ids, "token", token, "campaign_id", "cmp_2"), nil, 403, "campaign_mismatch"},
		{"a token with another user", init, with(ids, "token", token, "user_id", foreign.UserID), nil, 403, "user_mismatch"},
		{"ids made up by a client", init, with(ids, "session_id", "01a20fe8-43a8-8b12-ae9b-0e0db65de970"), nil, 401, "invalid_session"},
		{"a user id made up by a client", init, with(ids, "user_id", "be61e4bd-e73f-841c-91ed-1a1dfbc545f7"), nil, 401, "invalid_session"},
		{"ids that are no UUIDs", init, with(ids, "session_id", "1", "user_id", "2"), nil, 401, "invalid_session"},
		{"ids of the wrong type", init, with(ids, "session_id", 7, "user_id", true), nil, 401, "invalid_session"},
		{"ids with one bit changed", init, with(ids, "session_id", flip(mine.Session.SessionID, 35)), nil, 401, "invalid_session"},
		{"a session of another campaign", init, with(ids, "campaign_id", "cmp_2"), nil, 403, "campaign_mismatch"},
		{"another user's session", init, with(ids, "user_id", foreign.UserID), nil, 403, "user_mismatch"},
		{"an unknown campaign", init, with(ids, "campaign_id", "cmp_9"), nil, 403, "unknown_campaign"},
		{"renewal of a forged token", renew, map[string]any{"token": flip(token, 40)}, nil, 401, "invalid_session"},
		{"renewal of nothing but a proposed id", renew, map[string]any{"new_session_id": mine.Session.SessionID, "campaign_id": "cmp_1"}, nil, 401, "invalid_session"},
		{"a batch without events", batch, map[string]any{"token": token}, nil, 400, "missing_field"},
		{"a batch with an empty list", batch, map[string]any{"token": token, "events": []any{}}, nil, 400, "missing_field"},
		{"a batch of two sessions", batch, map[string]any{"token": token, "events": []any{event, with(event, "session_id", foreign.Session.SessionID)}}, nil, 400, "mixed_sessions"},
		{"a batch in which nothing is an event", batch, map[string]any{"token": token, "events": []any{1, nil, json(map[string]any{})}}, nil, 400, "invalid_event"},
		{"a foreign origin", track, event, []string{"Origin", "https://evil.example"}, 403, "origin_not_allowed"},
		{"an origin that begins like ours", track, event, []string{"Origin", c.site + ".evil.example"}, 403, "origin_not_allowed"},
		{"a null origin", track, event, []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, "origin_not_allowed"},
		{"another campaign's allowed origin", track, event, []string{"Origin", "https://partner.example", "Sec-Fetch-Site", "cross-site"}, 403, "origin_not_allowed"},
		{"a form post from elsewhere", track, event, []string{"Origin", "https://evil.example", "Sec-Fetch-Mode", "navigate", "Content-Type", "text/plain"}, 403, "origin_not_allowed"},
		{"a navigation from the site itself", track, event, []string{"Sec-Fetch-Mode", "navigate"}, 403, "origin_not_allowed"},
		{"a sibling without Origin", track, event, []string{"Origin", "", "Sec-Fetch-Site", "same-site"}, 403, "origin_not_allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := v.post(tt.route, tt.body, tt.header...)
			if a.status != tt.status || a.Code != tt.code {
				t.Fatalf("got %d %q, want %d %q: %s", a.status, a.Code, tt.status, tt.code, a.body)
			}
			if a.Success || a.Error == "" {
				t.Errorf("the refusal says nothing: %s", a.body)
			}
			if len(a.header.Values("Set-Cookie")) > 0 {
				t.Error("the refusal sets a cookie")
			}
			if tt.code == "origin_not_allowed" && a.header.Get("Access-Control-Allow-Origin") == c.site {
				t.Error("the refusal has a CORS header")
			}
		})
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
		a := v.call(method, track, nil)
		if a.status != http.StatusMethodNotAllowed || a.Code != "method_not_allowed" || !strings.Contains(a.header.Get("Allow"), "POST") {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if a := v.call("POST", "session/context", "{}"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST to session/context: %d", a.status)
	}

	// Nothing of it is anywhere: not at the sink, not on disk, not in the log.
	v.post(init, with(ids, "token", token)).ok(t)
	rows := waitRows(t, tb, "session_v1", 1)
	time.Sleep(1500 * time.Millisecond)
	if n := len(waitRows(t, tb, "session_v1", 1)); n != 1 || len(rows) != 1 {
		t.Errorf("%d session rows, want the one of the call that was right", n)
	}
	if rows, _ := tb.Distinct("events_v1"); len(rows) != 0 {
		t.Errorf("refused calls made events: %v", rows)
	}
	for _, secret := range []string{token, foreign.Session.Token, token[20:60]} {
		if strings.Contains(c.log.String(), secret) {
			t.Error("the log holds a token")
		}
	}
	if strings.Contains(c.log.String(), `"level":"error"`) {
		t.Error("a client's fault is logged as an error")
	}
}

// TestFailedProofsAreLimited: a client that guesses is stopped.
func TestFailedProofsAreLimited(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	c.write(globals("") + landing("30m"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	limited := 0
	for range 60 {
		a := v.post("events/session/init", map[string]any{"session_id": "x", "user_id": "y", "campaign_id": "cmp_1"})
		if a.status == http.StatusTooManyRequests {
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			limited++
		}
	}
	if limited < 20 {
		t.Errorf("of 60 guesses %d were stopped", limited)
	}
}

// TestRateLimit: each client has its own bucket, and a batch that is refused
// for now has an empty body, so that older clients keep it.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m", "rate_limit 1 5"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	body := map[string]any{"token": s.Session.Token, "events": []any{map[string]any{"event_id": "a", "event_type": "system"}}}
	for range 5 {
		v.post("events/batch-track", body).ok(t)
	}
	a := v.post("events/batch-track", body)
	if a.status != http.StatusTooManyRequests || len(a.body) != 0 || a.header.Get("Retry-After") == "" {
		t.Errorf("the sixth got %d %q, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
	if a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}); a.Code != "rate_limited" {
		t.Errorf("track got %d %s", a.status, a.body)
	}
}

// TestOrigins: an allowed origin may call with credentials, and gets no
// cookie.
func TestOrigins(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m", "allow_origin https://www.example.com", "consent {\n\t\t\trespect none\n\t\t}"))
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	from := []string{"Origin", "https://www.example.com", "Sec-Fetch-Site", "cross-site"}

	pre := v.call("OPTIONS", "events/track", nil, append(from, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")...)
	if pre.status != http.StatusNoContent || pre.header.Get("Access-Control-Allow-Origin") != "https://www.example.com" ||
		pre.header.Get("Access-Control-Allow-Credentials") != "true" || pre.header.Get("Access-Control-Max-Age") != "86400" {
		t.Errorf("preflight: %d %v", pre.status, pre.header)
	}
	a := v.post("events/session/init", with(s.ids(), "token", s.Session.Token), from...).ok(t)
	if a.header.Get("Access-Control-Allow-Origin") != "https://www.example.com" || len(a.header.Values("Set-Cookie")) > 0 {
		t.Errorf("init from elsewhere: %v", a.header)
	}
	// The cookie of this browser is no proof for another site's page.
	if a := v.post("events/session/init", map[string]any{"campaign_id": "cmp_1"}, from...); a.Code != "invalid_session" {
		t.Errorf("another site's page spoke with the visitor's cookie: %d %s", a.status, a.body)
	}
	if a := v.post("events/session/init", map[string]any{"campaign_id": "cmp_1"}); a.status != 200 {
		t.Errorf("the site's own page with its cookie: %d %s", a.status, a.body)
	}
	if a := v.call("GET", "session/context", nil, from...); a.status != 200 || strings.Contains(string(a.body), s.UserID) {
		t.Errorf("another site's page read the visitor's context: %d %s", a.status, a.body)
	}
	// Nor does it learn what the visitor chose.
	refused := []string{"Cookie", "frbzz_consent=%7Bunreadable"}
	const source = `"source":"frbzz_consent"`
	who := newVisitor(t, c.site, desktop, false)
	if a := who.call("GET", "session/context", nil, refused...); a.status != 200 || !strings.Contains(string(a.body), source) {
		t.Errorf("the site's own page of one who refused: %d %s", a.status, a.body)
	}
	if a := who.call("GET", "session/context", nil, append(from, refused...)...); a.status != 200 || strings.Contains(string(a.body), source) {
		t.Errorf("another site's page read a choice: %d %s", a.status, a.body)
	}
	if a := v.call("GET", "session/context.js", nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"); a.Code != "origin_not_allowed" {
		t.Errorf("a script element of another site got %d %s", a.status, a.body)
	}
}

// TestContextRoute: a page that was restored from a cache fetches its context.
func TestContextRoute(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m"))
	v := newVisitor(t, c.site, iPhone, true)
	s := v.visit("/?utm_source=a")
	a := v.call("GET", "session/context", nil, "Referer", c.site+"/?utm_source=b")
	got := parseContext(t, "<script data-session-context=\"\">window.__FIREBUZZ_SESSION_CONTEXT__="+string(a.body)+";window.dispatchEvent")
	if got.Session.SessionID != s.Session.SessionID || *got.SegmentID != "mobile" || got.Attribution.Original["utm_source"] != "a" || got.Attribution.Current["utm_source"] != "b" {
		t.Errorf("context %s", a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
		t.Errorf("header %v", a.header)
	}
	js := v.call("GET", "session/context.js", nil)
	if !strings.HasPrefix(js.header.Get("Content-Type"), "text/javascript") || !strings.HasPrefix(string(js.body), "window.__FIREBUZZ_SESSION_CONTEXT__={") {
		t.Errorf("script: %v %s", js.header, js.body)
	}
}

// TestOlderClient sends what the reference client sends: ids, no token, no
// cookies, events that name a session and nothing else.
func TestOlderClient(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("2s"))
	v := newVisitor(t, c.site, iPhone, false)
	s := v.visit("/?utm_source=google")
	v.post("events/session/init", s.ids()).ok(t)
	batch := func(n int) map[string]any {
		return map[string]any{"events": []any{map[string]any{
			"session_id": s.Session.SessionID, "event_id": fmt.Sprint("step-", n), "event_type": "engagement", "campaign_environment": "production",
		}}}
	}
	a := v.post("events/batch-track", batch(1)).ok(t)
	if a.Data["processed_events"] != 1.0 || a.Data["batch_id"] == "" {
		t.Errorf("batch answered %s", a.body)
	}
	// Expired: an older client drops events or loops when told, so the call
	// is taken for the line's living session.
	time.Sleep(2200 * time.Millisecond)
	v.post("events/batch-track", batch(2)).ok(t)
	r := v.post("events/session/renew", map[string]any{
		"old_session_id": s.Session.SessionID, "user_id": s.UserID, "campaign_id": "cmp_1", "workspace_id": "ws_1", "project_id": "pr_1",
		"segment_id": nil, "preserved_attribution": nil, "current_url_utm": map[string]any{}, "current_referrer": "",
	}).ok(t)
	if r.Data["token"] != nil || r.Data["original_session_id"] != nil || r.Data["segment_id"] != nil {
		t.Errorf("ids alone got %s", r.body)
	}
	if r.Data["session_id"] == s.Session.SessionID || r.Data["attribution_preserved"] != true || r.Data["ab_test_variant_id"] != "bold" {
		t.Errorf("renewal by ids gave %s", r.body)
	}
	events := byID(t, waitRows(t, tb, "events_v1", 2), "event_id")
	expect(t, "before expiry", events["step-1"], map[string]any{"session_id": s.Session.SessionID, "segment_id": "mobile", "user_id": s.UserID})
	expect(t, "after expiry", events["step-2"], map[string]any{"session_id": r.Data["session_id"], "segment_id": "mobile", "user_id": s.UserID})
	sessions := byID(t, waitRows(t, tb, "session_v1", 2), "session_id")
	expect(t, "successor", sessions[r.Data["session_id"].(string)], map[string]any{"original_utm_source": "google", "is_renewal": 1})
}
