package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// protocol calls the browser's protocol for the tab.
func protocol[P, R any](p *browser.Page, command cdp.Command[P, R], params P) R {
	return browser.Run(p, chromedp.Action[R](func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	}))
}

// TestClientWakes: a session that ended while nobody looked is renewed when
// somebody does, before there is anything to send.
func TestClientWakes(t *testing.T) {
	t.Parallel()
	s := startClient(t, "session_duration 5s")
	t.Run("a device that slept, and whose clock stood still", func(t *testing.T) {
		// Awake, the clock goes on from where it stood.
		p := s.open("/", `{ const now = performance.now.bind(performance); let still, slept = 0;
			performance.now = () => still ?? now() - slept;
			window.__sleep = () => { still = performance.now() };
			window.__wake = () => { slept = now() - still; still = undefined } }`)
		await(t, p, `window.firebuzzSession && __calls.length == 1`)
		first := browser.Eval[string](p, sessionID)
		browser.Eval[bool](p, `(__sleep(), true)`)
		pass(t, p)
		browser.Eval[bool](p, `(__wake(), document.dispatchEvent(new Event("visibilitychange")), true)`)
		await(t, p, sessionID+` != "`+first+`"`)
	})
	t.Run("a page out of the browser's memory", func(t *testing.T) {
		p := s.open("/", `window.shown = []; addEventListener("pageshow", e => shown.push(e.persisted))`)
		await(t, p, `window.firebuzzSession && __calls.length == 1`)
		first := browser.Eval[string](p, sessionID)
		ends := browser.Eval[float64](p, `firebuzzSession.getCurrentSession().expiresAt`)
		p.Open(s.site + "/in/")
		eventually(t, 60*time.Second, "the session is over", func() error {
			if float64(time.Now().UnixMilli()) < ends+2000 { // the page's clock may be late
				return fmt.Errorf("not yet")
			}
			return nil
		})
		if !goBack(t, p) {
			t.Fatal("the page was not restored")
		}
		await(t, p, sessionID+` != "`+first+`"`)
		// By their ids: a view that the server refuses for its session is told again.
		await(t, p, `new Set(__calls.flatMap(c => [...c[1].matchAll(/"event_uuid":"([^"]+)","event_id":"page-view"/g)].map(m => m[1]))).size == 2`)
		await(t, p, fetchedOnce)
		s.quiet(p, "session/context")
	})
}

// TestClientInTheBackground: a tab that nobody has looked at yet is no view.
func TestClientInTheBackground(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	p := s.open("/", `{ let hidden = true; for (const [name, value] of [["hidden", () => hidden], ["visibilityState", () => hidden ? "hidden" : "visible"]]) Object.defineProperty(document, name, {get: value});
	window.__show = () => { hidden = false; document.dispatchEvent(new Event("visibilitychange", {bubbles: true})) } }`)
	events := s.events("dom-ready", "page-load")
	if len(events["page-view"]) > 0 {
		t.Error("a tab in the background was viewed")
	}
	browser.Eval[bool](p, `(__show(), true)`)
	if n := len(s.events("page-view")["page-view"]); n != 1 {
		t.Errorf("%d views", n)
	}
	s.quiet(p)
}

// TestClientPrerendered: a page that Chromium prerenders has the runtime, which
// calls nothing until somebody looks at the page.
func TestClientPrerendered(t *testing.T) {
	t.Parallel()
	tells, next := make(chan string, 8), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tell":
			b, _ := io.ReadAll(r.Body)
			tells <- string(b)
		case "/next":
			io.Copy(io.Discard, r.Body)
			select {
			case <-next:
			case <-r.Context().Done():
			}
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><title>a page</title><link rel=icon href="data:,">`)
			if r.URL.Path == "/" {
				io.WriteString(w, `<script type=speculationrules>{"prerender": [{"source": "list", "urls": ["/a.html"], "eagerness": "immediate"}]}</script>`)
			}
			io.WriteString(w, `<a id=a href=/a.html>a</a><script>
const post = (to, body) => fetch(to, {method: "POST", body});
const calls = () => performance.getEntriesByType("resource").filter(e => e.initiatorType == "fetch" && e.name.includes("/client-api/")).length;
addEventListener("load", function look() {
	if (!window.firebuzzSession) return setTimeout(look, 50);
	if (!document.prerendering) return post("/next").then(() => a.click());
	setTimeout(() => post("/tell", "prerendered, calls: " + calls()), 6000); // longer than first events wait
	document.addEventListener("prerenderingchange", () => post("/tell", "activated"));
});
</script>`)
		}
	}))
	t.Cleanup(upstream.Close)
	s := &clientSite{caddy: newCaddy(t), t: t, tb: standin.New(t), b: browser.Start(t)}
	s.write(globals(tinybirdSink(s.tb)) + "SITE {\n\t" + campaignLines("cmp_1", "client on") + "\n\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") + "\n}\n")
	s.start()
	s.b.Unattended(t, s.site+"/")
	hear := func(want string) {
		t.Helper()
		select {
		case got := <-tells:
			if got != want {
				t.Fatalf("the page tells %q, want %q", got, want)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("the page never told %q", want)
		}
	}
	hear("prerendered, calls: 0")
	of := func(rows []map[string]any) (n int) {
		for _, r := range rows {
			if r["page_url"] == s.site+"/a.html" {
				n++
			}
		}
		return n
	}
	if n := of(s.events("page-view")["page-view"]); n != 0 {
		t.Errorf("%d views of a page that nobody has seen", n)
	}
	close(next)
	hear("activated")
	if events := s.events("page-view*2", "page-load*2", "dom-ready*2"); of(events["page-view"]) != 1 {
		t.Errorf("views %v", events["page-view"])
	}
}

// TestClientLosesNothing: a page that is left with more to tell than a browser
// lets it send, a browser that is offline for a while, and a visitor who says no
// meanwhile.
func TestClientLosesNothing(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	t.Run("more than may be in flight when a page is left", func(t *testing.T) {
		p := s.open("/")
		await(t, p, `window.firebuzzSession && __calls.length == 1`)
		const many = 150
		browser.Eval[bool](p, fmt.Sprintf(`(() => { for (let i = 0; i < %d; i++) firebuzzSession.trackEvent("much", {metadata: {i, text: "\u20ac".repeat(900)}}); location.href = "/in/"; return true })()`, many))
		if n := len(s.events(fmt.Sprint("much*", many))["much"]); n != many {
			t.Errorf("%d events, want %d", n, many)
		}
	})
	t.Run("offline, and back", func(t *testing.T) {
		// Timers of a second and more stand still: only being online wakes it.
		p := s.open("/", `{ const own = setTimeout; window.setTimeout = (f, ms, ...a) => ms >= 1000 ? 0 : own(f, ms, ...a) }`)
		await(t, p, `window.firebuzzSession && __calls.length == 1`)
		offline(p, true)
		await(t, p, `!navigator.onLine`)
		browser.Eval[bool](p, `(firebuzzSession.trackEvent("underground", {type: "conversion"}), true)`)
		await(t, p, `sessionStorage.getItem("frbzz_cmp_1")?.includes("underground")`)
		offline(p, false)
		if n := len(s.events("underground")["underground"]); n != 1 {
			t.Errorf("%d events", n)
		}
		await(t, p, `!sessionStorage.getItem("frbzz_cmp_1")`)
	})
	t.Run("a no empties what waits", func(t *testing.T) {
		p := s.open("/")
		await(t, p, `window.firebuzzSession && __calls.length == 1`)
		browser.Eval[bool](p, `(window.__fetch = () => Promise.reject(new TypeError("offline")), firebuzzSession.trackEvent("withdrawn", {type: "conversion"}), true)`)
		await(t, p, `sessionStorage.getItem("frbzz_cmp_1")?.includes("withdrawn")`)
		browser.Eval[bool](p, `(delete window.__fetch, firebuzzSession.clearAllCookies())`)
		if got := browser.Eval[string](p, `Object.keys(sessionStorage) + document.cookie`); got != "" {
			t.Errorf("after a no the browser holds %s", got)
		}
		browser.Eval[bool](p, `(dispatchEvent(new Event("online")), firebuzzSession.trackEvent("anonymous", {type: "conversion"}), true)`)
		if events := s.events("anonymous"); len(events["withdrawn"]) > 0 {
			t.Error("an event from before the no was sent after it")
		}
	})
}

// offline takes the network from the tab, or gives it back.
func offline(p *browser.Page, is bool) {
	protocol(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: is, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	protocol(p, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: is, DownloadThroughput: -1, UploadThroughput: -1})
}
