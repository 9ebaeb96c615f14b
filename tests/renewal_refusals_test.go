package tests

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// twoCampaigns are cmp_1 and cmp_2, the latter with an origin of its own and
// nothing but tokens and cookies as proof.
const twoCampaigns = `
SITE {
	handle /other/* {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_2
			allow_origin https://partner.example
			legacy_ids off
			session_duration 10m
			rate_limit 1000000 100000
		}
		root DIR/www
		file_server
	}
	handle {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_1
			session_duration 10m
			rate_limit 1000000 100000
		}
		root DIR/www
		file_server
	}
}
`

// bodyA and bodyB are what the reference client sends to renew.
func bodyA(s *minted) map[string]any {
	return map[string]any{
		"old_session_id": s.ID, "user_id": s.UserID, "campaign_id": s.Campaign.ID, "workspace_id": "ws_1", "project_id": "pr_1",
		"landing_page_id": "", "segment_id": nil, "preserved_attribution": nil, "current_url_utm": map[string]any{}, "current_referrer": "",
		"ab_test_id": nil, "ab_test_variant_id": nil,
	}
}

func bodyB(s *minted) map[string]any {
	return map[string]any{
		"new_session_id": "0190a0c0-0000-7000-8000-000000000000", "campaign_id": s.Campaign.ID, "campaign_slug": "spring", "workspace_id": "ws_1",
		"project_id": "pr_1", "session_timeout_minutes": 30, "user_id": s.UserID, "original_hostname": "lp.example.com",
	}
}

// TestRenewalsRefused: each refusal has its code, and leaves nothing behind.
func TestRenewalsRefused(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	trusting := strings.Replace(globals(tinybirdSink(tb)), "auto_https off", "auto_https off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}", 1)
	c := startLanding(t, trusting+twoCampaigns)
	ring := c.ring()
	const ended = 12 * time.Minute
	mine, other := mint(t, ring, "cmp_1", ended, 10*time.Minute), mint(t, ring, "cmp_1", ended, 10*time.Minute)
	second, gone := mint(t, ring, "cmp_2", ended, 10*time.Minute), mint(t, ring, "cmp_gone", ended, 10*time.Minute)
	old := mint(t, ring, "cmp_1", 31*24*time.Hour, 10*time.Minute)
	stale := mint(t, ring, "cmp_1", 26*time.Hour, 10*time.Minute)
	early := mint(t, ring, "cmp_1", -time.Hour, 10*time.Minute)
	foreignRing, err := sessionctx.NewRing(rand.Reader, time.Now().Add(-time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	foreign := mint(t, foreignRing, "cmp_1", ended, 10*time.Minute)
	cookieOf := func(s *minted, name string) string {
		for pair := range strings.SplitSeq(s.cookies(), "; ") {
			if v, ok := strings.CutPrefix(pair, name+"="); ok {
				return v
			}
		}
		t.Fatalf("no cookie %s in %s", name, s.cookies())
		return ""
	}
	token := mine.token()
	flipped := func(s string, i int) string { b := []byte(s); b[i] ^= 1; return string(b) }
	byToken := func(token any) map[string]any { return map[string]any{"token": token} }
	const renew, init = "events/session/renew", "events/session/init"
	for i, tt := range []struct {
		name   string
		route  string
		body   any
		status int
		code   string
		header []string
	}{
		{"token of another server", renew, byToken(foreign.token()), 401, "invalid_session", nil},
		{"token, one bit of its key id", renew, byToken(flipped(token, 3)), 401, "invalid_session", nil},
		{"token, one bit of its nonce", renew, byToken(flipped(token, 15)), 401, "invalid_session", nil},
		{"token, one bit of its last byte", renew, byToken(flipped(token, len(token)-1)), 401, "invalid_session", nil},
		{"token cut short", renew, byToken(token[:len(token)-1]), 401, "invalid_session", nil},
		{"token with more behind it", renew, byToken(token + "A"), 401, "invalid_session", nil},
		{"token in white space", renew, byToken(" " + token), 401, "invalid_session", nil},
		{"session cookie as a token", renew, byToken(cookieOf(mine, "fb_session_cmp_1")), 401, "invalid_session", nil},
		{"user cookie as a token", renew, byToken(cookieOf(mine, "fb_user_ws_1")), 401, "invalid_session", nil},
		{"attribution cookie as a token", renew, byToken(cookieOf(mine, "fb_attribution_cmp_1")), 401, "invalid_session", nil},
		{"state of the store as a token", renew, byToken(fmt.Sprintf("%x", ring.SealState(&mine.Session, mine.CreatedAt))), 401, "invalid_session", nil},
		{"token as a session cookie", renew, map[string]any{"campaign_id": "cmp_1"}, 401, "invalid_session", []string{"Cookie", "fb_session_cmp_1=" + token}},
		{"user cookie as a session cookie", renew, map[string]any{"campaign_id": "cmp_1"}, 401, "invalid_session", []string{"Cookie", "fb_session_cmp_1=" + cookieOf(mine, "fb_user_ws_1")}},
		{"session cookie of another campaign", renew, map[string]any{"campaign_id": "cmp_1"}, 401, "invalid_session", []string{"Cookie", "fb_session_cmp_1=" + cookieOf(second, "fb_session_cmp_2")}},
		{"token as a number", renew, byToken(7), 401, "invalid_session", nil},
		{"token as false", renew, byToken(false), 401, "invalid_session", nil},
		{"token as a list of itself", renew, byToken([]any{token}), 401, "invalid_session", nil},
		{"good ids beside a bad token", renew, with(bodyA(mine), "token", "x"), 401, "invalid_session", nil},
		{"good cookie beside a bad token", renew, byToken("x"), 401, "invalid_session", []string{"Cookie", mine.cookies()}},
		{"nothing", renew, map[string]any{}, 401, "invalid_session", nil},
		{"null and empty tokens alone", renew, map[string]any{"token": nil, "campaign_id": "cmp_1"}, 401, "invalid_session", nil},
		{"a list", renew, []any{token}, 400, "invalid_json", nil},
		{"form A without the old id", renew, with(bodyA(mine), "old_session_id", ""), 401, "invalid_session", nil},
		{"form A without the user", renew, with(bodyA(mine), "user_id", nil), 401, "invalid_session", nil},
		{"form A of types", renew, with(bodyA(mine), "old_session_id", 1, "user_id", []any{}), 401, "invalid_session", nil},
		{"form A, a bit of the id", renew, with(bodyA(mine), "old_session_id", flipped(mine.ID, 35)), 401, "invalid_session", nil},
		{"form A, the id in capitals", renew, with(bodyA(mine), "old_session_id", strings.ToUpper(mine.ID)), 401, "invalid_session", nil},
		{"form A, ids of another server", renew, bodyA(foreign), 401, "invalid_session", nil},
		{"form A, the user's id as the session's", renew, with(bodyA(mine), "old_session_id", mine.UserID), 401, "invalid_session", nil},
		{"form A, ids past legacy_ids", renew, bodyA(stale), 401, "invalid_session", nil},
		{"form A, an id from the future", renew, bodyA(early), 401, "invalid_session", nil},
		{"form A where legacy_ids is off", renew, bodyA(second), 401, "invalid_session", nil},
		{"form A of another user, nothing known of it", renew, with(bodyA(mine), "user_id", other.UserID), 401, "invalid_session", nil},
		{"form A of another campaign, nothing known of it", renew, with(bodyA(mine), "campaign_id", "cmp_2"), 401, "invalid_session", nil},
		{"form B by its new id alone", renew, bodyB(mine), 401, "invalid_session", nil},
		{"form B with a known session as its new id", renew, with(bodyB(mine), "new_session_id", mine.ID), 401, "invalid_session", nil},
		{"token for another campaign", renew, with(byToken(token), "campaign_id", "cmp_2"), 403, "campaign_mismatch", nil},
		{"token for a campaign that is none", renew, with(byToken(token), "campaign_id", "cmp_9"), 403, "campaign_mismatch", nil},
		{"token for a number", renew, with(byToken(token), "campaign_id", 1), 403, "campaign_mismatch", nil},
		{"token for another user", renew, with(byToken(token), "user_id", other.UserID), 403, "user_mismatch", nil},
		{"token for a number of a user", renew, with(byToken(token), "user_id", 5), 403, "user_mismatch", nil},
		{"token of a campaign that is gone", renew, byToken(gone.token()), 403, "unknown_campaign", nil},
		{"ids of a campaign that is gone", renew, bodyA(gone), 403, "unknown_campaign", nil},
		{"token of a line too old", renew, byToken(old.token()), 410, "session_too_old", nil},
		{"cookie of a line too old", renew, map[string]any{"campaign_id": "cmp_1"}, 410, "session_too_old", []string{"Cookie", "fb_session_cmp_1=" + cookieOf(old, "fb_session_cmp_1")}},
		{"init of an expired token", init, byToken(token), 409, "session_expired", nil},
		{"track of an expired token", "events/session/track", byToken(token), 409, "session_expired", nil},
		{"event of an expired token", "events/track", map[string]any{"token": token, "event_id": "e", "event_type": "system"}, 409, "session_expired", nil},
		{"batch of an expired token", "events/batch-track", map[string]any{"token": token, "events": []any{map[string]any{"event_id": "e", "event_type": "system"}}}, 409, "session_expired", nil},
		{"init of a line too old", init, map[string]any{"campaign_id": "cmp_1"}, 410, "session_too_old", []string{"Cookie", "fb_session_cmp_1=" + cookieOf(old, "fb_session_cmp_1")}},
		{"another site", renew, byToken(token), 403, "origin_not_allowed", []string{"Origin", "https://evil.example", "Cookie", mine.cookies()}},
		{"another campaign's friend", renew, byToken(token), 403, "origin_not_allowed", []string{"Origin", "https://partner.example", "Sec-Fetch-Site", "cross-site", "Cookie", mine.cookies()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// An address each: who proves nothing thirty times is stopped.
			a := newVisitor(t, c.site, desktop, false).post(tt.route, tt.body, append([]string{"X-Forwarded-For", fmt.Sprint("192.0.2.", i)}, tt.header...)...)
			if a.status != tt.status || a.Code != tt.code || a.Success || a.Error == "" || a.Data != nil {
				t.Fatalf("got %d %q, want %d %q: %s", a.status, a.Code, tt.status, tt.code, a.body)
			}
			if set := a.header.Values("Set-Cookie"); len(set) > 0 {
				t.Errorf("cookies %v", set)
			}
			if origin := a.header.Get("Access-Control-Allow-Origin"); tt.code == "origin_not_allowed" && origin != "" {
				t.Errorf("CORS for %s", origin)
			}
		})
	}
	for _, outcome := range []string{"renewed", "standing", "derived", "living"} {
		if n := c.metric(`caddy_session_context_renewals_total{outcome="` + outcome + `"}`); n != 0 {
			t.Errorf("%v refused renewals count as %s", n, outcome)
		}
	}
	for _, route := range []string{renew, init, "events/track", "events/batch-track", "events/session/track"} {
		if n := c.metric(`caddy_session_context_api_answers_total{code="ok",route="` + route + `"}`); n != 0 {
			t.Errorf("%v refusals of %s count as ok", n, route)
		}
	}
	if n := c.metric("caddy_session_context_outbox_committed_rows_total"); n != 0 {
		t.Errorf("refusals committed %v rows", n)
	}
	// No refusal claimed anything: the first renewal that is right is the
	// first of its line.
	v := newVisitor(t, c.site, desktop, false)
	for _, s := range []*minted{mine, other, second} {
		a := v.post(renew, byToken(s.token())).ok(t)
		if a.Data["renewal_count"] != 1.0 {
			t.Errorf("%v", a.Data)
		}
	}
	if n := c.metric(`caddy_session_context_renewals_total{outcome="renewed"}`); n != 3 {
		t.Errorf("%v renewals of 3 made something", n)
	}
}

// TestReferenceBodiesOfRenew: both forms work as far as they prove anything,
// and the id that the client proposes never decides.
func TestReferenceBodiesOfRenew(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+twoCampaigns)
	ring := c.ring()
	v := newVisitor(t, c.site, desktop, false)
	for name, call := range map[string]func(s *minted) *answer{
		"A by ids":                    func(s *minted) *answer { return v.post("events/session/renew", bodyA(s)) },
		"A by ids with a proposed id": func(s *minted) *answer { return v.post("events/session/renew", with(bodyA(s), "new_session_id", "x")) },
		"A with a token":              func(s *minted) *answer { return v.post("events/session/renew", with(bodyA(s), "token", s.token())) },
		"A with an empty token":       func(s *minted) *answer { return v.post("events/session/renew", with(bodyA(s), "token", "")) },
		"B with a cookie":             func(s *minted) *answer { return v.post("events/session/renew", bodyB(s), "Cookie", s.cookies()) },
		"B with a token":              func(s *minted) *answer { return v.post("events/session/renew", with(bodyB(s), "token", s.token())) },
		"B with the session's own id": func(s *minted) *answer { return v.post("events/session/renew", with(bodyB(s), "session_id", s.ID)) },
		"a token and nothing else":    func(s *minted) *answer { return v.post("events/session/renew", map[string]any{"token": s.token()}) },
		"a token in a beacon": func(s *minted) *answer {
			return v.post("events/session/renew", map[string]any{"token": s.token()}, "Content-Type", "text/plain;charset=UTF-8")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
			a := call(s).ok(t)
			next, err := s.Renew(ring, s.campaign, time.Now().UnixMilli())
			if err != nil {
				t.Fatal(err)
			}
			if a.Data["session_id"] != next.ID || a.Data["user_id"] != s.UserID || a.Data["session_duration_minutes"] != 10.0 || a.Data["attribution_duration_days"] != 30.0 {
				t.Errorf("%s", a.body)
			}
			left := time.Until(time.UnixMilli(int64(a.Data["expires_at"].(float64))))
			if left <= 0 || left > 10*time.Minute {
				t.Errorf("it ends in %v", left)
			}
			proved := strings.Contains(name, "token") && !strings.Contains(name, "empty") || strings.Contains(name, "cookie")
			if (a.Data["token"] != nil) != proved || (a.Data["original_session_id"] == s.ID) != proved || a.Data["attribution_preserved"] != proved {
				t.Errorf("proved by more than ids: %v, got %s", proved, a.body)
			}
			// One that lives comes back as it is, to whoever proves it.
			again := call(s).ok(t)
			if again.Data["session_id"] != next.ID || again.Data["expires_at"] != a.Data["expires_at"] {
				t.Errorf("the second time %s, the first %s", again.body, a.body)
			}
		})
	}
}

// TestIdentityConflict: a token is good for its own session, and never replaces
// the identity that a valid cookie holds.
func TestIdentityConflict(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+twoCampaigns)
	ring := c.ring()
	v := newVisitor(t, c.site, desktop, false)
	const name = "caddy_session_context_identity_conflicts_total"
	before := c.metric(name)
	want := before
	mine, other := mint(t, ring, "cmp_1", time.Minute, 10*time.Minute), mint(t, ring, "cmp_1", time.Minute, 10*time.Minute)
	ended := mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
	live, over, own := mine.token(), ended.token(), mine.cookies()
	only := func(s *minted, name string) string {
		for pair := range strings.SplitSeq(s.cookies(), "; ") {
			if strings.HasPrefix(pair, name) {
				return pair
			}
		}
		return ""
	}
	for _, tt := range []struct {
		name, cookies string
		conflict      bool
	}{
		{"all of another user's cookies", other.cookies(), true},
		{"another user's user cookie", only(other, "fb_user"), true},
		{"another user's session cookie", only(other, "fb_session"), true},
		{"its own cookies", own, false},
		{"no cookies", "", false},
		{"a damaged cookie", only(other, "fb_user") + "x", false},
	} {
		for _, call := range []struct {
			route string
			body  map[string]any
		}{
			{"events/session/init", map[string]any{"token": live}},
			{"events/session/renew", map[string]any{"token": live}},
			{"events/session/renew", map[string]any{"token": over}},
			{"events/track", map[string]any{"token": live, "event_id": "e", "event_type": "system"}},
		} {
			if tt.cookies == own && call.body["token"] == over {
				continue
			}
			a := v.post(call.route, call.body, "Cookie", tt.cookies).ok(t)
			if tt.conflict {
				want++
				if set := a.header.Values("Set-Cookie"); len(set) > 0 {
					t.Errorf("%s, %s: sets %v", tt.name, call.route, set)
				}
			} else if id, ok := a.Data["user_id"]; ok && call.body["token"] == live && id != mine.UserID {
				t.Errorf("%s, %s: user %v", tt.name, call.route, id)
			}
			if got := c.metric(name); got != want {
				t.Fatalf("%s, %s: %v conflicts are counted, want %v", tt.name, call.route, got-before, want-before)
			}
		}
	}
	// Without a conflict the cookies are set: the test would see them.
	if set := v.post("events/session/init", map[string]any{"token": live}).ok(t).header.Values("Set-Cookie"); len(set) == 0 {
		t.Error("a token sets no cookie where there is none")
	}
}
