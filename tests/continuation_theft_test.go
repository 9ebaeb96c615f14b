package tests

import (
	"slices"
	"testing"
	"time"
)

// TestIDsMakeNoVisitor: ids stand in pages, rows and logs. Who has read another
// visitor's there may renew that session, as older clients do; but does not
// become the one visitor whose session it is, who gets cookies for a yes.
func TestIDsMakeNoVisitor(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "session_duration 2s")
	victim := newVisitor(t, c.site, desktop, false).visit("/")
	time.Sleep(time.Until(time.UnixMilli(victim.Session.ExpiresAt + 50)))

	thief := newVisitor(t, c.site, iPhone, true)
	renewed := thief.post("events/session/renew", victim.ids()).ok(t)
	if renewed.Data["session_id"] == victim.Session.SessionID {
		t.Fatal("the session is not renewed: the test tests nothing")
	}
	for what, more := range map[string]map[string]any{
		"subject alone": {},
		"ids":           {"session_id": renewed.Data["session_id"]},
	} {
		body := victim.consents(allPurposes)
		for k, v := range more {
			body[k] = v
		}
		a := thief.post("consent/record", body).ok(t)
		wantSet(t, "another visitor's yes by "+what, a.header, []string{}, []string{})
	}
	if names := thief.cookieNames(); len(names) != 0 {
		t.Errorf("ids bring cookies: %v", names)
	}

	// The session is there to be counted all the same: a page that looks like
	// the thief's only one is not.
	first := thief.visit("/")
	if next := thief.visit("/", "Cache-Control", "max-age=0"); next.Session.SessionID == first.Session.SessionID {
		t.Error("a session that shares its key with another is gone on with")
	}
	if first.UserID == victim.UserID {
		t.Error("the thief's page is the victim's")
	}
	if slices.Contains(thief.cookieNames(), "fb_user_ws_1") {
		t.Error("the thief has a user cookie")
	}
}
