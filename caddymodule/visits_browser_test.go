package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// lifePage has a client that renews its session where the server says that it
// has expired, and tells when it is answered.
const lifePage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,">HEAD</head><body><a id=a href=/a>a</a>
<script>
const post = (to, body) => fetch(to, {method: "POST", body: JSON.stringify(body)});
const api = (route, token) => post("/client-api/v1/events/session/" + route, {token}).then(r => r.json());
(async () => {
	const {token} = __FIREBUZZ_SESSION_CONTEXT__.session;
	let life = await api("init", token);
	if (life.code === "session_expired") life = await api("init", (await api("renew", token)).data.token);
	await post("/tell", {page: location.pathname, session: life.data?.session_id ?? ""});
})();
</script></body></html>`

// TestPagesOfBeforeInChromium: a page that was fetched before its session ended,
// and is looked at afterwards, is renewed like any other; and pages whose script
// is blocked bring a warning, until they are mended, over a reload too.
func TestPagesOfBeforeInChromium(t *testing.T) {
	ahead := &atomic.Int64{} // of the real clock, in ns
	setClock(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	type told struct{ Page, Session string }
	tells, asked := make(chan told, 16), make(chan string, 512)
	blocked := &atomic.Bool{}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tell":
			var one told
			b, _ := io.ReadAll(r.Body)
			if json.Unmarshal(b, &one) == nil {
				tells <- one
			}
			return
		case "/worker.js":
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, `addEventListener("install", () => skipWaiting()); addEventListener("activate", e => e.waitUntil(clients.claim()));
addEventListener("fetch", e => { if (e.request.mode === "navigate") e.respondWith((async () => {
	const c = await caches.open("pages"), had = await c.match(e.request.url);
	if (had) return had;
	const r = await fetch(e.request);
	await c.put(e.request.url, r.clone());
	return r;
})()) });`)
			return
		}
		head := ""
		if r.URL.Path == "/prefetch" {
			head = `<script type=speculationrules>{"prefetch": [{"source": "list", "urls": ["/a"], "eagerness": "immediate"}]}</script>`
		}
		if blocked.Load() {
			head = `<meta http-equiv=Content-Security-Policy content="script-src 'none'">`
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, strings.Replace(lifePage, "HEAD", head, 1))
		asked <- r.URL.Path
	}))
	t.Cleanup(upstream.Close)
	site, rows := loadConsentSite(t, strings.TrimPrefix(upstream.URL, "http://"))
	hear := func(path string) string {
		t.Helper()
		select {
		case got := <-tells:
			if got.Page != path || got.Session == "" {
				t.Fatalf("the browser tells %+v, want %s", got, path)
			}
			return got.Session
		case <-time.After(60 * time.Second):
			t.Fatalf("the browser never told of %s", path)
		}
		panic("unreachable")
	}
	b := browser.Start(t)

	// Prefetched, and followed when its session has ended.
	p := b.Page(t)
	p.Open(site + "/prefetch")
	first := hear("/prefetch")
	for got := ""; got != "/a"; {
		got = <-asked
	}
	ahead.Add(int64(45 * time.Minute))
	browser.Eval[bool](p, `setTimeout(() => document.getElementById("a").click()), true`)
	renewed := hear("/a")
	if n := len(asked); renewed == first || n != 0 {
		t.Errorf("session %s, then %s; the page was asked for %d times more", first, renewed, n)
	}

	// Out of a service worker's cache, hours later.
	ahead.Add(int64(5 * time.Hour))
	p = b.Page(t)
	p.Open(site + "/")
	hear("/")
	browser.Eval[bool](p, `navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready).then(() => true)`)
	p.Open(site + "/a")
	cached := hear("/a")
	ahead.Add(int64(5 * time.Hour))
	p.Open(site + "/a")
	later := hear("/a")

	// A session that is renewed has a row of its own, which names the first.
	var found map[string]map[string]any
	for end := time.Now().Add(30 * time.Second); found[later] == nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found = map[string]map[string]any{}
		text, _ := os.ReadFile(rows + "/session_v1.ndjson")
		for line := range strings.Lines(string(text)) {
			var row map[string]any
			if json.Unmarshal([]byte(line), &row) == nil {
				found[row["session_id"].(string)] = row
			}
		}
	}
	for next, before := range map[string]string{renewed: first, later: cached} {
		if r := found[next]; r == nil || fmt.Sprint(r["is_renewal"]) != "1" || r["original_session_id"] != before || found[before] == nil {
			t.Errorf("the row of %s, which succeeds %s, is %v", next, before, r)
		}
	}

	// Pages whose script is blocked.
	silent := func() bool {
		mod, err := caddy.ActiveContext().App(appName)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(mod.(*App).status(wallClock()).Warnings, func(w warning) bool { return w.Code == "no_sign_of_life" })
	}
	blocked.Store(true)
	visit := func() {
		t.Helper()
		for len(asked) > 0 {
			<-asked
		}
		b.Page(t).Open(site + "/")
	}
	visit()
	for range silentPages {
		r, _ := http.NewRequest("GET", site+"/", nil)
		for name, v := range map[string]string{"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
			"Accept": "text/html,*/*", "Accept-Language": "de", "Accept-Encoding": "gzip", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} {
			r.Header.Set(name, v)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if silent() {
		t.Error("it warns of a hundred pages in a moment")
	}
	ahead.Add(int64(11 * time.Minute))
	if !silent() {
		t.Error("it does not warn of pages whose script is blocked")
	}
	blocked.Store(false)
	for range 3 {
		visit()
		hear("/")
	}
	if silent() {
		t.Error("it warns of pages that are mended")
	}
}
