package tests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// errorPage is told from longPage.
const errorPage = "<!doctype html><html><head><title>error</title></head><body>sorry</body></html>"

// handlersUpstream answers by path with what the handlers around it change.
func handlersUpstream(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("X-Path", r.URL.RequestURI())
		h.Add("Set-Cookie", "theirs=1; Path=/")
		h.Add("Link", "</a.css>; rel=preload")
		body := longPage
		switch _, last, _ := strings.Cut(r.URL.Path, "/is/"); last {
		case "missing":
			w.WriteHeader(http.StatusNotFound)
			body = errorPage
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
			body = errorPage
		case "moved":
			h.Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusMovedPermanently)
			body = errorPage
		case "cached": // and everything else that a cache goes by
			for _, line := range []string{
				"Cache-Control: public, max-age=600", "Expires: Thu, 01 Jan 2099 00:00:00 GMT", `ETag: "1"`,
				"Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT", "Accept-Ranges: bytes", "Content-MD5: x", "Digest: x",
				"Content-Digest: x", "Repr-Digest: x", "Edge-Control: x", "X-Accel-Expires: 9", "X-LiteSpeed-Cache-Control: x",
				"Cloudflare-CDN-Cache-Control: max-age=9", "CDN-Cache-Control: max-age=9", "Surrogate-Control: max-age=9", "Surrogate-Key: kept",
				"Vary: Cookie", "Age: 3", "Content-Language: de", "Strict-Transport-Security: max-age=9", "Server-Timing: a;dur=1",
			} {
				name, value, _ := strings.Cut(line, ": ")
				h.Set(name, value)
			}
		case "stricter":
			h.Set("Cache-Control", "no-store")
		case "no-transform":
			h.Set("Cache-Control", "public, no-transform")
		case "text":
			h.Set("Content-Type", "text/plain")
		case "accel": // what copy_response_headers takes over
			h.Set("X-Accel-Redirect", "/page.html")
			body = "not to be seen"
		}
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return address(s.URL)
}

// TestHandlers: the module among Caddy's own handlers, in each order that a
// site may have them in.
func TestHandlers(t *testing.T) {
	t.Parallel()
	upstream := handlersUpstream(t)
	// One block stands for one site under a path of its own.
	site := strings.ReplaceAll(`
	root DIR/www
	handle_path /inside/* {
		encode {
			zstd
			gzip
			minimum_length 1
		}
		MODULE
		reverse_proxy UPSTREAM
	}
	handle_path /outside/* {
		route {
			MODULE
			encode zstd gzip
			reverse_proxy UPSTREAM
		}
	}
	handle /templates/* {
		MODULE
		templates
		file_server
	}
	handle_path /replaced/* {
		MODULE
		intercept {
			@missing status 404
			replace_status @missing 200
		}
		reverse_proxy UPSTREAM
	}
	handle_path /worsened/* {
		MODULE
		intercept {
			replace_status 418
		}
		reverse_proxy UPSTREAM
	}
	handle_path /intercepted/* {
		MODULE
		intercept {
			@bad status 4xx 5xx
			handle_response @bad {
				rewrite * /error.html
				file_server
			}
		}
		reverse_proxy UPSTREAM
	}
	handle_path /responded/* {
		MODULE
		reverse_proxy UPSTREAM {
			@accel header X-Accel-Redirect *
			handle_response @accel {
				rewrite * {rp.header.X-Accel-Redirect}
				file_server
			}
			@bad status 404
			handle_response @bad {
				copy_response 200
			}
			@broken status 500
			handle_response @broken {
				copy_response_headers {
					include X-Path
				}
				header Content-Type text/html
				respond "`+errorPage+`" 200
			}
		}
	}
	handle_path /stripped/* {
		MODULE
		reverse_proxy UPSTREAM
	}
	handle /rewritten/* {
		MODULE
		route {
			uri strip_prefix /rewritten
			rewrite * {path}?{query}&more=1
			reverse_proxy UPSTREAM
		}
	}
	handle /spa/* {
		MODULE
		route {
			try_files {path} /page.html
			file_server
		}
	}
	handle /written {
		MODULE
		header Content-Type "text/html; charset=utf-8"
		respond "`+errorPage+`"
	}
	handle /written/guessed {
		MODULE
		respond "`+errorPage+`"
	}
	handle /written/forbidden {
		MODULE
		header Content-Type "text/html; charset=utf-8"
		respond "`+errorPage+`" 403
	}
	handle /moved {
		MODULE
		route {
			redir * /elsewhere html
		}
	}
	handle /listing/* {
		MODULE
		file_server browse
	}
	handle /fails/* {
		MODULE
		error {path.1} 500
	}
	handle /files/* {
		MODULE
		file_server
	}
	handle {
		MODULE
		reverse_proxy UPSTREAM
	}
	handle_errors 404 {
		MODULE
		rewrite * /error.html
		file_server {
			status 404
		}
	}
	handle_errors 500 {
		MODULE
		rewrite * /is/page
		reverse_proxy UPSTREAM
	}`, "UPSTREAM", upstream)
	w := startTwins(t, "", site, func(c *caddy) {
		writePage(t, c, "page.html", longPage)
		writePage(t, c, "error.html", errorPage)
		writePage(t, c, "templates/static.html", longPage)
		writePage(t, c, "templates/filled.html", strings.Replace(longPage, "<title>x", `<title>{{.OriginalReq.URL.Path}} {{placeholder "http.request.method"}}`, 1))
		writePage(t, c, "templates/head.html", `{{"<!doctype html><he"}}{{"ad>"}}<title>made</title>{{include "/error.html"}}`)
		writePage(t, c, "templates/gone.html", `<head>{{httpError 404}}`)
		writePage(t, c, "listing/a.txt", "a")
		writePage(t, c, "listing/b.html", "b")
	})
	client := plainClient(t)
	gzipAsked, zstdAsked := []string{"Accept-Encoding", "gzip"}, []string{"Accept-Encoding", "zstd, gzip;q=0.5"}
	for _, test := range []struct {
		name, path, outcome string
		header              []string
		status              int
		coding              string
	}{
		{"encode around it, gzip", "/inside/", "injected", gzipAsked, 200, "gzip"},
		{"encode around it, zstd", "/inside/", "injected", zstdAsked, 200, "zstd"},
		{"encode around it, not asked for", "/inside/", "injected", nil, 200, ""},
		{"encode around it, a page that stays as it is", "/inside/is/no-transform", "no_transform", gzipAsked, 200, ""},
		{"encode around it, an error", "/inside/is/missing", "status", gzipAsked, 404, "gzip"},
		{"encode around it, text", "/inside/is/text", "not_html", gzipAsked, 200, "gzip"},
		{"encode around it, validators", "/inside/is/cached", "injected", gzipAsked, 200, "gzip"},
		// What is asked for within is the page as it is.
		{"encode within it, not asked for", "/outside/", "injected", nil, 200, ""},
		{"template with placeholders", "/templates/filled.html", "injected", nil, 200, ""},
		{"template without", "/templates/static.html", "injected", nil, 200, ""},
		{"template that makes its head", "/templates/head.html", "injected", nil, 200, ""},
		{"status that needs no replacing", "/replaced/", "injected", nil, 200, ""},
		{"error that another page is shown for", "/intercepted/is/missing", "injected", nil, 200, ""},
		{"no error to intercept", "/intercepted/", "injected", nil, 200, ""},
		{"redirect within intercept", "/intercepted/is/moved", "status", nil, 301, ""},
		{"file in place of the answer", "/responded/is/accel", "injected", nil, 200, ""},
		{"copy_response with another status", "/responded/is/missing", "injected", nil, 200, ""},
		{"copy_response_headers and a body of ours", "/responded/is/broken", "injected", nil, 200, ""},
		{"handle_path", "/stripped/a/b?c=%2F", "injected", nil, 200, ""},
		{"uri and rewrite", "/rewritten/a?b=%20", "injected", nil, 200, ""},
		{"try_files, a path of the application's", "/spa/some/where", "injected", nil, 200, ""},
		{"respond", "/written", "injected", nil, 200, ""},
		{"respond without a type", "/written/guessed", "not_html", nil, 200, ""},
		{"respond with an error", "/written/forbidden", "status", nil, 403, ""},
		{"redir with a page", "/moved", "injected", nil, 200, ""},
		{"redirect with a page", "/is/moved", "status", nil, 301, ""},
		{"error of the upstream", "/is/broken", "status", nil, 500, ""},
		{"everything for caches", "/is/cached", "injected", nil, 200, ""},
		{"stricter rules", "/is/stricter", "injected", nil, 200, ""},
		{"error route of a file", "/files/none.html", "injected", nil, 404, ""},
		{"error route of a listing", "/listing/none", "injected", nil, 404, ""},
		{"error route of a template", "/templates/gone.html", "injected", nil, 404, ""},
		{"error route with a proxy", "/fails/x", "injected", nil, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := w.check(t, client, ask{path: test.path, header: test.header}, test.outcome)
			if got.status != test.status || got.header.Get("Content-Encoding") != test.coding {
				t.Errorf("status %d, Content-Encoding %q", got.status, got.header.Get("Content-Encoding"))
			}
		})
	}
	for _, path := range []string{"/replaced/is/missing", "/worsened/"} {
		t.Run("replace_status, "+path, func(t *testing.T) {
			// Not every Caddy replaces it; what goes out is what counts.
			with, bare := w.both(t, client, ask{path: path})
			outcome := "injected"
			if bare.status != 200 {
				outcome = "status"
			}
			compare(t, with, bare, outcome)
		})
	}
	t.Run("listing", func(t *testing.T) {
		// It has a policy, and a nonce of its own in each answer; ours comes to it.
		with, bare := w.both(t, client, ask{path: "/listing/"})
		_, ours, _ := strings.Cut(with.body, `<script data-session-context="" nonce="`)
		ours, _, _ = strings.Cut(ours, `"`)
		for _, r := range []*reply{&with, &bare} {
			policy := r.header.Get("Content-Security-Policy")
			_, nonce, _ := strings.Cut(policy, "script-src 'nonce-")
			nonce, _, found := strings.Cut(nonce, "'")
			if !found {
				t.Fatalf("a listing has the policy %q", policy)
			}
			r.header.Set("Content-Security-Policy", strings.ReplaceAll(policy, nonce, "N"))
			r.body = strings.ReplaceAll(r.body, nonce, "N")
		}
		amended := strings.Replace(bare.header.Get("Content-Security-Policy"), "script-src 'nonce-N'", "script-src 'nonce-N' 'nonce-"+ours+"'", 1)
		if ours == "" || amended == bare.header.Get("Content-Security-Policy") {
			t.Errorf("the script's nonce is %q", ours)
		}
		bare.header.Set("Content-Security-Policy", amended)
		compare(t, with, bare, "injected")
	})
	t.Run("encode within it", func(t *testing.T) {
		// The page is kept from being encoded: it would only be decoded again.
		with, bare := w.both(t, client, ask{path: "/outside/", header: gzipAsked})
		if bare.header.Get("Content-Encoding") != "gzip" || with.err != nil || with.header.Get("Content-Encoding") != "" {
			t.Fatalf("%v, without the module %v", with.header, bare.header)
		}
		if with.header.Get("Session-Context") != "injected" || withoutScript(t, with.body) != bare.body {
			t.Errorf("%v\n%s", with.header, shorten(with.body))
		}
		// What is no page's request is encoded as ever.
		got := w.check(t, client, ask{path: "/outside/is/text", header: append([]string{"Accept-Encoding", "gzip"}, asset[:4]...)}, "not_a_page_request")
		if got.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("Content-Encoding %q", got.header.Get("Content-Encoding"))
		}
	})
	t.Run("the application's page is the one of its file", func(t *testing.T) {
		if with := fetch(t, client, w.with, ask{path: "/spa/some/where"}); withoutScript(t, with.body) != longPage {
			t.Errorf("%s", shorten(with.body))
		}
	})
	t.Run("the upstream sees the path that it would see", func(t *testing.T) {
		for path, want := range map[string]string{"/stripped/a/b?c=%2F": "/a/b?c=%2F", "/rewritten/a?b=%20": "/a?b=%20&more=1"} {
			if got := fetch(t, client, w.with, ask{path: path}).header.Get("X-Path"); got != want {
				t.Errorf("%s came as %s", path, got)
			}
		}
	})
}

// TestUpstreamThatCompresses: whichever coding an upstream uses though it is
// asked not to, the page is whole, and encoded again only by who is asked.
func TestUpstreamThatCompresses(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, coding, _ := strings.Cut(r.URL.Path, "/as/")
		coding, sized := strings.CutSuffix(coding, "/sized")
		name, _, _ := strings.Cut(coding, " ")
		body := encoded(t, coding, longPage)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Encoding", name)
		w.Header().Set("ETag", `"1"`)
		if sized {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		io.WriteString(w, body[:len(body)/2])
		flush(w)
		io.WriteString(w, body[len(body)/2:])
	}))
	t.Cleanup(upstream.Close)
	w := startTwins(t, "", "encode zstd gzip\nMODULE\nreverse_proxy "+address(upstream.URL), nil)
	client := plainClient(t)
	for coding := range encoders {
		for _, sized := range []string{"", "/sized"} {
			for _, outer := range []string{"identity", "gzip", "zstd"} {
				t.Run(coding+sized+" to "+outer, func(t *testing.T) {
					got := fetch(t, client, w.with, ask{path: "/as/" + strings.ReplaceAll(coding, " ", "%20") + sized, header: []string{"Accept-Encoding", outer}})
					if got.err != nil || withoutScript(t, got.body) != longPage {
						t.Errorf("%v: %s", got.err, shorten(got.body))
					}
					if have := got.header.Get("Content-Encoding"); have != outer && !(have == "" && outer == "identity") {
						t.Errorf("Content-Encoding %q", have)
					}
					if got.header.Get("ETag") != "" || got.length >= 0 && got.length != int64(len(got.raw)) {
						t.Errorf("header %v", got.header)
					}
				})
			}
		}
	}
	t.Run("an asset stays as it came", func(t *testing.T) {
		w.check(t, client, ask{path: "/as/br/sized", header: append([]string{"Accept-Encoding", "br"}, asset...)}, "not_a_page_request")
	})
}
