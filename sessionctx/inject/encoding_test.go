package inject

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

type flushWriter interface {
	io.WriteCloser
	Flush() error
}

// codings maps a Content-Encoding, with a note behind a space, to its encoder.
var codings = map[string]func(io.Writer) flushWriter{
	"gzip":         func(w io.Writer) flushWriter { return gzip.NewWriter(w) },
	"x-gzip":       func(w io.Writer) flushWriter { return gzip.NewWriter(w) },
	"br":           func(w io.Writer) flushWriter { return brotli.NewWriter(w) },
	"zstd":         func(w io.Writer) flushWriter { z, _ := zstd.NewWriter(w); return z },
	"deflate zlib": func(w io.Writer) flushWriter { return zlib.NewWriter(w) },
	"deflate raw":  func(w io.Writer) flushWriter { z, _ := flate.NewWriter(w, 6); return z },
}

func compress(t testing.TB, coding, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := codings[coding](&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func codedHeader(coding string, length int) http.Header {
	name, _, _ := strings.Cut(coding, " ")
	h := htmlHeader.Clone()
	h.Set("Content-Encoding", name)
	if length >= 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	return h
}

func TestCompressedPagesAreDecoded(t *testing.T) {
	doc := string(benchPage(100 << 10))
	want := strings.Replace(doc, "<head>", "<head>"+testScript, 1)
	for coding := range codings {
		t.Run(coding, func(t *testing.T) {
			body := compress(t, coding, doc)
			for _, chunks := range [][]string{{body}, bytewise(body), {body[:1], body[1:7], body[7:]}} {
				got := exchange{header: codedHeader(coding, len(body)), chunks: chunks}.run(t)
				if got.outcome != Injected || got.body() != want {
					t.Fatalf("%d chunks: %s, %d bytes, want %d", len(chunks), got.outcome, got.Body.Len(), len(want))
				}
				for _, name := range []string{"Content-Encoding", "Content-Length"} {
					if v := got.Header().Get(name); v != "" {
						t.Errorf("%s: %s", name, v)
					}
				}
			}
		})
	}
}

func TestFlushesPassTheDecoder(t *testing.T) {
	for coding := range codings {
		t.Run(coding, func(t *testing.T) {
			got := exchange{header: codedHeader(coding, -1), handler: func(w http.ResponseWriter) {
				var b bytes.Buffer
				z := codings[coding](&b)
				a := w.(*ResponseWriter).Unwrap().(*answer)
				sofar := 0
				for _, part := range []string{"<head><p>", "second part", "third"} {
					_, _ = io.WriteString(z, part)
					_ = z.Flush()
					_, _ = w.Write(b.Bytes())
					b.Reset()
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Fatal(err)
					}
					sofar += len(part)
					if have := a.Body.Len() - len(testScript); have != sofar {
						t.Errorf("after %q: %d bytes out, want %d", part, have, sofar)
					}
				}
				_ = z.Close()
				_, _ = w.Write(b.Bytes())
			}}.run(t)
			if got.body() != "<head>"+testScript+"<p>second partthird" {
				t.Errorf("%q", got.body())
			}
			if got.flushes != 3 {
				t.Errorf("%d flushes", got.flushes)
			}
		})
	}
}

func TestCompressedPagesLeftAlone(t *testing.T) {
	gz := func(s string) string { return compress(t, "gzip", s) }
	long := "<!--" + strings.Repeat("x", 2*maxPrefix) + "--><head>x"
	for name, test := range map[string]struct {
		coding, body string
		want         Reason
	}{
		"unknown coding":          {"exi", "<head>x", Encoding},
		"two codings":             {"gzip,br", "<head>x", Encoding},
		"not compressed at all":   {"gzip", "<html><head>x", Encoding},
		"broken":                  {"gzip", gz("<head>x")[:10] + "\xff\xff\xff\xff\xff", Encoding},
		"cut off before the head": {"gzip", gz("<!-- long enough --><head>x")[:14], Encoding},
		"empty body":              {"gzip", "", Encoding},
		"empty page":              {"gzip", gz(""), NoInsertionPoint},
		"no place":                {"gzip", gz("<!-- <head>"), NoInsertionPoint},
		"injected already":        {"br", compress(t, "br", "<head><script data-session-context>"), AlreadyInjected},
		"prefix too long":         {"zstd", compress(t, "zstd", long), PrefixTooLong},
		"endless empty blocks":    {"deflate", strings.Repeat("\x00\x00\x00\xff\xff", maxRaw/5+1), PrefixTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			for split, chunks := range [][]string{{test.body}, bytewise(test.body)} {
				h := codedHeader(test.coding, len(test.body))
				got := exchange{status: 200, header: h.Clone(), chunks: chunks}.run(t)
				if got.outcome != test.want || got.body() != test.body {
					t.Errorf("%d: %s, %d bytes; want %s, %d", split, got.outcome, got.Body.Len(), test.want, len(test.body))
				}
				if got.Header().Get("Content-Encoding") != test.coding || got.Header().Get("Content-Length") != h.Get("Content-Length") {
					t.Errorf("%d: header %v", split, got.Header())
				}
			}
		})
	}
}

func TestIdentityIsNoCoding(t *testing.T) {
	got := exchange{header: codedHeader("identity", -1), chunks: []string{"<head>x"}}.run(t)
	if got.outcome != Injected {
		t.Error(got.outcome)
	}
}

func TestGzipMembersAndWhatFollows(t *testing.T) {
	body := compress(t, "gzip", "<head>x") + compress(t, "gzip", "y") + "garbage"
	got := exchange{header: codedHeader("gzip", -1), chunks: bytewise(body)}.run(t)
	if got.body() != "<head>"+testScript+"xy" {
		t.Errorf("%q", got.body())
	}
}

// The header is out and has no length, so only a broken connection can tell the
// client that the page is not whole.
func TestCutOffCompressedPageAborts(t *testing.T) {
	for coding := range codings {
		t.Run(coding, func(t *testing.T) {
			var b bytes.Buffer
			z := codings[coding](&b)
			_, _ = io.WriteString(z, "<head>x")
			_ = z.Flush()
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("recovered %v", v)
				}
			}()
			exchange{header: codedHeader(coding, -1), chunks: []string{b.String()}}.run(t)
			t.Error("no panic")
		})
	}
}

func TestAbortedDecodersEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	for coding := range codings {
		for range 20 {
			w := NewResponseWriter(&answer{}, mustRequest(), Options{Script: appendTestScript})
			w.enc.begin(strings.Fields(coding)[0], func([]byte) error { return nil })
			_ = w.enc.dec.write([]byte("\x1f\x8b"))
			w.phase = phaseHold
			w.inner = &sinkWriter{make(http.Header)}
			w.Abort()
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestPanicsPassTheDecoder(t *testing.T) {
	defer func() {
		if v := recover(); v != "script" {
			t.Errorf("recovered %v", v)
		}
	}()
	exchange{
		header: codedHeader("gzip", -1),
		chunks: []string{compress(t, "gzip", "<head>x")},
		opts:   Options{Script: func([]byte, string) []byte { panic("script") }},
	}.run(t)
}

// TestNothingLeavesAStoppedDecoder: what a decompressor still holds when a page
// is dropped, or goes out as it came, reaches nobody.
func TestNothingLeavesAStoppedDecoder(t *testing.T) {
	page := "<!doctype html><html><head><title>x</title></head><body>" + strings.Repeat("<p>text of the page</p>\n", 200)
	for _, coding := range []string{"gzip", "br", "zstd", "deflate zlib", "deflate raw"} {
		z := compress(t, coding, page)
		for cut := range len(z) {
			a := &answer{ResponseRecorder: httptest.NewRecorder()}
			w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
			maps.Copy(w.Header(), codedHeader(coding, len(z)))
			if _, err := io.WriteString(w, z[:cut]); err != nil {
				t.Fatal(err)
			}
			before := a.body()
			w.Abort()
			if a.body() != before || before == "" && w.Outcome() != Aborted {
				t.Fatalf("%s, cut at %d: the abort let %d bytes out: %s", coding, cut, len(a.body())-len(before), w.Outcome())
			}
		}
	}
}
