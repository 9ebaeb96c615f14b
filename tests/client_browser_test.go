package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// clientPage has one of each thing that the client looks at. It is shown once it
// is whole: what comes in two pieces moves by itself when the second arrives.
const clientPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,"><style>body { display: none }</style></head><body>
<a id=out href="http://elsewhere.example/x?secret=1#y"><b id=inner class="a b">elsewhere</b></a> <a id=in href=/in>in</a> <a id=mail href="mailto:x@example.com">mail</a>
<button id=named data-session-event=trial data-session-event-value=49.5 data-session-event-currency=EUR>trial</button>
<div id=host></div>
<form id=signup action=/thanks><input name=method><input type=hidden name=campaign data-session-field=utm_campaign><input type=hidden name=sid data-session-field=session_id></form>
<div style="height: 5000px"></div>
<style>body { display: block }</style>
</body></html>`

// watcher runs before the page does. It notes the API's calls, what goes wrong,
// what moves, and whatever the client must not touch.
const watcher = `
window.__calls = []; window.__errors = []; window.__touched = []; window.__shift = 0;
addEventListener("error", e => __errors.push(e.message));
addEventListener("unhandledrejection", e => __errors.push(String(e.reason)));
try { new PerformanceObserver(l => l.getEntries().forEach(e => __shift += e.value)).observe({type: "layout-shift", buffered: true}) } catch {}
{
	const own = window.fetch;
	window.fetch = (url, o) => { __calls.push([String(url).split("/v1/")[1], o.body || ""]); return window.__fetch ? __fetch(own, url, o) : own(url, o) };
	const cookie = Object.getOwnPropertyDescriptor(Document.prototype, "cookie");
	Object.defineProperty(Document.prototype, "cookie", {...cookie, set(v) { __touched.push("cookie"); cookie.set.call(this, v) }});
	const random = Math.random;
	Math.random = () => { __touched.push("Math.random"); return random() };
	for (const name of ["randomUUID", "getRandomValues"]) {
		const f = Crypto.prototype[name];
		if (f) Crypto.prototype[name] = function (...a) { __touched.push(name); return f.apply(this, a) };
	}
}
`

// clientSite is a site whose pages have the browser runtime.
type clientSite struct {
	*caddy
	t  *testing.T
	tb *standin.Server
	b  *browser.Browser
}

// startClient starts one; options are lines of its campaign.
func startClient(t *testing.T, options ...string) *clientSite {
	t.Helper()
	s := &clientSite{t: t, tb: standin.New(t), b: browser.Start(t)}
	s.caddy = newCaddy(t)
	for _, name := range []string{"index.html", "in/index.html"} {
		writePage(t, s.caddy, name, clientPage)
	}
	s.write(globals(fmt.Sprintf("\t\tsink tinybird {\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t}", s.tb.URL, standin.DefaultToken)) +
		"SITE {\n\t" + campaignLines("cmp_1", append([]string{"client on", "rate_limit 100000 100000"}, options...)...) + "\n\troot DIR/www\n\tfile_server\n}\n")
	s.start()
	return s
}

// open gives a tab of a new visitor with the page, in which the scripts ran
// before the page's own.
func (s *clientSite) open(path string, scripts ...string) *browser.Page {
	s.t.Helper()
	p := s.b.Page(s.t)
	s.watch(p, scripts...)
	p.Open(s.site + path)
	return p
}

func (s *clientSite) watch(p *browser.Page, scripts ...string) {
	s.t.Helper()
	source := watcher + strings.Join(scripts, "\n")
	browser.Run(p, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source})
		return err
	}))
}

// await waits until the expression is true in the page.
func await(t *testing.T, p *browser.Page, expression string) {
	t.Helper()
	eventually(t, 60*time.Second, expression, func() error {
		ok, err := browser.Try(p, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && !ok {
			err = fmt.Errorf("it is not so")
		}
		return err
	})
}

// events waits for rows of these events (of two with `*2` behind its name), and
// gives the rows of all: by event, each row_id once.
func (s *clientSite) events(want ...string) map[string][]map[string]any {
	s.t.Helper()
	var got map[string][]map[string]any
	eventually(s.t, 60*time.Second, strings.Join(want, ", "), func() error {
		got = map[string][]map[string]any{}
		known := map[any]bool{}
		for _, r := range s.tb.Rows("events_v1") {
			id := r["event_id"].(string)
			if known[r["row_id"]] {
				continue // a retry; the first counts
			}
			known[r["row_id"]] = true
			got[id] = append(got[id], r)
		}
		for _, id := range want {
			id, times, _ := strings.Cut(id, "*")
			if n, _ := strconv.Atoi(times); len(got[id]) < max(n, 1) {
				return fmt.Errorf("no %s yet", id)
			}
		}
		return nil
	})
	return got
}

// viewed waits until the client has told of n page views, each once.
func viewed(t *testing.T, p *browser.Page, n int) {
	t.Helper()
	await(t, p, fmt.Sprintf(`__calls.flatMap(c => [...c[1].matchAll(/"page-view"/g)]).length == %d`, n))
}

const sessionID = `firebuzzSession.getCurrentSession().sessionId`

// quiet fails the test if the client made an error in the page, moved it,
// touched what it must not, or called more than a plain visit and the routes do.
func (s *clientSite) quiet(p *browser.Page, routes ...string) {
	s.t.Helper()
	var seen struct {
		Errors, Touched []string
		Shift           float64
	}
	text := browser.Eval[string](p, `JSON.stringify({errors: __errors, touched: __touched, shift: __shift})`)
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		s.t.Fatal(err)
	}
	// Each event has an id of its own by which it is not counted twice.
	events := browser.Eval[int](p, `new Set(__calls.flatMap(c => [...c[1].matchAll(/"event_uuid":"([^"]+)"/g)].map(m => m[1]))).size`)
	ids := 0
	for _, what := range seen.Touched {
		if what != "getRandomValues" {
			s.t.Errorf("the client used %s", what)
		}
		ids++
	}
	// Nothing is asked whether a session is valid, and no page is told anew.
	if others := browser.Eval[string](p, `String(__calls.map(c => c[0]).filter(r => !["events/batch-track", "events/session/renew", "events/session/track", "consent/record", "`+strings.Join(routes, `","`)+`"].includes(r.split("?")[0])))`); others != "" {
		s.t.Errorf("the client called %s", others)
	}
	if ids != events || len(seen.Errors) > 0 || seen.Shift != 0 {
		s.t.Errorf("%d random ids for %d events, errors %q, layout shift %v", ids, events, seen.Errors, seen.Shift)
	}
}

// TestClientPlainVisit: a visit of one page is two requests, the first as soon
// as it has loaded and the second when it is left; one session; ids, cookies and
// expiry are the server's.
func TestClientPlainVisit(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	p := s.open("/?utm_source=ads&secret=1")
	s.events("dom-ready", "page-load", "page-view")
	session := browser.Eval[string](p, sessionID)
	if n := browser.Eval[int](p, `__calls.length`); n != 1 {
		t.Errorf("a page that has loaded made %d calls, want 1: %s", n, browser.Eval[string](p, `JSON.stringify(__calls)`))
	}
	s.quiet(p)
	p.Open("about:blank")
	events := s.events("page-unload")
	for id, rows := range events {
		if len(rows) != 1 || rows[0]["session_id"] != session || rows[0]["page_url"] != s.site+"/?utm_source=ads" {
			t.Errorf("%s: %v", id, rows)
		}
		if metadata, _ := rows[0]["metadata"].(string); strings.Contains(metadata, "secret") || !strings.Contains(metadata, `"timestamp":`) {
			t.Errorf("%s has metadata %s", id, metadata)
		}
	}
	if len(events) != 4 {
		t.Errorf("%d kinds of events, want 4: %v", len(events), events)
	}
	if view := events["page-view"][0]; fmt.Sprint(view["event_type"], view["event_value"], view["event_value_type"]) != "engagement1static" {
		t.Errorf("page-view: %v", view)
	}
	rows, _ := s.tb.Distinct("session_v1")
	if len(rows) != 1 || rows[0]["session_id"] != session || rows[0]["utm_source"] != "ads" {
		t.Errorf("sessions %v", rows)
	}
	if n := s.metric(`caddy_session_context_api_answers_total{code="ok",route="events/batch-track"}`); n != 2 {
		t.Errorf("%v batches, want 2", n)
	}
}

// TestClientDefaultEvents: clicks, in shadow trees too, forms with what they
// pass on, named events, the page's own, and scrolling.
func TestClientDefaultEvents(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	p := s.open("/?utm_campaign=spring")
	await(t, p, `window.firebuzzSession`)
	browser.Eval[bool](p, `(() => {
		for (const type of ["click", "submit"]) addEventListener(type, e => e.preventDefault()); // stay here
		inner.click(); document.getElementById("in").click(); mail.click(); named.click();
		const root = host.attachShadow({mode: "open"});
		root.innerHTML = '<a id=deep href="https://deep.example/z">z</a><form id=shadowed><button>go</button></form>';
		root.getElementById("deep").click();
		signup.requestSubmit();
		root.addEventListener("submit", e => e.preventDefault());
		root.getElementById("shadowed").requestSubmit();
		firebuzzSession.trackEvent("own", {metadata: {a: 1}});
		firebuzzSession.trackEvents([{id: "sold", value: 0}, {id: "typed", type: "conversion", form_id: "f"}]);
		const round = {}; round.round = round;
		firebuzzSession.trackEvent("round", {metadata: round});
		scrollTo(0, 1e6);
		return true;
	})()`)
	events := s.events("external-link-click*2", "form-submission*2", "trial", "own", "sold", "typed", "round", "scroll-threshold-100")
	var got []string
	for _, r := range events["external-link-click"] {
		got = append(got, fmt.Sprint(r["clicked_url"], " ", r["clicked_element"], " ", r["event_type"]))
		if strings.Contains(r["metadata"].(string), "secret") {
			t.Errorf("metadata %s", r["metadata"])
		}
	}
	if want := "http://elsewhere.example/x a#out engagement,https://deep.example/z a#deep engagement"; strings.Join(got, ",") != want {
		t.Errorf("clicks %q, want %q", got, want)
	}
	got = nil
	for _, r := range events["form-submission"] {
		got = append(got, fmt.Sprint(r["form_id"], " ", r["event_type"]))
	}
	if want := "signup conversion,shadowed conversion"; strings.Join(got, ",") != want {
		t.Errorf("forms %q, want %q", got, want)
	}
	for id, want := range map[string]string{
		"trial": "conversion 49.5 EUR dynamic", "own": "engagement 1 USD static", "sold": "conversion 0 USD dynamic", "typed": "conversion 1 USD static", "round": "engagement 1 USD static",
		"scroll-threshold-25": "engagement 1 USD static", "scroll-threshold-50": "engagement 1 USD static", "scroll-threshold-75": "engagement 1 USD static", "scroll-threshold-100": "engagement 1 USD static",
	} {
		rows := events[id]
		if len(rows) != 1 {
			t.Errorf("%d of %s", len(rows), id)
			continue
		}
		r := rows[0]
		if got := fmt.Sprint(r["event_type"], " ", r["event_value"], " ", r["event_value_currency"], " ", r["event_value_type"]); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if got := browser.Eval[string](p, `signup.elements.campaign.value + " " + (signup.elements.sid.value == `+sessionID+`)`); got != "spring true" {
		t.Errorf("the form passes on %q", got)
	}
	s.quiet(p)
}

// TestClientRenewsOnce: eight tabs whose session ends together are in one new
// session, which was asked for once where tabs can tell each other.
func TestClientRenewsOnce(t *testing.T) {
	t.Parallel()
	s := startClient(t, "session_duration 40s")
	tabs := []*browser.Page{s.open("/")}
	for len(tabs) < 8 {
		tab := tabs[0].Tab()
		s.watch(tab)
		tab.Open(s.site + "/")
		tabs = append(tabs, tab)
	}
	first := browser.Eval[string](tabs[0], sessionID)
	for _, tab := range tabs {
		await(t, tab, `window.firebuzzSession`)
		if id := browser.Eval[string](tab, sessionID); id != first {
			t.Fatalf("tabs began with sessions %s and %s: the first ended before the last was open", first, id)
		}
	}
	// Each tab looks for itself, and has something to send as soon as it is over.
	for _, tab := range tabs {
		browser.Eval[bool](tab, `(() => {
			const epoch = () => performance.timeOrigin + performance.now();
			const over = () => {
				clearInterval(look);
				if (window.__ended) return;
				window.__ended = epoch();
				firebuzzSession.trackEvent("after", {type: "conversion"});
			};
			const look = setInterval(() => firebuzzSession.isSessionExpired() && over(), 10);
			// Another tab may have been faster.
			addEventListener("firebuzz-session-change", () => { window.__changed ||= epoch(); over() });
			return true;
		})()`)
		if browser.Eval[bool](tab, `firebuzzSession.isSessionExpired()`) {
			t.Fatal("the session ended before each tab looked at it")
		}
	}
	s.events("after*8")
	for _, tab := range tabs {
		await(t, tab, sessionID+` != "`+first+`"`)
		if a, b := browser.Eval[string](tab, sessionID), browser.Eval[string](tabs[0], sessionID); a != b {
			t.Errorf("tabs are in sessions %s and %s", a, b)
		}
		s.quiet(tab)
	}
	ended, last := math.Inf(1), 0.0
	for _, tab := range tabs {
		ended = min(ended, browser.Eval[float64](tab, `__ended`))
		last = max(last, browser.Eval[float64](tab, `__changed`))
	}
	// A time is no matter of right and wrong on a busy machine: it is for docs/client.md.
	t.Logf("the last tab was in the new session %.0f ms after the first saw that theirs was over", last-ended)
	if n := s.metric(`caddy_session_context_renewals_total{outcome="renewed"}`); n != 1 {
		t.Errorf("%v renewals, want 1", n)
	}
	rows, _ := s.tb.Distinct("session_v1")
	if len(rows) != 2 {
		t.Errorf("%d sessions, want 2", len(rows))
	}
}

// TestClientRetries: a batch that nobody took is sent again as it was, and is
// stored once; what can't be sent at all waits for the tab's next page.
func TestClientRetries(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	// The first try arrives, and its answer is lost.
	p := s.open("/", `{ let n = 0; window.__fetch = async (own, url, o) => { const r = await own(url, o); if (!n++) throw new TypeError("lost"); return r } }`)
	await(t, p, `__calls.length > 1`)
	if !browser.Eval[bool](p, `__calls[0][1] == __calls[1][1]`) {
		t.Error("the second try has another body")
	}
	for id, rows := range s.events("page-view") {
		if len(rows) != 1 {
			t.Errorf("%d of %s", len(rows), id)
		}
	}
	browser.Eval[bool](p, `(window.__fetch = () => Promise.reject(new TypeError("offline")), navigator.sendBeacon = () => false, firebuzzSession.trackEvent("kept", {type: "conversion"}), true)`)
	await(t, p, `sessionStorage.getItem("frbzz_cmp_1")?.includes('kept')`)
	p.Open(s.site + "/in/")
	if rows := s.events("kept")["kept"]; len(rows) != 1 || rows[0]["page_url"] != s.site+"/" {
		t.Errorf("kept: %v", rows)
	}
	await(t, p, `!sessionStorage.getItem("frbzz_cmp_1")`)
}

// TestClientConsent: a yes and a no change cookies, and not the session.
func TestClientConsent(t *testing.T) {
	t.Parallel()
	s := startClient(t, "consent {\n\t\t\trequire always\n\t\t}")
	p := s.open("/", `window.gtag = (...a) => (window.__gtag ||= []).push(JSON.stringify(a))`)
	await(t, p, `window.firebuzzSession`)
	session := browser.Eval[string](p, sessionID)
	if !browser.Eval[bool](p, `firebuzzSession.getSessionCookie() === null && !firebuzzSession.shouldSetCookies()`) {
		t.Error("cookies are allowed before consent")
	}
	change := func(yes bool) {
		t.Helper()
		if !browser.Eval[bool](p, fmt.Sprintf(`firebuzzSession.onConsentChange({analytics: %v, marketing: false, functional: false}, {source: "banner"})`, yes)) {
			t.Fatalf("the server did not record a %v", yes)
		}
	}
	source := func(want string) {
		t.Helper()
		p.Open(s.site + "/")
		await(t, p, `window.firebuzzSession`)
		if got := browser.Eval[string](p, `__FIREBUZZ_SESSION_CONTEXT__.consent.source + " " + firebuzzSession.shouldSetCookies() + " " + `+sessionID); got != want {
			t.Errorf("the next page has %s, want %s", got, want)
		}
	}
	change(true)
	change(true) // which is known
	if n := browser.Eval[int](p, `__calls.filter(c => c[0] == "consent/record").length`); n != 1 {
		t.Errorf("%d records of one decision", n)
	}
	if got := browser.Eval[string](p, `__gtag[0]`); !strings.Contains(got, `"update"`) || !strings.Contains(got, `"analytics_storage":"granted"`) || !strings.Contains(got, `"ad_storage":"denied"`) {
		t.Errorf("Google was told %s", got)
	}
	source("choice true " + session)
	change(false)
	s.quiet(p)
	waitRows(t, s.tb, "session_v1", 1)
	if rows, _ := s.tb.Distinct("session_v1"); len(rows) != 1 {
		t.Errorf("%d sessions, want 1", len(rows))
	}
	p.Open(s.site + "/")
	await(t, p, `window.firebuzzSession`)
	if got := browser.Eval[string](p, `__FIREBUZZ_SESSION_CONTEXT__.consent.source + " " + firebuzzSession.shouldSetCookies()`); got != "choice false" {
		t.Errorf("after a no the next page has %s", got)
	}
}

// TestClientViews: what a visitor sees as a page is a view, whatever the
// browser loads for it.
func TestClientViews(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	for name, script := range map[string]string{"Navigation API": "", "history alone": `Object.defineProperty(window, "navigation", {value: undefined})`} {
		t.Run(name, func(t *testing.T) {
			p := s.open("/", script)
			viewed(t, p, 1)
			browser.Eval[bool](p, `(history.pushState({}, "", "/one"), history.replaceState({}, "", "/one#there"), true)`)
			viewed(t, p, 2)
			browser.Eval[bool](p, `(history.back(), true)`)
			viewed(t, p, 3)
			s.quiet(p)
		})
	}
	t.Run("back, out of the browser's memory", func(t *testing.T) {
		p := s.open("/", `window.shown = []; addEventListener("pageshow", e => shown.push(e.persisted))`)
		viewed(t, p, 1)
		session := browser.Eval[string](p, sessionID)
		p.Open(s.site + "/in/")
		if !goBack(t, p) {
			t.Fatal("the page was not restored")
		}
		viewed(t, p, 2)
		if got := browser.Eval[string](p, sessionID); got != session {
			t.Errorf("session %s, then %s", session, got)
		}
	})
}

// TestClientNeverBreaksThePage: whatever the page or the browser is like, the
// page sees no error, and does what it does.
func TestClientNeverBreaksThePage(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	for _, tt := range []struct {
		name, script string
		works        bool
	}{
		{"no context", `Object.defineProperty(window, "__FIREBUZZ_SESSION_CONTEXT__", {set() {}, get() {}})`, false},
		{"a context that throws", `Object.defineProperty(window, "__FIREBUZZ_SESSION_CONTEXT__", {set() {}, get() { throw 1 }})`, false},
		{"a context without a session", `Object.defineProperty(window, "__FIREBUZZ_SESSION_CONTEXT__", {set() {}, get: () => ({userId: "u"})})`, false},
		{"analytics switched off", `window.__DISABLE_ANALYTICS__ = true`, false},
		{"fetch throws", `window.__fetch = () => { throw 1 }`, true},
		{"fetch never answers", `window.__fetch = () => new Promise(() => {})`, true},
		{"nothing of newer browsers", `for (const n of ["locks", "sendBeacon", "userActivation"]) Object.defineProperty(Navigator.prototype, n, {value: undefined}); delete window.BroadcastChannel; delete window.navigation; delete Crypto.prototype.randomUUID`, true},
		{"no storage", `Object.defineProperty(window, "sessionStorage", {get() { throw 1 }})`, true},
		{"full storage", `Storage.prototype.setItem = () => { throw 1 }; window.__fetch = () => Promise.reject(1)`, true},
		{"prototypes of a library", `for (const c of [Array, String, Object, Number]) Object.defineProperty(c.prototype, "toJSON", {value: () => "broken", configurable: true}); Object.prototype.extra = Array.prototype.extra = () => {}`, true},
		{"a JSON that throws", `JSON.stringify = () => { throw 1 }`, true},
		{"a toJSON and values that throw", `for (const c of [Array, String, Object]) for (const n of ["toJSON", "flat", "find"]) Object.defineProperty(c.prototype, n, {value() { throw 1 }, configurable: true})`, true},
		{"a beacon that throws", `Navigator.prototype.sendBeacon = () => { throw 1 }; window.__fetch = () => Promise.reject(1)`, true},
		{"another Promise", `window.Promise = function() { throw 1 }`, true},
		{"a gtag that throws", `window.gtag = () => { throw 1 }`, true},
		{"no navigation timing", `performance.getEntriesByType = () => []`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := s.b.Page(t)
			s.watch(p, tt.script)
			p.Open(s.site + "/?" + strings.ReplaceAll(tt.name, " ", "_"))
			if tt.works {
				await(t, p, `window.firebuzzSession`)
				browser.Eval[bool](p, `(firebuzzSession.trackEvent(), firebuzzSession.trackEvents(null), firebuzzSession.updateAfterRenewal(), firebuzzSession.trackEvent("x", {metadata: {get a() { throw 1 }}}), firebuzzSession.onConsentChange(), firebuzzSession.onConsentChange(null, null), firebuzzSession.onConsentChange({analytics: true}), firebuzzSession.trackSession(), true)`)
				await(t, p, `firebuzzSession.getContext().consent.analytics`)
			}
			browser.Eval[bool](p, `(named.click(), dispatchEvent(new Event("pagehide")), dispatchEvent(new Event("pageshow")), document.dispatchEvent(new Event("visibilitychange")), history.pushState({}, "", "#a"), true)`)
			if got := browser.Eval[string](p, `String(__errors) + typeof window.firebuzzSession`); got != map[bool]string{true: "object", false: "undefined"}[tt.works] {
				t.Errorf("the page sees %s", got)
			}
		})
	}
	t.Run("a page that uses it before it is there", func(t *testing.T) {
		p := s.open("/", `(window.firebuzzSession ||= []).push(s => s.trackEvent("early")); window.firebuzzSession.push(() => { throw 1 })`)
		s.events("early")
		// What the page's own code throws is told like any error of a page.
		if got := browser.Eval[string](p, `__errors.splice(0).join()`); got != "1" {
			t.Errorf("the page sees %q", got)
		}
		s.quiet(p)
	})
}

// TestClientUnderPolicies: the runtime runs where the page's own policy allows
// scripts by a nonce only, and leaves no nonce that a page might take for its
// own; where the policy forbids the API, the page is what it was.
func TestClientUnderPolicies(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	for _, tt := range []struct{ name, policy string }{
		{"nonce", "script-src 'nonce-own'"},
		{"strict-dynamic", "script-src 'nonce-own' 'strict-dynamic'; object-src 'none'"},
		{"none", "default-src 'none'; connect-src 'self'"},
		{"the API too", "script-src 'nonce-own'; connect-src 'none'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := &clientSite{caddy: newCaddy(t), t: t, tb: s.tb, b: s.b}
			writePage(t, site.caddy, "index.html", clientPage)
			site.write(globals("") + "SITE {\n\theader Content-Security-Policy \"" + tt.policy + "\"\n\t" + campaignLines("cmp_1", "client on") + "\n\troot DIR/www\n\tfile_server\n}\n")
			site.start()
			p := site.open("/")
			await(t, p, `window.firebuzzSession && __calls.length`)
			if got := browser.Eval[string](p, `String([...document.querySelectorAll("script")].map(s => s.getAttribute("nonce"))) + __errors`); got != "," {
				t.Errorf("nonces and errors: %s", got)
			}
		})
	}
}

// TestClientInFrames: in another site's frame a page is a visit by what its
// visitor does there, and the runtime says so at once.
func TestClientInFrames(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(s.site, "http://"), ":")
	s.write(strings.Replace(mustRead(t, s.path("Caddyfile")), s.site+" {", s.site+", http://lp.localhost:"+port+" {", 1))
	s.reload(mustRead(t, s.path("Caddyfile")))
	outer := "http://" + freeAddr(t)
	s.reload(mustRead(t, s.path("Caddyfile")) + outer + " {\n\theader Content-Type text/html\n\trespond \"<iframe id=f style='width: 600px; height: 400px' src='http://lp.localhost:" + port + "/'></iframe>\"\n}\n")
	p := s.b.Page(t)
	p.Open(outer + "/")
	s.events("page-view")
	if rows := s.tb.Rows("session_v1"); len(rows) > 0 {
		t.Fatalf("a page in a frame is a visit before anything happens there: %v", rows)
	}
	browser.Run(p, chromedp.MouseClickXY(200, 200))
	eventually(t, 60*time.Second, "the visit counts", func() error {
		if n := len(s.tb.Rows("session_v1")); n != 1 {
			return fmt.Errorf("%d sessions", n)
		}
		return nil
	})
}
