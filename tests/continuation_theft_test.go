package tests

import (
	"slices"
	"strings"
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

// TestWhoTookAnEndedPlaceIsNotMovedOn: one who comes from the page of a visitor
// whose session has ended takes its place under their visitor key. When that
// session is renewed after all, in its tab, neither is given the other's.
func TestWhoTookAnEndedPlaceIsNotMovedOn(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "session_duration 3s")
	one := newVisitor(t, c.site, desktop, false)
	first := one.visit("/")
	time.Sleep(time.Until(time.UnixMilli(first.Session.ExpiresAt + 50)))

	other := newVisitor(t, c.site, desktop, false)
	theirs := other.visit("/?other", other.from("/")...)
	if theirs.Session.SessionID == first.Session.SessionID {
		t.Fatal("a session that ended goes on: the test tests nothing")
	}
	if again := other.visit("/?again", other.from("/?other")...); again.Session.SessionID != theirs.Session.SessionID {
		t.Fatal("the place was not taken: the test tests nothing")
	}
	renewed := one.post("events/session/renew", map[string]any{"token": first.Session.Token}).ok(t)
	next := other.visit("/?next", other.from("/?again")...)
	if next.Session.SessionID == renewed.Data["session_id"] || next.UserID == first.UserID {
		t.Error("a click goes on with somebody else's session")
	}
}

// TestWhoIsFetchedAheadIsCounted: a page that was fetched ahead has a visitor,
// as soon as it is looked at, who is not the one with the only other session.
func TestWhoIsFetchedAheadIsCounted(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "session_duration 30m")
	for name, purpose := range map[string]string{"prefetched": "prefetch", "prerendered": "prefetch;prerender"} {
		for _, calls := range []string{"", "token", "ids"} {
			agent := desktop + name + calls
			one := newVisitor(t, c.site, agent, false)
			first := one.visit("/")

			// From a page of another site, which is shown at once.
			other := newVisitor(t, c.site, agent, false)
			ahead := other.visit("/", "Sec-Purpose", purpose, "Sec-Fetch-Site", "cross-site")
			if ahead.Session.SessionID == first.Session.SessionID {
				t.Fatalf("%s: the page is another visitor's", name)
			}
			switch calls {
			case "token":
				other.post("events/session/init", map[string]any{"token": ahead.Session.Token}, other.from("/")...).ok(t)
			case "ids":
				other.post("events/session/init", ahead.ids(), other.from("/")...).ok(t)
			}
			next := other.visit("/?next", other.from("/")...)
			if next.Session.SessionID == first.Session.SessionID || next.UserID == first.UserID {
				t.Errorf("%s, calls %q: a link in the page leads to another visitor's session", name, calls)
			}
		}

		// Alone, the session goes on once the script has said that it shows.
		alone := newVisitor(t, c.site, desktop+name+" alone", false)
		ahead := alone.visit("/", "Sec-Purpose", purpose, "Sec-Fetch-Site", "cross-site")
		alone.post("events/session/init", map[string]any{"token": ahead.Session.Token}, alone.from("/")...).ok(t)
		if next := alone.visit("/?next", alone.from("/")...); next.Session.SessionID != ahead.Session.SessionID {
			t.Errorf("%s: a link in the page leads to a new session", name)
		}
	}
}

// TestWhoComesIntoTheNetworkIsCounted: a visitor whose key has changed, by
// another network or browser version, is one of the new key's as soon as a page's
// script has called.
func TestWhoComesIntoTheNetworkIsCounted(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "session_duration 30m")
	came := newVisitor(t, c.site, desktop+" elsewhere", false)
	theirs := came.visit("/")
	first := newVisitor(t, c.site, desktop, false).visit("/")

	came.agent = desktop
	came.post("events/session/init", map[string]any{"token": theirs.Session.Token}, came.from("/")...).ok(t)
	if next := came.visit("/?next", came.from("/")...); next.Session.SessionID == first.Session.SessionID || next.UserID == first.UserID {
		t.Error("a link leads to the session of somebody who was there before")
	}
}

// TestNobodyIsAloneAfterTheStoreWasChanged: a reload may name another store,
// which knows nothing of those who sit before their pages.
func TestNobodyIsAloneAfterTheStoreWasChanged(t *testing.T) {
	t.Parallel()
	in := func(store string) string { return "\t\tstore embedded DIR/" + store + "/store.db" }
	config := func(store string) string {
		return globals(in(store)) + strings.Replace(askingEachSite, "OPTIONS", "", 1)
	}
	c := startAskingEach(t, in("one"), "")
	one, other := newVisitor(t, c.site, desktop, false), newVisitor(t, c.site, desktop, false)
	first := one.visit("/")
	if s := one.visit("/a.html", one.from("/")...); s.Session.SessionID != first.Session.SessionID {
		t.Fatal("no link is gone on with: the test tests nothing")
	}
	c.reload(config("one")) // the same one: nothing is forgotten
	if s := one.visit("/a.html", one.from("/a.html")...); s.Session.SessionID != first.Session.SessionID {
		t.Error("a reload with the same store forgets who is there")
	}
	c.reload(config("two"))
	theirs := other.visit("/a.html")
	if s := one.visit("/b.html", one.from("/a.html")...); s.Session.SessionID == theirs.Session.SessionID || s.UserID == theirs.UserID {
		t.Error("a visitor goes on with the session of another, who came after the store was changed")
	}
}
