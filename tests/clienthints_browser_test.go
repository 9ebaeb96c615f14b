package tests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// hintedPage gives a sign of life, but where the site is quiet, and tells its
// session.
const hintedPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,"></head><body>
<a id=b href=/b.html>a link</a>
<script>
const session = __FIREBUZZ_SESSION_CONTEXT__.session;
const post = (to, body) => fetch(to, {method: "POST", body: JSON.stringify({token: session.token, ...body})}).then(r => r.json());
window.told = location.hostname.startsWith("quiet") ? Promise.resolve(session.sessionId)
	: post("/client-api/v1/events/session/init").then(life => life.success ? session.sessionId : "no");
window.decide = analytics => post("/client-api/v1/consent/record", {purposes: {essential: true, analytics, marketing: false, functional: false}}).then(r => r.success);
</script></body></html>`

// secureSites starts a Caddy with a site of each name, over HTTPS as hints want
// it, before an upstream that answers pages by what header says.
func secureSites(t *testing.T, tb *standin.Server, names map[string]string, header func(w http.ResponseWriter, r *http.Request)) (origin func(name string) string) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		header(w, r)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, hintedPage)
	}))
	t.Cleanup(upstream.Close)
	_, port, _ := strings.Cut(freeAddr(t), ":")
	origin = func(name string) string { return "https://" + name + ".test:" + port }
	config := "{\n\tadmin ADMIN\n\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust\n\tpersist_config off\n\tsession_context {\n" + tinybirdSink(tb) + "\n\t}\n}\nSITE {\n\trespond 404\n}\n"
	for name, options := range names {
		config += fmt.Sprintf("%s {\n\tbind 127.0.0.1\n\tsession_context {\n\t\tworkspace ws_%[2]s\n\t\tproject pr_1\n\t\tcampaign cmp_%[2]s\n%[3]s\n\t}\n\treverse_proxy %[4]s\n}\n",
			origin(name), name, options, strings.TrimPrefix(upstream.URL, "http://"))
	}
	c := newCaddy(t)
	c.write(config)
	c.start()
	waitKeys(t, c)
	return origin
}

const (
	asksAll   = "\t\tconsent {\n\t\t\trequire always\n\t\t}\n"
	visitPage = "\t\tvisit page\n"
	noCookie  = "\t\tidentity cookieless\n"
)

// rowsOf are the rows of one site's campaign.
func rowsOf(tb *standin.Server, datasource, name string) (rows []map[string]any) {
	all, _ := tb.Distinct(datasource)
	for _, r := range all {
		if r["campaign_id"] == "cmp_"+name {
			rows = append(rows, r)
		}
	}
	return rows
}

// TestCriticalRetryInChromium: an upstream that names critical hints makes
// Chromium throw the first answer away and ask again. That is one visit, one
// session, and one page that counts.
func TestCriticalRetryInChromium(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	sites := map[string]string{
		"script": "", "page": visitPage, "quiet": visitPage, "cookieless": noCookie, "quietcookieless": noCookie + visitPage,
		"asking": asksAll, "quietasking": asksAll + visitPage, "quietrandom": asksAll + visitPage + "\t\tbefore_consent random\n",
		"off": "\t\tclient_hints off\n",
	}
	origin := secureSites(t, tb, sites, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Accept-CH", "Sec-CH-UA-Model")
			w.Header().Set("Critical-CH", "Sec-CH-UA-Model")
		}
	})
	b := browser.Start(t, chromedp.IgnoreCertErrors, chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	for name := range sites {
		t.Run(name, func(t *testing.T) {
			p := b.Page(t)
			p.Open(origin(name) + "/")
			first := browser.Eval[string](p, "told")
			browser.Eval[bool](p, `document.getElementById("b").click(), true`)
			var linked string
			eventually(t, 30*time.Second, "the link's page shows", func() (err error) {
				linked, err = browser.Try(p, chromedp.Evaluate[string](`location.pathname === "/b.html" && window.told || ""`, chromedp.EvalAwaitPromise))
				if err == nil && linked == "" {
					err = fmt.Errorf("it does not")
				}
				return err
			})
			// Without cookies the visitor key has to lead to one session only.
			if goes := name != "quietrandom"; (linked == first) != goes {
				t.Errorf("sessions %q, then by a link %q, want them equal: %v", first, linked, goes)
			}
			// Typed again: now the hint comes at once.
			p.Open(origin(name) + "/")
			second := browser.Eval[string](p, "told")
			cookies := !strings.Contains(sites[name], asksAll) && !strings.Contains(sites[name], noCookie)
			if first == "no" || first == "" || (first == second) != cookies {
				t.Errorf("sessions %q and %q, want them equal: %v", first, second, cookies)
			}
			want := map[string]bool{first: true, linked: true, second: true}
			eventually(t, 30*time.Second, "the rows", func() error {
				var traffic []string
				for _, r := range rowsOf(tb, "traffic_v1", name) {
					traffic = append(traffic, fmt.Sprint(r["purpose"], " ", r["counted"]))
					if fmt.Sprint(r["counted"]) == "1" && !want[r["session_id"].(string)] {
						t.Fatalf("session %s counts, and was never shown", r["session_id"])
					}
				}
				sessions := map[string]bool{}
				for _, r := range rowsOf(tb, "session_v1", name) {
					id := r["session_id"].(string)
					if !want[id] {
						t.Fatalf("session %s has a row, and was never shown", id)
					}
					sessions[id] = true
				}
				if len(traffic) < 4 || len(sessions) < len(want) {
					return fmt.Errorf("traffic %v, sessions %v", traffic, sessions)
				}
				if fmt.Sprint(traffic) != "[retried 0 navigate 1 navigate 1 navigate 1]" {
					t.Fatalf("traffic %v", traffic)
				}
				return nil
			})
		})
	}
}

// TestAskedHintsInChromium: pages ask for what rows make something of, where
// consent allows it, and the first visit's session row has it already.
func TestAskedHintsInChromium(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	sites := map[string]string{"free": "", "asking": asksAll, "merged": "", "silent": "\t\tclient_hints off\n"}
	type page struct{ host, brought string }
	pages := make(chan page, 16)
	origin := secureSites(t, tb, sites, func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ".")
		if host == "merged" && r.URL.Path == "/" {
			w.Header().Set("Accept-CH", "Sec-CH-UA-Model")
		}
		var brought []string
		for _, name := range []string{"Sec-CH-UA-Full-Version-List", "ECT", "Sec-CH-UA-Model"} {
			if r.Header.Get(name) != "" {
				brought = append(brought, name)
			}
		}
		pages <- page{host, strings.Join(brought, " ")}
	})
	b := browser.Start(t, chromedp.IgnoreCertErrors, chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	open := func(t *testing.T, p *browser.Page, name, path, want string) {
		t.Helper()
		p.Open(origin(name) + path)
		if told := browser.Eval[string](p, "told"); told == "no" {
			t.Errorf("%s%s: the API refuses", name, path)
		}
		if got := <-pages; got.host != name || got.brought != want {
			t.Errorf("%s%s is asked for with %q, want %q", name, path, got.brought, want)
		}
	}
	const ours = "Sec-CH-UA-Full-Version-List ECT"

	// device is what the session rows of a site say.
	device := func(t *testing.T, name string) (version, network string) {
		t.Helper()
		eventually(t, 30*time.Second, "a session row", func() error {
			rows := rowsOf(tb, "session_v1", name)
			if len(rows) == 0 {
				return fmt.Errorf("there is none")
			}
			version, network = fmt.Sprint(rows[0]["browser_version"]), fmt.Sprint(rows[0]["connection_type"])
			return nil
		})
		return version, network
	}
	t.Run("asked for", func(t *testing.T) {
		p := b.Page(t)
		open(t, p, "free", "/", "")
		open(t, p, "free", "/", ours)
		if version, network := device(t, "free"); strings.HasSuffix(version, ".0.0.0") || !strings.HasSuffix(network, "g") {
			t.Errorf("the first visit's row has %s and %s", version, network)
		}
	})
	t.Run("off", func(t *testing.T) {
		p := b.Page(t)
		open(t, p, "silent", "/", "")
		open(t, p, "silent", "/", "")
		if version, network := device(t, "silent"); !strings.HasSuffix(version, ".0.0.0") || network != "unknown" {
			t.Errorf("the row has %s and %s", version, network)
		}
	})
	t.Run("beside the page's own", func(t *testing.T) {
		p := b.Page(t)
		open(t, p, "merged", "/", "")
		open(t, p, "merged", "/b.html", ours+" Sec-CH-UA-Model")
		open(t, p, "merged", "/b.html", ours+" Sec-CH-UA-Model")
	})
	t.Run("with consent", func(t *testing.T) {
		p := b.Page(t)
		open(t, p, "asking", "/", "")
		open(t, p, "asking", "/", "")
		if version, network := device(t, "asking"); !strings.HasSuffix(version, ".0.0.0") || network != "unknown" {
			t.Errorf("before consent a row has %s and %s", version, network)
		}
		if !browser.Eval[bool](p, "decide(true)") {
			t.Fatal("the yes is refused")
		}
		open(t, p, "asking", "/", "")
		open(t, p, "asking", "/", ours)
		if !browser.Eval[bool](p, "decide(false)") {
			t.Fatal("the no is refused")
		}
		open(t, p, "asking", "/", ours)
		open(t, p, "asking", "/", "")
	})
}
