package inject

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
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

func BenchmarkScannerByteByByte64K(b *testing.B) {
	doc := []byte("<!--" + strings.Repeat("-x>", maxPrefix/3-5) + "--><head>x")
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		var s scanner
		for i := range doc {
			if s.scan(doc[:i+1]).known() {
				break
			}
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	script := []byte("<script data-session-context=\"\" nonce=\"0123456789abcdef\">" + strings.Repeat("x", 1600) + "</script>")
	for name, bench := range map[string]struct {
		contentType string
		size, chunk int
		csp         string
		skip        bool
	}{
		"10KB":            {"text/html; charset=utf-8", 10 << 10, 1 << 30, "", false},
		"10KB/csp":        {"text/html; charset=utf-8", 10 << 10, 1 << 30, "default-src 'self'; script-src 'self' 'nonce-abc' https://cdn.example; style-src 'self'", false},
		"10KB/prescan":    {"text/html", 10 << 10, 1 << 30, "", false},
		"100KB":           {"text/html; charset=utf-8", 100 << 10, 1 << 30, "", false},
		"100KB/32KBreads": {"text/html; charset=utf-8", 100 << 10, 32 << 10, "", false},
		"10KB/20Bwrites":  {"text/html; charset=utf-8", 10 << 10, 20, "", false},
		"10KB/nothtml":    {"image/png", 10 << 10, 1 << 30, "", true},
	} {
		b.Run(name, func(b *testing.B) {
			doc := benchPage(bench.size)
			r := httptest.NewRequest("GET", "/", nil)
			o := Options{
				Script: func(dst []byte, _ string) []byte { return append(dst, script...) },
				Nonce:  func() string { return "0123456789abcdef" },
			}
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				h := http.Header{"Content-Type": {bench.contentType}, "Content-Length": {strconv.Itoa(len(doc))}, "Etag": {`"x"`}}
				if bench.csp != "" {
					h["Content-Security-Policy"] = []string{bench.csp}
				}
				w := NewResponseWriter(&sinkWriter{h}, r, o)
				for rest := doc; len(rest) > 0; {
					n := min(len(rest), bench.chunk)
					_, _ = w.Write(rest[:n])
					rest = rest[n:]
				}
				if w.Close() != nil || (w.Outcome() == Injected) == bench.skip {
					b.Fatal(w.Outcome())
				}
			}
		})
	}
}
