package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// What a server renders of package/page.tsx, which has no session there.
const renderedPage = `<p id="session">none</p><p id="source">none</p><p id="variant">none</p><p id="consent">none</p><button id="buy">buy</button><p id="session">none</p>`

// startReact starts a site whose pages are package/page.tsx, bundled as sites
// do it: `/` rendered in the browser, `/hydrated/` on a server before, `/late/`
// with a context that comes when the test says so.
func startReact(t *testing.T, react, client string) *clientSite {
	t.Helper()
	dir := project(t, react)
	write(t, filepath.Join(dir, "page.tsx"), mustRead(t, "package/page.tsx"))
	inClient(t, "build", "go", "run", ".", "page", filepath.Join(dir, "page.tsx"), filepath.Join(dir, "page.js"))

	s := &clientSite{t: t, tb: standin.New(t), b: browser.Start(t), caddy: newCaddy(t)}
	const page = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,">%s</head><body><div id=root>%s</div><script src=/page.js></script></body></html>`
	writePage(t, s.caddy, "index.html", fmt.Sprintf(page, "", ""))
	writePage(t, s.caddy, "hydrated/index.html", fmt.Sprintf(page, "", renderedPage))
	writePage(t, s.caddy, "late/index.html", fmt.Sprintf(page, `<script>window.kept = __FIREBUZZ_SESSION_CONTEXT__; window.__FIREBUZZ_SESSION_CONTEXT__ = undefined</script>`, ""))
	writePage(t, s.caddy, "page.js", mustRead(t, filepath.Join(dir, "page.js")))
	s.write(globals(fmt.Sprintf("\t\tsink tinybird {\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t}", s.tb.URL, standin.DefaultToken)) +
		"SITE {\n\t" + campaignLines("cmp_1", "client "+client, "rate_limit 100000 100000", "ab_test hero {\n\tvariant control 50\n\tvariant bold 50\n}") + "\n\troot DIR/www\n\tfile_server\n}\n")
	s.start()
	return s
}

// TestPackageInReact: a page in React, in StrictMode, with two providers and
// with or without the server's own runtime, is one session that reports nothing
// twice; hooks show what changes, and render for nothing else.
func TestPackageInReact(t *testing.T) {
	t.Parallel()
	for react := range reacts {
		for _, client := range []string{"on", "off"} {
			t.Run("React "+react+", client "+client, func(t *testing.T) {
				t.Parallel()
				s := startReact(t, react, client)
				for _, path := range []string{"/", "/hydrated/"} {
					p := s.b.Page(t)
					errors := consoleErrors(t, p)
					s.watch(p)
					p.Open(s.site + path + "?utm_source=" + strings.Trim(path, "/") + "ads")
					reactPage(t, s, p, strings.Trim(path, "/")+"ads")
					if got := errors(); len(got) > 0 {
						t.Errorf("%s: %q", path, got)
					}
				}
			})
		}
	}
}

func reactPage(t *testing.T, s *clientSite, p *browser.Page, source string) {
	t.Helper()
	text := func(id string) string { return `document.getElementById("` + id + `").textContent` }
	await(t, p, text("session")+` == __FIREBUZZ_SESSION_CONTEXT__.session.sessionId && window.firebuzzSession?.getCurrentSession`)
	await(t, p, text("variant")+` == __FIREBUZZ_SESSION_CONTEXT__.abTests[0].variantId`)
	await(t, p, text("source")+` == "`+source+`"`)
	browser.Eval[bool](p, `(buy.click(), true)`)

	// Of this page each once, whoever started the session.
	session := browser.Eval[string](p, sessionID)
	eventually(t, 60*time.Second, "the events of "+source, func() error {
		got := map[string]int{}
		for _, rows := range s.events() {
			for _, r := range rows {
				if r["session_id"] == session {
					got[fmt.Sprint(r["event_id"])]++
				}
			}
		}
		const want = "map[bought:1 dom-ready:1 mounted:1 page-load:1 page-view:1]"
		if fmt.Sprint(got) != want {
			return fmt.Errorf("events %v, want %s", got, want)
		}
		return nil
	})
	if calls := browser.Eval[string](p, `__calls.flatMap(c => [...c[1].matchAll(/"event_id":"([^"]+)"/g)].map(m => m[1])).sort().join()`); calls != "bought,dom-ready,mounted,page-load,page-view" {
		t.Errorf("the page reported %s", calls)
	}

	// StrictMode renders twice, and a hydrated page begins with what the server had.
	if most := browser.Eval[int](p, `Math.max(renders.attribution, renders.variant, renders.consent)`); most > 8 {
		t.Errorf("a part rendered %d times", most)
	}
	// Whoever tells a decision, hooks show it, and only those of consent.
	before := browser.Eval[string](p, `renders.attribution + " " + renders.variant`)
	if !browser.Eval[bool](p, `setConsent({analytics: false, marketing: true}, {source: "banner"})`) {
		t.Error("the server did not record a decision")
	}
	await(t, p, text("consent")+` == "choice false true"`)
	if !browser.Eval[bool](p, `firebuzzSession.onConsentChange({analytics: true})`) {
		t.Error("the server did not record a decision of another tool")
	}
	await(t, p, text("consent")+` == "choice true false"`)
	browser.Eval[bool](p, `(() => { const s = firebuzzSession.getCurrentSession(); firebuzzSession.updateAfterRenewal({...s, sessionId: "next", expiresAt: s.expiresAt + 1}); return true })()`)
	await(t, p, `[...document.querySelectorAll("#session")].every(e => e.textContent == "next")`)
	if after := browser.Eval[string](p, `renders.attribution + " " + renders.variant`); after != before {
		t.Errorf("attribution and variant rendered %s times, %s before a change of others", after, before)
	}
	if same := browser.Eval[bool](p, `manager.getContext() === firebuzzSession.getContext() && manager.getCurrentSession().sessionId == "next"`); !same {
		t.Error("the package has a session of its own beside the page's")
	}
	reactQuiet(t, p)
}

// reactQuiet fails the test if the page had an error, or wrote a cookie. React
// itself calls Math.random.
func reactQuiet(t *testing.T, p *browser.Page) {
	t.Helper()
	if got := browser.Eval[string](p, `__errors.concat(__touched.filter(what => what == "cookie")).join()`); got != "" {
		t.Errorf("errors, or cookies written: %s", got)
	}
}

// TestPackageLateContext: hooks show a context that comes late, and what was
// reported before it is told then.
func TestPackageLateContext(t *testing.T) {
	t.Parallel()
	s := startReact(t, "19", "on")
	p := s.open("/late/")
	await(t, p, `document.getElementById("session")?.textContent == "none"`)
	if n := browser.Eval[int](p, `__calls.length`); n != 0 {
		t.Errorf("%d calls before there is a context", n)
	}
	browser.Eval[bool](p, `(window.__FIREBUZZ_SESSION_CONTEXT__ = kept, dispatchEvent(new Event("firebuzz-session-ready")))`)
	await(t, p, `document.getElementById("session").textContent == kept.session.sessionId`)
	for _, id := range []string{"mounted", "page-view"} {
		if n := len(s.events("mounted", "page-view")[id]); n != 1 {
			t.Errorf("%d of %s", n, id)
		}
	}
	reactQuiet(t, p)
}
