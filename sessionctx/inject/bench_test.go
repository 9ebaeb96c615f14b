package inject

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchPage is a page of about n bytes with a usual head.
func benchPage(n int) []byte {
	const top = "<!DOCTYPE html>\n<html lang=\"en\" class=\"no-js\">\n<head>\n<meta charset=\"utf-8\">\n<title>Landing page</title>\n</head>\n<body>\n"
	const end = "</body></html>\n"
	line := "<p class=\"lead\">The quick brown fox jumps over the lazy dog.</p>\n"
	return []byte(top + strings.Repeat(line, (n-len(top)-len(end))/len(line)) + end)
}

// sinkWriter takes everything and keeps nothing.
type sinkWriter struct{ h http.Header }

func (s *sinkWriter) Header() http.Header         { return s.h }
func (s *sinkWriter) Write(p []byte) (int, error) { return len(p), nil }
func (s *sinkWriter) WriteHeader(int)             {}

func BenchmarkScanner(b *testing.B) {
	doc := benchPage(10 << 10)
	b.ReportAllocs()
	for b.Loop() {
		var s scanner
		if p := s.scan(doc); !p.found {
			b.Fatal("not found")
		}
	}
}

// benchScript is about what an organic visit's page gets.
var benchScript = []byte("<script data-session-context=\"\" nonce=\"0123456789abcdef\">" + strings.Repeat("x", 1600) + "</script>")

func benchOptions() Options {
	return Options{
		Script: func(dst []byte, _ string) []byte { return append(dst, benchScript...) },
		Nonce:  func() string { return "0123456789abcdef" },
	}
}

// prefixes are documents whose first 64 KiB, but for the room that the last
// tag needs, stand before the head; and the types that they are sent with.
var prefixes = map[string]struct{ contentType, doc string }{
	"white space":      {"text/html; charset=utf-8", strings.Repeat(" ", maxPrefix-64) + "<head><p>"},
	"comment":          {"text/html; charset=utf-8", "<!--" + strings.Repeat("x", maxPrefix-64) + "--><head><p>"},
	"comment, dashes":  {"text/html; charset=utf-8", "<!--" + strings.Repeat("-x>", (maxPrefix-64)/3) + "--><head><p>"},
	"end tags":         {"text/html; charset=utf-8", strings.Repeat("</p>", (maxPrefix-64)/4) + "<head><p>"},
	"attributes":       {"text/html; charset=utf-8", "<html" + strings.Repeat(` a="b"`, (maxPrefix-64)/6) + "><head><p>"},
	"one attribute":    {"text/html; charset=utf-8", "<html a='" + strings.Repeat("x", maxPrefix-64) + "'><head><p>"},
	"reference":        {"text/html; charset=utf-8", "&#" + strings.Repeat("0", maxPrefix-64) + "32;<head><p>"},
	"doctype":          {"text/html; charset=utf-8", "<!doctype " + strings.Repeat("x", maxPrefix-64) + "><head><p>"},
	"comment, prescan": {"text/html", "<!--" + strings.Repeat("x", maxPrefix-64) + "--><head><p>"},
	"XHTML comment":    {"application/xhtml+xml", "<!--" + strings.Repeat("x", maxPrefix-164) + `--><html xmlns="http://www.w3.org/1999/xhtml"><head><p>`},
	"XHTML doctype":    {"application/xhtml+xml", "<!DOCTYPE " + strings.Repeat("x", maxPrefix-164) + `><html xmlns="http://www.w3.org/1999/xhtml"><head><p>`},
}

// BenchmarkPrefix64K is what a head far down costs, by the byte: in one write,
// and in one for each byte. What grows with the square of the length shows as
// microseconds there.
func BenchmarkPrefix64K(b *testing.B) {
	for name, prefix := range prefixes {
		for chunks, chunk := range map[string]int{"one write": maxPrefix, "1-byte writes": 1} {
			b.Run(name+"/"+chunks, func(b *testing.B) {
				page := benchExchange{contentType: prefix.contentType, doc: []byte(prefix.doc), chunk: chunk}
				b.ReportAllocs()
				for b.Loop() {
					if got := page.run(benchOptions()); got != Injected {
						b.Fatal(got)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(prefix.doc)), "ns/byte")
			})
		}
	}
}

// TestScannersLookOnce: whatever stands before the head, and in however small
// pieces it comes, a scanner looks at nothing again. So its work is the
// document's length, not its square. One of two scanners finds what it has seen
// overwritten with all that would lead it astray, but for the tag at hand, and
// for the document's beginning, which tells what kind of token is at hand.
func TestScannersLookOnce(t *testing.T) {
	const (
		lies = `"'>-->;[x<p>`
		kept = 64 // more than the longest tag in prefixes
		kind = 16
	)
	for name, prefix := range prefixes {
		t.Run(name, func(t *testing.T) {
			var html, htmlToo scanner
			var xml, xmlToo xmlScanner
			scan, scanToo := html.scan, htmlToo.scan
			if strings.HasPrefix(name, "XHTML") {
				scan, scanToo = xml.scan, xmlToo.scan
			}
			doc, seen := []byte(prefix.doc), []byte(prefix.doc)
			for i := 1; i <= len(seen); i++ {
				place, same := scan(doc[:i]), scanToo(seen[:i])
				if place != same || html != htmlToo || xml != xmlToo {
					t.Fatalf("with byte %d it looked behind byte %d again: it is at %+v %+v, not at %+v %+v", i, i-kept, htmlToo, xmlToo, html, xml)
				}
				if place.known() {
					if want := len(seen) - len("<p>"); !place.found || place.at != want {
						t.Fatalf("%+v, not at %d", place, want)
					}
					return
				}
				if gone := i - kept; gone >= kind {
					seen[gone] = lies[i%len(lies)]
				}
			}
			t.Fatal("the head was not found")
		})
	}
}

// benchExchange is one answer, as an upstream writes it.
type benchExchange struct {
	contentType, csp string
	doc              []byte
	chunk            int  // how much it writes at a time; 0 is all by ReadFrom
	unknown          bool // it doesn't say how long the page is
}

func (e benchExchange) header() http.Header {
	h := http.Header{"Content-Type": {e.contentType}, "Etag": {`"x"`}}
	if !e.unknown {
		h["Content-Length"] = []string{strconv.Itoa(len(e.doc))}
	}
	if e.csp != "" {
		h["Content-Security-Policy"] = []string{e.csp}
	}
	return h
}

var benchRequest = httptest.NewRequest("GET", "/", nil)

func (e benchExchange) run(o Options) Reason {
	w := NewResponseWriter(&sinkWriter{e.header()}, benchRequest, o)
	e.write(w)
	if w.Close() != nil {
		return Aborted
	}
	return w.Outcome()
}

func (e benchExchange) write(w io.Writer) {
	if e.chunk == 0 {
		_, _ = w.(io.ReaderFrom).ReadFrom(bytes.NewReader(e.doc))
		return
	}
	for rest := e.doc; len(rest) > 0; {
		n := min(len(rest), e.chunk)
		_, _ = w.Write(rest[:n])
		rest = rest[n:]
	}
}

// BenchmarkBeyondCopy is what the injector does for a page of 10 KB more than
// building its header and copying it and the script together, which nobody can
// do without.
func BenchmarkBeyondCopy(b *testing.B) {
	page := benchExchange{contentType: "text/html; charset=utf-8", doc: benchPage(10 << 10), chunk: 32 << 10}
	copied := func() {
		w := &sinkWriter{page.header()}
		out := takeBuffer()
		out.b = append(append(append(out.b, page.doc[:100]...), benchScript...), page.doc[100:]...)
		_, _ = w.Write(out.b)
		out.release()
	}
	b.ReportAllocs()
	o := benchOptions()
	for b.Loop() {
		if got := page.run(o); got != Injected {
			b.Fatal(got)
		}
	}
	whole := b.Elapsed()
	began := time.Now()
	for range b.N {
		copied()
	}
	b.ReportMetric(float64((whole-time.Since(began)).Nanoseconds())/float64(b.N), "ns-beyond-copy")
}

// TestAllocationsOfAnyPage: a page of 1 MB takes no more allocations, and no
// larger ones, than one of 10 KB, in whatever way it is written.
func TestAllocationsOfAnyPage(t *testing.T) {
	small, large := benchPage(10<<10), benchPage(1<<20)
	for name, page := range map[string]benchExchange{
		"as a proxy copies":      {chunk: 32 << 10},
		"length unknown":         {chunk: 32 << 10, unknown: true},
		"small writes":           {chunk: 100},
		"one write":              {chunk: 1 << 30},
		"ReadFrom":               {chunk: 0},
		"prescan, small writes":  {chunk: 100, contentType: "text/html"},
		"a policy to be amended": {chunk: 32 << 10, csp: "script-src 'self'"},
	} {
		t.Run(name, func(t *testing.T) {
			if page.contentType == "" {
				page.contentType = "text/html; charset=utf-8"
			}
			of := func(doc []byte) (mallocs, size uint64) {
				page.doc = doc
				return leastAllocated(t, page)
			}
			mallocs, size := of(small)
			manyMallocs, manySize := of(large)
			// A number in the header may be a size class longer.
			const tolerance = 64
			if manyMallocs != mallocs || manySize > size+tolerance {
				t.Errorf("10 KB take %d allocations of %d bytes, 1 MB take %d of %d", mallocs, size, manyMallocs, manySize)
			}
		})
	}
}

// leastAllocated is what the leanest of many runs allocated. Others meet a pool
// that has just been emptied, by the garbage collector or, on purpose, by the
// race detector.
func leastAllocated(t *testing.T, page benchExchange) (mallocs, size uint64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	mallocs, size = math.MaxUint64, math.MaxUint64
	o := benchOptions()
	var before, after runtime.MemStats
	for range 100 {
		runtime.ReadMemStats(&before)
		got := page.run(o)
		runtime.ReadMemStats(&after)
		if got != Injected {
			t.Fatal(got)
		}
		mallocs = min(mallocs, after.Mallocs-before.Mallocs)
		size = min(size, after.TotalAlloc-before.TotalAlloc)
	}
	return mallocs, size
}

func BenchmarkWriter(b *testing.B) {
	const html = "text/html; charset=utf-8"
	small, large := benchPage(10<<10), benchPage(100<<10)
	for name, bench := range map[string]struct {
		benchExchange
		want Reason
	}{
		"10KB":            {benchExchange{contentType: html, doc: small, chunk: 1 << 30}, Injected},
		"10KB/csp":        {benchExchange{contentType: html, doc: small, chunk: 1 << 30, csp: "default-src 'self'; script-src 'self' 'nonce-abc' https://cdn.example; style-src 'self'"}, Injected},
		"10KB/prescan":    {benchExchange{contentType: "text/html", doc: small, chunk: 1 << 30}, Injected},
		"100KB":           {benchExchange{contentType: html, doc: large, chunk: 1 << 30}, Injected},
		"100KB/32KBreads": {benchExchange{contentType: html, doc: large, chunk: 32 << 10}, Injected},
		"10KB/20Bwrites":  {benchExchange{contentType: html, doc: small, chunk: 20}, Injected},
		"10KB/nothtml":    {benchExchange{contentType: "image/png", doc: small, chunk: 1 << 30}, NotHTML},
	} {
		b.Run(name, func(b *testing.B) {
			o := benchOptions()
			b.SetBytes(int64(len(bench.doc)))
			b.ReportAllocs()
			for b.Loop() {
				if got := bench.run(o); got != bench.want {
					b.Fatal(got)
				}
			}
		})
	}
}
