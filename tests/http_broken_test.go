package tests

import (
	"bufio"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// rawUpstream answers with bytes, right or wrong, and closes. reset ends the
// connection by a reset instead.
func rawUpstream(t testing.TB, answer func(path string) (raw string, reset bool)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				raw, reset := answer(req.URL.Path)
				io.WriteString(conn, raw)
				if reset {
					conn.(*net.TCPConn).SetLinger(0)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestBrokenUpstreams: whatever an upstream gets wrong, the client sees what it
// would see without the module. A broken page never looks whole, a whole one
// never broken.
func TestBrokenUpstreams(t *testing.T) {
	t.Parallel()
	const html = "Content-Type: text/html; charset=utf-8\r\n"
	zipped := encoded(t, "gzip", longPage)
	flat := encoded(t, "gzip", "") // for its header's length
	stored := func(s string) string {
		var b strings.Builder
		z, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
		io.WriteString(z, s)
		z.Close()
		return b.String()
	}(longPage)
	corrupt := []byte(stored)
	corrupt[len(corrupt)-6] ^= 0xff // its checksum
	length := func(n int) string { return "Content-Length: " + strconv.Itoa(n) + "\r\n" }
	chunk := func(s string) string { return strconv.FormatInt(int64(len(s)), 16) + "\r\n" + s + "\r\n" }
	png := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + strings.Repeat("\x00\xff\x80<", 300)
	tests := []struct {
		name, answer string
		outcome      string // "" for an answer that is not whole
	}{
		{"length too long", "HTTP/1.1 200 OK\r\n" + html + length(len(longPage)+7) + "\r\n" + longPage, ""},
		{"length far too long", "HTTP/1.1 200 OK\r\n" + html + length(1<<30) + "\r\n" + longPage, ""},
		{"length too short", "HTTP/1.1 200 OK\r\n" + html + length(len(longPage)-20) + "\r\n" + longPage, "injected"},
		{"length within the head", "HTTP/1.1 200 OK\r\n" + html + length(30) + "\r\n" + longPage, "injected"},
		{"length within the doctype", "HTTP/1.1 200 OK\r\n" + html + length(5) + "\r\n" + longPage, "no_insertion_point"},
		{"length of nothing", "HTTP/1.1 200 OK\r\n" + html + length(0) + "\r\n" + longPage, "no_insertion_point"},
		{"negative length", "HTTP/1.1 200 OK\r\n" + html + "Content-Length: -1\r\n\r\n" + longPage, "status"},
		{"two lengths", "HTTP/1.1 200 OK\r\n" + html + length(10) + length(20) + "\r\n" + longPage, "status"},
		{"length and chunks", "HTTP/1.1 200 OK\r\n" + html + length(3) + "Transfer-Encoding: chunked\r\n\r\n" + chunk(longPage) + "0\r\n\r\n", "injected"},
		{"ends within the header", "HTTP/1.1 200 OK\r\nContent-Type: text/h", "status"},
		{"no answer", "", "status"},
		{"not HTTP", "<html><head><title>x</title></head>\r\n\r\n", "status"},
		{"HTTP/1.0, up to the end", "HTTP/1.0 200 OK\r\n" + html + "\r\n" + longPage, "injected"},
		{"HTTP/1.0, nothing", "HTTP/1.0 200 OK\r\n" + html + "\r\n", "no_insertion_point"},
		{"header only, with a length", "HTTP/1.1 200 OK\r\n" + html + length(100) + "\r\n", ""},
		{"header only, in chunks", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n", ""},
		{"ends within the prefix", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n" + chunk("<!doctype html><ht"), ""},
		{"ends within a comment", "HTTP/1.1 200 OK\r\n" + html + length(5000) + "\r\n<!-- " + longPage[:2000], ""},
		{"ends within the charset's search", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + length(5000) + "\r\n" + longPage[:200], ""},
		{"ends within the body", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n" + chunk(longPage), ""},
		{"ends within the type's search", "HTTP/1.1 200 OK\r\n" + length(5000) + "\r\n" + longPage[:200], ""},
		{"ends within a chunk's size", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n" + chunk(longPage) + "1f", ""},
		{"chunks that are none", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n" + longPage, ""},
		{"a chunk that is none", "HTTP/1.1 200 OK\r\n" + html + "Transfer-Encoding: chunked\r\n\r\n" + chunk(longPage) + "zzz\r\n", ""},
		{"gzip, cut off", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(len(zipped)-30) + "\r\n" + zipped[:len(zipped)-30], ""},
		{"gzip, cut off within its header", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(6) + "\r\n" + flat[:6], ""},
		{"gzip, and the connection cut off", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(len(zipped)) + "\r\n" + zipped[:len(zipped)-30], ""},
		{"gzip, with a wrong checksum", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(len(corrupt)) + "\r\n" + string(corrupt), ""},
		{"gzip, and nothing", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(0) + "\r\n", "encoding"},
		{"gzip that is none", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\n" + length(len(longPage)) + "\r\n" + longPage, ""},
		{"two codings", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip, br\r\n" + length(len(zipped)) + "\r\n" + zipped, "encoding"},
		{"two lines of codings", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n" + length(len(zipped)) + "\r\n" + zipped, "injected"},
		{"coding that nobody knows", "HTTP/1.1 200 OK\r\n" + html + "Content-Encoding: aes128gcm\r\n" + length(len(zipped)) + "\r\n" + zipped, "encoding"},
		{"page that is an image", "HTTP/1.1 200 OK\r\n" + html + length(len(png)) + "\r\n" + png, "injected"},
		{"image that is a page", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + length(len(longPage)) + "\r\n" + longPage, "not_html"},
		{"type that is none", "HTTP/1.1 200 OK\r\nContent-Type: ;;=\r\n" + length(len(longPage)) + "\r\n" + longPage, "not_html"},
		{"two types", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n" + length(len(longPage)) + "\r\n" + longPage, "not_html"},
		{"204 with a body", "HTTP/1.1 204 No Content\r\n" + html + length(len(longPage)) + "\r\n" + longPage, "no_content"},
		{"205", "HTTP/1.1 205 Reset Content\r\n" + html + length(0) + "\r\n", "no_content"},
		{"304 that nobody asked for", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", "not_modified"},
		{"206 that nobody asked for", "HTTP/1.1 206 Partial Content\r\n" + html + "Content-Range: bytes 0-9/5000\r\n" + length(10) + "\r\n" + longPage[:10], "partial"},
		{"redirect with a page", "HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\n" + html + length(len(longPage)) + "\r\n" + longPage, "status"},
		{"error with a page", "HTTP/1.1 500 Internal Server Error\r\n" + html + length(len(longPage)) + "\r\n" + longPage, "status"},
		{"status of its own", "HTTP/1.1 299 Odd\r\n" + html + length(len(longPage)) + "\r\n" + longPage, "injected"},
	}
	// A reset may take what was sent before with it, so those are told apart.
	upstream := rawUpstream(t, func(path string) (string, bool) {
		name, reset := strings.CutSuffix(path, "/reset")
		n, err := strconv.Atoi(strings.TrimPrefix(name, "/"))
		if err != nil || n >= len(tests) {
			return "HTTP/1.1 200 OK\r\n" + html + length(len(longPage)) + "\r\n" + longPage, false
		}
		return tests[n].answer, reset
	})
	w := startTwins(t, "", "MODULE\nreverse_proxy "+upstream, nil)
	encoding := startTwins(t, "", "encode gzip\nMODULE\nreverse_proxy "+upstream, nil)
	client := plainClient(t)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := "/" + strconv.Itoa(i)
			if test.outcome != "" {
				w.check(t, client, ask{path: path}, test.outcome)
				return
			}
			for _, path := range []string{path, path + "/reset"} {
				with, bare := w.both(t, client, ask{path: path})
				if with.err == nil || bare.err == nil {
					t.Errorf("%s: %d with %d bytes looks whole; error %v, without the module %v", path, with.status, len(with.body), with.err, bare.err)
				}
				if strings.Contains(with.body, "<script") {
					with.body = withoutScript(t, with.body)
				}
				if with.status != 0 && !strings.HasPrefix(longPage, with.body) && with.body != bare.body {
					t.Errorf("%s: what came is no part of the page: %s", path, shorten(with.body))
				}
			}
			if got := fetch(t, client, encoding.with, ask{path: path, header: []string{"Accept-Encoding", "gzip"}}); got.err == nil {
				t.Errorf("encoded again, %d with %d bytes looks whole", got.status, len(got.body))
			}
		})
	}
	t.Run("a good one after all that", func(t *testing.T) {
		w.check(t, client, ask{path: "/good"}, "injected")
	})
}
