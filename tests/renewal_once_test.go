package tests

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const roomy = "rate_limit 1000000 100000"

// TestFiftyTabsRenewOnce: fifty tabs that renew one session at the same moment,
// by whatever proves it and by page loads too, get one successor with one span,
// and one row comes of it.
func TestFiftyTabsRenewOnce(t *testing.T) {
	t.Parallel()
	for name, kinds := range map[string][]string{
		"token": {"token"}, "cookie": {"cookie"}, "ids": {"ids"}, "page": {"page"},
		"mixed": {"token", "cookie", "ids", "page", "event by ids", "event by cookie"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := standin.New(t)
			c := startLanding(t, globals(tinybirdSink(tb))+landing("3s", roomy))
			jar := newVisitor(t, c.site, iPhone, true)
			res, body := jar.page("/?utm_source=google")
			s := parseContext(t, body)
			var pairs []string
			for _, cookie := range res.Cookies() {
				pairs = append(pairs, cookie.Name+"="+cookie.Value)
			}
			cookies := strings.Join(pairs, "; ")
			jar.post("events/session/track", map[string]any{"token": s.Session.Token}).ok(t) // its row
			expire(t, newVisitor(t, c.site, iPhone, false), s.Session.Token)
			// Long sessions from here on, so that the successor outlives the test.
			c.reload(globals(tinybirdSink(tb)) + landing("10m", roomy))

			const tabs = 50
			ids, spans := make([]any, tabs), make([]string, tabs)
			start := make(chan struct{})
			var wg sync.WaitGroup
			for i := range tabs {
				wg.Go(func() {
					v := newVisitor(t, c.site, iPhone, false)
					<-start
					var a *answer
					switch kind := kinds[i%len(kinds)]; kind {
					case "token":
						a = v.post("events/session/renew", map[string]any{"token": s.Session.Token, "new_session_id": "made-up"})
					case "cookie":
						a = v.post("events/session/renew", map[string]any{"campaign_id": "cmp_1", "session_id": s.Session.SessionID}, "Cookie", cookies)
					case "ids":
						a = v.post("events/session/renew", with(s.ids(), "old_session_id", s.Session.SessionID))
					case "page":
						page := v.visit("/", "Cookie", cookies)
						// The page asked nobody; its script's first call does.
						a = v.post("events/session/init", map[string]any{"token": page.Session.Token})
						if page.Session.SessionID != a.Data["session_id"] || page.Session.RenewalCount != 1 || page.Session.OriginalSessionID != s.Session.SessionID {
							t.Errorf("the page said %+v, the API %v", page.Session, a.Data)
						}
					default:
						if kind == "event by cookie" {
							v.post("events/track", map[string]any{"session_id": s.Session.SessionID, "event_id": "e", "event_type": "system"}, "Cookie", cookies).ok(t)
						} else {
							v.post("events/track", map[string]any{"session_id": s.Session.SessionID, "event_id": "e", "event_type": "system"}).ok(t)
						}
						a = v.post("events/session/renew", s.ids())
					}
					a.ok(t)
					ids[i], spans[i] = a.Data["session_id"], fmt.Sprint(a.Data["expires_at"])
					if at, ok := a.Data["created_at"]; ok {
						spans[i] = fmt.Sprint(at, " ", spans[i])
					}
				})
			}
			close(start)
			wg.Wait()
			created := ""
			for i := range tabs {
				if ids[i] != ids[0] || ids[i] == s.Session.SessionID || ids[i] == nil {
					t.Errorf("tabs 0 and %d got %v and %v", i, ids[0], ids[i])
				}
				at, end, both := strings.Cut(spans[i], " ")
				if !both {
					end = at
				} else if created == "" {
					created = at
				} else if at != created {
					t.Errorf("tab %d: created at %s, elsewhere at %s", i, at, created)
				}
				if _, first, ok := strings.Cut(spans[0], " "); ok && end != first || !ok && end != spans[0] {
					t.Errorf("tabs 0 and %d end at %s and %s", i, spans[0], end)
				}
			}
			sessions := byID(t, waitRows(t, tb, "session_v1", 2), "session_id")
			if len(sessions) != 2 {
				t.Errorf("%d sessions have rows, want the first and its successor", len(sessions))
			}
			expect(t, "successor", sessions[fmt.Sprint(ids[0])], map[string]any{
				"is_renewal": 1, "renewal_count": 1, "original_session_id": s.Session.SessionID,
				"original_utm_source": "google", "user_id": s.UserID, "segment_id": "mobile", "ab_test_variant_id": "bold",
			})
		})
	}
}

// TestLostAnswer: a client that went away before it was answered gets the same
// when it asks again, and its going is no failure of the store or the disk.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("10m", roomy))
	ring := c.ring()
	for range 30 {
		s := mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
		body := fmt.Sprintf(`{"token":%q}`, s.token())
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.site, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /client-api/v1/events/session/renew HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept-Language: de-DE,de;q=0.9,en;q=0.8\r\nContent-Length: %d\r\n\r\n%s",
			strings.TrimPrefix(c.site, "http://"), desktop, len(body), body)
		conn.Close()
		v := newVisitor(t, c.site, desktop, false)
		first := v.post("events/session/renew", body).ok(t)
		again := v.post("events/session/renew", body).ok(t)
		if first.Data["session_id"] != again.Data["session_id"] || first.Data["expires_at"] != again.Data["expires_at"] || first.Data["renewal_count"] != 1.0 {
			t.Errorf("first %v, then %v", first.Data, again.Data)
		}
	}
	eventually(t, 20*time.Second, "all successors have rows", func() error {
		if rows, _ := tb.Distinct("session_v1"); len(rows) != 30 {
			return fmt.Errorf("%d rows", len(rows))
		}
		return nil
	})
	if n := c.metric("caddy_session_context_store_errors_total"); n != 0 {
		t.Errorf("%v failures of the store were counted", n)
	}
	if strings.Contains(c.log.String(), `"level":"error"`) {
		t.Error("a client that went away is logged as an error")
	}
}

// TestKilledWhileRenewing: what was answered before a kill stands after it, and
// what was not is renewed once.
func TestKilledWhileRenewing(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("10m", roomy))
	ring := c.ring()
	const lines = 24
	sessions := make([]*minted, lines)
	for i := range sessions {
		sessions[i] = mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
	}
	var mu sync.Mutex
	answered := map[int]string{}
	ask := func(i int) (string, error) {
		a, err := newVisitor(t, c.site, desktop, false).tryCall("POST", "events/session/renew", map[string]any{"token": sessions[i].token()})
		if err != nil || a.status != http.StatusOK {
			return "", fmt.Errorf("no answer: %v", err)
		}
		got := fmt.Sprint(a.Data["session_id"], a.Data["expires_at"], a.Data["renewal_count"])
		mu.Lock()
		defer mu.Unlock()
		if was, ok := answered[i]; ok && was != got {
			t.Errorf("line %d was renewed to %s, then to %s", i, was, got)
		}
		answered[i] = got
		return got, nil
	}
	for round := range 4 {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range lines {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := ask(i); err == nil {
						return
					}
				}
			})
		}
		// Killed once a few of this round's are through.
		eventually(t, 20*time.Second, "some are renewed", func() error {
			mu.Lock()
			defer mu.Unlock()
			if len(answered) <= round*lines/6 {
				return fmt.Errorf("%d", len(answered))
			}
			return nil
		})
		c.kill()
		cancel()
		wg.Wait()
		c.start()
	}
	for i := range lines {
		for range 2 {
			if _, err := ask(i); err != nil {
				t.Error(err)
			}
		}
	}
	if rows := waitRows(t, tb, "session_v1", lines); len(rows) != lines {
		t.Errorf("%d rows of %d successors", len(rows), lines)
	}
}

// TestStaleSessionsLeadToTheLivingOne: ids and cookies of a session that was
// renewed several times over speak for the line's living session.
func TestStaleSessionsLeadToTheLivingOne(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("1s", roomy, "legacy_ids 24h"))
	v := newVisitor(t, c.site, iPhone, false)
	s := v.visit("/?utm_source=google")
	token, all := s.Session.Token, []string{s.Session.SessionID}
	for range 3 {
		expire(t, v, token)
		a := v.post("events/session/renew", map[string]any{"token": token}).ok(t)
		token = a.Data["token"].(string)
		all = append(all, a.Data["session_id"].(string))
	}
	expire(t, v, token)
	c.reload(globals(tinybirdSink(tb)) + landing("10m", roomy, "legacy_ids 24h"))

	// None lives: the first that is named makes one, in the answer to an event.
	event := map[string]any{"event_id": "e", "event_type": "system"}
	for i, id := range all {
		v.post("events/track", with(event, "session_id", id, "event_uuid", fmt.Sprint(i))).ok(t)
	}
	living := ""
	for _, id := range all {
		a := v.post("events/session/renew", with(s.ids(), "old_session_id", id)).ok(t)
		if living == "" {
			living = a.Data["session_id"].(string)
		}
		if a.Data["session_id"] != living || a.Data["token"] != nil {
			t.Errorf("%s led to %v, another of its line to %s", id, a.Data["session_id"], living)
		}
	}
	for _, row := range waitRows(t, tb, "events_v1", len(all)) {
		expect(t, "event", row, map[string]any{"session_id": living})
	}
	a := v.post("events/session/renew", map[string]any{"token": s.Session.Token}).ok(t)
	if a.Data["session_id"] != living || a.Data["renewal_count"] != float64(len(all)) || a.Data["original_session_id"] != s.Session.SessionID || a.Data["original_timestamp"] != float64(s.Session.OriginalTimestamp) {
		t.Errorf("the first token's line is %v", a.Data)
	}
}

// TestRetryAfterRenewal: an event whose answer got lost, and which its client
// sends again once the session was renewed, is one row; an equal one of the new
// session is another.
func TestRetryAfterRenewal(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("1s", roomy))
	v := newVisitor(t, c.site, iPhone, false)
	event := map[string]any{"event_id": "purchase", "event_type": "conversion", "event_value": 5, "event_uuid": "u-1"}
	token := ""
	for range 20 { // sessions of a second
		token = v.visit("/").Session.Token
		if v.post("events/track", with(event, "token", token)).status == http.StatusOK {
			break
		}
	}
	expire(t, v, token)
	c.reload(globals(tinybirdSink(tb)) + landing("10m", roomy))
	renewed := fmt.Sprint(v.post("events/session/renew", map[string]any{"token": token}).ok(t).Data["token"])
	v.post("events/track", with(event, "token", renewed)).ok(t)
	v.post("events/track", with(event, "token", renewed, "event_uuid", "u-2", "event_value", 6)).ok(t)
	values := []string{}
	for _, row := range waitRows(t, tb, "events_v1", 2) {
		values = append(values, fmt.Sprint(row["event_value"]))
	}
	if fmt.Sprint(values) != "[5 6]" {
		t.Errorf("rows of purchases at %v", values)
	}
}
