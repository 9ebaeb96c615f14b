package tests

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// gate is what the README promises about who may call, told independently of
// how it is done.
type gate int

const (
	shut    gate = iota
	own          // as the site itself: with cookies
	partner      // an allowed origin: with CORS, without cookies
)

// verdict decides about Origin headers, Sec-Fetch-Site and Sec-Fetch-Mode.
func verdict(origins []string, site, mode, self, friend string) gate {
	if mode == "navigate" || len(origins) > 1 {
		return shut
	}
	if len(origins) == 0 {
		if site == "" || site == "same-origin" {
			return own
		}
		return shut
	}
	switch origins[0] {
	case self:
		return own
	case friend:
		return partner
	case "null":
		if site == "same-origin" {
			return own
		}
	}
	return shut
}

// TestOriginGate asks with every combination of what browsers say about a
// request's origin.
func TestOriginGate(t *testing.T) {
	t.Parallel()
	const friend = "https://www.example.com"
	c := startLanding(t, globals("")+landing("10m", roomy, "allow_origin "+friend))
	living := mint(t, c.ring(), "cmp_1", time.Minute, 10*time.Minute)
	_, port, _ := strings.Cut(strings.TrimPrefix(c.site, "http://"), ":")
	origins := [][]string{
		nil, {c.site}, {friend}, {"null"}, {""}, {"https://evil.example"},
		{"https://127.0.0.1:" + port}, {"http://127.0.0.1"}, {"http://127.0.0.1:1"}, {"http://localhost:" + port}, // other scheme, ports, name
		{c.site + ".evil.example"}, {c.site + "/"}, {c.site + " https://evil.example"}, {"http://evil.example@127.0.0.1:" + port},
		{"http://www.example.com"}, {friend + ":8443"}, {friend + "."}, {"https://www.example.com.evil.example"}, {"https://example.com"}, {"https://evil-www.example.com"},
		{"nullnull"}, {"file://"}, {"*"},
		{c.site, "https://evil.example"}, {"https://evil.example", c.site}, {c.site, c.site},
	}
	client := &http.Client{Timeout: 30 * time.Second}
	seen := map[gate]int{}
	for _, origin := range origins {
		for _, site := range []string{"", "same-origin", "same-site", "cross-site", "none", "nonsense"} {
			for _, mode := range []string{"", "cors", "no-cors", "same-origin", "navigate", "websocket"} {
				want := verdict(origin, site, mode, c.site, friend)
				seen[want]++
				for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
					what := fmt.Sprintf("%s, Origin %q, site %q, mode %q", method, origin, site, mode)
					path, body := "session/context", ""
					if method == "POST" || method == "OPTIONS" {
						path, body = "events/session/init", `{"token":"`+living.token()+`"}`
					}
					if method == "OPTIONS" {
						body = ""
					}
					req, err := http.NewRequest(method, c.site+"/client-api/v1/"+path, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					if origin != nil {
						req.Header["Origin"] = origin
					}
					if site != "" {
						req.Header.Set("Sec-Fetch-Site", site)
					}
					if mode != "" {
						req.Header.Set("Sec-Fetch-Mode", mode)
					}
					if method == "OPTIONS" {
						req.Header.Set("Access-Control-Request-Method", "POST")
					}
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					text, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil {
						t.Fatal(err)
					}
					status := map[string]int{"GET": 200, "HEAD": 405, "POST": 200, "OPTIONS": 204}[method]
					cors, cookies := "", method == "GET" || method == "POST"
					switch want {
					case shut:
						status, cookies = 403, false
					case partner:
						cors, cookies = friend, false
					}
					h := res.Header
					if res.StatusCode != status || h.Get("Access-Control-Allow-Origin") != cors || (len(h["Set-Cookie"]) > 0) != cookies {
						t.Errorf("%s: %d, CORS %q, cookies %v; want %d, %q, %v", what, res.StatusCode, h.Get("Access-Control-Allow-Origin"), h["Set-Cookie"], status, cors, cookies)
					}
					if (h.Get("Access-Control-Allow-Credentials") == "true") != (want == partner) {
						t.Errorf("%s: credentials %q", what, h.Get("Access-Control-Allow-Credentials"))
					}
					resource := "same-origin"
					if want == partner {
						resource = "cross-origin"
					}
					if h.Get("Cross-Origin-Resource-Policy") != resource || h.Get("Cache-Control") != "no-store" || h.Get("Vary") == "" {
						t.Errorf("%s: %v", what, h)
					}
					if want == shut && method != "HEAD" && !strings.Contains(string(text), `"code":"origin_not_allowed"`) || strings.Contains(string(text), living.UserID) {
						t.Errorf("%s: %s", what, text)
					}
				}
			}
		}
	}
	if seen[own] == 0 || seen[partner] == 0 || seen[shut] < seen[own]+seen[partner] {
		t.Errorf("the table is lopsided: %v", seen)
	}
}

// TestHeadOfTheAPI: to tell a document's length it would have to be made, with
// a session, and HEAD makes none.
func TestHeadOfTheAPI(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("10m"))
	v := newVisitor(t, c.site, desktop, true)
	for _, route := range []string{"session/context", "session/context.js", "events/track"} {
		a := v.call("HEAD", route, nil)
		want := "GET, OPTIONS"
		if route == "events/track" {
			want = "POST, OPTIONS"
		}
		if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != want || len(a.body) > 0 || len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("%s: %d, Allow %q, body %q, cookies %v", route, a.status, a.header.Get("Allow"), a.body, a.header["Set-Cookie"])
		}
	}
	if n := c.metric("caddy_session_context_outbox_committed_rows_total"); n != 0 {
		t.Errorf("%v rows", n)
	}
}
