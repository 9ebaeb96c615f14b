package tests

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const campaignBlock = `session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		debug
	}`

// withoutScript is a page without the one script that was added.
func withoutScript(t testing.TB, body string) string {
	t.Helper()
	from := strings.Index(body, "<script data-session-context")
	if from < 0 {
		t.Fatalf("no script in:\n%s", body)
	}
	to := from + strings.Index(body[from:], "</script>") + len("</script>")
	return body[:from] + body[to:]
}

// TestPagesThroughCaddy: each way that a Caddy makes a page, behind each
// encoding, gives the page plus one script, first in head.
func TestPagesThroughCaddy(t *testing.T) {
	t.Parallel()
	page := "<!doctype html><html><head><title>x</title></head><body>" + strings.Repeat("<p>text of the page</p>", 400) + "</body></html>"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/known":
			w.Header().Set("Content-Length", fmt.Sprint(len(page)))
			io.WriteString(w, page)
		case "/drip": // small writes, each flushed
			for i := 0; i < len(page); i += 20 {
				io.WriteString(w, page[i:min(i+20, len(page))])
				if i < 400 {
					w.(http.Flusher).Flush()
				}
			}
		case "/gzip": // compresses whatever is asked for
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			io.WriteString(zw, page)
			zw.Close()
		case "/see": // says what it was asked
			fmt.Fprintf(w, "<head></head><body>%q %q</body>", r.Header.Get("Accept-Encoding"), r.Header.Get("Range"))
		}
	}))
	defer upstream.Close()
	c := newCaddy(t)
	writePage(t, c, "file.html", page)
	writePage(t, c, "template.html", strings.Replace(page, "<title>x", `<title>{{placeholder "session.segment_id"}}{{placeholder "http.vars.session.id"}}`, 1))
	c.write(globals("") + `
SITE {
	encode zstd br gzip
	` + campaignBlock + `
	root DIR/www
	handle /template.html {
		templates
		file_server
	}
	handle /file.html {
		file_server
	}
	handle {
		reverse_proxy ` + strings.TrimPrefix(upstream.URL, "http://") + `
	}
}
`)
	c.write(strings.Replace(mustRead(t, c.path("Caddyfile")), "encode zstd br gzip", "encode zstd gzip", 1))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	v.client.Transport = &http.Transport{DisableCompression: true}

	for _, path := range []string{"/file.html", "/template.html", "/known", "/drip", "/gzip"} {
		for _, encoding := range []string{"identity", "gzip", "zstd", "br"} {
			t.Run(path[1:]+" "+encoding, func(t *testing.T) {
				res, raw := v.page(path, "Accept-Encoding", encoding)
				body := decode(t, res, raw)
				if wantEncoded := encoding == "gzip" || encoding == "zstd"; (res.Header.Get("Content-Encoding") == encoding) != wantEncoded {
					t.Errorf("Content-Encoding is %q", res.Header.Get("Content-Encoding"))
				}
				ctx := parseContext(t, body)
				want := page
				if path == "/template.html" {
					want = strings.Replace(page, "<title>x", "<title>"+ctx.Session.SessionID, 1)
				}
				if got := withoutScript(t, body); got != want {
					t.Errorf("the page differs by more than the script: %d bytes, want %d", len(got), len(want))
				}
				if !strings.Contains(body, `<head><script data-session-context`) {
					t.Error("the script is not first in head")
				}
				h := res.Header
				if h.Get("Session-Context") != "injected" || h.Get("Cache-Control") != "private, no-cache" ||
					h.Get("CDN-Cache-Control") != "no-store" || h.Get("Surrogate-Control") != "no-store" || h.Get("ETag") != "" || h.Get("Last-Modified") != "" {
					t.Errorf("header %v", h)
				}
				if path == "/known" && encoding == "identity" && res.ContentLength != int64(len(body)) {
					t.Errorf("Content-Length %d for %d bytes", res.ContentLength, len(body))
				}
			})
		}
	}

	t.Run("the upstream is asked for a whole page, and only for pages", func(t *testing.T) {
		res, raw := v.page("/see", "Accept-Encoding", "gzip", "Range", "bytes=0-1")
		if body := decode(t, res, raw); !strings.Contains(body, `"identity" ""`) {
			t.Errorf("a page was asked for with %s", body)
		}
		if _, body := v.page("/see", "Accept-Encoding", "gzip", "Range", "bytes=0-1", "Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors", "Accept", "image/*"); !strings.Contains(body, `"gzip" "bytes=0-1"`) {
			t.Errorf("an image was asked for with %s", body)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		req, _ := http.NewRequest("HEAD", c.site+"/file.html", nil)
		req.Header.Set("Accept", "text/html")
		res, err := v.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("ETag") != "" || res.Header.Get("Content-Length") != "" || len(res.Header.Values("Set-Cookie")) > 0 {
			t.Errorf("HEAD: %d %v", res.StatusCode, res.Header)
		}
	})
	t.Run("a page is not answered by 304", func(t *testing.T) {
		res, _ := v.page("/file.html", "If-Modified-Since", time.Now().UTC().Format(http.TimeFormat))
		if res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decode(t testing.TB, res *http.Response, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	var err error
	switch res.Header.Get("Content-Encoding") {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r)
	case "br":
		r = brotli.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRoutingByDecision: what was decided routes the page, `{uri}` and the
// other placeholders stay right behind it, and try_files hides neither the API
// nor the landing URL.
func TestRoutingByDecision(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals(tinybirdSink(tb)) + `
SITE {
	try_files {path} /index.html
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		ab_test hero {
			variant control 1
			variant bold 1
			winner bold
		}
	}
	@bold {
		path /route
		vars session.ab.hero bold
	}
	handle @bold {
		rewrite * /bold{uri}
		header Content-Type text/html
		respond "<head></head>{uri} {session.ab.hero} [{session.nothing}] {session.utm.source} {http.request.orig_uri}"
	}
	handle {
		root DIR/www
		file_server
	}
}
`)
	// try_files has to leave /route alone for the first half of the test.
	writePage(t, c, "route", "x")
	cf := strings.Replace(mustRead(t, c.path("Caddyfile")), "try_files {path} /index.html", "root "+c.path("www")+"\n\ttry_files {path} /index.html", 1)
	c.write(cf)
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	_, body := v.page("/route?utm_source=%7Benv.HOME%7D&q=1")
	if want := "/bold/route?utm_source=%7Benv.HOME%7D&q=1 bold [] {env.HOME} /route?utm_source=%7Benv.HOME%7D&q=1"; !strings.HasSuffix(body, want) {
		t.Errorf("routed page is\n%s\nwant\n%s", body, want)
	}
	s := v.visit("/some/app/route?utm_source=google")
	if s.Attribution.Original["landingPage"] != "/some/app/route?utm_source=google" {
		t.Errorf("first touch %v", s.Attribution.Original)
	}
	v.post("events/session/init", with(s.ids(), "token", s.Session.Token)).ok(t)
	expect(t, "session", waitRows(t, tb, "session_v1", 1)[0], map[string]any{"uri": "/some/app/route", "utm_source": "google"})
}

// TestErrorPages: an error route injects what was decided first, and counts
// nothing again.
func TestErrorPages(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals(tinybirdSink(tb)) + `
(campaign) {
	` + campaignBlock + `
}
SITE {
	import campaign
	root DIR/www
	file_server
	handle_errors {
		import campaign
		header Content-Type text/html
		respond "<head></head>sorry {session.id}" 404
	}
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	res, body := v.page("/missing")
	s := parseContext(t, body)
	if res.StatusCode != 404 || !strings.HasSuffix(body, "sorry "+s.Session.SessionID) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if n := tb.Count("session_v1"); n != 0 {
		t.Errorf("an error page counted %d sessions", n)
	}
}

// TestCSPNonce: a policy that a deferred header sets carries the page's nonce.
func TestCSPNonce(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals("") + `
SITE {
	header {
		Content-Security-Policy "script-src 'nonce-{session.csp_nonce}'"
		-Server
	}
	` + campaignBlock + `
	root DIR/www
	file_server
}
`)
	c.start()
	res, body := newVisitor(t, c.site, desktop, false).page("/")
	policy := res.Header.Get("Content-Security-Policy")
	nonce := strings.TrimSuffix(strings.TrimPrefix(policy, "script-src 'nonce-"), "'")
	if len(nonce) < 20 || !strings.Contains(body, `nonce="`+nonce+`"`) {
		t.Errorf("policy %q, page %s", policy, body)
	}
}
