package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

func startSelling(t testing.TB, tb *standin.Server, options ...string) *caddy {
	t.Helper()
	return startLanding(t, globals(tinybirdSink(tb))+landing("10m", options...))
}

// elsewhere is another site's page, or its server, that tells of conversions.
func elsewhere(t testing.TB, site string, body any, header ...string) *answer {
	t.Helper()
	v := newVisitor(t, site, desktop, false)
	return v.post("events/external-track", body, append([]string{"Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site"}, header...)...)
}

func sold(clickID any, more ...any) map[string]any {
	return with(map[string]any{"click_id": clickID, "event_id": "sold"}, more...)
}

func clickIDOf(t testing.TB, v *visitor, body any) string {
	t.Helper()
	id, _ := v.post("events/session/init", body).ok(t).Data["click_id"].(string)
	return id
}

// TestConversionElsewhere: what a visitor buys on another site is a row of the
// session that led there, told by page or server, whatever became of the session
// and its campaign since.
func TestConversionElsewhere(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startSelling(t, tb, roomy)
	v := newVisitor(t, c.site, iPhone, true)
	s := v.visit("/?utm_source=google")
	token := map[string]any{"token": s.Session.Token}
	id := clickIDOf(t, v, token)
	if again := clickIDOf(t, v, s.ids()); again != id || id == "" {
		t.Errorf("by ids the session's click id is %q, not %q", again, id)
	}
	if a := v.post("events/session/renew", token).ok(t); a.Data["click_id"] != id {
		t.Errorf("one that lives has another: %s", a.body)
	}
	told := elsewhere(t, c.site, sold(id, "event_id", "nothing")).ok(t).Data["session_id"].(string)
	for route, body := range map[string]map[string]any{
		"events/track":         {"event_id": "forged", "event_type": "conversion"},
		"events/session/renew": {},
	} {
		if a := newVisitor(t, c.site, desktop, false).post(route, with(body, "session_id", told, "campaign_id", "cmp_1")); a.status != 401 {
			t.Errorf("who has a click id may call %s: %s", route, a.body)
		}
	}

	a := elsewhere(t, c.site, sold(id, "event_value", 49.9, "event_value_currency", "EUR", "event_uuid", "order-1", "page_url", "https://shop.example/thanks?name=jane&utm_source=x",
		"referrer_url", nil, "viewport_width", 800, "viewport_height", nil, "session_id", "made-up", "segment_id", "made-up"), "Cookie", "x=y").ok(t)
	if fmt.Sprint(a.Data) != fmt.Sprint(map[string]any{"event_id": "sold", "session_id": sessionctx.WithoutMAC(s.Session.SessionID), "campaign_id": "cmp_1", "queued": true}) {
		t.Errorf("answer %s", a.body)
	}
	if h := a.header; h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" || len(h.Values("Set-Cookie")) > 0 || h.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", h)
	}
	row := waitRows(t, tb, "events_v1", 2)[1]
	for column, want := range map[string]any{
		"session_id": s.Session.SessionID, "user_id": s.UserID, "workspace_id": "ws_1", "project_id": "pr_1", "campaign_id": "cmp_1",
		"segment_id": *s.SegmentID, "landing_page_id": s.LandingPageID, "ab_test_id": *s.ABTestID, "ab_test_variant_id": *s.ABTestVariantID,
		"event_id": "sold", "event_type": "conversion", "event_placement": "external", "session_event_sequence": 0, "event_value": 49.9,
		"event_value_currency": "EUR", "event_value_type": "dynamic", "page_url": "https://shop.example/thanks?utm_source=x", "referrer_url": nil,
		"viewport_width": 800, "viewport_height": nil, "environment": "production", "campaign_environment": "production",
	} {
		if fmt.Sprint(row[column]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", column, row[column], want)
		}
	}
	var metadata map[string]any
	if err := json.Unmarshal([]byte(row["metadata"].(string)), &metadata); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(s.Session.CreatedAt).UTC().Format("2006-01-02T15:04:05.000Z")
	if fmt.Sprint(metadata) != fmt.Sprint(map[string]any{"source": "external_tracking_script", "click_id": id, "session_timestamp": at}) {
		t.Errorf("metadata %v", metadata)
	}

	// A shop's server knows no page, and its systems change the case of URLs.
	server := newVisitor(t, c.site, "shop/1.0", false)
	server.post("events/external-track", sold(strings.ToUpper(id), "event_id", "paid"), "Origin", "", "Sec-Fetch-Site", "", "Sec-Fetch-Mode", "", "Sec-Fetch-Dest", "").ok(t)
	if rows := waitRows(t, tb, "events_v1", 3); rows[2]["page_url"] != "external" || fmt.Sprint(rows[2]["event_value"]) != "0" || rows[2]["event_value_currency"] != "USD" {
		t.Errorf("row %v", rows[2])
	}

	// The process dies, and the campaign is over when it is back.
	c.kill()
	c.write(globals(tinybirdSink(tb)) + "SITE {\n\t" + campaignLines("cmp_2") + "\n\troot DIR/www\n\tfile_server\n}\n")
	c.start()
	elsewhere(t, c.site, sold(id, "event_uuid", "order-2")).ok(t)
	rows := waitRows(t, tb, "events_v1", 4)
	if rows[3]["campaign_id"] != "cmp_1" || rows[3]["workspace_id"] != "ws_1" || rows[3]["segment_id"] != *s.SegmentID {
		t.Errorf("row %v", rows[3])
	}
}

// TestRenewedSessionHasAClickIDOfItsOwn: that of the session before stays good.
func TestRenewedSessionHasAClickIDOfItsOwn(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startSelling(t, tb, roomy)
	old := mint(t, c.ring(), "cmp_1", 12*time.Minute, 10*time.Minute)
	v := newVisitor(t, c.site, desktop, false)
	a := v.post("events/session/renew", map[string]any{"token": old.token()}).ok(t)
	id, _ := a.Data["click_id"].(string)
	if id == "" || id == c.ring().OutboundClickID(&old.Session) {
		t.Fatalf("the successor's click id is %q", id)
	}
	if got := elsewhere(t, c.site, sold(id)).ok(t).Data["session_id"]; got != sessionctx.WithoutMAC(a.Data["session_id"].(string)) {
		t.Errorf("it is of session %v, not %v", got, a.Data["session_id"])
	}
	waitRows(t, tb, "session_v1", 1)
	// One that lives, and has no row yet, is no visit that conversions could count for.
	living := map[string]any{"token": v.visit("/").Session.Token}
	if a := v.post("events/session/renew", living).ok(t); a.Data["click_id"] != nil {
		t.Errorf("a session without a row has a click id: %s", a.body)
	}
	clickIDOf(t, v, living)
	if a := v.post("events/session/renew", living).ok(t); a.Data["click_id"] == nil {
		t.Errorf("one with a row has none: %s", a.body)
	}
}

// TestConversionsCountOnce: a retry is the same row, whoever repeats it; another
// conversion is another; and a click id is good for so many.
func TestConversionsCountOnce(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startSelling(t, tb, roomy)
	v := newVisitor(t, c.site, desktop, false)
	id := clickIDOf(t, v, map[string]any{"token": v.visit("/").Session.Token})
	same := []map[string]any{
		sold(id, "event_uuid", "1"),
		sold(id, "event_uuid", "2", "event_value", 5),
		sold(id, "event_uuid", "1", "event_id", "subscribed"), // the same order, another conversion
		sold(id, "event_uuid", "1", "event_id", "sold 2"),
		sold(id, "event_uuid", "2 1"),
		sold(id, "event_uuid", strings.Repeat("x", 200)+"1"),
		sold(id, "event_uuid", strings.Repeat("x", 200)+"2"),
		sold(id),
		sold(id, "event_value", 5),
	}
	var wg sync.WaitGroup
	for range 3 * sessionctx.MaxConversions {
		for _, body := range same {
			elsewhere(t, c.site, body).ok(t)
		}
	}
	for range 4 {
		wg.Go(func() { elsewhere(t, c.site, same[0]).ok(t) })
	}
	wg.Wait()
	for n := len(same); n < sessionctx.MaxConversions; n++ {
		elsewhere(t, c.site, sold(id, "event_uuid", fmt.Sprint("n", n))).ok(t)
	}
	if a := elsewhere(t, c.site, sold(id, "event_uuid", "one more")); a.status != 403 || a.Code != "too_many_conversions" {
		t.Errorf("one more: %d %s", a.status, a.body)
	}
	elsewhere(t, c.site, same[len(same)-1]).ok(t) // a retry of what was taken is no more
	other := newVisitor(t, c.site, desktop, false)
	elsewhere(t, c.site, sold(clickIDOf(t, other, map[string]any{"token": other.visit("/").Session.Token}), "event_uuid", "1")).ok(t)
	if rows := waitRows(t, tb, "events_v1", sessionctx.MaxConversions+1); len(rows) != sessionctx.MaxConversions+1 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestConversionsAreRefused: what can't be a conversion is told so, and touches
// nobody's session.
func TestConversionsAreRefused(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startSelling(t, tb, "rate_limit 60 40")
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	id := clickIDOf(t, v, map[string]any{"token": s.Session.Token})
	unknown := "aaaaaaaaaaaaaaaa"
	for _, tt := range []struct {
		name, method string
		body         any
		status       int
		code         string
	}{
		{"no click id", "POST", map[string]any{"event_id": "sold"}, 400, "missing_field"},
		{"null as click id", "POST", sold(nil), 400, "missing_field"},
		{"no event", "POST", map[string]any{"click_id": id}, 400, "invalid_event"},
		{"no JSON", "POST", "click_id=" + id, 400, "invalid_json"},
		{"an unknown click id", "POST", sold(unknown), 401, "unknown_click_id"},
		{"no click id's form", "POST", sold(id + "/"), 401, "unknown_click_id"},
		{"another's click id", "POST", sold("IwAR0_x"), 401, "unknown_click_id"},
		{"a session id", "POST", sold(s.Session.SessionID), 401, "unknown_click_id"},
		{"a token", "POST", sold(s.Session.Token), 401, "unknown_click_id"},
		{"too long", "POST", sold(id, "metadata", strings.Repeat("x", 64<<10)), 413, "body_too_large"},
		{"another method", "GET", nil, 405, "method_not_allowed"},
		{"a form", "POST", sold(id), 415, "unsupported_media_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site"}
			if tt.name == "a form" {
				header = append(header, "Content-Type", "application/x-www-form-urlencoded")
			}
			a := v.call(tt.method, "events/external-track", tt.body, header...)
			if a.status != tt.status || a.Code != tt.code || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %s, header %v", a.status, a.body, a.header)
			}
		})
	}

	// Another site's page uses up what it may: the visitor's own calls go on.
	eventually(t, 30*time.Second, "the other site is limited", func() error {
		if a := elsewhere(t, c.site, sold(unknown)); a.status != 429 || a.header.Get("Retry-After") == "" {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "mine", "event_type": "system"}).ok(t)
	if rows := waitRows(t, tb, "events_v1", 1); len(rows) != 1 || rows[0]["event_id"] != "mine" {
		t.Errorf("rows %v", rows)
	}

	// A preflight is for everyone.
	a := v.call("OPTIONS", "events/external-track", nil, "Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
}

// TestClickIDsFollowConsent: there is one while consent allows it, and a refusal
// makes it void; who proves nothing but ids can't do that to others.
func TestClickIDsFollowConsent(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb))
	v := newVisitor(t, c.site, iPhone, true)
	s := v.visit("/")
	token := map[string]any{"token": s.Session.Token}
	if id := clickIDOf(t, v, token); id != "" {
		t.Errorf("before consent there is %s", id)
	}
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	id := clickIDOf(t, v, token)
	elsewhere(t, c.site, sold(id, "event_uuid", "a")).ok(t)

	stranger := newVisitor(t, c.site, desktop, false)
	stranger.post("consent/record", with(s.consents(noPurposes), "session_id", s.Session.SessionID))
	elsewhere(t, c.site, sold(id, "event_uuid", "b")).ok(t)

	refused := func(how string) {
		t.Helper()
		if a := elsewhere(t, c.site, sold(id, "event_uuid", "c")); a.status != 401 {
			t.Errorf("after the refusal %s: %d %s", how, a.status, a.body)
		}
		// Who brings no cookies does not know of it.
		stranger := newVisitor(t, c.site, iPhone, false)
		for who, id := range map[string]string{
			"the visitor": clickIDOf(t, v, token), "another": clickIDOf(t, stranger, token), "by ids": clickIDOf(t, stranger, s.ids()),
		} {
			if id != "" {
				t.Errorf("after the refusal %s, %s has %s", how, who, id)
			}
		}
		if a := stranger.post("events/session/init", token, "Cookie", saidYes).ok(t); a.Data["click_id"] != nil {
			t.Errorf("after the refusal %s, a browser that says yes by a cookie gets %s", how, a.body)
		}
	}
	v.post("consent/record", with(token, "purposes", noPurposes)).ok(t)
	refused("by a record")
	no := v.cookies()
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	elsewhere(t, c.site, sold(id, "event_uuid", "agreed")).ok(t)
	if again := clickIDOf(t, v, token); again != id {
		t.Errorf("after another yes there is %q, not %q", again, id)
	}
	// A call that had set out before the yes arrives after it.
	newVisitor(t, c.site, iPhone, false).post("events/session/init", token, "Cookie", no).ok(t)
	if again := clickIDOf(t, v, token); again != id {
		t.Errorf("after a call with the cookies of before there is %q, not %q", again, id)
	}
	elsewhere(t, c.site, sold(id, "event_uuid", "overtaken")).ok(t)
	saysNo := strings.Replace(saidNo, "timestamp%22%3A1%2C", fmt.Sprintf("timestamp%%22%%3A%d%%2C", time.Now().UnixMilli()), 1)
	newVisitor(t, c.site, iPhone, false).post("events/session/init", token, "Cookie", saysNo).ok(t)
	refused("by the manager's cookie")
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	if again := clickIDOf(t, v, token); again != id {
		t.Errorf("after another yes there is %q, not %q", again, id)
	}
	elsewhere(t, c.site, sold(id, "event_uuid", "d")).ok(t)

	// The reference manager's own calls name no session: its choice is in a cookie.
	manager := newVisitor(t, c.site, desktop, true)
	m := manager.visit("/")
	mToken := map[string]any{"token": m.Session.Token}
	for range 2 {
		manager.post("consent/record", m.consents(allPurposes)).ok(t)
		given := clickIDOf(t, manager, mToken)
		elsewhere(t, c.site, sold(given)).ok(t)
		manager.post("consent/record", with(mToken, "purposes", noPurposes)).ok(t)
		if a := elsewhere(t, c.site, sold(given)); a.status != 401 {
			t.Errorf("after the manager's visitor refused: %d %s", a.status, a.body)
		}
		time.Sleep(2 * time.Millisecond) // decisions are told apart by it
	}

	// Nobody may ever look at a page that is fetched ahead.
	early := newVisitor(t, c.site, iPhone, true)
	early.visit("/")
	if a := v.post("events/session/init", token, "Sec-Purpose", "prefetch;prerender").ok(t); a.Data["click_id"] != nil {
		t.Errorf("a prerendered page gets %s", a.body)
	}
}

// TestRefusalsBesideCalls: a call that is on its way when its visitor refuses makes
// nothing good again.
func TestRefusalsBesideCalls(t *testing.T) {
	t.Parallel()
	c := startSelling(t, standin.New(t), roomy)
	for range 60 {
		v := newVisitor(t, c.site, desktop, false)
		token := map[string]any{"token": v.visit("/").Session.Token}
		var id string
		var wg sync.WaitGroup
		wg.Go(func() { id = clickIDOf(t, v, token) })
		wg.Go(func() { v.post("consent/record", with(token, "purposes", noPurposes)).ok(t) })
		wg.Wait()
		if id == "" {
			continue
		}
		if a := elsewhere(t, c.site, sold(id)); a.status != 401 {
			t.Fatalf("the click id of who has refused is good: %d %s", a.status, a.body)
		}
	}
}

// TestClickIDsOverNodes: any node that shares the store knows them; without a
// store there are none, and what was told of one comes again.
func TestClickIDsOverNodes(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	r := startRedis(t)
	url := "redis redis://127.0.0.1:" + r.port + "/0"
	a := startNode(t, nil, tb, url)
	a.ring()
	b := startNode(t, a, tb, url)
	v := newVisitor(t, a.site, desktop, false)
	token := map[string]any{"token": v.visit("/").Session.Token}
	id := clickIDOf(t, v, token)
	elsewhere(t, b.site, sold(id)).ok(t)

	// What a visitor decides while the store hangs is so when it goes on.
	shy := newVisitor(t, a.site, desktop, false)
	said := map[string]any{"token": shy.visit("/").Session.Token}
	decided := clickIDOf(t, shy, said)
	for _, d := range []struct {
		purposes map[string]any
		status   int
	}{{noPurposes, 401}, {allPurposes, 200}} {
		r.cmd.Process.Signal(syscall.SIGSTOP)
		shy.post("consent/record", with(said, "purposes", d.purposes)).ok(t)
		r.cmd.Process.Signal(syscall.SIGCONT)
		eventually(t, 60*time.Second, "the decision is known at the other node", func() error {
			if a := elsewhere(t, b.site, sold(decided)); a.status != d.status {
				return fmt.Errorf("%d %s", a.status, a.body)
			}
			return nil
		})
	}

	r.kill()
	later := elsewhere(t, b.site, sold(id, "event_uuid", "later"))
	if later.status != 503 || later.Code != "store_unavailable" || later.header.Get("Retry-After") == "" {
		t.Errorf("without a store: %d %s", later.status, later.body)
	}
	if got := clickIDOf(t, v, token); got != "" {
		t.Errorf("without a store there is %s", got)
	}
	waitRows(t, tb, "events_v1", 2)
}

// TestClickIDsAfterARevokedKey: what a revoked key had made is unknown, and what
// the next one makes is good.
func TestClickIDsAfterARevokedKey(t *testing.T) {
	t.Parallel()
	c := startSelling(t, standin.New(t), roomy)
	v := newVisitor(t, c.site, desktop, false)
	ids := v.visit("/").ids()
	id := clickIDOf(t, v, ids)
	c.mustKeys("rotate", "--revoke")
	if a := elsewhere(t, c.site, sold(id)); a.status != 401 {
		t.Errorf("after its key was revoked: %d %s", a.status, a.body)
	}
	next := newVisitor(t, c.site, desktop, false)
	elsewhere(t, c.site, sold(clickIDOf(t, next, map[string]any{"token": next.visit("/").Session.Token}))).ok(t)
}

// TestSessionIsValidated: for clients that ask, always with 200 and at the top
// level; nothing is made or renewed.
func TestSessionIsValidated(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startSelling(t, tb, "allow_origin https://www.example.com")
	ring := c.ring()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	old := mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
	foreign := mint(t, ring, "cmp_9", time.Minute, 10*time.Minute)
	for _, tt := range []struct {
		name   string
		body   any
		header []string
		valid  bool
		reason string
	}{
		{"ids", s.ids(), nil, true, "valid"},
		{"session and user", map[string]any{"session_id": s.Session.SessionID, "user_id": s.UserID}, nil, true, "valid"},
		{"a token", map[string]any{"token": s.Session.Token}, nil, true, "valid"},
		{"ended", map[string]any{"session_id": old.ID, "user_id": old.UserID, "campaign_id": "cmp_1"}, nil, false, "expired"},
		{"an ended token", map[string]any{"token": old.token()}, nil, false, "expired"},
		{"made up", map[string]any{"session_id": "0198c5a0-0000-8000-8000-000000000000", "user_id": s.UserID}, nil, false, "not_found"},
		{"no id", map[string]any{"session_id": "x"}, nil, false, "not_found"},
		{"nothing", map[string]any{}, nil, false, "not_found"},
		{"another user", map[string]any{"session_id": s.Session.SessionID, "user_id": old.UserID}, nil, false, "not_found"},
		{"an unknown campaign", map[string]any{"session_id": foreign.ID, "user_id": foreign.UserID, "campaign_id": "cmp_9"}, nil, false, "not_found"},
		{"a cookie", map[string]any{"session_id": s.Session.SessionID}, []string{"Cookie", (&minted{Session: old.Session, ring: ring, campaign: old.campaign}).cookies()}, true, "valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := v.post("events/session/validate", tt.body, tt.header...)
			var got map[string]any
			if err := json.Unmarshal(a.body, &got); err != nil {
				t.Fatal(err)
			}
			if a.status != 200 || len(got) != 2 || got["valid"] != tt.valid || got["reason"] != tt.reason || len(a.header.Values("Set-Cookie")) > 0 {
				t.Errorf("%d %s, cookies %v", a.status, a.body, a.header.Values("Set-Cookie"))
			}
		})
	}
	if a := v.post("events/session/validate", s.ids(), "Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("another site: %d %s", a.status, a.body)
	}
	c.stop()
	if rows, _ := tb.Distinct("session_v1"); len(rows) > 0 {
		t.Errorf("it makes sessions: %v", rows)
	}
}

// TestTrackScript: other sites find it by its name, on each host, unless the
// site has it elsewhere or not at all.
func TestTrackScript(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	for name, text := range map[string]string{"index.html": plainPage, "track.js": "the site's own", "t.js": "the site's own"} {
		writePage(t, c, name, text)
	}
	moved, off, alone := "http://"+freeAddr(t), "http://"+freeAddr(t), "http://"+freeAddr(t)
	site := func(campaign string, options ...string) string {
		return " {\n\t" + campaignLines(campaign, options...) + "\n\troot DIR/www\n\ttry_files {path} /index.html\n\tfile_server\n}\n"
	}
	c.write(globals("") + "SITE" + site("cmp_1") + moved + site("cmp_2", "track_js /t.js") + off + site("cmp_3", "track_js off") +
		alone + " {\n\tsession_context_api {\n\t\ttrack_js /x/t.js\n\t}\n\troot DIR/www\n\tfile_server\n}\n")
	c.start()
	for _, tt := range []struct {
		method, url string
		ours        bool
	}{
		{"GET", c.site + "/track.js", true},
		{"GET", c.site + "/track.js?v=1", true},
		{"HEAD", c.site + "/track.js", true},
		{"GET", c.site + "/t.js", false},
		{"GET", moved + "/t.js", true},
		{"GET", moved + "/track.js", false},
		{"GET", off + "/track.js", false},
		{"GET", alone + "/x/t.js", true},
		{"GET", alone + "/track.js", false},
	} {
		t.Run(tt.method+" "+tt.url, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			h := res.Header
			if ours := h.Get("Cache-Control") == "public, max-age=3600"; res.StatusCode != 200 || ours != tt.ours {
				t.Fatalf("%d, header %v", res.StatusCode, h)
			}
			if tt.ours && (h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("Cross-Origin-Resource-Policy") != "cross-origin" || len(h.Values("Set-Cookie")) > 0) {
				t.Errorf("header %v", h)
			}
			if tt.method == "GET" && bytes.Contains(body, []byte("frbzztrack")) != tt.ours {
				t.Errorf("body %.80s", body)
			}
		})
	}
}
