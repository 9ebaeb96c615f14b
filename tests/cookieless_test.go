package tests

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// cookielessSites are sites of campaigns whose visitors have to be asked, and
// one that never sets a cookie. Sessions are continued in all but the last.
func cookielessSites(t testing.TB, app string) (c *caddy, asking, cookieless, random string) {
	t.Helper()
	c = newCaddy(t)
	for _, name := range []string{"index.html", "a.html", "b.html"} {
		writePage(t, c, name, plainPage)
	}
	const test = "segment everyone\n\t\tab_test hero {\n\t\t\tvariant control 50\n\t\t\tvariant bold 50\n\t\t}"
	const ask = "consent {\n\t\t\trequire always\n\t\t}"
	config := globals(app) + "SITE {\n\trespond 404\n}\n"
	site := func(campaign string, lines ...string) string {
		at := "http://" + freeAddr(t)
		config += at + " {\n\t" + campaignLines(campaign, append(lines, test)...) + "\n\troot DIR/www\n\tfile_server\n}\n"
		return at
	}
	asking = site("cmp_1", ask)
	cookieless = site("cmp_2", "identity cookieless")
	random = site("cmp_3", ask, "before_consent random")
	c.write(config)
	c.start()
	return c, asking, cookieless, random
}

// from are the headers of a click on a link, or a reload, at a page of the site.
func (v *visitor) from(path string) []string {
	return []string{"Sec-Fetch-Site", "same-origin", "Referer", v.origin() + path}
}

// same fails the test unless both contexts are one session's.
func same(t testing.TB, what string, before, after *sessionContext, want bool) {
	t.Helper()
	is := before.Session.SessionID == after.Session.SessionID
	if is != want || is != (before.UserID == after.UserID) {
		t.Errorf("%s: same session: %v, want %v; users %s and %s", what, is, want, before.UserID, after.UserID)
	}
	if *before.ABTestVariantID != *after.ABTestVariantID {
		t.Errorf("%s: the variant changed within the day", what)
	}
}

const saidYes = `frbzz_consent=%7B%22preferences%22%3A%7B%22analytics%22%3Atrue%7D%2C%22hasUserInteracted%22%3Atrue%2C%22timestamp%22%3A1%2C%22version%22%3A1%7D`

var saidNo = strings.Replace(saidYes, "true%7D%2C%22has", "false%7D%2C%22has", 1)

// manyTries is how often a case is done at most.
const manyTries = 15

// unhurried runs a case on a site whose store may be slow. Where it fails and a
// page did not wait for the store any longer, which is no fault, other visitors
// do it again.
func unhurried(t *testing.T, c *caddy, name string, try func(t testing.TB)) {
	t.Run(name, func(t *testing.T) {
		for range manyTries {
			late, a := c.continuations("timeout"), &attempt{TB: t}
			try(a)
			if len(a.failures) == 0 {
				return
			}
			if c.continuations("timeout") == late {
				t.Fatal(strings.Join(a.failures, "\n"))
			}
		}
		t.Fatal("pages never waited long enough for the store")
	})
}

// attempt keeps what goes wrong, instead of failing.
type attempt struct {
	testing.TB
	failures []string
}

func (a *attempt) Error(args ...any) { a.failures = append(a.failures, fmt.Sprint(args...)) }

func (a *attempt) Errorf(format string, args ...any) {
	a.failures = append(a.failures, fmt.Sprintf(format, args...))
}

// TestWithoutCookies: which request goes on with the session of the page
// before, and which begins a new one. Each case has a user agent of its own.
func TestWithoutCookies(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/redis.sock"
	server := startRedis(t, "--unixsocket", socket, "--appendonly", "no")
	for name, app := range map[string]string{"embedded": "", "redis": "\t\tstore redis unix://" + socket} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, asking, cookieless, random := cookielessSites(t, app)
			n := 0
			enter := func(t testing.TB, site, path string, header ...string) (*visitor, *sessionContext) {
				n++
				v := newVisitor(t, site, fmt.Sprint(desktop, " case ", n), false)
				if name == "embedded" || site == random || len(header) > 0 {
					return v, v.visit(path, header...)
				}
				// No visitor is as fast as this test: Redis has to hear of each first.
				known := func() string { return server.do("KEYS session_context:g:visitor/*") } // *12: so many
				before := known()
				s := v.visit(path)
				eventually(t, 20*time.Second, "the visitor is in Redis", func() error {
					if now := known(); now == before {
						return fmt.Errorf("%s are", now)
					}
					return nil
				})
				return v, s
			}
			for _, site := range []string{asking, cookieless} {
				for _, tt := range []struct {
					name, to string
					header   []string
					want     bool
				}{
					{"a link", "/a.html", []string{"Sec-Fetch-Site", "same-origin", "Referer", site + "/?gclid=1"}, true},
					{"a link with a query", "/a.html?x=1#top", []string{"Sec-Fetch-Site", "same-origin", "Referer", site + "/?gclid=1"}, true},
					{"a link in a browser without Fetch Metadata", "/a.html", []string{"Sec-Fetch-Site", "", "Sec-Fetch-Mode", "", "Sec-Fetch-Dest", "", "Referer", site + "/?gclid=1"}, true},
					{"a prerendered link", "/a.html", []string{"Sec-Fetch-Site", "none", "Sec-Purpose", "prefetch;prerender", "Referer", site + "/?gclid=1"}, true},
					{"a reload", "/?gclid=1", []string{"Sec-Fetch-Site", "cross-site", "Cache-Control", "max-age=0", "Referer", "https://www.google.com/"}, true},
					{"the ad's URL again", "/?gclid=1", []string{"Sec-Fetch-Site", "none"}, true},
					{"another click on the ad", "/?gclid=2", []string{"Sec-Fetch-Site", "cross-site"}, false},
					{"the click id at another page", "/a.html?gclid=1", []string{"Sec-Fetch-Site", "none"}, false},
					{"noreferrer", "/a.html", []string{"Sec-Fetch-Site", "same-origin"}, false},
					{"a referrer cut to the origin", "/a.html", []string{"Sec-Fetch-Site", "same-origin", "Referer", site + "/"}, false},
					{"from another page", "/a.html", []string{"Sec-Fetch-Site", "same-origin", "Referer", site + "/b.html"}, false},
					{"back from another site", "/a.html", []string{"Sec-Fetch-Site", "cross-site", "Referer", site + "/?gclid=1"}, false},
					{"a reload of another page", "/a.html", []string{"Cache-Control", "max-age=0"}, false},
					{"a prefetched link", "/a.html", []string{"Sec-Fetch-Site", "none", "Sec-Purpose", "prefetch", "Referer", site + "/?gclid=1"}, true},
					{"prefetched by a proxy", "/a.html", []string{"Sec-Fetch-Site", "same-origin", "Sec-Purpose", "prefetch;anonymous-client-ip", "Referer", site + "/?gclid=1"}, false},
				} {
					unhurried(t, c, tt.name, func(t testing.TB) {
						v, before := enter(t, site, "/?gclid=1")
						after := v.visit(tt.to, tt.header...)
						if tt.name == "prefetched by a proxy" {
							// Its variant is its own: nobody's key decided it.
							after.ABTestVariantID = before.ABTestVariantID
						}
						same(t, tt.name, before, after, tt.want)
						if tt.want && (after.Attribution.Original["gclid"] != "1" || *after.SegmentID != "everyone") {
							t.Errorf("attribution %v, segment %s", after.Attribution, *after.SegmentID)
						}
					})
				}
			}
			for _, refusal := range [][]string{{"Sec-GPC", "1"}, {"DNT", "1"}, {"Cookie", saidNo}} {
				unhurried(t, c, "refused by "+refusal[0], func(t testing.TB) {
					v, before := enter(t, asking, "/", refusal...)
					after := v.visit("/a.html", append(v.from("/"), refusal...)...)
					if before.Session.SessionID == after.Session.SessionID || before.UserID == after.UserID {
						t.Error("a visitor who refused is found again")
					}
				})
			}
			unhurried(t, c, "before_consent random", func(t testing.TB) {
				v, before := enter(t, random, "/")
				if after := v.visit("/a.html", v.from("/")...); before.UserID == after.UserID {
					t.Error("a visitor is found again")
				}
			})
			unhurried(t, c, "what was prerendered and never looked at", func(t testing.TB) {
				v, before := enter(t, asking, "/")
				v.visit("/a.html", append(v.from("/"), "Sec-Purpose", "prefetch;prerender")...)
				same(t, "a link from the page that shows", before, v.visit("/b.html", v.from("/")...), true)
			})
			unhurried(t, c, "what was prerendered and is looked at", func(t testing.TB) {
				v, before := enter(t, asking, "/")
				s := v.visit("/a.html", append(v.from("/"), "Sec-Purpose", "prefetch;prerender")...)
				v.post("events/session/init", map[string]any{"token": s.Session.Token}, "Referer", v.site+"/a.html").ok(t)
				same(t, "a link from it", before, v.visit("/b.html", v.from("/a.html")...), true)
			})
			unhurried(t, c, "a forged click, where two have a session", func(t testing.TB) {
				v, one := enter(t, asking, "/")
				two := newVisitor(t, asking, v.agent, false).visit("/b.html")
				for _, page := range []string{"/", "/b.html"} {
					s := v.visit("/a.html", v.from(page)...)
					same(t, "the first's", one, s, false)
					same(t, "the second's", two, s, false)
				}
			})
			unhurried(t, c, "ids alone say nothing about pages", func(t testing.TB) {
				v, before := enter(t, asking, "/")
				v.post("events/session/init", before.ids(), "Referer", v.site+"/a.html").ok(t)
				same(t, "a link from it", before, v.visit("/b.html", v.from("/a.html")...), false)
			})
			unhurried(t, c, "a yes", func(t testing.TB) {
				v, before := enter(t, asking, "/?gclid=1")
				res, body := v.page("/?gclid=1", "Cache-Control", "max-age=0", "Cookie", saidYes)
				after := parseContext(t, body)
				same(t, "the reload", before, after, true)
				if len(res.Header.Values("Set-Cookie")) != 3 || after.Consent["analytics"] != true || before.Consent["analytics"] != false {
					t.Errorf("cookies %q, consent %v, then %v", res.Header.Values("Set-Cookie"), before.Consent, after.Consent)
				}
				// Consent is the browser's, never the session's.
				if s := v.visit("/a.html", v.from("/?gclid=1")...); s.Consent["analytics"] != false {
					t.Errorf("consent %v without the cookie", s.Consent)
				}
			})
			if got := c.metric(`caddy_session_context_continuations_total{outcome="continued"}`); got < 10 {
				t.Errorf("%v continuations are counted", got)
			}
			if strings.Contains(c.log.String(), "\"level\":\"error\"") {
				t.Errorf("the log has errors:\n%s", c.log)
			}
		})
	}
}

// TestTwoVisitorsBehindOneAddress: however the clicks of two visitors with one
// address and one user agent follow each other, with forged headers too, none
// is ever given what was the other's.
func TestTwoVisitorsBehindOneAddress(t *testing.T) {
	t.Parallel()
	_, asking, cookieless, _ := cookielessSites(t, "")
	pages := []string{"/", "/a.html", "/b.html"}
	continued := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		site := []string{asking, cookieless}[r.IntN(2)]
		type person struct {
			*visitor
			at      string // the page that they sit before
			cookies bool
		}
		owner := map[string]int{} // of all that ever was given out
		people := []*person{{}, {}}
		for i, p := range people {
			p.visitor = newVisitor(t, site, fmt.Sprint(desktop, " seed ", seed), true)
			p.at = fmt.Sprint("/?gclid=person", i)
		}
		take := func(i int, what string, res *http.Response, body string) {
			s := parseContext(t, body)
			_, known := owner[s.Session.SessionID]
			if known {
				continued++
			}
			for _, v := range []string{s.Session.SessionID, s.UserID, s.Session.Token} {
				if who, ok := owner[v]; ok && who != i {
					t.Fatalf("seed %d, %s: person %d is given what is person %d's", seed, what, i, who)
				}
				owner[v] = i
			}
			for _, ck := range res.Header.Values("Set-Cookie") {
				if !people[i].cookies {
					t.Fatalf("seed %d, %s: a cookie without a yes: %s", seed, what, ck)
				}
			}
			if other := fmt.Sprint("person", 1-i); s.Attribution.Original["gclid"] == other || strings.Contains(body, other) {
				t.Fatalf("seed %d, %s: person %d has the first touch of the other", seed, what, i)
			}
			if s.Consent["analytics"] == true && !people[i].cookies && site == asking {
				t.Fatalf("seed %d, %s: person %d has a consent that is not theirs", seed, what, i)
			}
		}
		// One may look around alone before the other comes.
		first := r.IntN(2)
		res, body := people[first].page(people[first].at, "Sec-Fetch-Site", "cross-site")
		take(first, "entry", res, body)
		both := false
		for step := range 14 {
			i := r.IntN(2)
			if !both && step < r.IntN(5) {
				i = first
			}
			p := people[i]
			if i != first && !both {
				both = true
				res, body := p.page(p.at, "Sec-Fetch-Site", "cross-site")
				take(i, "entry", res, body)
				continue
			}
			var header []string
			if p.cookies {
				header = []string{"Cookie", saidYes} // beside those of the jar
			}
			to, what := pages[r.IntN(3)], "click"
			switch r.IntN(6) {
			case 0:
				to, what = p.at, "reload"
				header = append(header, "Cache-Control", "max-age=0")
			case 1:
				if both { // forged: the page that the other sits before
					what = "forgery"
					header = append(header, "Sec-Fetch-Site", "same-origin", "Referer", site+people[1-i].at)
				} else {
					header = append(header, p.from(p.at)...)
				}
			case 2:
				if site == asking && !p.cookies {
					p.cookies, what = true, "yes"
					header = append(header, "Cookie", saidYes)
				}
				header = append(header, p.from(p.at)...)
			default:
				header = append(header, p.from(p.at)...)
			}
			res, body := p.page(to, header...)
			take(i, what, res, body)
			p.at = to
		}
	}
	if continued == 0 {
		t.Error("nobody was ever found again: the test shows nothing")
	}
}

// TestVisitorDay: the column has the same value for all sessions of a visitor
// without cookies, null where cookies or a refusal say so.
func TestVisitorDay(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	_, asking, cookieless, random := cookielessSites(t, tinybirdSink(tb))
	days := map[string]string{} // by session
	sign := func(site, agent string, header ...string) string {
		v := newVisitor(t, site, agent, false)
		s := v.visit("/", header...)
		v.post("events/session/init", map[string]any{"token": s.Session.Token}, header...).ok(t)
		return s.Session.SessionID
	}
	one := []string{sign(asking, desktop), sign(asking, desktop), sign(cookieless, desktop)}
	other := sign(asking, iPhone)
	none := []string{sign(random, desktop), sign(asking, desktop, "Sec-GPC", "1"), sign(asking, desktop, "DNT", "1"),
		sign(asking, desktop, "Cookie", saidNo), sign(asking, desktop, "Cookie", saidYes)}
	for _, row := range waitRows(t, tb, "session_v1", len(one)+1+len(none)) {
		day, _ := row["visitor_day"].(string)
		days[row["session_id"].(string)] = day
	}
	for _, id := range one {
		if days[id] == "" || days[id] != days[one[0]] {
			t.Errorf("days of one visitor: %q and %q", days[id], days[one[0]])
		}
	}
	if days[other] == "" || days[other] == days[one[0]] {
		t.Errorf("another user agent has %q beside %q", days[other], days[one[0]])
	}
	for i, id := range none {
		if days[id] != "" {
			t.Errorf("case %d of those without has %q", i, days[id])
		}
	}
}
