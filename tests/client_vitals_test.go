package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/client"
	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const idleLoaded = `performance.getEntriesByType("resource").some(e => e.name.includes("/runtime-idle."))`

// TestClientVitals: where the site asks for them, a page reports its web vitals
// once, in the request that is made when it is left, and loads their script
// when it has done its work; also under the policies that a runtime runs under.
func TestClientVitals(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	for _, policy := range []string{"", "script-src 'self'", "script-src 'nonce-own'", "script-src 'nonce-own' 'strict-dynamic'; object-src 'none'"} {
		t.Run("policy "+policy, func(t *testing.T) {
			site := &clientSite{caddy: newCaddy(t), t: t, tb: standin.New(t), b: b}
			writePage(t, site.caddy, "index.html", clientPage)
			site.write(globals(tinybirdSink(site.tb)) + "SITE {\n\theader Content-Security-Policy \"" + policy + "\"\n\t" + campaignLines("cmp_1", "client on", "web_vitals on") + "\n\troot DIR/www\n\tfile_server\n}\n")
			site.start()
			p := site.open("/")
			await(t, p, idleLoaded+` && __calls.length`)
			// The script has run when the library's observers have seen an interaction.
			browser.Run(p, chromedp.MouseClickXY(300, 300))
			await(t, p, `performance.interactionCount > 0`)
			session := browser.Eval[string](p, sessionID)
			if n := browser.Eval[int](p, `__calls.length`); n != 1 {
				t.Errorf("%d calls before the page is left, want 1", n)
			}
			site.quiet(p)
			p.Open("about:blank")

			got := map[string]map[string]any{}
			for _, r := range site.events("web-vital*4", "page-unload")["web-vital"] {
				var m map[string]any
				if err := json.Unmarshal([]byte(r["metadata"].(string)), &m); err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprint(m["name"])
				if got[name] != nil && got[name]["id"] == m["id"] && got[name]["value"] == m["value"] {
					t.Errorf("%s is reported twice: %v", name, m)
				}
				got[name] = m
				if r["session_id"] != session || r["event_type"] != "system" || fmt.Sprint(r["event_value"]) != fmt.Sprint(m["value"]) || m["navigationType"] != "navigate" || m["rating"] == nil || m["delta"] == nil {
					t.Errorf("%s: row %v", name, r)
				}
			}
			// What the browser tells only as it takes the page down is one more.
			if n := site.metric(`caddy_session_context_api_answers_total{code="ok",route="events/batch-track"}`); n != 2 && n != 3 {
				t.Errorf("%v batches", n)
			}
			for _, name := range []string{"LCP", "CLS", "FCP", "TTFB"} {
				if got[name] == nil {
					t.Errorf("no %s, only %v", name, got)
				}
			}
		})
	}
}

// TestClientVitalsAreAsked: nothing more is loaded where nobody asked for it.
func TestClientVitalsAreAsked(t *testing.T) {
	t.Parallel()
	s := startClient(t)
	p := s.open("/")
	await(t, p, `window.firebuzzSession && __calls.length`)
	if src := browser.Eval[string](p, `document.querySelector("script[type=module]").src`); !strings.HasSuffix(src, client.Runtime.File()) {
		t.Errorf("the runtime is told more than its name: %s", src)
	}
	p.Open("about:blank")
	if n := len(s.events("page-unload")["web-vital"]); n != 0 {
		t.Errorf("%d web vitals", n)
	}
}
