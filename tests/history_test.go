package tests

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// historyPage notes each time that it is shown. It has an icon of its own: one
// that Chromium asks for meets a certificate error, and when that comes late it
// throws the page out of the cache.
const historyPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title>
<link rel=icon href="data:,">
<script>window.shown = []; addEventListener("pageshow", e => shown.push(e.persisted))</script></head><body>a page</body></html>`

// goBack goes back in history and waits until the page is shown. It gives
// whether that is the page which was left, from the back/forward cache.
func goBack(t testing.TB, p *browser.Page) (restored bool) {
	t.Helper()
	// The driver's own way back waits for a load event, which a page from the
	// cache does not have. A page must not be asked before it is there: being
	// evaluated in the cache throws it out.
	arrived := make(chan page.NavigationType, 1)
	ctx, cancel := context.WithCancel(p.Context())
	defer cancel()
	err := chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*page.EventFrameNavigated); ok {
			select {
			case arrived <- e.Type:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h := protocol(p, page.GetNavigationHistory, cdp.Empty{})
	protocol(p, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: h.Entries[h.CurrentIndex-1].ID})
	select {
	case how := <-arrived:
		restored = how == page.NavigationTypeBackForwardCacheRestore
	case <-time.After(60 * time.Second):
		t.Fatal("Chromium did not go back within 60 s")
	}
	want := "false"
	if restored {
		want = "false,true"
	}
	eventually(t, 30*time.Second, "the page is shown again", func() error {
		shown, err := browser.Try(p, chromedp.Evaluate[string](`String(window.shown ?? [])`))
		if err == nil && shown != want {
			err = fmt.Errorf("pageshow was dispatched with %q, want %q", shown, want)
		}
		return err
	})
	return restored
}

// TestBackForwardCache: the page comes back from the browser's cache of whole
// pages as it does without the module, with the session it had.
func TestBackForwardCache(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if rule := r.URL.Query().Get("rule"); rule != "" {
			w.Header().Set("Cache-Control", rule)
		}
		fmt.Fprint(w, historyPage)
	}))
	t.Cleanup(upstream.Close)
	c := newCaddy(t)
	config := strings.Replace(globals(""), "auto_https off", "auto_https disable_redirects\n\tskip_install_trust", 1) + "SITE {\n\trespond 404\n}\n"
	site := func(scheme, lines string) string {
		_, port, _ := strings.Cut(freeAddr(t), ":")
		address := scheme + "://localhost:" + port
		if scheme == "https" {
			lines += "\n\ttls internal"
		}
		config += address + " {\n\t" + lines + "\n\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") + "\n}\n"
		return address
	}
	plain := map[string]string{"http": site("http", ""), "https": site("https", "")}
	with := make(map[string]string)
	modes := []string{"inline", "cookieless", "loader"}
	for scheme := range plain {
		with[scheme+" inline"] = site(scheme, campaignLines("cmp_1"))
		with[scheme+" cookieless"] = site(scheme, campaignLines("cmp_2", "identity cookieless"))
		with[scheme+" loader"] = site(scheme, campaignLines("cmp_3", "inject loader"))
	}
	c.write(config)
	c.start()
	b := browser.Start(t, chromedp.IgnoreCertErrors)

	const session = `window.__FIREBUZZ_SESSION_CONTEXT__?.session.sessionId ?? ""`
	thereAndBack := func(t *testing.T, site, query string) (restored bool, before, after string) {
		p := b.Page(t)
		p.Open(site + "/" + query)
		before = browser.Eval[string](p, session)
		p.Open(site + "/next")
		restored = goBack(t, p)
		return restored, before, browser.Eval[string](p, session)
	}
	for _, row := range []struct {
		scheme, query string
		loader        bool // whether it comes back with the loader; else it always does
	}{
		{"http", "", true},
		{"https", "", true},
		{"https", "?rule=public,max-age=600", true},
		{"https", "?rule=no-cache", true},
		// Chromium drops such a page when a cookie changes behind it, which the
		// loader's first one does.
		{"https", "?rule=no-store", false},
	} {
		t.Run(row.scheme+row.query, func(t *testing.T) {
			t.Parallel()
			if restored, _, _ := thereAndBack(t, plain[row.scheme], row.query); !restored {
				t.Fatal("without the module the page is not restored")
			}
			for _, mode := range modes {
				restored, before, after := thereAndBack(t, with[row.scheme+" "+mode], row.query)
				want := mode != "loader" || row.loader
				if restored != want || before == "" || restored && before != after {
					t.Errorf("%s: restored: %v, want %v; session %s, then %s", mode, restored, want, before, after)
				}
			}
		})
	}
}
