package tests

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// steps lets an upstream wait, at each step, until the client has seen what
// came before.
type steps chan struct{}

// wait is false if the client is gone.
func (s steps) wait(r *http.Request) bool {
	select {
	case <-s:
		return true
	case <-r.Context().Done():
		return false
	}
}

// step lets the upstream go on.
func (s steps) step(t testing.TB) {
	t.Helper()
	select {
	case s <- struct{}{}:
	case <-time.After(20 * time.Second):
		t.Fatal("the upstream does not wait for the client")
	}
}

func flush(w http.ResponseWriter) { w.(http.Flusher).Flush() }

// TestLockStep: whatever kind a stream is of, each piece is readable before the
// upstream sends the next.
func TestLockStep(t *testing.T) {
	t.Parallel()
	next := make(steps)
	lines := func(n int) string { return fmt.Sprintf("data: %d\n\n", n) }
	pieces := func(n int) string { return fmt.Sprintf("<p>piece %d</p>", n) }
	const open = "<!doctype html><html><head><title>x</title></head><body>"
	tests := []struct {
		name, contentType, first string
		header                   []string // of the answer
		piece                    func(int) string
		outcome                  string
		ask                      []string
	}{
		{"events", "text/event-stream", "", nil, lines, "event_stream", nil},
		{"events with a charset", "text/event-stream; charset=utf-8", ": hello\n\n", nil, lines, "event_stream", nil},
		{"events as a browser asks for them", "text/event-stream", "", nil, lines, "not_a_page_request",
			[]string{"Accept", "text/event-stream", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Cache-Control", "no-cache"}},
		{"long poll", "text/plain", "", nil, lines, "not_html", nil},
		{"JSON lines", "application/x-ndjson", "", nil, lines, "not_html", nil},
		{"page", "text/html; charset=utf-8", open, nil, pieces, "injected", nil},
		{"page with its charset in it", "text/html", strings.Replace(open, "<title>", `<meta charset="utf-8"><title>`, 1), nil, pieces, "injected", nil},
		{"page of XHTML", "application/xhtml+xml; charset=utf-8", `<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>`, nil, pieces, "injected", nil},
		{"page without a type", "", open, nil, pieces, "injected", nil},
		{"page that is not to be changed", "text/html", open, []string{"Cache-Control", "no-transform"}, pieces, "no_transform", nil},
		{"incremental page", "text/html", open, []string{"Incremental", "?1"}, pieces, "incremental", nil},
		{"download", "text/html", open, []string{"Content-Disposition", "attachment"}, pieces, "attachment", nil},
		{"page in UTF-16", "text/html; charset=utf-16le", open, nil, pieces, "charset", nil},
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscanf(r.URL.Path, "/%d", &n)
		test := tests[n]
		if test.contentType != "" {
			w.Header().Set("Content-Type", test.contentType)
		} else {
			w.Header()["Content-Type"] = nil // nor is one guessed here
		}
		for i := 0; i < len(test.header); i += 2 {
			w.Header().Set(test.header[i], test.header[i+1])
		}
		io.WriteString(w, test.first)
		for i := range 4 {
			io.WriteString(w, test.piece(i))
			flush(w)
			if !next.wait(r) {
				return
			}
		}
		io.WriteString(w, "the end")
	}))
	t.Cleanup(upstream.Close)
	w := startTwins(t, "", "MODULE\nreverse_proxy "+address(upstream.URL), nil)
	client := plainClient(t)
	for i, test := range tests {
		ok := t.Run(test.name, func(t *testing.T) {
			var got [2]reply
			for k, origin := range []string{w.with, w.bare} {
				res, err := client.Do(ask{path: fmt.Sprint("/", i), header: test.ask}.request(t, origin))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				var all strings.Builder
				for n := range 4 {
					all.WriteString(until(t, res.Body, test.piece(n)))
					next.step(t)
				}
				rest, err := io.ReadAll(res.Body)
				all.Write(rest)
				got[k] = reply{proto: res.Proto, status: res.StatusCode, header: res.Header, length: res.ContentLength, raw: all.String(), body: all.String(), err: err}
			}
			compare(t, got[0], got[1], test.outcome)
		})
		if !ok {
			return // what hangs costs a timeout, each time
		}
	}
}

// TestStall: of a page whose upstream stalls behind the head, the client has
// what came before, also where it is decoded or encoded on its way.
func TestStall(t *testing.T) {
	t.Parallel()
	next := make(steps)
	const before, after = "<html><head><title>x</title></head><body>before the stall", " and after it</body></html>"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, coding, _ := strings.Cut(r.URL.Path, "/as/")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		write := func(s string) { io.WriteString(w, s) }
		end := func() {}
		if encoder := encoders[coding]; encoder != nil {
			name, _, _ := strings.Cut(coding, " ")
			w.Header().Set("Content-Encoding", name)
			z := encoder(w)
			write = func(s string) { io.WriteString(z, s); z.Flush() }
			end = func() { z.Close() }
		}
		write(before)
		flush(w)
		if !next.wait(r) {
			return
		}
		write(after)
		end()
	}))
	t.Cleanup(upstream.Close)
	w := startTwins(t, "", "encode zstd gzip\nMODULE\nreverse_proxy "+address(upstream.URL), nil)
	client := plainClient(t)
	for _, inner := range []string{"identity", "gzip", "br", "zstd", "deflate", "deflate raw"} {
		for _, outer := range []string{"identity", "gzip", "zstd"} {
			ok := t.Run("from "+inner+" to "+outer, func(t *testing.T) {
				a := ask{path: "/as/" + strings.ReplaceAll(inner, " ", "%20"), header: []string{"Accept-Encoding", outer}}
				res, err := client.Do(a.request(t, w.with))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if got := res.Header.Get("Content-Encoding"); got != outer && !(got == "" && outer == "identity") {
					t.Errorf("Content-Encoding is %q", got)
				}
				body := decoder(res.Header.Get("Content-Encoding"), res.Body)
				got := until(t, body, "before the stall")
				next.step(t)
				rest, err := io.ReadAll(body)
				if err != nil || withoutScript(t, got+string(rest)) != before+after {
					t.Errorf("%s%s, %v", got, rest, err)
				}
			})
			if !ok {
				return
			}
		}
	}
}

// TestStallOfKnownLength: of a page whose length is known only its beginning
// waits for company, and no longer than until some comes.
func TestStallOfKnownLength(t *testing.T) {
	t.Parallel()
	next := make(steps)
	before := "<html><head><title>x</title></head><body>before the stall" + strings.Repeat(" and a bit more", 1000)
	const after = " and after it</body></html>"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", fmt.Sprint(len(before)+len(after)))
		io.WriteString(w, before)
		flush(w)
		if next.wait(r) {
			io.WriteString(w, after)
		}
	}))
	t.Cleanup(upstream.Close)
	w := startTwins(t, "", "MODULE\nreverse_proxy "+address(upstream.URL), nil)
	res, err := plainClient(t).Do(ask{path: "/"}.request(t, w.with))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := until(t, res.Body, "before the stall and a bit more")
	next.step(t)
	rest, err := io.ReadAll(res.Body)
	if err != nil || withoutScript(t, got+string(rest)) != before+after {
		t.Errorf("%d bytes and %d, %v", len(got), len(rest), err)
	}
}

// TestEarlyFlush: an application server that sends hints, then its header, then
// a body byte by byte, each flushed, has its page injected and loses no flush.
func TestEarlyFlush(t *testing.T) {
	t.Parallel()
	next := make(steps)
	const page = "<!doctype html>\n<!-- x --><html lang=en><head ><title>x</title></head><body>text</body></html>"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, link := range []string{"</a.css>; rel=preload", "</b.js>; rel=modulepreload"} {
			h.Set("Link", link)
			w.WriteHeader(http.StatusEarlyHints)
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/known" {
			h.Set("Content-Length", fmt.Sprint(len(page)))
		}
		w.WriteHeader(http.StatusOK)
		flush(w)
		for i := range len(page) {
			io.WriteString(w, page[i:i+1])
			flush(w)
			// Before the head's end is seen, nothing can be out.
			if i > strings.Index(page, "<title>")+len("<title") && r.URL.Path == "/known" && !next.wait(r) {
				return
			}
		}
	}))
	t.Cleanup(upstream.Close)
	// It is the proxy that flushes here where a length is known.
	w := startTwins(t, "", "MODULE\nreverse_proxy "+address(upstream.URL)+" {\n\tflush_interval -1\n}", nil)
	client := plainClient(t)
	t.Run("as fast as it goes", func(t *testing.T) {
		got := w.check(t, client, ask{path: "/chunked"}, "injected")
		if len(got.hints) != 2 || got.hints[0].Get("Link") != "</a.css>; rel=preload" || got.hints[1].Get("Link") != "</b.js>; rel=modulepreload" {
			t.Errorf("hints %v", got.hints)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		res, err := client.Do(ask{path: "/known"}.request(t, w.with))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var all bytes.Buffer
		all.WriteString(until(t, res.Body, "<title>"))
		for rest := page[strings.Index(page, "<title>")+len("<title>"):]; rest != ""; rest = rest[1:] {
			all.WriteString(until(t, res.Body, rest[:1]))
			next.step(t)
		}
		if _, err := io.Copy(&all, res.Body); err != nil {
			t.Error(err)
		}
		if withoutScript(t, all.String()) != page || res.ContentLength != int64(all.Len()) {
			t.Errorf("Content-Length %d, %q", res.ContentLength, all.String())
		}
	})
}
