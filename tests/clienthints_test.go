package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestRetriedPageThatIsShown: a browser that should ask again, and shows the
// page instead, has a session like any other from its script's first call on.
func TestRetriedPageThatIsShown(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+"SITE {\n\theader {\n\t\tAccept-CH Sec-CH-UA-Model\n\t\tCritical-CH Sec-CH-UA-Model\n\t}\n\t"+
		campaignLines("cmp_1", "visit page")+"\n\troot DIR/www\n\tfile_server\n}\n")
	waitContext(t, c)
	v := newVisitor(t, c.site, desktop, true)
	res, body := v.page("/", "Sec-CH-UA", `"Chromium";v="131", "Google Chrome";v="131"`)
	s := parseContext(t, body)
	wantSet(t, "the page", res.Header, nil, nil)
	if asks := res.Header.Get("Accept-CH"); asks != "Sec-CH-UA-Model, Sec-CH-UA-Full-Version-List, ECT" {
		t.Errorf("the page asks for %q", asks)
	}
	newVisitor(t, c.site, desktop, false).post("events/session/init", s.ids()).ok(t)
	wantSet(t, "its first call", v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t).header, identityNames, nil)
	if next := v.visit("/"); next.Session.SessionID != s.Session.SessionID {
		t.Errorf("the next page has session %s, before it %s", next.Session.SessionID, s.Session.SessionID)
	}
	eventually(t, 20*time.Second, "its rows", func() error {
		var got []string
		rows, _ := tb.Distinct("traffic_v1")
		for _, r := range rows {
			if r["session_id"] == s.Session.SessionID {
				got = append(got, fmt.Sprint(r["purpose"], " ", r["counted"]))
			}
		}
		sessions, _ := tb.Distinct("session_v1")
		for _, r := range sessions {
			if r["session_id"] == s.Session.SessionID {
				got = append(got, "session")
			}
		}
		if all := strings.Join(got, ", "); all != "retried 0, navigate 1, session" {
			return fmt.Errorf("%s", all)
		}
		return nil
	})
}
