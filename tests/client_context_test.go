package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const (
	fetches     = `__calls.filter(c => c[0].startsWith("session/context")).length`
	renewals    = `__calls.filter(c => c[0] == "events/session/renew").length`
	fetchedOnce = fetches + ` == 1`
	globalID    = `__FIREBUZZ_SESSION_CONTEXT__.session.sessionId`
	// replaced is whether the page was told of a second context: the first is its own.
	replaced = `__told.filter(n => n == "ready").length > 1`
	// asksForIt notes how the page came and what it is told.
	asksForIt = `window.shown = []; addEventListener("pageshow", e => shown.push(e.persisted));
		window.__told = []; for (const n of ["ready", "change"]) addEventListener("firebuzz-session-" + n, () => __told.push(n));`
)

// startCached is startClient for pages that may be cached for ten minutes, in a
// browser that keeps no page alive.
func startCached(t *testing.T, options ...string) *clientSite {
	t.Helper()
	s := &clientSite{caddy: newCaddy(t), t: t, tb: standin.New(t), b: browser.Start(t, chromedp.Flag("disable-features", "BackForwardCache"))}
	for _, name := range []string{"index.html", "in/index.html"} {
		writePage(t, s.caddy, name, clientPage)
	}
	s.write(globals(tinybirdSink(s.tb)) + "SITE {\n\theader >Cache-Control \"private, max-age=600\"\n\t" +
		campaignLines("cmp_1", append([]string{"client on", "rate_limit 100000 100000"}, options...)...) + "\n\troot DIR/www\n\tfile_server\n}\n")
	s.start()
	return s
}

// back goes back to the page before, which must come out of the cache.
func (s *clientSite) back(p *browser.Page) {
	s.t.Helper()
	if goBack(s.t, p) {
		s.t.Fatal("the browser kept the page alive")
	}
	if size := browser.Eval[int](p, `performance.getEntriesByType("navigation")[0].transferSize`); size != 0 {
		s.t.Fatalf("the page came over the network, %d bytes", size)
	}
	await(s.t, p, `window.firebuzzSession && `+fetchedOnce+` && `+replaced)
}

// pass waits until the page's session is over by the server's clock, and by the
// page's: that one is late by as long as the page was on its way.
func pass(t *testing.T, p *browser.Page) {
	t.Helper()
	await(t, p, `firebuzzSession.isSessionExpired() && Date.now() > firebuzzSession.getCurrentSession().expiresAt + 300`)
}

// sessions gives the ids of the sessions that count.
func (s *clientSite) sessions() (ids []string) {
	rows, _ := s.tb.Distinct("session_v1")
	for _, r := range rows {
		ids = append(ids, r["session_id"].(string))
	}
	return ids
}

// TestClientContextOfCachedPages: a page out of history or the HTTP cache has
// the context of its making; it gets the one that the visitor's cookies stand
// for, or goes on with its own where there are none. No session is made by that.
func TestClientContextOfCachedPages(t *testing.T) {
	t.Parallel()
	t.Run("the session lives", func(t *testing.T) {
		s := startCached(t)
		p := s.open("/", asksForIt)
		s.events("page-view")
		session := browser.Eval[string](p, sessionID)
		if n := browser.Eval[int](p, fetches); n != 0 {
			t.Errorf("a page from the server asked %d times", n)
		}
		p.Open(s.site + "/in/")
		s.events("page-view*2")
		s.back(p)
		s.events("page-view*3")
		if got := browser.Eval[string](p, sessionID); got != session {
			t.Errorf("session %s, then %s", session, got)
		}
		// By its address it comes out of the cache too.
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession && `+fetchedOnce)
		s.events("page-view*4")
		s.quiet(p, "session/context")
		if ids := s.sessions(); len(ids) != 1 {
			t.Errorf("sessions %v", ids)
		}
	})
	t.Run("another session by now", func(t *testing.T) {
		s := startCached(t, "session_duration 5s")
		p := s.open("/?utm_source=old", asksForIt)
		s.events("page-view")
		old := browser.Eval[string](p, sessionID)
		pass(t, p)
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession`)
		now := browser.Eval[string](p, sessionID)
		s.back(p)
		if got := browser.Eval[string](p, `[`+sessionID+`, `+globalID+`, `+renewals+`, __told.includes("change")].join()`); got != now+","+now+",0,true" || now == old {
			t.Errorf("the page has %s, want session %s in both places, not renewed, and to hear of it", got, now)
		}
	})
	// Cookies wait for consent here.
	asked := []string{"consent {\n\t\t\trequire always\n\t\t}"}
	t.Run("no cookies", func(t *testing.T) {
		s := startCached(t, asked...)
		p := s.open("/", asksForIt)
		s.events("page-view")
		session := browser.Eval[string](p, sessionID)
		p.Open(s.site + "/in/")
		s.events("page-view*2")
		s.back(p)
		s.events("page-view*3")
		if got := browser.Eval[string](p, sessionID+` + " " + `+globalID+` + " " + `+renewals); got != session+" "+session+" 0" {
			t.Errorf("the page has %s, want its own session %s", got, session)
		}
		if ids := s.sessions(); len(ids) != 2 { // each typed address is one
			t.Errorf("sessions %v", ids)
		}
	})
	t.Run("no cookies, and the session is over", func(t *testing.T) {
		s := startCached(t, append(asked, "session_duration 5s")...)
		p := s.open("/?utm_source=first", asksForIt)
		s.events("page-view")
		session := browser.Eval[string](p, sessionID)
		pass(t, p)
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession`)
		s.back(p)
		const now = `(s => [s.originalSessionId, s.renewalCount, s.sessionId == ` + globalID + `, firebuzzSession.getAttributionData().original.utm_source].join())(firebuzzSession.getCurrentSession())`
		if got := browser.Eval[string](p, now); got != session+",1,true,first" {
			t.Errorf("the page has %s, want the successor of %s", got, session)
		}
		if n := browser.Eval[int](p, renewals); n != 1 {
			t.Errorf("%d renewals", n)
		}
	})
	t.Run("a yes since", func(t *testing.T) {
		s := startCached(t, asked...)
		p := s.open("/", asksForIt)
		s.events("page-view")
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession`)
		session := browser.Eval[string](p, sessionID)
		if !browser.Eval[bool](p, `firebuzzSession.onConsentChange({analytics: true})`) {
			t.Fatal("the yes was not recorded")
		}
		s.back(p)
		if got := browser.Eval[string](p, sessionID+` + " " + firebuzzSession.shouldSetCookies()`); got != session+" true" {
			t.Errorf("the page has %s, want the session %s that the cookies name", got, session)
		}
	})
	t.Run("a no since", func(t *testing.T) {
		s := startCached(t, asked...)
		p := s.open("/", asksForIt)
		s.events("page-view")
		session := browser.Eval[string](p, sessionID)
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession`)
		if !browser.Eval[bool](p, `firebuzzSession.onConsentChange({})`) {
			t.Fatal("the no was not recorded")
		}
		s.back(p)
		if got := browser.Eval[string](p, sessionID+` + " " + firebuzzSession.getContext().consent.source`); got != session+" choice" {
			t.Errorf("the page has %s", got)
		}
	})
	t.Run("another deployment's", func(t *testing.T) {
		s := startCached(t, asked...)
		p := s.open("/", asksForIt, `if (performance.getEntriesByType("navigation")[0].type == "back_forward") {
			let n = 0, c;
			Object.defineProperty(window, "__FIREBUZZ_SESSION_CONTEXT__", {get: () => c, set(v) { c = v; if (!n++) Object.assign(c.session, {token: "another", expiresAt: 1}) }});
		}`)
		old := browser.Eval[string](p, globalID)
		p.Open(s.site + "/in/")
		await(t, p, `window.firebuzzSession`)
		s.back(p)
		s.events("page-view*3")
		if browser.Eval[bool](p, sessionID+` == "`+old+`" || firebuzzSession.isSessionExpired()`) {
			t.Error("the page keeps a session that the server refuses")
		}
	})
	t.Run("a loader fetches it too", func(t *testing.T) {
		s := startCached(t, "inject loader")
		p := s.open("/", asksForIt)
		s.events("page-view")
		p.Open(s.site + "/in/")
		s.events("page-view*2")
		if goBack(t, p) {
			t.Fatal("the browser kept the page alive")
		}
		s.events("page-view*3")
		s.quiet(p, "session/context")
	})
}

// TestClientContextOfViews: a view in a page whose session was renewed has the
// context that the server has now, asked for once.
func TestClientContextOfViews(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{"cookies": nil, "none": {"consent {\n\t\t\trequire always\n\t\t}"}} {
		t.Run(name, func(t *testing.T) {
			s := startClient(t, append(options, "session_duration 8s")...)
			p := s.open("/", asksForIt)
			s.events("page-view")
			first := browser.Eval[string](p, sessionID)
			push := func(to string, views int) {
				t.Helper()
				browser.Eval[bool](p, `(history.pushState({}, "", "`+to+`"), true)`)
				viewed(t, p, views)
			}
			push("/one", 2)
			if n := browser.Eval[int](p, fetches); n != 0 {
				t.Errorf("a view in a session that lives asked %d times", n)
			}
			pass(t, p)
			push("/two?utm_source=later", 3)
			await(t, p, replaced)
			if got := browser.Eval[string](p, `[firebuzzSession.getCurrentSession().originalSessionId, `+sessionID+` == `+globalID+`, `+fetches+`, `+renewals+`].join()`); got != first+",true,1,1" {
				t.Errorf("the page has %s, want the successor of %s in both places, by one renewal and one fetch", got, first)
			}
			if want := map[string]string{"cookies": "later", "none": ""}[name]; browser.Eval[string](p, `firebuzzSession.getAttributionData().current?.utm_source || ""`) != want {
				t.Errorf("attribution %s", browser.Eval[string](p, `JSON.stringify(firebuzzSession.getAttributionData())`))
			}
			push("/three", 4)
			s.quiet(p, "session/context")
			if n := browser.Eval[int](p, fetches); n > 2 || n > 1 && browser.Eval[int](p, renewals) == 1 {
				t.Errorf("asked %d times", n)
			}
			eventually(t, 30*time.Second, "a row of the session and one of its successor", func() error {
				if ids := s.sessions(); len(ids) != 2 || ids[0] != first || ids[1] == first {
					return fmt.Errorf("sessions %v", ids)
				}
				return nil
			})
		})
	}
}

// TestClientSleeps: a tab that slept for eight hours notices that its session is
// over, and asks for the next one once.
func TestClientSleeps(t *testing.T) {
	t.Parallel()
	s := startClient(t, "session_duration 5s")
	p := s.open("/", `{ window.__slept = 0; const wall = Date.now; Date.now = () => wall() + __slept }`)
	s.events("page-view")
	first := browser.Eval[string](p, sessionID)
	pass(t, p)
	browser.Eval[bool](p, fmt.Sprintf(`(__slept = %d, document.dispatchEvent(new Event("visibilitychange")), firebuzzSession.trackEvent("awake", {type: "conversion"}), true)`, (8*time.Hour).Milliseconds()))
	if n := len(s.events("awake")["awake"]); n != 1 {
		t.Errorf("%d events", n)
	}
	if got := browser.Eval[string](p, `[firebuzzSession.getCurrentSession().originalSessionId, `+renewals+`].join()`); got != first+",1" {
		t.Errorf("the page has %s, want the successor of %s by one call", got, first)
	}
	s.quiet(p)
}
