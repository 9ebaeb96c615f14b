package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// visitsPage has a client of the older kind, which calls the API as soon as it
// runs, and tells the upstream when it is answered.
const visitsPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,">HEAD</head><body>
<a id=a href=/a>a</a> <a id=b href=/b>b</a> <a id=c href=/c>c</a> <a id=nostore href=/nostore>n</a> <a id=blank target=_blank rel=noopener href=/a>tab</a>
<a id=missing href=/missing>404</a> <a id=nothing href=/nothing>204</a> <a id=moved href=/moved>302</a> <a id=file href=/file>file</a>
<form id=form method=post action=/post><button>go</button></form>
<script>
const context = window.__FIREBUZZ_SESSION_CONTEXT__, token = context?.session.token;
const post = (to, body) => fetch(to, {method: "POST", body: JSON.stringify(body)}).then(r => r.text());
const api = (route, body) => post("/client-api/v1/events/" + route, {token, ...body});
const tell = (what, answer) => post("/tell", {what, page: location.pathname, session: context?.session.sessionId ?? "", ok: answer.includes('"success":true')});
async function alive(what) {
	await api("session/init", {});
	await tell(what, await api("track", {event_id: "page-view", event_type: "engagement"}));
}
addEventListener("pageshow", e => { if (e.persisted) alive("restored") });
addEventListener("click", async e => { if (top !== window) tell("clicked", await api("track", {event_id: "click", event_type: "engagement", clicked_element: e.target.id || "body"})) });
alive("shown");
</script></body></html>`

// visitsHeads is what some pages have in their head.
var visitsHeads = map[string]string{
	"/prefetch": `<script type=speculationrules>{"prefetch": [{"source": "list", "urls": ["/a"], "eagerness": "immediate"}]}</script>`,
	"/link":     `<link rel=prefetch href=/cached>`,
}

// visitsWorkers are service workers by what they do with a navigation.
var visitsWorkers = map[string]string{
	"/passes.js": `addEventListener("fetch", e => e.respondWith(fetch(e.request)));`,
	"/preloads.js": `addEventListener("activate", e => e.waitUntil(registration.navigationPreload.enable()));
addEventListener("fetch", e => e.respondWith((async () => await e.preloadResponse || fetch(e.request))()));`,
	"/caches.js": `addEventListener("fetch", e => { if (e.request.mode === "navigate") e.respondWith((async () => {
	const c = await caches.open("pages"), had = await c.match(e.request.url);
	if (had) return had;
	const r = await fetch(e.request);
	await c.put(e.request.url, r.clone());
	return r;
})()) });`,
}

type visitTold struct {
	What, Page, Session string
	OK                  bool
}

// visitSite is one site that one visitor comes to.
type visitSite struct {
	t        *testing.T
	b        *browser.Browser
	p        *browser.Page
	site     string // http://name.localhost:port
	elsewere string // origin of another site, whose pages frame and redirect
	told     chan visitTold
	asked    chan string // paths of pages that the upstream was asked for
	sessions map[string]bool
}

// hear waits until the page tells that its calls are answered.
func (v *visitSite) hear(what, path string) string {
	v.t.Helper()
	select {
	case got := <-v.told:
		if got.What != what || got.Page != path || !got.OK || got.Session == "" {
			v.t.Fatalf("the browser tells %+v, want %s %s", got, what, path)
		}
		v.sessions[got.Session] = true
		return got.Session
	case <-time.After(60 * time.Second):
		v.t.Fatalf("the browser never told that %s is %s", path, what)
	}
	panic("unreachable")
}

func (v *visitSite) open(path string) string {
	v.t.Helper()
	v.p.Open(v.site + path)
	return v.hear("shown", path)
}

func (v *visitSite) do(script string) {
	v.t.Helper()
	browser.Eval[bool](v.p, `setTimeout(() => {`+script+`}), true`)
}

func (v *visitSite) click(id, path string) string {
	v.t.Helper()
	v.do(`document.getElementById("` + id + `").click()`)
	return v.hear("shown", path)
}

// awaitAsked waits until the upstream is asked for the page.
func (v *visitSite) awaitAsked(path string) {
	v.t.Helper()
	for {
		select {
		case got := <-v.asked:
			if got == path {
				return
			}
		case <-time.After(60 * time.Second):
			v.t.Fatalf("nobody asked for %s", path)
		}
	}
}

// work registers a service worker and waits until it controls the site.
func (v *visitSite) work(script string) {
	v.t.Helper()
	v.open("/")
	browser.Eval[bool](v.p, `navigator.serviceWorker.register("`+script+`").then(() => navigator.serviceWorker.ready).then(() => true)`)
}

// visitForms are the ways to count a visit: by script or page, of visitors with
// cookies or without.
var visitForms = []struct{ name, options string }{
	{"script, cookies", "visit script"},
	{"script, no cookies", "visit script\n\t\tconsent {\n\t\t\trequire always\n\t\t}"},
	{"page, cookies", "visit page"},
	{"page, no cookies", "visit page\n\t\tconsent {\n\t\t\trequire always\n\t\t}"},
}

const (
	byScript = iota
	byScriptBare
	byPage
	byPageBare
)

// visitCases are ways to come to a page, with all rows of traffic that come of
// them (purpose, counted, status) and the number of sessions by form.
var visitCases = []struct {
	name     string
	act      func(*visitSite)
	traffic  []string
	sessions [4]int
}{
	{"a link", func(v *visitSite) { v.open("/"); v.click("a", "/a") }, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"prefetched, never followed", func(v *visitSite) { v.open("/prefetch"); v.awaitAsked("/a") },
		[]string{"navigate 1 200", "prefetch 0 200"}, [4]int{1, 1, 1, 1}},
	{"prefetched and followed", func(v *visitSite) {
		first := v.open("/prefetch")
		v.awaitAsked("/a")
		if v.click("a", "/a") != first || v.click("b", "/b") != first {
			v.t.Error("the visitor's session does not go on")
		}
	}, []string{"navigate 1 200", "prefetch 0 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a link that the page prefetches", func(v *visitSite) {
		v.open("/link")
		v.awaitAsked("/cached")
		v.do(`location.href = "/cached"`)
		v.hear("shown", "/cached")
	}, []string{"navigate 1 200", "prefetch 0 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"back, out of the browser's memory", func(v *visitSite) {
		first := v.open("/")
		v.click("a", "/a")
		v.do("history.back()")
		if v.hear("restored", "/") != first {
			v.t.Error("the page has another session than it had")
		}
	}, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"back, out of the HTTP cache", func(v *visitSite) {
		v.unremembered()
		first := v.open("/")
		v.click("a", "/a")
		v.do("history.back()")
		if v.hear("shown", "/") != first {
			v.t.Error("the page has another session than it had")
		}
		v.do("history.forward()")
		v.hear("shown", "/a")
	}, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"back to what no cache keeps", func(v *visitSite) {
		v.unremembered()
		v.open("/nostore")
		v.click("a", "/a")
		v.do("history.back()")
		v.hear("shown", "/nostore")
	}, []string{"navigate 1 200", "navigate 1 200", "navigate 1 200"}, [4]int{1, 2, 1, 2}},
	{"through a service worker", func(v *visitSite) { v.work("/passes.js"); v.click("a", "/a"); v.click("b", "/b") },
		[]string{"navigate 1 200", "service-worker 0 200", "service-worker 0 200"}, [4]int{1, 1, 1, 1}},
	{"preloaded for a service worker", func(v *visitSite) { v.work("/preloads.js"); v.click("a", "/a"); v.click("b", "/b") },
		[]string{"navigate 1 200", "service-worker 0 200", "service-worker 0 200"}, [4]int{1, 1, 1, 1}},
	{"out of a service worker's cache", func(v *visitSite) {
		v.work("/caches.js")
		v.click("a", "/a")
		v.click("b", "/b")
		v.click("a", "/a") // with the context of before
	}, []string{"navigate 1 200", "service-worker 0 200", "service-worker 0 200"}, [4]int{1, 1, 1, 1}},
	{"a frame of the site's own", func(v *visitSite) { v.open("/frames"); v.hear("shown", "/a") },
		[]string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a frame of another site's", func(v *visitSite) { v.frame("/a") }, []string{"iframe 0 200"}, [4]int{}},
	{"a click in it", func(v *visitSite) {
		v.frame("/a")
		v.press(200, 300, "clicked")
	}, []string{"iframe 0 200"}, [4]int{1, 1, 1, 1}},
	{"a link in it", func(v *visitSite) {
		v.frame("/quiet")
		v.press(40, 40, "shown")
	}, []string{"iframe 0 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a page that goes on by itself in it", func(v *visitSite) { v.frame("/onward"); v.hear("shown", "/a") },
		[]string{"iframe 0 200", "iframe 0 200"}, [4]int{}},
	{"a reload", func(v *visitSite) { v.open("/"); v.reload(false) }, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a reload past the caches", func(v *visitSite) { v.open("/"); v.reload(true) }, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 2, 1, 2}},
	{"scripts switched off", func(v *visitSite) {
		protocol(v.p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		v.p.Open(v.site + "/")
	}, []string{"navigate 1 200"}, [4]int{0, 0, 1, 1}},
	{"the page's source", func(v *visitSite) { v.p.Open("view-source:" + v.site + "/"); v.awaitAsked("/") }, []string{"navigate 1 200"}, [4]int{0, 0, 1, 1}},
	{"a link into a new tab", func(v *visitSite) { v.unattended("/blanks"); v.hear("shown", "/a") },
		[]string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"an opened window", func(v *visitSite) { v.unattended("/opens"); v.hear("shown", "/a") },
		[]string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"an ad by way of click trackers", func(v *visitSite) {
		v.p.Open(v.elsewere + "/click?to=" + v.elsewere + "/click?to=" + v.site + "/a?utm_source=ads%26gclid=1")
		v.hear("shown", "/a")
	}, []string{"navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a form that is answered with a page", func(v *visitSite) {
		v.open("/")
		v.do("document.forms.form.submit()")
		v.hear("shown", "/post")
	}, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"nothing to show", func(v *visitSite) {
		v.open("/")
		v.do("nothing.click()")
		v.awaitAsked("/nothing")
		v.click("a", "/a")
	}, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a page that is missing", func(v *visitSite) { v.open("/"); v.do("missing.click()"); v.awaitAsked("/missing") },
		[]string{"navigate 1 200", "navigate 0 404"}, [4]int{1, 1, 1, 1}},
	{"a page that has moved", func(v *visitSite) { v.open("/"); v.click("moved", "/a") }, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a download", func(v *visitSite) { v.open("/"); v.do("file.click()"); v.awaitAsked("/file") }, []string{"navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"a page that a script has fetched before", func(v *visitSite) {
		v.open("/")
		browser.Eval[bool](v.p, `fetch("/cached").then(r => r.text()).then(() => true)`)
		v.do(`location.href = "/cached"`)
		v.hear("shown", "/cached")
	}, []string{"navigate 1 200", "navigate 1 200"}, [4]int{1, 1, 1, 1}},
	{"HTML for a script", func(v *visitSite) { v.open("/"); v.do(`fetch("/b")`); v.awaitAsked("/b") }, []string{"navigate 1 200"}, [4]int{1, 1, 1, 1}},
}

// unremembered goes on in a browser without back/forward cache.
func (v *visitSite) unremembered() {
	v.p = browser.Start(v.t, chromedp.Flag("disable-features", "BackForwardCache")).Page(v.t)
}

// frame opens another site's page that has the site's in a frame.
func (v *visitSite) frame(path string) {
	v.t.Helper()
	v.p.Open(v.elsewere + "/frame?src=" + v.site + path)
	v.hear("shown", path)
}

// press clicks as a hand does, since scripts' clicks are no user's, until /a tells
// what came of it. A frame may show before it takes clicks.
func (v *visitSite) press(x, y float64, what string) {
	v.t.Helper()
	for range 10 {
		browser.Run(v.p, chromedp.MouseClickXY(x, y))
		select {
		case got := <-v.told:
			v.told <- got
			v.hear(what, "/a")
			return
		case <-time.After(6 * time.Second):
		}
	}
	v.t.Fatal("the frame takes no clicks")
}

// unattended opens a page that goes on into another tab by itself: what a
// debugged tab opens waits for its debugger.
func (v *visitSite) unattended(path string) {
	v.t.Helper()
	browser.Start(v.t, chromedp.Flag("disable-popup-blocking", true)).Unattended(v.t, v.site+path)
	v.hear("shown", path)
}

func (v *visitSite) reload(pastCaches bool) {
	v.t.Helper()
	protocol(v.p, page.Reload, page.ReloadParams{IgnoreCache: &pastCaches})
	v.hear("shown", "/")
}

// visitsElsewhere is another site, that frames pages and redirects to them.
func visitsElsewhere(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/click":
		_, to, _ := strings.Cut(r.URL.RawQuery, "to=")
		http.Redirect(w, r, strings.Replace(to, "%26", "&", 1), http.StatusFound)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><body style="margin:0"><link rel=icon href="data:,"><iframe style="border:0;width:600px;height:400px" src="%s"></iframe>`, r.URL.Query().Get("src"))
	}
}

// visitsUpstream makes the pages, and passes on what they tell.
func visitsUpstream(sites map[string]*visitSite) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := sites[r.Host]
		if v == nil {
			visitsElsewhere(w, r)
			return
		}
		if r.URL.Path == "/tell" {
			var told visitTold
			b, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(b, &told); err == nil {
				v.told <- told
			}
			return
		}
		if worker, ok := visitsWorkers[r.URL.Path]; ok {
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, `addEventListener("install", () => skipWaiting()); addEventListener("activate", e => e.waitUntil(clients.claim()));`+worker)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		text := strings.Replace(visitsPage, "HEAD", visitsHeads[r.URL.Path], 1)
		switch r.URL.Path {
		case "/nostore":
			w.Header().Set("Cache-Control", "no-store")
		case "/cached":
			w.Header().Set("Cache-Control", "max-age=600")
		case "/file":
			w.Header().Set("Content-Disposition", "attachment")
		case "/quiet": // its link is where the mouse clicks
			text = strings.Replace(text, "<body>", `<body><a href=/a style="position:fixed;left:0;top:0;width:100px;height:100px">on</a>`, 1)
			text = strings.Replace(text, `addEventListener("click"`, `addEventListener("never"`, 1)
		case "/onward":
			text = strings.Replace(text, `alive("shown");`, `alive("shown").then(() => location.href = "/a");`, 1)
		case "/blanks":
			text = strings.Replace(text, `alive("shown");`, `alive("shown").then(() => document.getElementById("blank").click());`, 1)
		case "/opens":
			text = strings.Replace(text, `alive("shown");`, `alive("shown").then(() => open("/a"));`, 1)
		case "/frames":
			text = strings.Replace(text, `alive("shown");`, `alive("shown").then(() => document.body.append(Object.assign(document.createElement("iframe"), {src: "/a"})));`, 1)
		case "/moved":
			http.Redirect(w, r, "/a", http.StatusFound)
			return
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
			text = ""
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, text)
		select {
		case v.asked <- r.URL.Path:
		default:
		}
	}
}

// TestVisitsInChromium: what a real browser does on each way to a page, and
// exactly the rows of traffic and sessions that come of it.
func TestVisitsInChromium(t *testing.T) {
	t.Parallel()
	sites := map[string]*visitSite{}
	upstream := httptest.NewServer(visitsUpstream(sites))
	t.Cleanup(upstream.Close)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	config := globals("") + "SITE {\n\t" + campaignLines("cmp_last") + "\n\troot DIR/www\n\tfile_server\n}\n"
	all := make([][4]*visitSite, len(visitCases))
	for i := range visitCases {
		for f, form := range visitForms {
			// Browsers take names below localhost for this machine, and trust them.
			host := fmt.Sprintf("visits-%d-%d.localhost:%s", i, f, c.site[strings.LastIndexByte(c.site, ':')+1:])
			v := &visitSite{site: "http://" + host, elsewere: upstream.URL, told: make(chan visitTold, 16), asked: make(chan string, 64), sessions: map[string]bool{}}
			all[i][f], sites[host] = v, v
			config += fmt.Sprintf("%s {\n\tsession_context {\n\t\tworkspace ws_%d_%d\n\t\tproject pr_1\n\t\tcampaign %s\n\t\t%s\n\t}\n\treverse_proxy %s\n}\n",
				v.site, i, f, visitCampaign(i, f), form.options, strings.TrimPrefix(upstream.URL, "http://"))
		}
	}
	c.write(config)
	c.start()
	b := browser.Start(t)
	ran := map[string]bool{}
	for i, tt := range visitCases {
		t.Run(tt.name, func(t *testing.T) {
			for f, form := range visitForms {
				v := all[i][f]
				v.t, v.b, v.p = t, b, b.Page(t)
				if !t.Run(form.name, func(t *testing.T) { v.t = t; tt.act(v) }) {
					return
				}
				ran[visitCampaign(i, f)] = true
			}
		})
	}

	late := int(c.metric(`caddy_session_context_continuations_total{outcome="timeout"}`))
	traffic, sessions := visitRows(t, c)
	for i, tt := range visitCases {
		for f, form := range visitForms {
			campaign := visitCampaign(i, f)
			if !ran[campaign] {
				continue
			}
			var got []string
			for _, r := range traffic[campaign] {
				got = append(got, fmt.Sprint(r["purpose"], " ", r["counted"], " ", r["status"]))
				if s, _ := r["session_id"].(string); len(s) != 36 {
					t.Errorf("%s, %s: traffic of session %q", tt.name, form.name, s)
				}
			}
			want := slices.Sorted(slices.Values(tt.traffic))
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: traffic %q, want %q", tt.name, form.name, got, want)
			}
			found := map[string]bool{}
			for _, r := range sessions[campaign] {
				id := r["session_id"].(string)
				found[id] = true
				if f != byPage && f != byPageBare && !all[i][f].sessions[id] {
					t.Errorf("%s, %s: session %s has a row, no page told of it", tt.name, form.name, id)
				}
				if strings.HasPrefix(tt.name, "an ad") && (r["utm_source"] != "ads" || r["gclid"] != "1") {
					t.Errorf("%s, %s: it came by %v", tt.name, form.name, r["utm_source"])
				}
			}
			// A busy machine's store may not tell in time which session goes on.
			if more := len(found) - tt.sessions[f]; more > 0 && more <= late && (f == byScriptBare || f == byPageBare) {
				late -= more
			} else if more != 0 {
				t.Errorf("%s, %s: %d sessions, want %d", tt.name, form.name, len(found), tt.sessions[f])
			}
		}
	}
}

func visitCampaign(i, f int) string { return fmt.Sprintf("cmp_%d_%d", i, f) }

// visitRows are all rows of traffic and sessions that were made up to now, by
// campaign. Each datasource is delivered in its order, so they are here when
// those of one more visit are.
func visitRows(t *testing.T, c *caddy) (traffic, sessions map[string][]map[string]any) {
	t.Helper()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t)
	traffic, sessions = map[string][]map[string]any{}, map[string][]map[string]any{}
	for name, rows := range map[string]map[string][]map[string]any{"traffic_v1": traffic, "session_v1": sessions} {
		var text string
		eventually(t, 30*time.Second, "the last rows are in the file", func() error {
			b, err := os.ReadFile(c.path("data/caddy/session_context/rows/" + name + ".ndjson"))
			if text = string(b); err == nil && !strings.Contains(text, s.Session.SessionID) {
				err = fmt.Errorf("%s does not have them", name)
			}
			return err
		})
		for line := range strings.Lines(text) {
			var row map[string]any
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatalf("%s: %v: %s", name, err, line)
			}
			campaign := row["campaign_id"].(string)
			rows[campaign] = append(rows[campaign], row)
		}
	}
	return traffic, sessions
}
