package inject

import (
	"bytes"
	"fmt"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// FuzzInject checks what holds for any bytes, split anywhere: no panic, at most
// one script, nothing else changed, and the same bytes for every split.
func FuzzInject(f *testing.F) {
	types := []string{"text/html; charset=utf-8", "text/html", "application/xhtml+xml", "text/html; charset=shift_jis", "text/plain", ""}
	for _, doc := range []string{
		"<!doctype html><html><head><title>x</title></head><body>y</body></html>",
		"<!-- a --!><html a='>'/><head/><script data-session-context>",
		"&#32;&Tab;</p></br>", "<head>", "\xef\xbb\xbf<?xml version='1.0' encoding='iso-2022-jp'?>",
		`<meta charset="utf-16"><meta http-equiv=content-type content="text/html; charset=big5">`,
		`<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head id="a">x`,
	} {
		for i := range types {
			f.Add([]byte(doc), uint64(0x5a5a), byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte, splits uint64, options byte) {
		if strings.Contains(string(doc), "window.x=1") {
			t.Skip()
		}
		h := make(http.Header)
		contentType := types[int(options&7)%len(types)]
		if contentType != "" {
			h.Set("Content-Type", contentType)
		}
		o := Options{Cacheable: options&8 != 0, AnyStatus: options&16 != 0}
		whole := exchange{header: h.Clone(), opts: o, chunks: []string{string(doc)}}.run(t)

		var chunks []string
		rest := string(doc)
		for rest != "" {
			n := 1
			for splits&1 == 0 && n < len(rest) && n < 64 {
				splits = splits>>1 | splits<<63
				n++
			}
			splits = splits>>1 | splits<<63
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		split := exchange{header: h.Clone(), opts: o, chunks: chunks}.run(t)
		if split.body() != whole.body() {
			t.Fatalf("%q\nin chunks %q\nwhole     %q", doc, split.body(), whole.body())
		}
		if a, b := split.Header().Get("Content-Type"), whole.Header().Get("Content-Type"); a != b {
			t.Fatalf("%q: Content-Type in chunks %q, whole %q", doc, a, b)
		}
		switch n := strings.Count(whole.body(), testScript); {
		case n > 1, n == 1 != (whole.outcome == Injected):
			t.Fatalf("%q: %d scripts, outcome %s", doc, n, whole.outcome)
		}
		if strings.Replace(whole.body(), testScript, "", 1) != string(doc) {
			t.Fatalf("%q became %q", doc, whole.body())
		}
		if at := strings.Index(whole.body(), testScript); at > maxPrefix {
			t.Fatalf("script at %d", at)
		}
		if contentType == types[0] {
			checkTree(t, string(doc), whole)
		}
	})
}

// FuzzEncoded feeds bytes that claim to be compressed. Whatever they are, a page
// left alone is the same bytes, and a broken one never looks whole.
func FuzzEncoded(f *testing.F) {
	names := []string{"gzip", "br", "zstd", "deflate zlib", "deflate raw"}
	for i, coding := range names {
		f.Add([]byte(compress(f, coding, "<html><head><title>x</title>")), byte(i), 5)
		f.Add([]byte(compress(f, coding, "<!-- no place")), byte(i), 1)
	}
	f.Fuzz(func(t *testing.T, body []byte, coding byte, size int) {
		size = max(1, size)
		var chunks []string
		for rest := string(body); rest != ""; {
			n := min(size, len(rest))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		a := &answer{ResponseRecorder: httptest.NewRecorder()}
		w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
		for k, v := range codedHeader(names[int(coding)%len(names)], len(body)) {
			w.Header()[k] = v
		}
		defer func() {
			v := recover()
			if v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
			w.Abort()
			injected := w.Outcome() == Injected
			if v != nil && !injected {
				t.Errorf("aborted, though %s", w.Outcome())
			}
			if !injected && len(chunks) > 0 && a.body() != string(body) {
				t.Errorf("%s, but %q became %q", w.Outcome(), body, a.body())
			}
			if coded := a.Header().Get("Content-Encoding") != ""; coded == injected {
				t.Errorf("%s, Content-Encoding kept: %v", w.Outcome(), coded)
			}
		}()
		for _, c := range chunks {
			if _, err := w.Write([]byte(c)); err != nil && w.Outcome() != Injected {
				t.Fatal(err)
			}
		}
		_ = w.Close()
	})
}

// FuzzAnswer varies what is around the bytes: method, status, coding, length,
// flushes, writes and ReadFrom. What comes out is the answer and at most one
// script, no more than 64 KiB of a page are ever held, and nothing behind the
// script but the beginning of a page of known length, until somebody flushes.
func FuzzAnswer(f *testing.F) {
	codingNames := []string{"", "", "gzip", "br", "zstd", "deflate zlib", "deflate raw"}
	statuses := []int{0, 200, 201, 203, 206, 301, 404, 500}
	contentTypes := []string{"text/html; charset=utf-8", "text/html", "application/xhtml+xml", ""}
	for i := range codingNames {
		for k := range statuses {
			f.Add([]byte("<!doctype html><html><head><title>x</title></head><body>y</body></html>"), 0, uint64(0x1234567890abcdef), uint32(i|k<<3|i<<6))
		}
		f.Add([]byte(`<html xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="big5"></head>`), 100, uint64(7), uint32(i|0x80))
		f.Add([]byte("<!-- a comment --><head>"), 70<<10, uint64(1), uint32(i|0x200))
	}
	for _, ops := range []uint64{0x2b05, 0x2b01, 0x3fff05, 0x1505} { // in parts, with a known length
		f.Add([]byte("<!doctype html><html><head><title>x</title></head><body>"+strings.Repeat("y", 9000)+"</body></html>"), 0, ops, uint32(0x108))
		f.Add([]byte("<!doctype html><html><head><title>x</title></head><body>y</body></html>"), 0, ops, uint32(0x108))
	}
	f.Fuzz(func(t *testing.T, doc []byte, padding int, ops uint64, options uint32) {
		if bytes.Contains(doc, []byte("window.x=1")) || padding < 0 || padding > 200<<10 {
			t.Skip()
		}
		// White space in front, which is held like the rest.
		body := strings.Repeat(" ", padding) + string(doc)
		coding := codingNames[int(options&7)%len(codingNames)]
		status := statuses[options>>3&7]
		contentType := contentTypes[options>>6&3]
		sized, head := options&0x100 != 0, options&0x200 != 0
		o := Options{Script: appendTestScript, Cacheable: options&0x400 != 0, AnyStatus: options&0x800 != 0}
		raw := body
		if coding != "" {
			raw = compress(t, coding, body)
		}

		a := &answer{ResponseRecorder: httptest.NewRecorder()}
		r := mustRequest()
		if head {
			r.Method = http.MethodHead
		}
		headers := 0
		o.OnHeader = func(http.Header, bool) { headers++ }
		w := NewResponseWriter(a, r, o)
		h := w.Header()
		if contentType != "" {
			h.Set("Content-Type", contentType)
		}
		if coding != "" {
			name, _, _ := strings.Cut(coding, " ")
			h.Set("Content-Encoding", name)
		}
		if sized {
			h.Set("Content-Length", strconv.Itoa(len(raw)))
		}
		h.Set("ETag", `"1"`)
		sent := h.Clone()
		if status != 0 {
			w.WriteHeader(status)
		}
		in, flushed := 0, 0
		for rest := raw; rest != ""; ops = bits.RotateLeft64(ops*0x9e3779b97f4a7c15+1, 7) {
			n := min(len(rest), 1+int(ops>>8&0x3fff)>>(ops>>24&15))
			var err error
			if ops&3 == 0 {
				_, err = w.ReadFrom(strings.NewReader(rest[:n]))
			} else {
				_, err = w.Write([]byte(rest[:n]))
			}
			if err != nil {
				t.Fatal(err)
			}
			in, rest = in+n, rest[n:]
			flushes := ops&0xc == 0
			if flushes {
				before := a.flushes
				_ = w.FlushError()
				flushed++
				if w.Outcome() != Pending && a.flushes == before {
					t.Fatalf("a flush is lost, outcome %s", w.Outcome())
				}
			}
			if coding == "" {
				out := a.Body.Len()
				waits := sized && w.Outcome() == Injected && out == 0
				if w.Outcome() == Injected && !waits {
					out -= len(testScript)
				}
				most := 0
				switch {
				case w.Outcome() == Pending:
					most = maxPrefix
				case waits && !flushes:
					most = waitLimit
				}
				if held := in - out; held > most {
					t.Fatalf("%d bytes are held, outcome %q", held, w.Outcome())
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Abort() // after Close it does nothing

		injected := w.Outcome() == Injected
		want := raw
		if injected {
			want = body
			if n := strings.Count(a.body(), testScript); n != 1 {
				t.Fatalf("%d scripts", n)
			}
		}
		if got := strings.Replace(a.body(), testScript, "", 1); got != want {
			t.Fatalf("%s: %q became %q", w.Outcome(), want, got)
		}
		if flushed > 0 && raw != "" && a.flushes == 0 && w.Outcome() != NoContent {
			t.Fatalf("%d flushes are lost, outcome %s", flushed, w.Outcome())
		}
		if written := raw != "" || status != 0; written != (headers == 1) || headers > 1 || len(a.status) > 1 {
			t.Fatalf("the header went out %d times: %v", headers, a.status)
		}
		if status != 0 && a.status[0] != status {
			t.Fatalf("status %d became %v", status, a.status)
		}
		if head && injected || status > 299 && injected && !o.AnyStatus {
			t.Fatalf("injected, status %d", status)
		}
		switch length := h.Get("Content-Length"); {
		case injected && (coding != "" || !sized):
			if length != "" || h.Get("Content-Encoding") != "" {
				t.Fatalf("header %v", h)
			}
		case injected && length != strconv.Itoa(a.Body.Len()):
			t.Fatalf("Content-Length %s for %d bytes", length, a.Body.Len())
		case injected || w.Outcome() == Head:
			if got := h.Get("ETag") != ""; got != o.Cacheable {
				t.Fatalf("header %v", h)
			}
		case length != sent.Get("Content-Length") || h.Get("Content-Encoding") != sent.Get("Content-Encoding") || h.Get("ETag") == "":
			t.Fatalf("%s: header %v became %v", w.Outcome(), sent, h)
		}
	})
}

// FuzzPolicies checks that amending a policy twice changes nothing more, and
// that its result lets the script run.
func FuzzPolicies(f *testing.F) {
	for _, s := range []string{"default-src 'none'; script-src-elem x,script-src", "sandbox", "script-src 'nonce-a' 'unsafe-inline'"} {
		f.Add(s, "default-src 'self'")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ours := func() string { return "ours" }
		once, nonce, ok := amendCSP([]string{a, b}, ours)
		if !ok {
			return
		}
		for _, value := range once {
			for text := range strings.SplitSeq(value, ",") {
				if p := parsePolicy(text); p.rules() && !p.sources.inlineAllowed() && !p.sources.hasNonce(nonce) {
					t.Fatalf("%q and %q with %s: %q blocks", a, b, nonce, text)
				}
			}
		}
		twice, again, _ := amendCSP(once, ours)
		if again != nonce || !slices.Equal(once, twice) {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
}

// checkTree has an HTML parser judge: the injected page is the original's tree
// plus one script, first in head. parse5 would be too slow for a fuzzer.
func checkTree(t *testing.T, doc string, got *answer) {
	t.Helper()
	if got.outcome != Injected {
		return
	}
	want, err := tree(doc, false)
	if err != nil {
		t.Skip("the original does not parse:", err)
	}
	have, err := tree(got.body(), true)
	if err != nil {
		t.Fatalf("%q: %v in %q", doc, err, got.body())
	}
	if have != want {
		t.Fatalf("%q became %q\ntree %s\nwant %s", doc, got.body(), have, want)
	}
}

// tree is the dump of doc's tree, less our script if there should be one.
func tree(doc string, injected bool) (string, error) {
	root, err := html.Parse(strings.NewReader(strings.TrimPrefix(doc, "\ufeff")))
	if err != nil {
		return "", err
	}
	if injected {
		head := find(root, "head")
		if head == nil || head.FirstChild == nil || head.FirstChild.Data != "script" ||
			!strings.HasPrefix(testScript, "<script data-session-context=\"\">"+text(head.FirstChild)) {
			return "", fmt.Errorf("our script is not first in head")
		}
		head.RemoveChild(head.FirstChild)
	}
	var b strings.Builder
	dump(&b, root, 0)
	return b.String(), nil
}

func text(n *html.Node) string {
	if n.FirstChild == nil {
		return ""
	}
	return n.FirstChild.Data
}

func find(n *html.Node, name string) *html.Node {
	if n.Type == html.ElementNode && n.Data == name {
		return n
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if found := find(c, name); found != nil {
			return found
		}
	}
	return nil
}

func dump(b *strings.Builder, n *html.Node, depth int) {
	fmt.Fprintf(b, "\n%*s%d %q %s %q", depth, "", n.Type, n.Data, n.Namespace, n.Attr)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		dump(b, c, depth+1)
	}
}
