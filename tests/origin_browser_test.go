package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// attack is what a page of another origin tries. The script runs in that page;
// API, BODY, HERE and SIBLING are replaced. It gives what it could read.
type attack struct {
	name   string
	script string
	leaves bool // the page is left
}

const noCORS = `fetch("API/events/session/init", {method: "POST", mode: "no-cors", credentials: "include", body: BODY}).then(r => r.text())`

var attacks = []attack{
	{name: "no-cors POST", script: noCORS},
	{name: "no-cors POST without referrer", script: strings.Replace(noCORS, `mode:`, `referrerPolicy: "no-referrer", mode:`, 1)},
	{name: "cors POST with a preflight", script: `fetch("API/events/session/renew", {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body: BODY}).then(r => r.text())`},
	{name: "cors POST without a preflight", script: `fetch("API/events/session/renew", {method: "POST", credentials: "include", headers: {"Content-Type": "text/plain"}, body: BODY}).then(r => r.text())`},
	{name: "cors POST without credentials", script: `fetch("API/events/session/track", {method: "POST", credentials: "omit", body: BODY}).then(r => r.text())`},
	{name: "cors GET of the context", script: `fetch("API/session/context", {credentials: "include"}).then(r => r.text())`},
	{name: "no-cors GET of the context", script: `fetch("API/session/context", {mode: "no-cors", credentials: "include"}).then(r => r.text())`},
	{name: "redirect from here", script: `fetch("HERE/redirect?to=API/events/session/init", {method: "POST", mode: "no-cors", credentials: "include", body: BODY}).then(r => r.text())`},
	// Behind another origin's redirect the Origin is null.
	{name: "redirect from elsewhere", script: `fetch("https://third.test:PORT/redirect?to=API/events/session/init", {method: "POST", mode: "no-cors", credentials: "include", body: BODY}).then(r => r.text())`},
	{name: "cors redirect from elsewhere", script: `fetch("https://third.test:PORT/redirect?to=API/session/context", {credentials: "include"}).then(r => r.text())`},
	{name: "beacon", script: `navigator.sendBeacon("API/events/track", new Blob([BODY], {type: "text/plain"})) ? "" : "no beacon"`},
	{name: "beacon of a form", script: `navigator.sendBeacon("API/events/track", new URLSearchParams(BODY)) ? "" : "no beacon"`},
	{name: "keepalive", script: strings.Replace(noCORS, `mode:`, `keepalive: true, mode:`, 1)},
	{name: "script element", script: element("script", "src", "API/session/context.js")},
	{name: "script element with CORS", script: strings.Replace(element("script", "src", "API/session/context.js"), "e.src", `e.crossOrigin = "use-credentials"; e.src`, 1)},
	{name: "module", script: `import("API/session/context.js").then(() => JSON.stringify(window.__FIREBUZZ_SESSION_CONTEXT__ ?? ""))`},
	{name: "image", script: element("img", "src", "API/session/context")},
	{name: "style sheet", script: strings.Replace(element("link", "href", "API/session/context"), "e.href", `e.rel = "stylesheet"; e.href`, 1)},
	{name: "prefetch", script: `(() => { const e = document.createElement("link"); e.rel = "prefetch"; e.href = "API/session/context"; document.head.append(e); return "" })()`},
	{name: "preload", script: strings.Replace(element("link", "href", "API/session/context.js"), "e.href", `e.rel = "preload"; e.as = "script"; e.href`, 1)},
	{name: "iframe", script: `new Promise(done => { const e = document.createElement("iframe"); e.onload = () => { let text = ""; try { text = e.contentDocument.body.textContent } catch {} done(text) }; e.src = "API/session/context"; document.body.append(e) })`},
	{name: "object", script: element("object", "data", "API/session/context")},
	{name: "sandboxed iframe", script: `new Promise(done => { onmessage = e => done(String(e.data)); const e = document.createElement("iframe"); e.sandbox = "allow-scripts"; e.srcdoc = String.raw` + "`<script>" + noCORS + `.then(t => parent.postMessage(t, "*"), () => parent.postMessage("", "*"))</script>` + "`" + `; document.body.append(e) })`},
	{name: "form in an iframe", script: form("frame")},
	{name: "form post", script: form("_self"), leaves: true},
	{name: "navigation to the context", script: `void (location.href = "API/session/context"), ""`, leaves: true},
	{name: "navigation to the script", script: `void (location.href = "API/session/context.js"), ""`, leaves: true},
}

// element loads something by an element, and gives the context if that set it.
func element(tag, attribute, url string) string {
	return fmt.Sprintf(`new Promise(done => { const e = document.createElement(%q); const end = () => done(JSON.stringify(window.__FIREBUZZ_SESSION_CONTEXT__ ?? "").slice(2)); e.onload = e.onerror = end; e.%s = %q; document.body.append(e) })`, tag, attribute, url)
}

// form posts text/plain that reads as JSON.
func form(target string) string {
	return `(() => { const frame = document.createElement("iframe"); frame.name = "frame"; document.body.append(frame);
		const f = document.createElement("form"); f.method = "POST"; f.enctype = "text/plain"; f.target = "` + target + `"; f.action = "API/events/session/init";
		const i = document.createElement("input"); i.name = BODY.slice(0, -1) + ',"a":"'; i.value = '"}'; f.append(i); document.body.append(f); f.submit(); return "" })()`
}

// answers counts the API's answers: those of the gate, and all others.
func (c *caddy) answers() (shut, others float64) {
	c.t.Helper()
	res, err := http.Get("http://" + c.admin + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	for name, n := range metricsOf(c.t, res.Body, "caddy_session_context_api_answers_total{") {
		if strings.Contains(name, `code="origin_not_allowed"`) {
			shut += n
		} else {
			others += n
		}
	}
	return shut, others
}

// cookiesOf are those that the browser has for the URL, by value.
func cookiesOf(p *browser.Page, url string) []string {
	var out []string
	for _, c := range protocol(p, network.GetCookies, network.GetCookiesParams{URLs: []string{url}}).Cookies {
		out = append(out, fmt.Sprint(c.Name, "=", c.Value, " ", c.Expires))
	}
	slices.Sort(out)
	return out
}

// TestHostilePagesInChromium: a page of another origin, be it a sibling of the
// landing page's site, reads, sets and stores nothing through the API, whether
// or not its visitor has a session there.
func TestHostilePagesInChromium(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); r.URL.Path == "/redirect" {
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html><head><title>a page</title><link rel=icon href="data:,"></head><body>a page</body></html>`)
	}))
	t.Cleanup(upstream.Close)
	tb := standin.New(t)
	c := newCaddy(t)
	_, port, _ := strings.Cut(freeAddr(t), ":")
	at := func(host string) string { return "https://" + host + ":" + port }
	victim, sibling, evil, third, friend := at("lp.victim.test"), at("app.victim.test"), at("evil.test"), at("third.test"), at("friend.test")
	config := strings.Replace(globals(tinybirdSink(tb)), "auto_https off", "auto_https disable_redirects\n\tskip_install_trust", 1) + "SITE {\n\trespond 404\n}\n"
	proxy := "\n\ttls internal\n\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") + "\n}\n"
	config += victim + " {\n\t" + campaignLines("cmp_1", roomy, "allow_origin "+friend) + proxy
	config += strings.Join([]string{sibling, evil, third, friend}, ", ") + " {" + proxy
	c.write(config)
	c.start()
	b := browser.Start(t, chromedp.IgnoreCertErrors, chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	stored := func() int { return tb.Count("session_v1") + tb.Count("events_v1") }

	// One that has nothing to lose, and one that has cookies.
	for _, known := range []bool{true, false} {
		p := b.Page(t)
		p.Open(victim + "/")
		token := browser.Eval[string](p, `window.__FIREBUZZ_SESSION_CONTEXT__.session.token`)
		body := map[string]any{"token": token, "event_id": "e", "event_type": "conversion"}
		if known {
			body = map[string]any{"campaign_id": "cmp_1", "event_id": "e", "event_type": "conversion"}
		} else {
			p = b.Page(t) // the ids are known to the attacker, the browser is another
		}
		cookies := cookiesOf(p, victim)
		if (len(cookies) > 0) != known {
			t.Fatalf("known: %v, cookies %v", known, cookies)
		}
		text, _ := json.Marshal(body)
		quoted, _ := json.Marshal(string(text))
		for _, from := range []string{evil, sibling} {
			fill := strings.NewReplacer("API", victim+"/client-api/v1", "BODY", string(quoted), "HERE", from, "PORT", port)
			p.Open(from + "/")
			for _, a := range attacks {
				what := fmt.Sprintf("known: %v, from %s, %s", known, from, a.name)
				shut, others := c.answers()
				read := browser.Eval[string](p, "Promise.resolve().then(() => ("+fill.Replace(a.script)+`)).catch(() => "")`)
				if read != "" {
					t.Errorf("%s: read %q", what, read)
				}
				eventually(t, 20*time.Second, what+" reaches the gate", func() error {
					if now, _ := c.answers(); now <= shut {
						return fmt.Errorf("%v refusals, as before", now)
					}
					return nil
				})
				if _, now := c.answers(); now != others {
					t.Errorf("%s: passed the gate", what)
				}
				if a.leaves {
					eventually(t, 20*time.Second, what+" is answered", func() error {
						shown, err := browser.Try(p, chromedp.Evaluate[string](`location.origin + " " + document.readyState + " " + (document.body?.textContent ?? "")`))
						if err == nil && (!strings.HasPrefix(shown, victim+" complete") || !strings.Contains(shown, "origin_not_allowed")) {
							err = fmt.Errorf("shown is %q", shown)
						}
						return err
					})
					p.Open(from + "/")
				}
				if now := cookiesOf(p, victim); !slices.Equal(now, cookies) {
					t.Errorf("%s: cookies were\n%q, are\n%q", what, cookies, now)
				}
			}
		}
		// A frame of the site's own page that is sandboxed is none of it.
		if known {
			p.Open(victim + "/")
			cookies = cookiesOf(p, victim)
			fill := strings.NewReplacer("API", victim+"/client-api/v1", "BODY", string(quoted), "HERE", evil, "PORT", port)
			for _, a := range attacks {
				if a.name != "sandboxed iframe" && a.name != "redirect from here" && !a.leaves {
					continue
				}
				shut, others := c.answers()
				browser.Eval[string](p, "Promise.resolve().then(() => ("+fill.Replace(a.script)+`)).catch(() => "")`)
				eventually(t, 20*time.Second, a.name+" within the own page reaches the gate", func() error {
					if now, _ := c.answers(); now <= shut {
						return fmt.Errorf("%v refusals, as before", now)
					}
					return nil
				})
				if _, now := c.answers(); now != others {
					t.Errorf("%s within the own page passed the gate", a.name)
				}
				if a.leaves {
					eventually(t, 20*time.Second, a.name+" is answered", func() error {
						shown, err := browser.Try(p, chromedp.Evaluate[string](`document.body?.textContent ?? ""`))
						if err == nil && !strings.Contains(shown, "origin_not_allowed") {
							err = fmt.Errorf("shown is %q", shown)
						}
						return err
					})
				}
				p.Open(victim + "/")
			}
			if now := cookiesOf(p, victim); !slices.Equal(now, cookies) {
				t.Errorf("cookies were\n%q, are\n%q", cookies, now)
			}
		}
		if n := stored(); n != 0 {
			t.Fatalf("%d rows of sessions and events are stored", n)
		}
	}
	allowedPages(t, c, tb, b, victim, friend)
}

// allowedPages: what the gate is open for works in the same browser.
func allowedPages(t *testing.T, c *caddy, tb *standin.Server, b *browser.Browser, victim, friend string) {
	api := victim + "/client-api/v1"
	p := b.Page(t)
	p.Open(victim + "/")
	session := browser.Eval[string](p, `window.__FIREBUZZ_SESSION_CONTEXT__.session.sessionId`)
	user := browser.Eval[string](p, `window.__FIREBUZZ_SESSION_CONTEXT__.userId`)
	token := browser.Eval[string](p, `window.__FIREBUZZ_SESSION_CONTEXT__.session.token`)
	own := browser.Eval[string](p, `fetch("/client-api/v1/session/context").then(r => r.json()).then(c => c.session.sessionId)`)
	if own != session {
		t.Errorf("the own page reads session %s, has %s", own, session)
	}
	// A POST whose page sends no referrer names the origin null.
	for _, policy := range []string{"strict-origin-when-cross-origin", "no-referrer"} {
		got := browser.Eval[string](p, fmt.Sprintf(`fetch("/client-api/v1/events/session/init", {method: "POST", referrerPolicy: %q, body: '{"campaign_id":"cmp_1"}'}).then(r => r.json()).then(a => a.data.session_id)`, policy))
		if got != session {
			t.Errorf("with the policy %s init answers for %s, want %s", policy, got, session)
		}
	}
	if got := browser.Eval[bool](p, `navigator.sendBeacon("/client-api/v1/events/track", new Blob(['{"campaign_id":"cmp_1","event_id":"own","event_type":"system"}'], {type: "application/json"}))`); !got {
		t.Error("no beacon")
	}
	cookies := cookiesOf(p, victim)

	p.Open(friend + "/")
	got := browser.Eval[string](p, fmt.Sprintf(`fetch("%s/events/track", {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token: %q, event_id: "friend", event_type: "system"})}).then(r => r.json()).then(a => String(a.success))`, api, token))
	if got != "true" {
		t.Errorf("an allowed origin's event: %s", got)
	}
	// It is nobody there: the cookie speaks for the site's own pages only.
	text := browser.Eval[string](p, fmt.Sprintf(`fetch("%s/session/context", {credentials: "include"}).then(r => r.text())`, api))
	if !strings.Contains(text, `"sessionId"`) || strings.Contains(text, user) || strings.Contains(text, session) {
		t.Errorf("an allowed origin reads %s", text)
	}
	code := browser.Eval[string](p, fmt.Sprintf(`fetch("%s/events/session/init", {method: "POST", credentials: "include", body: '{"campaign_id":"cmp_1"}'}).then(r => r.json()).then(a => a.code)`, api))
	if code != "invalid_session" {
		t.Errorf("an allowed origin spoke with the visitor's cookie: %s", code)
	}
	if now := cookiesOf(p, victim); !slices.Equal(now, cookies) {
		t.Errorf("cookies were\n%q, are\n%q", cookies, now)
	}
	events := byID(t, waitRows(t, tb, "events_v1", 2), "event_id")
	for _, name := range []string{"own", "friend"} {
		expect(t, name, events[name], map[string]any{"session_id": session, "user_id": user})
	}
	expect(t, "session", waitRows(t, tb, "session_v1", 1)[0], map[string]any{"session_id": session})
}

// metricsOf are the samples whose names begin with prefix.
func metricsOf(t testing.TB, r io.Reader, prefix string) map[string]float64 {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && strings.HasPrefix(line, prefix) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			if err != nil {
				t.Fatal(err)
			}
			out[line[:at]] = v
		}
	}
	return out
}
