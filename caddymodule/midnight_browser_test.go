package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// TestASessionGoesOnOverMidnightInChromium: a visitor without cookies has
// another visitor key from midnight UTC on, and goes on with the session of the
// day before by the links of its pages all the same.
func TestASessionGoesOnOverMidnightInChromium(t *testing.T) {
	ahead := &atomic.Int64{} // of the real clock, in ns
	setClock(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	toMidnight := func(d time.Duration) {
		t.Helper()
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		ahead.Store(int64(time.Until(midnight) + d))
	}
	toMidnight(-10 * time.Minute)

	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>%s</title><link rel=icon href="data:,"><a id=a href=/a>a</a> <a id=b href=/b>b</a>`, r.URL.Path)
	}))
	t.Cleanup(upstream.Close)
	site, _ := loadConsentSite(t, strings.TrimPrefix(upstream.URL, "http://"))

	p := browser.Start(t).Page(t)
	at := func(path string) (id string) {
		t.Helper()
		const read = `location.pathname + " " + (window.__FIREBUZZ_SESSION_CONTEXT__ ? __FIREBUZZ_SESSION_CONTEXT__.session.sessionId : "")`
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if s, err := browser.Try(p, chromedp.Evaluate[string](read)); err == nil {
				if id, ok := strings.CutPrefix(s, path+" "); ok && id != "" {
					return id
				}
			}
		}
		t.Fatalf("%s does not show with a context", path)
		return ""
	}
	click := func(link string) string {
		t.Helper()
		browser.Eval[bool](p, `setTimeout(() => document.getElementById("`+link+`").click()), true`)
		return at("/" + link)
	}
	p.Open(site + "/")
	first := at("/")
	if id := click("a"); id != first {
		t.Error("a link before midnight begins a new session")
	}
	toMidnight(time.Minute)
	if id := click("b"); id != first {
		t.Error("the first link after midnight begins a new session")
	}
	if id := click("a"); id != first {
		t.Error("the second link after midnight begins a new session")
	}
	// Far into the day nothing of yesterday's key counts any more.
	toMidnight(3 * time.Hour)
	if id := click("b"); id == first {
		t.Error("a session that ended goes on")
	}
}

// loadConsentSite loads a site, of a campaign that asks for consent, in front of
// an upstream.
func loadConsentSite(t *testing.T, upstream string) (site, rows string) {
	t.Helper()
	return loadSite(t, "", `	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_midnight
		consent {
			require always
		}
	}
	reverse_proxy `+upstream+`
`)
}
