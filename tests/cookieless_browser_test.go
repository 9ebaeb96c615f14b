package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// trailPage has the ways on from a page of a site, and a client that gives a
// sign of life.
const trailPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,"></head><body>
<a id=a href=/a.html>a link</a> <a id=b href=/b.html>a link</a> <a id=quiet href=/a.html rel=noreferrer>a link that says nothing</a>
<a id=away href="AWAY">a link to another site</a>
<script>
function show() {
	const body = JSON.stringify({token: __FIREBUZZ_SESSION_CONTEXT__.session.token});
	fetch("/client-api/v1/events/session/init", {method: "POST", body}).then(() => window.told = true);
}
show();
</script></body></html>`

// TestWithoutCookiesInChromium: what a real browser sends on each way from
// page to page, and whether that is the same session or a new one.
func TestWithoutCookiesInChromium(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	}))
	t.Cleanup(other.Close)
	back := strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/?to="
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(strings.Replace(trailPage, "AWAY", back+"http://"+r.Host+"/a.html", 1)))
	}))
	t.Cleanup(upstream.Close)

	ways := []struct {
		name, entry string
		// on are the ways that are taken one after the other.
		on   []string
		want []bool
		why  string
	}{
		{"entry", "/", []string{"open /"}, []bool{false}, "an address that is typed comes from nowhere"},
		{"a link", "/", []string{"a", "b", "a"}, []bool{true, true, true}, "it names the page that was shown last"},
		{"the reload of an ad's page", "/?gclid=Cj0KCQ&utm_source=google", []string{"reload", "a", "reload"}, []bool{true, true, true}, "it asks for the page that was shown last"},
		{"noreferrer", "/", []string{"quiet"}, []bool{false}, "it names no page"},
		{"back from another site", "/", []string{"away"}, []bool{false}, "it comes over another site, whoever set out"},
		{"a second tab", "/", []string{"open /b.html"}, []bool{false}, "it comes from nowhere"},
	}
	c := newCaddy(t)
	config := globals("") + "SITE {\n\trespond 404\n}\n"
	sites := make([]string, len(ways)*manyTries)
	for i := range sites {
		// All have one address and one browser: a workspace keeps them apart.
		sites[i] = "http://" + freeAddr(t)
		config += fmt.Sprintf("%s {\n\tsession_context {\n\t\tworkspace ws_%d\n\t\tproject pr_1\n\t\tcampaign cmp_%d\n\t\tconsent {\n\t\t\trequire always\n\t\t}\n\t}\n\treverse_proxy %s\n}\n",
			sites[i], i, i, strings.TrimPrefix(upstream.URL, "http://"))
	}
	c.write(config)
	c.start()
	b := browser.Start(t)

	for _, way := range ways {
		unhurried(t, c, way.name, func(t testing.TB) {
			site := sites[0]
			sites = sites[1:]
			p := b.Page(t)
			p.Open(site + way.entry)
			session := func() string {
				t.Helper()
				var id string
				eventually(t, 30*time.Second, "the page shows and its sign of life is answered", func() (err error) {
					id, err = browser.Try(p, chromedp.Evaluate[string](`window.told && !window.left ? __FIREBUZZ_SESSION_CONTEXT__.session.sessionId : ""`))
					if err == nil && id == "" {
						err = fmt.Errorf("it does not")
					}
					return err
				})
				return id
			}
			before := session()
			for n, on := range way.on {
				browser.Eval[bool](p, `window.left = true`)
				word, arg, _ := strings.Cut(on, " ")
				switch word {
				case "open":
					p.Open(site + arg)
				case "reload":
					browser.Eval[bool](p, `setTimeout(() => location.reload()), true`)
				default:
					browser.Eval[bool](p, `setTimeout(() => document.getElementById("`+word+`").click()), true`)
				}
				after := session()
				if (before == after) != way.want[n] {
					t.Errorf("step %d, %s: same session: %v, want %v: %s", n+1, on, before == after, way.want[n], way.why)
				}
				before = after
			}
		})
	}
}
