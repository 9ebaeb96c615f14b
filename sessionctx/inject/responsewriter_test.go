package inject

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

func mustRequest() *http.Request { return httptest.NewRequest("GET", "https://shop.example/", nil) }

func TestWhichAnswersAreInjected(t *testing.T) {
	html := func(pairs ...string) http.Header {
		return header(append([]string{"Content-Type", "text/html; charset=utf-8"}, pairs...)...)
	}
	for name, test := range map[string]struct {
		exchange
		want Reason
	}{
		"page":                     {exchange{header: html()}, Injected},
		"201":                      {exchange{header: html(), status: 201}, Injected},
		"203":                      {exchange{header: html(), status: 203}, Injected},
		"204":                      {exchange{header: html(), status: 204}, NoContent},
		"205":                      {exchange{header: html(), status: 205}, NoContent},
		"206":                      {exchange{header: html(), status: 206}, Partial},
		"redirect":                 {exchange{header: html(), status: 302}, Status},
		"304":                      {exchange{header: html(), status: 304}, NotModified},
		"404":                      {exchange{header: html(), status: 404}, Status},
		"503":                      {exchange{header: html(), status: 503}, Status},
		"404 in an error route":    {exchange{header: html(), status: 404, opts: Options{AnyStatus: true}}, Injected},
		"304 in an error route":    {exchange{header: html(), status: 304, opts: Options{AnyStatus: true}}, NotModified},
		"JSON":                     {exchange{header: header("Content-Type", "application/json")}, NotHTML},
		"plain text":               {exchange{header: header("Content-Type", "text/plain")}, NotHTML},
		"a type that begins so":    {exchange{header: header("Content-Type", "text/htmlx")}, NotHTML},
		"an empty type":            {exchange{header: header("Content-Type", "")}, NotHTML},
		"no type wanted":           {exchange{header: http.Header{"Content-Type": nil}}, NotHTML},
		"odd spelling of the type": {exchange{header: header("Content-Type", " TEXT/Html ;charset=utf-8")}, Injected},
		"event stream":             {exchange{header: header("Content-Type", "text/event-stream")}, EventStream},
		"incremental":              {exchange{header: html("Incremental", "?1")}, Incremental},
		"not incremental":          {exchange{header: html("Incremental", "?0")}, Injected},
		"attachment":               {exchange{header: html("Content-Disposition", `Attachment; filename="a.html"`)}, Attachment},
		"inline":                   {exchange{header: html("Content-Disposition", "inline; filename=a")}, Injected},
		"bare file name":           {exchange{header: html("Content-Disposition", `filename="a"`)}, Injected},
		"no-transform":             {exchange{header: html("Cache-Control", "max-age=1, No-Transform")}, NoTransform},
		"fetched by a script":      {exchange{header: html(), request: header("Sec-Fetch-Dest", "empty")}, Fetched},
		"HEAD":                     {exchange{header: html(), method: "HEAD"}, Head},
		"CONNECT":                  {exchange{header: html(), method: "CONNECT"}, Upgrade},
		"sniffed page":             {exchange{header: nil}, Injected},
		"sniffed, with coding":     {exchange{header: header("Content-Encoding", "gzip")}, NotHTML},
		"nothing to insert": {exchange{header: html(), opts: Options{
			Script: func(dst []byte, _ string) []byte { return dst },
		}}, NoScript},
	} {
		t.Run(name, func(t *testing.T) {
			for split, chunks := range [][]string{{"<!doctype html><head>x"}, bytewise("<!doctype html><head>x")} {
				e := test.exchange
				e.header = e.header.Clone()
				e.chunks = chunks
				var calls []bool
				e.opts.OnHeader = func(h http.Header, injecting bool) {
					calls = append(calls, injecting)
					h.Add("Set-Cookie", "a=b")
				}
				got := e.run(t)
				if got.outcome != test.want {
					t.Errorf("%d: outcome %s, want %s", split, got.outcome, test.want)
				}
				if !slices.Equal(calls, []bool{test.want == Injected}) {
					t.Errorf("%d: OnHeader calls %v", split, calls)
				}
				if got.Result().Header.Get("Set-Cookie") != "a=b" {
					t.Errorf("%d: OnHeader came too late", split)
				}
				body := "<!doctype html><head>x"
				if test.want == Injected {
					body = "<!doctype html><head>" + testScript + "x"
				}
				if got.body() != body {
					t.Errorf("%d: body %q", split, got.body())
				}
				if want := max(e.status, 200); got.Code != want {
					t.Errorf("%d: status %d", split, got.Code)
				}
			}
		})
	}
}

func TestHeadAnswersDropWhatWouldDiffer(t *testing.T) {
	h := header("Content-Type", "text/html", "Content-Length", "500", "ETag", `"x"`, "Content-Encoding", "gzip", "Cache-Control", "public")
	got := exchange{method: "HEAD", header: h, status: 200}.run(t)
	for _, name := range []string{"Content-Length", "Etag", "Content-Encoding"} {
		if v := got.Header().Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
	if v := got.Header().Get("Cache-Control"); v != "private, no-cache" {
		t.Errorf("Cache-Control: %s", v)
	}
	image := header("Content-Type", "image/png", "Content-Length", "500", "ETag", `"x"`)
	if got := (exchange{method: "HEAD", header: image, status: 200}).run(t); got.Header().Get("Content-Length") != "500" || got.Header().Get("Etag") == "" {
		t.Errorf("an image lost %v", got.Header())
	}
}

func TestOneWriteCarriesPrefixScriptAndRest(t *testing.T) {
	doc := "<!doctype html><html><head>" + strings.Repeat("x", 100<<10)
	got := page(t, "text/html; charset=utf-8", doc)
	if len(got.writes) != 1 {
		t.Errorf("%d writes", len(got.writes))
	}
	got = page(t, "text/html; charset=utf-8", "<!doctype ", "html><ht", "ml><head", "><meta>"+strings.Repeat("y", 1000), "z")
	if len(got.writes) != 2 || !strings.HasPrefix(string(got.writes[0]), "<!doctype html><html><head>"+testScript+"<meta>y") {
		t.Errorf("%q", got.writes)
	}
}

// TestBeginningWaitsForCompany: of a page whose length is known the beginning
// goes out in one write with what follows; nobody else waits for anything.
func TestBeginningWaitsForCompany(t *testing.T) {
	const head = "<!doctype html><html><head><title>x"
	begin, rest := head+strings.Repeat("a", 3000), strings.Repeat("b", 6000)
	injected := func(s string) string { return strings.Replace(s, "<head>", "<head>"+testScript, 1) }
	for name, test := range map[string]struct {
		length int // 0: unknown
		chunks []string
		want   []string // writes
	}{
		"two parts":            {9000 + len(head), []string{begin, rest}, []string{begin + rest}},
		"three parts":          {9001 + len(head), []string{begin, rest, "c"}, []string{begin + rest, "c"}},
		"a whole page":         {len(begin), []string{begin}, []string{begin}},
		"length unknown":       {0, []string{begin, rest}, []string{begin, rest}},
		"a large part":         {9000 + waitLimit, []string{begin + strings.Repeat("c", waitLimit), "d"}, []string{begin + strings.Repeat("c", waitLimit), "d"}},
		"a very large second":  {len(begin) + joinLimit + 1, []string{begin, strings.Repeat("b", joinLimit+1)}, []string{begin, strings.Repeat("b", joinLimit+1)}},
		"less than its length": {20_000, []string{begin}, []string{begin}},
	} {
		t.Run(name, func(t *testing.T) {
			h := htmlHeader.Clone()
			if test.length > 0 {
				h.Set("Content-Length", strconv.Itoa(test.length))
			}
			got := exchange{header: h, chunks: test.chunks}.run(t)
			if len(got.writes) != len(test.want) {
				t.Fatalf("%d writes, want %d", len(got.writes), len(test.want))
			}
			for i, w := range got.writes {
				if string(w) != injected(test.want[i]) {
					t.Errorf("write %d has %d bytes, want %d", i, len(w), len(injected(test.want[i])))
				}
			}
		})
	}

	known := htmlHeader.Clone()
	known.Set("Content-Length", "99999")
	for name, end := range map[string]func(w *ResponseWriter, a *answer){
		"a flush":     func(w *ResponseWriter, a *answer) { _ = http.NewResponseController(w).Flush() },
		"an abort":    func(w *ResponseWriter, a *answer) { w.Abort() },
		"an end":      func(w *ResponseWriter, a *answer) { _ = w.Close() },
		"a file":      func(w *ResponseWriter, a *answer) { _, _ = w.ReadFrom(strings.NewReader("")) },
		"two flushes": func(w *ResponseWriter, a *answer) { _, _ = w.FlushError(), w.FlushError() },
	} {
		t.Run(name+" waits for nothing", func(t *testing.T) {
			a := &answer{ResponseRecorder: httptest.NewRecorder()}
			w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
			maps.Copy(w.Header(), known)
			_, _ = io.WriteString(w, begin)
			if !slices.Equal(a.status, []int{200}) || len(a.writes) != 0 || w.Outcome() != Injected {
				t.Errorf("before: %v, %d writes, %s", a.status, len(a.writes), w.Outcome())
			}
			end(w, a)
			if len(a.writes) != 1 || a.body() != injected(begin) || w.Written() != int64(len(injected(begin))) {
				t.Errorf("%d writes, %d bytes, %d counted", len(a.writes), len(a.body()), w.Written())
			}
			if want := map[string]int{"a flush": 1, "two flushes": 2}[name]; a.flushes != want {
				t.Errorf("%d flushes, want %d", a.flushes, want)
			}
			w.Abort()
			if len(a.writes) != 1 {
				t.Error("it went out twice")
			}
		})
	}

	// Whoever flushed before gets what there is at once, flushed.
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
	maps.Copy(w.Header(), known)
	_, _ = io.WriteString(w, "<!doctype")
	_ = w.FlushError()
	_, _ = io.WriteString(w, begin[len("<!doctype"):])
	if a.body() != injected(begin) || a.flushes != 1 {
		t.Errorf("after a flush: %d bytes, %d flushes", len(a.body()), a.flushes)
	}

	// The error of what waited comes with the next write.
	broken := errors.New("gone")
	w = NewResponseWriter(brokenWriter{known.Clone(), broken}, mustRequest(), Options{Script: appendTestScript})
	if n, err := io.WriteString(w, begin); n != len(begin) || err != nil {
		t.Errorf("waiting: %d, %v", n, err)
	}
	if n, err := io.WriteString(w, rest); n != 0 || err != broken {
		t.Errorf("together: %d, %v", n, err)
	}
	w = NewResponseWriter(brokenWriter{known.Clone(), broken}, mustRequest(), Options{Script: appendTestScript})
	_, _ = io.WriteString(w, begin)
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

func TestContentLengthIsCorrected(t *testing.T) {
	h := htmlHeader.Clone()
	h.Set("Content-Length", "7")
	got := exchange{header: h.Clone(), chunks: bytewise("<head>x")}.run(t)
	if have, want := got.Header().Get("Content-Length"), strconv.Itoa(7+len(testScript)); have != want {
		t.Errorf("got %s, want %s", have, want)
	}
	if got := (exchange{header: h.Clone(), chunks: []string{"<!-- x "}}).run(t); got.Header().Get("Content-Length") != "7" {
		t.Error("changed though nothing was injected")
	}
	h.Set("Content-Length", "seven")
	if got := (exchange{header: h.Clone(), chunks: []string{"<head>x"}}).run(t); got.Header().Get("Content-Length") != "" {
		t.Error("nonsense was kept")
	}
}

// TestFlushBehindTheHead: where no encoding is named, a flush waits for what may
// name one until the body has begun to say something.
func TestFlushBehindTheHead(t *testing.T) {
	for name, c := range map[string]struct {
		before  string
		waits   bool
		charset string // of the Content-Type, with what comes later
	}{
		"no head yet":            {"<html>", true, "; charset=windows-1251"},
		"in the head":            {"<head><title></head>", true, "; charset=windows-1251"},
		"in a comment":           {"<head><!-- </head><body> ", true, ""},
		"tags that imply a body": {"<head><title>x</title><div>", true, "; charset=windows-1251"},
		"behind the head":        {"<head></HEAD >", true, "; charset=windows-1251"},
		"in an empty body":       {"<head></head><body> <!-- x -->", true, "; charset=windows-1251"},
		"in a body with text":    {"<head><body class=x>x", false, ""},
		"in a body with a tag":   {"<head></head><p>", false, ""},
		"in frames":              {"<head><frameset><frame>", false, ""},
		"with an encoding":       {"<head><meta charset=koi8-r>", false, "; charset=koi8-r"},
	} {
		t.Run(name, func(t *testing.T) {
			got := exchange{header: header("Content-Type", "text/html"), handler: func(w http.ResponseWriter) {
				a := w.(*ResponseWriter).Unwrap().(*answer)
				_, _ = io.WriteString(w, c.before)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				if waits := len(a.writes) == 0; waits != c.waits {
					t.Errorf("after the flush %d writes", len(a.writes))
				}
				_, _ = io.WriteString(w, "</title><meta charset=windows-1251>later")
			}}.run(t)
			if have := got.Header().Get("Content-Type"); have != "text/html"+c.charset || got.outcome != Injected {
				t.Errorf("%s as %q", got.outcome, have)
			}
			if plain := strings.Replace(got.body(), testScript, "", 1); plain != c.before+"</title><meta charset=windows-1251>later" {
				t.Error(plain)
			}
		})
	}
}

// TestFlushOfACompressedPage: a flush of an upstream that compresses reaches the
// client as one that doesn't.
func TestFlushOfACompressedPage(t *testing.T) {
	for _, contentType := range []string{"text/html", "text/html; charset=utf-8"} {
		got := exchange{header: header("Content-Type", contentType, "Content-Encoding", "gzip"), handler: func(w http.ResponseWriter) {
			a := w.(*ResponseWriter).Unwrap().(*answer)
			z := gzip.NewWriter(w)
			io.WriteString(z, "<head></head><body><p>loading")
			z.Flush()
			http.NewResponseController(w).Flush()
			if body := a.body(); body != "<head>"+testScript+"</head><body><p>loading" || a.flushes == 0 {
				t.Errorf("%s: after the flush %q, %d flushes", contentType, body, a.flushes)
			}
			io.WriteString(z, " done")
			z.Close()
		}}.run(t)
		if got.body() != "<head>"+testScript+"</head><body><p>loading done" {
			t.Error(got.body())
		}
	}
}

// TestSeveralTypes: what browsers make of several types is not ours to guess.
func TestSeveralTypes(t *testing.T) {
	for _, types := range [][]string{
		{"text/html", "text/plain"}, {"text/html", "text/html; charset=utf-16le"},
		{"text/html; charset=utf-8, text/plain"}, {"text/html, text/html"},
	} {
		got := exchange{header: http.Header{"Content-Type": types}, chunks: []string{"<head>x"}}.run(t)
		if got.outcome != NotHTML || got.body() != "<head>x" {
			t.Errorf("%q: %s, %q", types, got.outcome, got.body())
		}
	}
}

func TestFlushWaitsForThePlace(t *testing.T) {
	got := exchange{header: htmlHeader, handler: func(w http.ResponseWriter) {
		a := w.(*ResponseWriter).Unwrap().(*answer)
		c := http.NewResponseController(w)
		step := func(write string, writes, flushes int) {
			t.Helper()
			_, _ = io.WriteString(w, write)
			if err := c.Flush(); err != nil {
				t.Error(err)
			}
			if len(a.writes) != writes || a.flushes != flushes {
				t.Errorf("after %q: %d writes, %d flushes", write, len(a.writes), a.flushes)
			}
		}
		step("", 0, 0)
		step("<html>", 0, 0)
		step("<head>", 0, 0)
		step("<title>", 1, 2)
		step("x", 2, 3)
	}}.run(t)
	if got.body() != "<html><head>"+testScript+"<title>x" {
		t.Error(got.body())
	}
}

func TestSniffingAsTheServerWould(t *testing.T) {
	long := strings.Repeat(" ", sniffLen)
	for name, test := range map[string]struct {
		chunks      []string
		contentType string
		want        Reason
	}{
		"page":                        {[]string{"<html><head>x"}, "text/html; charset=utf-8", Injected},
		"page split":                  {[]string{"<ht", "ml>", "<head>x"}, "text/html; charset=utf-8", Injected},
		"page behind white space":     {[]string{" \n", "<p>x"}, "text/html; charset=utf-8", Injected},
		"page too far behind":         {[]string{long, "<p>x"}, "", NotHTML},
		"text":                        {[]string{"hello"}, "", NotHTML},
		"image":                       {[]string{"\x89PNG\r\n", "\x1a\n"}, "", NotHTML},
		"nothing":                     {nil, "", NotHTML},
		"page in one long chunk":      {[]string{"<html><head>" + long + long}, "text/html; charset=utf-8", Injected},
		"page in long and more chunk": {[]string{"<html>", "<head>" + long + long, "x"}, "text/html; charset=utf-8", Injected},
	} {
		t.Run(name, func(t *testing.T) {
			got := exchange{status: 200, chunks: test.chunks}.run(t)
			if have := got.Header().Get("Content-Type"); have != test.contentType || got.outcome != test.want {
				t.Errorf("%s, %q", got.outcome, have)
			}
			if strings.Replace(got.body(), testScript, "", 1) != strings.Join(test.chunks, "") {
				t.Errorf("body %q", got.body())
			}
		})
	}
	got := exchange{handler: func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "<head>")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "x")
	}}.run(t)
	if got.flushes != 1 || got.outcome != Injected {
		t.Errorf("flush after the first bytes: %d, %s, %q", got.flushes, got.outcome, got.body())
	}
}

// A proxy flushes the header of a stream at once, at times before the first
// byte: that must not decide about the type.
func TestFlushBeforeTheTypeIsKnown(t *testing.T) {
	for _, test := range []struct {
		name, body, want string
		outcome          Reason
	}{
		{"page", "<!doctype html><head><title>x", "<!doctype html><head>" + testScript + "<title>x", Injected},
		{"text", "hello", "hello", NotHTML},
		{"much text", strings.Repeat("x", 2*sniffLen), strings.Repeat("x", 2*sniffLen), NotHTML},
		{"nothing", "", "", NotHTML},
	} {
		for _, between := range []bool{false, true} {
			t.Run(test.name+map[bool]string{true: ", flushed again"}[between], func(t *testing.T) {
				got := exchange{handler: func(w http.ResponseWriter) {
					rc := http.NewResponseController(w)
					w.WriteHeader(http.StatusOK)
					_ = rc.Flush()
					_, _ = io.WriteString(w, test.body)
					if between {
						_ = rc.Flush()
					}
				}}.run(t)
				if got.body() != test.want || got.outcome != test.outcome {
					t.Errorf("%s, %q", got.outcome, got.body())
				}
				if len(test.body) > sniffLen && got.flushes == 0 {
					t.Error("the flush is lost")
				}
			})
		}
	}
}

func TestInformationalAnswersPass(t *testing.T) {
	got := exchange{header: htmlHeader, handler: func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(200)
		w.WriteHeader(500)
		_, _ = io.WriteString(w, "<head>x")
	}}.run(t)
	if !slices.Equal(got.status, []int{103, 102, 200}) || got.outcome != Injected {
		t.Errorf("%v, %s", got.status, got.outcome)
	}
}

func TestSwitchingProtocolsPassesForGood(t *testing.T) {
	got := exchange{header: htmlHeader, handler: func(w http.ResponseWriter) {
		w.WriteHeader(101)
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "<head>x")
	}}.run(t)
	if !slices.Equal(got.status, []int{101}) || got.outcome != Upgrade || got.body() != "<head>x" {
		t.Errorf("%v, %s, %q", got.status, got.outcome, got.body())
	}
}

func TestStatusIsTheFinalOne(t *testing.T) {
	w := NewResponseWriter(&sinkWriter{make(http.Header)}, mustRequest(), Options{})
	if w.Status() != 0 || w.Outcome() != Pending {
		t.Error(w.Status(), w.Outcome())
	}
	w.WriteHeader(103)
	w.WriteHeader(404)
	w.WriteHeader(200)
	if w.Status() != 404 || w.Outcome() != Status {
		t.Error(w.Status(), w.Outcome())
	}
}

func TestNothingWrittenStaysNothing(t *testing.T) {
	got := exchange{header: htmlHeader, handler: func(http.ResponseWriter) {}}.run(t)
	if got.status != nil || got.outcome != NoContent {
		t.Errorf("%v, %s", got.status, got.outcome)
	}
	got = exchange{header: htmlHeader, handler: func(w http.ResponseWriter) { w.WriteHeader(200) }}.run(t)
	if !slices.Equal(got.status, []int{200}) || got.outcome != NoInsertionPoint {
		t.Errorf("%v, %s", got.status, got.outcome)
	}
}

func TestAbortDropsAHeldPage(t *testing.T) {
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
	for k, v := range header("Content-Type", "text/html", "Content-Length", "99", "ETag", `"x"`, "X-Kept", "1") {
		w.Header()[k] = v
	}
	_, _ = io.WriteString(w, "<html>")
	w.Abort()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if a.status != nil || len(a.writes) != 0 || w.Outcome() != Aborted {
		t.Errorf("%v, %q, %s", a.status, a.writes, w.Outcome())
	}
	if h := a.Header(); h.Get("Content-Length") != "" || h.Get("Etag") != "" || h.Get("X-Kept") != "1" {
		t.Errorf("header %v", h)
	}

	a = &answer{ResponseRecorder: httptest.NewRecorder()}
	w = NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<head>x")
	w.Abort()
	if w.Outcome() != Injected || a.body() != "<head>"+testScript+"x" {
		t.Errorf("behind the script: %s, %q", w.Outcome(), a.body())
	}
}

func TestWriteErrorsReachTheUpstream(t *testing.T) {
	broken := errors.New("gone")
	w := NewResponseWriter(brokenWriter{make(http.Header), broken}, mustRequest(), Options{Script: appendTestScript})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if n, err := io.WriteString(w, "<html>"); n != 6 || err != nil {
		t.Errorf("held: %d, %v", n, err)
	}
	if n, err := io.WriteString(w, "<head>x"); n != 0 || err != broken {
		t.Errorf("injecting: %d, %v", n, err)
	}
	if n, err := io.WriteString(w, "y"); n != 0 || err != broken {
		t.Errorf("passing: %d, %v", n, err)
	}
	w = NewResponseWriter(brokenWriter{make(http.Header), broken}, mustRequest(), Options{Script: appendTestScript})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!--")
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

type brokenWriter struct {
	h   http.Header
	err error
}

func (b brokenWriter) Header() http.Header       { return b.h }
func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }
func (b brokenWriter) WriteHeader(int)           {}

// fromWriter has a ReadFrom, as the server's own writer does.
type fromWriter struct {
	*answer
	reads int
	from  int64
}

func (f *fromWriter) ReadFrom(r io.Reader) (int64, error) {
	f.reads++
	n, err := io.Copy(onlyWriter{f.answer}, r)
	f.from += n
	return n, err
}

func TestReadFromDelegatesBehindTheScript(t *testing.T) {
	doc := string(benchPage(200 << 10))
	for name, test := range map[string]struct {
		header   http.Header
		from     int64
		outcome  Reason
		injected bool
	}{
		"page":     {htmlHeader, int64(len(doc) - readChunk), Injected, true},
		"not page": {header("Content-Type", "text/plain"), int64(len(doc)), NotHTML, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fromWriter{answer: &answer{ResponseRecorder: httptest.NewRecorder()}}
			w := NewResponseWriter(f, mustRequest(), Options{Script: appendTestScript})
			for k, v := range test.header {
				w.Header()[k] = v
			}
			n, err := io.Copy(w, io.LimitReader(strings.NewReader(doc), int64(len(doc))))
			if n != int64(len(doc)) || err != nil {
				t.Errorf("ReadFrom = %d, %v", n, err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			want := doc
			if test.injected {
				want = strings.Replace(doc, "<head>", "<head>"+testScript, 1)
			}
			if f.body() != want || w.Outcome() != test.outcome || w.Written() != int64(len(want)) {
				t.Errorf("%s, %d bytes, %d counted, want %d", w.Outcome(), len(f.body()), w.Written(), len(want))
			}
			if f.reads != 1 || f.from != test.from {
				t.Errorf("%d delegations, %d bytes, want %d", f.reads, f.from, test.from)
			}
		})
	}
}

func TestReadFromWithoutAnInnerOne(t *testing.T) {
	doc := string(benchPage(100 << 10))
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
	w.Header().Set("Content-Type", "text/html")
	if n, err := w.ReadFrom(strings.NewReader(doc)); n != int64(len(doc)) || err != nil {
		t.Errorf("ReadFrom = %d, %v", n, err)
	}
	_ = w.Close()
	if a.body() != strings.Replace(doc, "<head>", "<head>"+testScript, 1) {
		t.Error("body changed")
	}
}

func TestReadFromReturnsTheReadersError(t *testing.T) {
	broken := errors.New("upstream died")
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, mustRequest(), Options{Script: appendTestScript})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	n, err := w.ReadFrom(io.MultiReader(strings.NewReader("<html>"), errReader{broken}))
	if n != 6 || err != broken {
		t.Errorf("ReadFrom = %d, %v", n, err)
	}
	w.Abort()
	if len(a.writes) != 0 {
		t.Errorf("%q", a.writes)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestPushAndUnwrap(t *testing.T) {
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, mustRequest(), Options{})
	if w.Unwrap() != http.ResponseWriter(a) {
		t.Error("Unwrap")
	}
	if err := w.Push("/x", nil); !errors.Is(err, http.ErrNotSupported) {
		t.Error(err)
	}
	if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
		t.Error(err)
	}
}
