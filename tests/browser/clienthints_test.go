package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

const hintPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,"></head><body>
<form method=post action=/again><input name=a value=b></form></body></html>`

// TestCriticalHintsInChromium holds visitor.Discards to what a real Chromium
// does: of each answer that it gets, does it ask again?
func TestCriticalHintsInChromium(t *testing.T) {
	t.Parallel()
	type answer struct{ accept, critical string }
	answers := map[string]answer{
		"nothing":    {},
		"alone":      {critical: "Sec-CH-UA-Model"},
		"uncritical": {accept: "Sec-CH-UA-Model"},
		"others":     {accept: "Sec-CH-UA-Arch", critical: "Sec-CH-UA-Model"},
		"default":    {accept: "Sec-CH-UA, Sec-CH-UA-Platform", critical: "Sec-CH-UA, Sec-CH-UA-Platform"},
		"unknown":    {accept: "Sec-CH-Of-Ours", critical: "Sec-CH-Of-Ours"},
		"images":     {accept: "Width, Sec-CH-Width", critical: "Width, Sec-CH-Width"},
		"mixed":      {accept: "Width, sec-ch-ua-model, ECT", critical: "Width, SEC-CH-UA-MODEL"},
	}
	for i, name := range []string{
		"Sec-CH-UA-Full-Version-List", "ECT", "Sec-CH-UA-Arch", "Sec-CH-UA-Bitness", "Sec-CH-UA-Full-Version", "Sec-CH-UA-Model",
		"Sec-CH-UA-Platform-Version", "Sec-CH-UA-WoW64", "Sec-CH-UA-Form-Factors", "Sec-CH-Prefers-Color-Scheme",
		"Sec-CH-Prefers-Reduced-Motion", "Sec-CH-Prefers-Reduced-Transparency", "Device-Memory", "DPR", "Viewport-Width",
		"Sec-CH-Device-Memory", "Sec-CH-DPR", "Sec-CH-Viewport-Width", "Sec-CH-Viewport-Height", "RTT", "Downlink",
	} {
		answers[fmt.Sprint("hint", i)] = answer{name, name}
	}
	var mu sync.Mutex
	sent := make(chan struct{}, 8)
	asked := map[string][]bool{} // by method and address: was it told that it is thrown away?
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ".")
		if r.URL.Path != "/form" {
			a := answers[host]
			for name, v := range map[string]string{"Accept-CH": a.accept, "Critical-CH": a.critical} {
				if v != "" {
					w.Header().Set(name, v)
				}
			}
		}
		mu.Lock()
		key := r.Method + " " + host + r.URL.Path
		asked[key] = append(asked[key], visitor.Discards(r, w.Header()))
		mu.Unlock()
		if r.URL.Path == "/again" {
			sent <- struct{}{}
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, hintPage)
	}))
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	b := browser.Start(t, chromedp.IgnoreCertErrors, chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	p := b.Page(t)
	check := func(key string, retries int) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		for i, told := range asked[key] {
			if thrown := i < len(asked[key])-1; thrown != told {
				t.Errorf("%s: answer %d is thrown away: %v, told: %v", key, i+1, thrown, told)
			}
		}
		if n := len(asked[key]) - 1; n != retries {
			t.Errorf("%s: %d retries, want %d", key, n, retries)
		}
		delete(asked, key)
	}
	for host := range answers {
		retries := 0
		if strings.HasPrefix(host, "hint") || host == "mixed" {
			retries = 1
		}
		p.Open("https://" + host + ".test:" + port + "/")
		check("GET "+host+"/", retries)
		p.Open("https://" + host + ".test:" + port + "/")
		check("GET "+host+"/", 0)
	}
	// A page of the site's own that leads to one which names hints.
	by := func(key, way, there string, requests int) {
		t.Helper()
		clean := b.Page(t)
		clean.Open("https://hint5.test:" + port + "/form")
		browser.Eval[bool](clean, way+", true")
		for range requests {
			select {
			case <-sent:
			case <-time.After(60 * time.Second):
				t.Fatalf("%s is not sent %d times", key, requests)
			}
		}
		// Another navigation would abort one that has not ended.
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if ended, err := browser.Try(clean, chromedp.Evaluate[bool](there+` === "/again complete"`)); err == nil && ended {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not end", key)
			}
		}
		// What comes after it is sent after it.
		clean.Open("https://hint5.test:" + port + "/form")
		check(key, requests-1)
	}
	by("GET hint5/again", `location = "/again"`, `location.pathname + " " + document.readyState`, 2)
	by("POST hint5/again", `document.forms[0].submit()`, `location.pathname + " " + document.readyState`, 1)
	by("GET hint5/again", `document.body.append(Object.assign(document.createElement("iframe"), {src: "/again"}))`, `frames[0].location.pathname + " " + frames[0].document.readyState`, 1)
}
