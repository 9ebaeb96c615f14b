package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// tinybirdSink is the app's block for a stand-in.
func tinybirdSink(s *standin.Server) string {
	return fmt.Sprintf("\t\tsink tinybird {\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t}", s.URL, standin.DefaultToken)
}

// landingSite is a site with segments and a test, beside a file server.
const landingSite = `
SITE {
	encode zstd gzip
	@mobile vars session.device.type mobile
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		session_duration DURATION
		OPTIONS
		segment mobile @mobile {
			landing_page lp_2
		}
		segment everyone
		ab_test hero {
			variant control 50
			variant bold 50
			winner bold
		}
	}
	root DIR/www
	file_server
}
`

func landing(duration string, options ...string) string {
	return strings.NewReplacer("DURATION", duration, "OPTIONS", strings.Join(options, "\n\t\t")).Replace(landingSite)
}

const plainPage = "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<title>Landing</title>\n</head>\n<body><h1>Hello</h1></body></html>\n"

func writePage(t testing.TB, c *caddy, name, content string) {
	t.Helper()
	p := filepath.Join(c.dir, "www", name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func waitRows(t testing.TB, s *standin.Server, datasource string, n int) []map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Wait(ctx, func() bool {
		rows, _ := s.Distinct(datasource)
		return len(rows) >= n
	}); err != nil {
		t.Fatalf("%s: %v", datasource, err)
	}
	rows, conflicts := s.Distinct(datasource)
	for _, c := range conflicts {
		for k, v := range c.First {
			// A retry is received later and counted on, perhaps after the session
			// was renewed; the first wins.
			retry := datasource == "events_v1" && (k == "timestamp" || k == "session_event_sequence" || k == "session_id")
			if c.Later[k] != v && !retry {
				t.Fatalf("%s: two rows of id %s differ in %s: %v, then %v", datasource, c.ID, k, v, c.Later[k])
			}
		}
	}
	return rows
}

// expect compares the columns that are named.
func expect(t testing.TB, what string, row map[string]any, want map[string]any) {
	t.Helper()
	for k, w := range want {
		got, there := row[k]
		if !there {
			t.Errorf("%s: column %s is missing", what, k)
			continue
		}
		if n, ok := got.(json.Number); ok {
			got = n.String()
		}
		switch n := w.(type) {
		case int:
			w = fmt.Sprint(n)
		case int64:
			w = fmt.Sprint(n)
		}
		if got != w {
			t.Errorf("%s: %s is %v, want %v", what, k, got, w)
		}
	}
}

func iso(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// TestWholeWalk goes the whole way once: a paid visit, its context, the page's
// beacons, expiry, renewal, another event, and every row that comes of it.
func TestWholeWalk(t *testing.T) {
	for _, cookies := range []bool{true, false} {
		t.Run(fmt.Sprintf("cookies=%v", cookies), func(t *testing.T) {
			t.Parallel()
			tb := standin.New(t)
			c := newCaddy(t)
			writePage(t, c, "offer/index.html", plainPage)
			c.write(globals(tinybirdSink(tb)) + landing("2s"))
			c.start()

			v := newVisitor(t, c.site, iPhone, cookies)
			ctx := v.visit("/offer/?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=shoes&utm_content=b&ref=partner&source=ad&gclid=Cj0abc&utm_junk=x",
				"Referer", "https://news.example/article?id=7")
			if got := *ctx.SegmentID; got != "mobile" {
				t.Errorf("segment is %s", got)
			}
			if ctx.LandingPageID != "lp_2" || *ctx.ABTestID != "hero" || *ctx.ABTestVariantID != "bold" {
				t.Errorf("landing page %s, test %s, variant %s", ctx.LandingPageID, *ctx.ABTestID, *ctx.ABTestVariantID)
			}
			s := ctx.Session
			if s.ExpiresAt-s.CreatedAt != 2000 {
				t.Errorf("the session lasts %d ms", s.ExpiresAt-s.CreatedAt)
			}

			body := with(ctx.ids(), "token", s.Token, "segment_id", "everyone", "ab_test_variant_id", "control")
			init := v.post("events/session/init", body).ok(t)
			if init.Data["session_id"] != s.SessionID {
				t.Errorf("init answers for session %v", init.Data["session_id"])
			}
			v.post("events/session/track", with(body, "utm_source", "forged", "country", "XX", "bot_score", 99)).ok(t)
			event := map[string]any{
				"session_id": s.SessionID, "token": s.Token, "event_id": "page-view", "event_type": "engagement", "event_value": 1,
				"segment_id": "forged", "ab_test_variant_id": "forged", "page_url": c.site + "/offer/?utm_source=google&secret=1", "event_uuid": "u-1",
			}
			first := v.post("events/track", event).ok(t)
			if first.Data["event_sequence"] != 1.0 {
				t.Errorf("the first event has sequence %v", first.Data["event_sequence"])
			}
			v.post("events/track", event).ok(t) // a retry
			v.post("events/batch-track", map[string]any{"token": s.Token, "events": []any{
				map[string]any{"session_id": s.SessionID, "event_id": "scroll-threshold-50", "event_type": "engagement", "scroll_percentage": 50.4},
				map[string]any{"session_id": s.SessionID, "event_type": "engagement"},
				map[string]any{"session_id": s.SessionID, "event_id": "form-submission", "event_type": "conversion", "event_value": "49.5", "form_id": "signup"},
			}}).ok(t)

			// The session ends. A client with a token is told to renew.
			time.Sleep(time.Until(time.UnixMilli(s.ExpiresAt)) + 50*time.Millisecond)
			if a := v.post("events/track", with(event, "event_uuid", "u-2")); a.status != http.StatusConflict || a.Code != "session_expired" {
				t.Fatalf("an expired session got %d %s", a.status, a.body)
			}
			renewed := v.post("events/session/renew", map[string]any{"token": s.Token}).ok(t)
			next := renewed.Data
			if next["session_id"] == s.SessionID || next["user_id"] != ctx.UserID || next["segment_id"] != "mobile" ||
				next["ab_test_variant_id"] != "bold" || next["attribution_preserved"] != true || next["renewal_count"] != 1.0 ||
				next["original_session_id"] != s.SessionID {
				t.Errorf("renewal gave %v", next)
			}
			again := v.post("events/session/renew", map[string]any{"token": s.Token}).ok(t)
			if again.Data["session_id"] != next["session_id"] || again.Data["expires_at"] != next["expires_at"] {
				t.Errorf("renewing twice gave %v and %v", next, again.Data)
			}
			v.post("events/track", map[string]any{
				"session_id": next["session_id"], "token": next["token"], "event_id": "purchase", "event_type": "conversion",
				"event_value": 99.9, "event_value_currency": "eur", "event_value_type": "dynamic", "event_uuid": "u-3",
			}).ok(t)

			sessions := byID(t, waitRows(t, tb, "session_v1", 2), "session_id")
			events := byID(t, waitRows(t, tb, "events_v1", 4), "event_id")
			traffic := waitRows(t, tb, "traffic_v1", 1)
			if len(sessions) != 2 || len(events) != 4 || len(traffic) != 1 {
				t.Fatalf("%d sessions, %d events, %d views", len(sessions), len(events), len(traffic))
			}

			firstTouch := map[string]any{
				"original_utm_source": "google", "original_utm_medium": "cpc", "original_utm_campaign": "spring",
				"original_utm_term": "shoes", "original_utm_content": "b", "original_ref": "partner", "original_source": "ad",
				"original_referrer": "https://news.example/article", "original_session_id": s.SessionID,
				"original_timestamp": iso(s.CreatedAt), "attribution_source": "server", "gclid": "Cj0abc",
				"segment_id": "mobile", "ab_test_id": "hero", "ab_test_variant_id": "bold", "landing_page_id": "lp_2",
				"user_id": ctx.UserID, "workspace_id": "ws_1", "project_id": "pr_1", "campaign_id": "cmp_1",
				"device_type": "mobile", "device_os": "iOS", "browser": "Safari", "is_mobile": 1, "language": "de-DE",
				"country": "Unknown", "user_agent": iPhone, "environment": "production", "campaign_environment": "production",
				"is_ssl": 0, "domain_type": "custom", "user_hostname": "127.0.0.1", "uri": "/offer/", "is_returning": 0,
				"utm_source": "google", "referrer": "https://news.example/article", "is_verified_bot": 0,
			}
			expect(t, "first session", sessions[s.SessionID], firstTouch)
			expect(t, "first session", sessions[s.SessionID], map[string]any{
				"timestamp": iso(s.CreatedAt), "is_renewal": 0, "renewal_count": 0,
			})
			renewedID := next["session_id"].(string)
			expect(t, "renewed session", sessions[renewedID], firstTouch)
			expect(t, "renewed session", sessions[renewedID], map[string]any{
				"timestamp": iso(int64(next["created_at"].(float64))), "is_renewal": 1, "renewal_count": 1,
			})
			for name, row := range events {
				expect(t, name, row, map[string]any{
					"segment_id": "mobile", "ab_test_id": "hero", "ab_test_variant_id": "bold", "landing_page_id": "lp_2",
					"user_id": ctx.UserID, "campaign_id": "cmp_1", "event_placement": "internal", "environment": "production",
				})
			}
			expect(t, "page-view", events["page-view"], map[string]any{
				"session_id": s.SessionID, "session_event_sequence": 1, "page_url": c.site + "/offer/?utm_source=google", "event_value": 1,
			})
			expect(t, "scroll", events["scroll-threshold-50"], map[string]any{"scroll_percentage": 50, "session_id": s.SessionID})
			expect(t, "form", events["form-submission"], map[string]any{"event_value": "49.5", "form_id": "signup", "event_type": "conversion"})
			expect(t, "purchase", events["purchase"], map[string]any{
				"session_id": renewedID, "session_event_sequence": 1, "event_value": "99.9", "event_value_currency": "EUR", "event_value_type": "dynamic",
			})
			expect(t, "view", traffic[0], map[string]any{
				"session_id": s.SessionID, "segment_id": "mobile", "status": 200, "purpose": "navigate", "counted": 1, "landing_page_id": "lp_2",
			})
		})
	}
}

func byID(t testing.TB, rows []map[string]any, column string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for _, r := range rows {
		id := r[column].(string)
		if out[id] != nil {
			t.Errorf("two rows with %s %s", column, id)
		}
		out[id] = r
	}
	return out
}

// TestSecondPage: with cookies, a second page is the same visitor in the same
// session; a later session of the same visitor is a returning one with the
// first touch of the first.
func TestSecondPage(t *testing.T) {
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("2s"))
	v := newVisitor(t, c.site, desktop, true)

	first := v.visit("/?utm_source=google")
	second := v.visit("/")
	if second.Session.SessionID != first.Session.SessionID || second.UserID != first.UserID {
		t.Errorf("the second page is session %s of %s, the first %s of %s", second.Session.SessionID, second.UserID, first.Session.SessionID, first.UserID)
	}
	if second.Session.ExpiresAt != first.Session.ExpiresAt || *second.SegmentID != "everyone" || second.Attribution.Original["utm_source"] != "google" {
		t.Errorf("the second page has %+v", second)
	}
	names := v.cookieNames()
	slices.Sort(names)
	if want := []string{"fb_attribution_cmp_1", "fb_session_cmp_1", "fb_user_ws_1"}; !slices.Equal(names, want) {
		t.Errorf("cookies %v, want %v", names, want)
	}
	res, _ := v.page("/")
	if sc := res.Header.Values("Set-Cookie"); len(sc) > 0 {
		t.Errorf("cookies are set though nothing changed: %q", sc)
	}

	time.Sleep(time.Until(time.UnixMilli(first.Session.ExpiresAt)) + 1100*time.Millisecond)
	third := v.visit("/?utm_source=bing")
	if third.Session.SessionID == first.Session.SessionID || third.UserID != first.UserID {
		t.Errorf("after expiry: session %s of %s", third.Session.SessionID, third.UserID)
	}
	if third.Attribution.Original["utm_source"] != "google" || third.Attribution.Current["utm_source"] != "bing" {
		t.Errorf("attribution after expiry: %v", third.Attribution)
	}
	v.post("events/session/init", with(third.ids(), "token", third.Session.Token)).ok(t)
	rows := waitRows(t, tb, "session_v1", 1)
	expect(t, "returning session", rows[0], map[string]any{
		"is_returning": 1, "original_utm_source": "google", "utm_source": "bing", "session_id": third.Session.SessionID,
	})

	other := newVisitor(t, c.site, desktop, true).visit("/")
	if other.UserID == first.UserID || other.Session.SessionID == third.Session.SessionID {
		t.Error("two visitors share ids")
	}
	if len(other.Attribution.Original) != 2 { // timestamp and landing page: an organic visit is frozen as such
		t.Errorf("an organic visitor has first touch %v", other.Attribution.Original)
	}
}
