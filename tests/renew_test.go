package tests

import (
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestRenewalIsOne: sixteen clients that renew one expired session at once get
// one successor, and so does one that asks after a kill and restart.
func TestRenewalIsOne(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("1s"))
	v := newVisitor(t, c.site, iPhone, false)
	s := v.visit("/?utm_source=google")
	time.Sleep(1100 * time.Millisecond)
	// Long sessions from here on, so that the successor lives through the test.
	c.reload(globals(tinybirdSink(tb)) + landing("10m"))

	byToken := map[string]any{"token": s.Session.Token}
	byIDs := with(s.ids(), "old_session_id", s.Session.SessionID)
	var wg sync.WaitGroup
	got := make([]*answer, 16)
	for i := range got {
		wg.Go(func() {
			body := byToken
			if i%4 == 3 {
				body = byIDs
			}
			got[i], _ = newVisitor(t, c.site, iPhone, false).tryCall("POST", "events/session/renew", body)
		})
	}
	wg.Wait()
	for _, a := range got {
		if a == nil {
			t.Fatal("a call had no answer")
		}
		a.ok(t)
		if a.Data["session_id"] != got[0].Data["session_id"] || a.Data["expires_at"] != got[0].Data["expires_at"] {
			t.Errorf("successors %v and %v", got[0].Data, a.Data)
		}
	}
	if got[0].Data["session_id"] == s.Session.SessionID {
		t.Error("the expired session came back")
	}

	c.kill()
	c.start()
	after := newVisitor(t, c.site, iPhone, false).post("events/session/renew", byToken).ok(t)
	if after.Data["session_id"] != got[0].Data["session_id"] || after.Data["expires_at"] != got[0].Data["expires_at"] {
		t.Errorf("after a restart the successor is %v, before it %v", after.Data, got[0].Data)
	}
	// One that lives comes back as it is.
	living := v.post("events/session/renew", map[string]any{"token": after.Data["token"]}).ok(t)
	if living.Data["session_id"] != after.Data["session_id"] || living.Data["renewal_count"] != 1.0 {
		t.Errorf("renewing a living session gave %v", living.Data)
	}
	rows := waitRows(t, tb, "session_v1", 1)
	if len(rows) != 1 || rows[0]["session_id"] != after.Data["session_id"] || rows[0]["original_utm_source"] != "google" {
		t.Errorf("rows %v", rows)
	}
}
