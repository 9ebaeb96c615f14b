package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/client"
	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// shopSite is a landing page whose links lead to a shop of another origin, that
// tells of each order.
type shopSite struct {
	*clientSite
	shop, port string
}

func startShop(t *testing.T, options ...string) *shopSite {
	t.Helper()
	s := &shopSite{clientSite: &clientSite{caddy: newCaddy(t), t: t, tb: standin.New(t), b: browser.Start(t)}}
	s.shop = "http://" + freeAddr(t)
	_, s.port, _ = strings.Cut(strings.TrimPrefix(s.shop, "http://"), ":")
	local := "http://localhost:" + s.port
	writePage(t, s.caddy, "index.html", `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,"></head><body>
<a id=shop href="`+s.shop+`/buy?sig=a%20b+c&flag#top"><b id=inner>buy</b></a> <a id=bare href="`+s.shop+`/buy">buy</a> <a id=own href="`+s.shop+`/buy?utm_source=partner&gclid=theirs&frbzz_ci=theirs">buy</a>
<a id=local href="`+local+`/buy">buy</a> <a id=inside href=/in?x>in</a> <a id=mail href="mailto:x@example.com">mail</a>
<a id=app href="whatsapp://send?text=hi">app</a> <p data-session-plain><a id=plain href="`+s.shop+`/buy?X-Amz-Signature=1">signed</a></p>
</body></html>`)
	writePage(t, s.caddy, "buy.html", `<!doctype html><html><head><meta charset=utf-8><title>thanks</title><link rel=icon href="data:,"></head><body><script>
window.frbzztrack = window.frbzztrack || function () { (frbzztrack.q = frbzztrack.q || []).push(arguments) };
frbzztrack("bought", 49.9, "EUR", "dynamic", 7);
</script><script src="`+s.site+`/track.js" async></script></body></html>`)
	writePage(t, s.caddy, "slow.html", `<!doctype html><html><head><meta charset=utf-8><title>thanks</title><link rel=icon href="data:,"></head><body>
<script src="`+s.site+`/track.js"></script><script>
frbzztrack("early");
setTimeout(() => { location.href = "about:blank" });
</script><script src="`+slow(t)+`"></script></body></html>`)
	shop := " {\n\troot DIR/www\n\ttry_files {path}.html\n\tfile_server\n}\n"
	s.write(globals(tinybirdSink(s.tb)) + "SITE {\n\t" + campaignLines("cmp_1", append([]string{"client on", roomy}, options...)...) + "\n\troot DIR/www\n\tfile_server\n}\n" + s.shop + shop + local + shop)
	s.start()
	return s
}

// slow is a script that never comes.
func slow(t testing.TB) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	return server.URL
}

// pointAt moves the mouse over an element, and gives where it leads then.
func pointAt(p *browser.Page, id string) string {
	return browser.Eval[string](p, `(`+id+`.dispatchEvent(new PointerEvent("pointerover", {bubbles: true, composed: true})), `+id+`.href)`)
}

const clickIDKnown = `performance.getEntriesByType("resource").some(e => e.name.endsWith("/session/init"))`

// TestClientDecoratesLinks: who follows a link to a shop and buys there is a
// conversion of the session, once, however often the shop tells it.
func TestClientDecoratesLinks(t *testing.T) {
	t.Parallel()
	s := startShop(t, "decorate_links on")
	p := s.open("/?utm_source=google&utm_term=a%26b&gclid=g1&secret=1")
	await(t, p, `window.firebuzzSession && `+clickIDKnown)
	session := browser.Eval[string](p, sessionID)
	await(t, p, strings.Replace(`(SHOP.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})), SHOP.href.includes("frbzz_ci="))`, "SHOP", "bare", 2))
	_, id, _ := strings.Cut(pointAt(p, "bare"), "frbzz_ci=")
	const given = "utm_source=google&utm_term=a%26b"
	for element, want := range map[string]string{
		"bare":   s.shop + "/buy?" + given + "&gclid=g1&frbzz_ci=" + id,
		"shop":   s.shop + "/buy?sig=a%20b+c&flag&" + given + "&gclid=g1&frbzz_ci=" + id + "#top",
		"own":    s.shop + "/buy?utm_source=partner&gclid=theirs&frbzz_ci=theirs&utm_term=a%26b",
		"local":  "http://localhost:" + s.port + "/buy?" + given + "&gclid=g1&frbzz_ci=" + id,
		"inside": s.site + "/in?x",
		"mail":   "mailto:x@example.com",
		"app":    "whatsapp://send?text=hi",
		"plain":  s.shop + "/buy?X-Amz-Signature=1",
	} {
		for range 2 {
			if got := pointAt(p, element); got != want {
				t.Errorf("%s leads to %s, want %s", element, got, want)
			}
		}
	}
	browser.Run(p, chromedp.Click("#inner"))
	await(t, p, `location.pathname == "/buy" && __calls.length`)
	rows := s.events("bought", "external-link-click")
	sold, click := rows["bought"][0], rows["external-link-click"][0]
	if sold["session_id"] != session || sold["event_placement"] != "external" || fmt.Sprint(sold["event_value"]) != "49.9" || sold["event_value_currency"] != "EUR" || sold["page_url"] != s.shop+"/buy" {
		t.Errorf("row %v", sold)
	}
	var metadata map[string]any
	if err := json.Unmarshal([]byte(click["metadata"].(string)), &metadata); err != nil {
		t.Fatal(err)
	}
	if metadata["has_click_id"] != true || metadata["original_url"] != s.shop+"/buy" || !strings.Contains(click["clicked_url"].(string), given) {
		t.Errorf("the click's row is %v", click)
	}
	// The page of thanks is loaded again: the order is the same.
	browser.Run(p, chromedp.Reload())
	await(t, p, `window.frbzztrack && __calls.length`)
	if sum := browser.Eval[string](p, `(frbzztrack("more"), __errors.join() + document.cookie + localStorage.length + sessionStorage.length)`); sum != "00" {
		t.Errorf("the shop's page sees %s", sum)
	}
	if n := len(s.events("bought", "more")["bought"]); n != 1 {
		t.Errorf("%d rows of one order", n)
	}
}

// TestClientLinksFollowConsent: what names a click goes on while consent allows
// it, and is taken back; campaign parameters go on anyway. Other hosts than those
// that are named are left alone.
func TestClientLinksFollowConsent(t *testing.T) {
	t.Parallel()
	s := startShop(t, consentAsked, "decorate_links localhost *.example.com")
	p := s.open("/?utm_source=google&gclid=g1")
	await(t, p, `window.firebuzzSession && __calls.length`)
	local := "http://localhost:" + s.port + "/buy?utm_source=google"
	if got := pointAt(p, "local"); got != local {
		t.Errorf("before consent it leads to %s", got)
	}
	decides := func(purposes string) {
		t.Helper()
		if !browser.Eval[bool](p, `firebuzzSession.onConsentChange(`+purposes+`)`) {
			t.Fatalf("%s was not recorded", purposes)
		}
	}
	const gave = `window.__gave`
	browser.Eval[bool](p, `(window.__fetch = (own, url, o) => own(url, o).then(async r => { if (url.endsWith("/init") && (await r.clone().json()).data.click_id) window.__gave = true; return r }), true)`)
	for range 2 { // a click id that was void is given anew
		decides(`{analytics: true}`)
		await(t, p, gave) // nothing has been pointed at
		browser.Eval[bool](p, `(window.__gave = false, true)`)
		got := pointAt(p, "local")
		id, ok := strings.CutPrefix(got, local+"&frbzz_ci=")
		if !ok {
			t.Fatalf("after a yes to analytics it leads to %s", got)
		}
		elsewhere(t, s.site, sold(id)).ok(t)
		decides(`{analytics: true, marketing: true}`)
		if got := pointAt(p, "local"); got != local+"&gclid=g1&frbzz_ci="+id {
			t.Errorf("after a yes to marketing it leads to %s", got)
		}
		decides(`{}`)
		if got := pointAt(p, "local"); got != local {
			t.Errorf("after the refusal it leads to %s", got)
		}
		if a := elsewhere(t, s.site, sold(id)); a.status != 401 {
			t.Errorf("after the refusal its click id is good: %s", a.body)
		}
	}
	decides(`{analytics: true}`)
	if got := browser.Eval[string](p, `(local.search += "&own=1", local.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})), local.href)`); !strings.HasPrefix(got, local) || !strings.Contains(got, "&own=1") {
		t.Errorf("what the page has added is gone: %s", got)
	}
	// The reference manager's visitor decides, and nothing is reported yet.
	other := s.open("/?utm_source=google&gclid=g1")
	await(t, other, `window.firebuzzSession && __calls.length`)
	says := strings.Replace(managerSays, "{has", "{version: 1, timestamp: Date.now(), has", 1)
	browser.Eval[bool](other, fmt.Sprintf(`(`+says+`, true)`, true))
	await(t, other, `(local.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})), local.search.includes("frbzz_ci="))`)
	browser.Eval[bool](other, fmt.Sprintf(`(`+says+`, true)`, false))
	if got := pointAt(other, "local"); got != local {
		t.Errorf("after the manager's no it leads to %s", got)
	}
	if got := pointAt(p, "bare"); got != s.shop+"/buy" {
		t.Errorf("another host's link leads to %s", got)
	}
	if errors := browser.Eval[string](p, `__errors.join()`); errors != "" {
		t.Errorf("the page sees %s", errors)
	}
}

// TestClientLinksOfTheNextSession: links carry the click id of the session that
// lives, and are right again when it has been renewed.
func TestClientLinksOfTheNextSession(t *testing.T) {
	t.Parallel()
	s := startShop(t, "decorate_links on", "session_duration 2s")
	p := s.open("/")
	decorated := func(not string) string {
		await(t, p, `(bare.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})), /frbzz_ci=(?!`+not+`$)/.test(bare.search))`)
		_, id, _ := strings.Cut(browser.Eval[string](p, `bare.href`), "frbzz_ci=")
		return id
	}
	await(t, p, `window.firebuzzSession`)
	first := decorated("none")
	second := decorated(first)
	for _, id := range []string{first, second} {
		elsewhere(t, s.site, sold(id)).ok(t)
	}
	if got := browser.Eval[string](p, `bare.search`); strings.Count(got, "frbzz_ci") != 1 {
		t.Errorf("the link has %s", got)
	}
}

// TestClientAsksForClickIDsSeldom: where there is none, however often a link is
// pointed at; and again when there may be one.
func TestClientAsksForClickIDsSeldom(t *testing.T) {
	t.Parallel()
	s := startShop(t, "decorate_links on")
	p := s.open("/", `window.__inits = 0; window.__down = true; window.__fetch = (own, url, o) => !url.endsWith("/init") ? own(url, o) : ++__inits && __down ? Promise.resolve(new Response("{}", {status: 503, headers: {"Retry-After": "3600"}})) : own(url, o)`)
	await(t, p, `window.__inits`)
	browser.Eval[bool](p, `(window.__n = 0, setInterval(() => { __n++; bare.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})) }, 20), true)`)
	await(t, p, `__n > 100`)
	if n := browser.Eval[int](p, `__inits`); n != 1 {
		t.Errorf("%d calls while the server says later", n)
	}
	browser.Eval[bool](p, `(window.__down = false, window.dispatchEvent(new Event("online")), true)`)
	await(t, p, `bare.search.includes("frbzz_ci=")`)
	if n := browser.Eval[int](p, `__inits`); n != 2 {
		t.Errorf("%d calls in the end", n)
	}
}

// TestTrackScriptGoesOn: what got no answer is sent again, and by a beacon when
// the page is left; what was refused is not. A visitor who came by another way is
// nobody's conversion.
func TestTrackScriptGoesOn(t *testing.T) {
	t.Parallel()
	s := startShop(t, "decorate_links on")
	v := newVisitor(t, s.site, desktop, false)
	id := clickIDOf(t, v, map[string]any{"token": v.visit("/").Session.Token})
	const fails = `window.__n = 0; window.__fetch = (own, url, o) => ++__n == 1 ? Promise.reject(new TypeError("offline")) : __n == 2 ? Promise.resolve(new Response("", {status: 503})) : own(url, o);`
	at := func(p *browser.Page, query string) { p.Open(s.shop + "/buy" + query) }

	p := s.b.Page(t)
	s.watch(p, fails)
	at(p, "?frbzz_ci="+id)
	await(t, p, `__n == 3`)
	if n := len(s.events("bought")["bought"]); n != 1 {
		t.Errorf("%d rows", n)
	}

	left := s.b.Page(t)
	s.watch(left, `window.__fetch = (own, url, o) => window.__n++ ? own(url, o) : Promise.reject(new TypeError("offline")); window.__n = 0; window.frbzztrack = Object.assign(() => {}, {q: {length: 0}})`)
	at(left, "?frbzz_ci="+id)
	await(t, left, `window.frbzztrack.url`)
	browser.Eval[bool](left, `(frbzztrack("left", 1, "EUR", "dynamic", null), frbzztrack("left", 1, "EUR", "dynamic", null), __n == 2)`)
	left.Open("about:blank")
	if rows := s.events("left*2")["left"]; len(rows) != 2 { // without a number of its own each is another
		t.Errorf("%d rows", len(rows))
	}

	// A page of thanks that is left before it is parsed.
	early := s.b.Page(t)
	early.Open(s.site)
	browser.Eval[bool](early, `setTimeout(() => { location.href = "`+s.shop+`/slow?frbzz_ci=`+id+`" }), true`)
	s.events("early")

	refused := s.b.Page(t)
	s.watch(refused, `window.__n = 0; window.__warned = []; console.warn = (...a) => __warned.push(a.join()); window.__fetch = (own, url, o) => { __n++; return own(url, o) }`)
	at(refused, "?frbzz_ci=aaaaaaaaaaaaaaaa")
	await(t, refused, `__warned.length`)
	if got := browser.Eval[string](refused, `__n + " " + __warned`); !strings.HasPrefix(got, "1 frbzztrack:,unknown_click_id: ") {
		t.Errorf("refused: %s", got)
	}
	at(refused, "")
	await(t, refused, `window.frbzztrack.url`)
	if n := browser.Eval[int](refused, `__n`); n != 0 {
		t.Errorf("%d calls without a click id", n)
	}
}

// TestClientLinksAreAsked: the runtime is another one where links are decorated,
// and nothing is decorated where nobody asked for it.
func TestClientLinksAreAsked(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		"":                   client.Runtime.File(),
		"decorate_links off": client.Runtime.File(),
		"decorate_links on":  client.RuntimeLinks.File() + "#,,*",
		"decorate_links a.example.com *.b.example":             client.RuntimeLinks.File() + "#,,a.example.com,*.b.example",
		"decorate_links on\n\t\tweb_vitals on\n\t\tvariable x": client.RuntimeLinks.File() + "#x," + client.RuntimeIdle.File() + ",*",
	} {
		c := startLanding(t, globals("")+"SITE {\n\t"+campaignLines("cmp_1", "client on", options)+"\n\troot DIR/www\n\tfile_server\n}\n")
		_, body := newVisitor(t, c.site, desktop, false).page("/")
		if !strings.Contains(body, ` src="/client-api/v1/`+want+`">`) {
			t.Errorf("%q: %.300s", options, body)
		}
	}
}
