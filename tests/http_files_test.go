package tests

import (
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestFiles: pages from file_server lose what describes the file; assets under
// the same handler keep sidecars, parts and conditions.
func TestFiles(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	film := make([]byte, 20<<20)
	random.Read(film)
	huge := strings.Repeat(longPage, 20<<20/len(longPage))
	style := strings.Repeat("p { color: red }\n", 500)
	modified := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	w := startTwins(t, "", `
	encode zstd gzip
	MODULE
	root DIR/www
	file_server {
		precompressed br zstd gzip
	}`, func(c *caddy) {
		for name, content := range map[string]string{
			"page.html": longPage, "huge.html": huge, "film.mp4": string(film), "archive.bin": string(film), "style.css": style, "empty.html": "",
		} {
			writePage(t, c, name, content)
			for coding, ext := range map[string]string{"br": ".br", "zstd": ".zst", "gzip": ".gz"} {
				if len(content) < 1<<20 {
					writePage(t, c, name+ext, encoded(t, coding, content))
				}
			}
			if err := os.Chtimes(c.path("www/"+name), modified, modified); err != nil {
				t.Fatal(err)
			}
		}
	})
	client := plainClient(t)
	// What a browser that was here before the module has, and asks with.
	etag := map[string]string{}
	for _, path := range []string{"/page.html", "/style.css", "/film.mp4"} {
		r := fetch(t, client, w.bare, ask{path: path, header: asset})
		if etag[path] = r.header.Get("ETag"); etag[path] == "" {
			t.Fatalf("%s has no ETag: %v", path, r.header)
		}
	}
	since := modified.Format(http.TimeFormat)
	conditions := []struct {
		name   string
		header func(path string) []string
		status int // for an asset
	}{
		{"unconditional", func(string) []string { return nil }, 200},
		{"If-None-Match", func(p string) []string { return []string{"If-None-Match", etag[p]} }, 304},
		{"If-None-Match of another", func(string) []string { return []string{"If-None-Match", `"other"`} }, 200},
		{"If-Modified-Since", func(string) []string { return []string{"If-Modified-Since", since} }, 304},
		{"If-Match", func(p string) []string { return []string{"If-Match", etag[p]} }, 200},
		{"If-Match of another", func(string) []string { return []string{"If-Match", `"other"`} }, 412},
		{"If-Unmodified-Since", func(string) []string {
			return []string{"If-Unmodified-Since", modified.Add(-time.Hour).Format(http.TimeFormat)}
		}, 412},
		{"Range", func(string) []string { return []string{"Range", "bytes=10-29"} }, 206},
		{"Range of the end", func(string) []string { return []string{"Range", "bytes=-5"} }, 206},
		{"Range beyond", func(string) []string { return []string{"Range", "bytes=999999999-"} }, 416},
		{"If-Range", func(p string) []string { return []string{"Range", "bytes=0-9", "If-Range", etag[p]} }, 206},
		{"If-Range of another", func(string) []string { return []string{"Range", "bytes=0-9", "If-Range", `"other"`} }, 200},
	}
	t.Run("conditions", func(t *testing.T) {
		whole := fetch(t, client, w.bare, ask{path: "/page.html"})
		for _, c := range conditions {
			t.Run(c.name, func(t *testing.T) {
				got := fetch(t, client, w.with, ask{path: "/page.html", header: c.header("/page.html")})
				compare(t, got, whole, "injected")
				if got.length != int64(len(got.raw)) {
					t.Errorf("Content-Length %d for %d bytes", got.length, len(got.raw))
				}
				for _, path := range []string{"/style.css", "/film.mp4"} {
					with, bare := w.both(t, client, ask{path: path, header: append(c.header(path), asset...)})
					if with.status != c.status {
						t.Errorf("%s: status %d, want %d", path, with.status, c.status)
					}
					if c.status >= 400 { // an error of Caddy's, which has no header of ours but this
						with.header.Set("Session-Context", "skipped; reason=not_a_page_request")
					}
					compare(t, with, bare, "not_a_page_request")
				}
			})
		}
	})
	t.Run("sidecars", func(t *testing.T) {
		for _, coding := range []string{"br", "zstd", "gzip"} {
			asks := []string{"Accept-Encoding", coding}
			got := w.check(t, client, ask{path: "/style.css", header: append(slices.Clone(asset), asks...)}, "not_a_page_request")
			if got.header.Get("Content-Encoding") != coding || got.body != style || got.length != int64(len(got.raw)) {
				t.Errorf("%s: %v", coding, got.header)
			}
			// The page is the file itself, encoded behind the script; there is
			// no encoder for br.
			page := fetch(t, client, w.with, ask{path: "/page.html", header: asks})
			if page.err != nil || withoutScript(t, page.body) != longPage || page.header.Get("Session-Context") != "injected" {
				t.Errorf("%s: %v, %v", coding, page.err, page.header)
			}
			want := coding
			if coding == "br" {
				want = ""
			}
			if page.header.Get("Content-Encoding") != want {
				t.Errorf("%s: Content-Encoding %q", coding, page.header.Get("Content-Encoding"))
			}
		}
	})
	t.Run("large", func(t *testing.T) {
		w.check(t, client, ask{path: "/archive.bin"}, "not_html")
		w.check(t, client, ask{path: "/huge.html"}, "injected")
		video := []string{"Sec-Fetch-Dest", "video", "Sec-Fetch-Mode", "no-cors", "Accept", "*/*", "Range", "bytes=5000000-15000000"}
		got := w.check(t, client, ask{path: "/film.mp4", header: video}, "not_a_page_request")
		if got.status != 206 || got.body != string(film[5000000:15000001]) {
			t.Errorf("status %d, %d bytes", got.status, len(got.body))
		}
		// Two parts at once come with a boundary of their own.
		got = fetch(t, client, w.with, ask{path: "/film.mp4", header: append(video[:len(video)-1:len(video)-1], "bytes=0-9,100-109")})
		if got.status != 206 || !strings.Contains(got.body, string(film[100:110])) || !strings.HasPrefix(got.header.Get("Content-Type"), "multipart/byteranges") {
			t.Errorf("status %d, %v", got.status, got.header)
		}
	})
	t.Run("empty page", func(t *testing.T) {
		w.check(t, client, ask{path: "/empty.html"}, "no_insertion_point")
	})
	t.Run("directory without its slash", func(t *testing.T) {
		w.check(t, client, ask{path: "/page.html/"}, "status")
	})
	t.Run("other methods", func(t *testing.T) {
		for _, method := range []string{"OPTIONS", "POST", "DELETE"} {
			with, bare := w.both(t, client, ask{method: method, path: "/page.html", header: []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}})
			if with.status != bare.status || with.body != bare.body {
				t.Errorf("%s: %d, without the module %d", method, with.status, bare.status)
			}
		}
	})
}

// TestHeadLeavesNoTrace: HEAD makes no session: no cookie, no row, and no
// promise that the page would not keep.
func TestHeadLeavesNoTrace(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "page.html", longPage)
	c.write(globals(tinybirdSink(tb)) + "\nSITE {\n\tencode gzip\n\t" + campaignBlock + "\n\troot DIR/www\n\tfile_server {\n\t\tprecompressed gzip\n\t}\n}\n")
	writePage(t, c, "page.html.gz", encoded(t, "gzip", longPage))
	c.start()
	waitKeys(t, c)
	noPanics(t, c)
	client := plainClient(t)
	for _, header := range [][]string{
		nil, {"Accept-Encoding", "gzip"}, {"Range", "bytes=0-5"}, {"If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}, {"If-Match", `"x"`},
	} {
		got := fetch(t, client, c.site, ask{method: "HEAD", path: "/page.html", header: header})
		if got.status != 200 || got.body != "" || got.header.Get("Session-Context") != "skipped; reason=head" {
			t.Errorf("%q: %d %v", header, got.status, got.header)
		}
		for _, name := range []string{"Set-Cookie", "Etag", "Last-Modified", "Content-Length", "Accept-Ranges", "Content-Encoding"} {
			if v := got.header[name]; len(v) > 0 {
				t.Errorf("%q: %s is %q", header, name, v)
			}
		}
	}
	// Rows keep their order, so none was written before the first page's.
	got := fetch(t, client, c.site, ask{path: "/page.html"})
	session := parseContext(t, got.body).Session.SessionID
	rows := waitRows(t, tb, "traffic_v1", 1)
	if len(rows) != 1 || rows[0]["session_id"] != session {
		t.Errorf("traffic rows %v", rows)
	}
}
