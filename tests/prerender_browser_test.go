package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// prerenderPage calls the API at once, as clients do that know nothing of
// prerendering, and again when it is looked at. It tells of both and then goes
// where it is told to.
const prerenderPage = `<!doctype html><html><head><meta charset=utf-8><title>a page</title><link rel=icon href="data:,">RULES</head><body>
<a id=a href=/a.html>a link</a> <a id=b href=/b.html>a link</a>
<script>
const at = document.prerendering ? "prerendered" : "shown", session = __FIREBUZZ_SESSION_CONTEXT__.session;
const post = (to, body) => fetch(to, {method: "POST", body: JSON.stringify(body)}).then(r => r.text());
const sign = () => post("/client-api/v1/events/session/init", {token: session.token});
const tell = (what, life) => post("/tell", {what, life, page: location.pathname, session: session.sessionId});
async function shown(what) {
	await tell(what, await sign());
	document.getElementById(await post("/next", {}))?.click();
}
if (document.prerendering) {
	const before = sign().then(life => tell("prerendered", life));
	document.addEventListener("prerenderingchange", () => before.then(() => shown("activated")), {once: true});
} else {
	shown("opened");
}
</script></body></html>`

// TestPrerenderedPagesInChromium: a page that Chromium prerenders is no visit
// and takes no session until it is activated; then it is one like any other,
// and goes on with the session of the page before it.
func TestPrerenderedPagesInChromium(t *testing.T) {
	t.Parallel()
	type told struct{ What, Life, Page, Session string }
	tells := make(chan told, 16)
	// Each site's pages ask for themselves: those of the site before may not be gone yet.
	nexts := make(map[string]chan string)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tell":
			var one told
			b, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(b, &one); err != nil {
				t.Errorf("%s: %v", b, err)
			}
			tells <- one
		case "/next":
			io.Copy(io.Discard, r.Body) // else a client that goes away isn't noticed
			select {
			case id := <-nexts[r.Host]:
				io.WriteString(w, id)
			case <-r.Context().Done():
			}
		default:
			rules := ""
			if r.URL.Path == "/" {
				rules = `<script type=speculationrules>{"prerender": [{"source": "list", "urls": ["/a.html"], "eagerness": "immediate"}]}</script>`
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, strings.Replace(prerenderPage, "RULES", rules, 1))
		}
	}))
	t.Cleanup(upstream.Close)
	tb := standin.New(t)
	c := newCaddy(t)
	config := globals(tinybirdSink(tb)) + "SITE {\n\trespond 404\n}\n"
	const asked = "consent {\n\t\t\trequire always\n\t\t}\n\t\t"
	cases := []struct {
		name, option, goes string
		continues          bool
	}{
		{"looked at", asked + "before_consent daily_hash", "a", true},
		{"never looked at", asked + "before_consent daily_hash", "b", true},
		{"looked at, a session of its own", asked + "before_consent random", "a", false},
		{"never looked at, a session of its own", asked + "before_consent random", "b", false},
		{"looked at, counted by page", asked + "visit page", "a", true},
		{"looked at, a session of its own, counted by page", asked + "visit page\n\t\tbefore_consent random", "a", false},
		{"looked at, with cookies", "visit script", "a", true},
		{"never looked at, with cookies", "visit script", "b", true},
		{"looked at, with cookies, counted by page", "visit page", "a", true},
	}
	sites := make([]string, len(cases))
	for i, tt := range cases {
		host := freeAddr(t)
		sites[i] = "http://" + host
		nexts[host] = make(chan string)
		config += fmt.Sprintf("%s {\n\tsession_context {\n\t\tworkspace ws_%d\n\t\tproject pr_1\n\t\tcampaign cmp_%d\n\t\t%s\n\t}\n\treverse_proxy %s\n}\n",
			sites[i], i, i, tt.option, strings.TrimPrefix(upstream.URL, "http://"))
	}
	c.write(config)
	c.start()
	b := browser.Start(t)

	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			hear := func(what, page string) string {
				t.Helper()
				select {
				case got := <-tells:
					if got.What != what || got.Page != page || !strings.Contains(got.Life, `"success":true`) {
						t.Fatalf("the browser tells %+v, want %s %s", got, page, what)
					}
					return got.Session
				case <-time.After(60 * time.Second):
					t.Fatalf("the browser never told that %s is %s", page, what)
				}
				panic("unreachable")
			}
			heard := map[string]string{}
			b.Unattended(t, sites[i]+"/")
			for range 2 { // in any order
				select {
				case got := <-tells:
					if !strings.Contains(got.Life, `"success":true`) {
						t.Fatalf("the API answers %+v", got)
					}
					heard[got.What+" "+got.Page] = got.Session
				case <-time.After(60 * time.Second):
					t.Fatalf("the browser told only %v", heard)
				}
			}
			entry, ahead := heard["opened /"], heard["prerendered /a.html"]
			if entry == "" || ahead == "" || (entry == ahead) != tt.continues {
				t.Fatalf("sessions %v, want them equal: %v", heard, tt.continues)
			}
			visits := map[string]bool{entry: true}
			next := nexts[strings.TrimPrefix(sites[i], "http://")]
			next <- tt.goes
			if tt.goes == "a" {
				if got := hear("activated", "/a.html"); got != ahead {
					t.Errorf("the activated page has session %s, was prerendered with %s", got, ahead)
				}
				visits[ahead] = true
				next <- "b"
			}
			last := hear("opened", "/b.html")
			if (last == entry) != tt.continues {
				t.Errorf("after it: session %s, at first %s, want them equal: %v", last, entry, tt.continues)
			}
			visits[last] = true

			campaign := fmt.Sprint("cmp_", i)
			// Rows are delivered in their order: the last one's is here, so are
			// all that were made before.
			eventually(t, 20*time.Second, "rows of all that was looked at", func() error {
				rows, _ := tb.Distinct("session_v1")
				found := map[string]bool{}
				for _, r := range rows {
					if r["campaign_id"] == campaign {
						found[r["session_id"].(string)] = true
					}
				}
				for id := range found {
					if !visits[id] {
						t.Fatalf("session %s has a row, and was never looked at", id)
					}
				}
				if len(found) != len(visits) {
					return fmt.Errorf("%d rows, want %d", len(found), len(visits))
				}
				return nil
			})
			eventually(t, 20*time.Second, "traffic of three pages", func() error {
				rows, _ := tb.Distinct("traffic_v1")
				purposes := map[string]int{}
				for _, r := range rows {
					if r["campaign_id"] == campaign {
						purposes[fmt.Sprint(r["purpose"], " ", r["counted"])]++
					}
				}
				if purposes["prerender 0"] != 1 || purposes["navigate 1"] != 2 {
					return fmt.Errorf("%v", purposes)
				}
				return nil
			})
		})
	}
}

// TestCallsOfPrerenderedPages: while its page is prerendered a call is answered,
// but makes no row of the session and sets no cookie; the first one after that
// does, whatever it is.
func TestCallsOfPrerenderedPages(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+"SITE {\n\t"+campaignLines("cmp_1")+"\n\troot DIR/www\n\tfile_server\n}\n")
	eventually(t, 30*time.Second, "a page has its context", func() error {
		if _, body := newVisitor(t, c.site, iPhone, false).page("/"); !contextPattern.MatchString(body) {
			return fmt.Errorf("it has none")
		}
		return nil
	})
	ahead := []string{"Sec-Purpose", "prefetch;prerender"}
	want := map[string]bool{}
	for _, first := range []string{"events/session/init", "events/session/track", "events/session/renew", "events/track", "consent/record"} {
		v := newVisitor(t, c.site, desktop+first, true)
		never, s := v.visit("/", ahead...), v.visit("/", ahead...)
		calls := func(s *sessionContext) map[string]map[string]any {
			token := map[string]any{"token": s.Session.Token}
			return map[string]map[string]any{"events/session/init": token, "events/session/track": token, "events/session/renew": token,
				"events/track": with(token, "event_id", "a", "event_type", "system"), "consent/record": with(token, "purposes", allPurposes)}
		}
		for _, p := range []*sessionContext{never, s} {
			for route, body := range calls(p) {
				if route == "consent/record" {
					continue // nobody decides what nobody sees
				}
				if a := v.post(route, body, ahead...).ok(t); len(a.header.Values("Set-Cookie")) > 0 {
					t.Errorf("%s of a prerendered page sets %q", route, a.header.Values("Set-Cookie"))
				}
			}
		}
		a := v.post(first, calls(s)[first]).ok(t)
		if set, _ := setBy(t, a.header); !strings.Contains(fmt.Sprint(set), "fb_user_ws_1") {
			t.Errorf("%s of the activated page sets %v", first, set)
		}
		// A renewal of a session that lives owes no row.
		if first == "events/session/renew" {
			v.post("events/session/init", calls(s)["events/session/init"]).ok(t)
		}
		want[s.Session.SessionID] = true
	}
	for _, r := range waitRows(t, tb, "session_v1", len(want)) {
		if !want[r["session_id"].(string)] {
			t.Errorf("session %s has a row, and was never looked at", r["session_id"])
		}
	}
}
