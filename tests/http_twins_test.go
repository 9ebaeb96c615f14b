package tests

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// twins are two sites of one Caddy that differ in the module alone. What the
// bare one answers is what the other has to answer, plus the script.
type twins struct {
	t    testing.TB
	c    *caddy
	with string // origins
	bare string
}

// startTwins starts both from one site's block, in which MODULE stands for the
// module. global goes into the global options; prepare, if not nil, lays out
// files.
func startTwins(t testing.TB, global, site string, prepare func(c *caddy)) *twins {
	t.Helper()
	c := newCaddy(t)
	if prepare != nil {
		prepare(c)
	}
	bare := "http://" + freeAddr(t)
	options := strings.Replace(globals(""), "\tadmin ADMIN\n", "\tadmin ADMIN\n\tgrace_period 1s\n\t"+global+"\n", 1)
	c.write(options +
		"\nSITE {\n" + strings.ReplaceAll(site, "MODULE", campaignBlock) + "\n}\n" +
		bare + " {\n" + strings.ReplaceAll(site, "MODULE", "") + "\n}\n")
	c.start()
	waitServing(t, bare)
	waitKeys(t, c)
	noPanics(t, c)
	return &twins{t: t, c: c, with: c.site, bare: bare}
}

// waitServing waits until an origin's port is open.
func waitServing(t testing.TB, origin string) {
	t.Helper()
	_, addr, _ := strings.Cut(origin, "://")
	eventually(t, 30*time.Second, origin+" serves", func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// waitKeys waits for the key ring: on a busy machine the first page may be
// asked for before it is there, and goes out untouched then.
func waitKeys(t testing.TB, c *caddy) {
	t.Helper()
	eventually(t, 30*time.Second, "the key ring is there", func() error {
		res, err := http.Get(c.site + "/client-api/v1/session/context")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable {
			return errors.New(res.Status)
		}
		return nil
	})
}

// noPanics fails the test if a handler panicked by the time it ends.
// http.ErrAbortHandler, by which a broken answer ends, is not logged.
func noPanics(t testing.TB, c *caddy) {
	t.Cleanup(func() {
		if strings.Contains(c.log.String(), "panic") {
			t.Error("a handler of Caddy panicked")
		}
	})
}

// ask describes a request. Its zero value navigates to "/".
type ask struct {
	method string
	path   string
	header []string // pairs; an empty value takes the header off
	body   string
}

// reply is all that a client sees of an answer.
type reply struct {
	proto   string
	status  int
	header  http.Header
	trailer http.Header
	hints   []http.Header // of 103 answers
	length  int64
	raw     string // as it came
	body    string // decoded
	err     error  // the answer is not whole
}

// plainClient shows answers as they are.
func plainClient(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request makes a request as a browser that navigates makes it, but for
// compression, which it does not ask for.
func (a ask) request(t testing.TB, origin string) *http.Request {
	t.Helper()
	method, path := a.method, a.path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequest(method, origin+path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", desktop)
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Sec-Fetch-Site", "none")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	for i := 0; i < len(a.header); i += 2 {
		if a.header[i+1] == "" {
			req.Header.Del(a.header[i])
		} else {
			req.Header.Set(a.header[i], a.header[i+1])
		}
	}
	return req
}

// asset is what an image's request has in place of a page's.
var asset = []string{"Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors", "Accept", "image/*"}

// fetch never fails the test for a broken answer, but for one that hangs.
func fetch(t testing.TB, client *http.Client, origin string, a ask) reply {
	t.Helper()
	var r reply
	req := a.request(t, origin)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				r.hints = append(r.hints, http.Header(h).Clone())
			}
			return nil
		},
	}))
	res, err := client.Do(req)
	if err != nil {
		r.err = err
	} else {
		defer res.Body.Close()
		var b []byte
		b, r.err = io.ReadAll(res.Body)
		r.proto, r.status, r.header, r.trailer, r.length, r.raw = res.Proto, res.StatusCode, res.Header, res.Trailer, res.ContentLength, string(b)
		r.decode(req.Method)
	}
	var timeout net.Error
	if errors.As(r.err, &timeout) && timeout.Timeout() || errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("%s %s hangs: %v", req.Method, req.URL, r.err)
	}
	return r
}

// decode undoes the Content-Encoding; one that is broken makes the answer
// incomplete, as for a browser.
func (r *reply) decode(method string) {
	r.body = r.raw
	coding := r.header.Get("Content-Encoding")
	if coding == "" || method == http.MethodHead || r.raw == "" {
		return
	}
	body, err := io.ReadAll(decoder(coding, strings.NewReader(r.raw)))
	r.body = string(body)
	r.err = errors.Join(r.err, err)
}

// decoder reads what is in coding; one that nobody knows reads as it stands.
func decoder(coding string, in io.Reader) io.Reader {
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return failing{err}
		}
		return z
	case "deflate":
		z, err := zlib.NewReader(in)
		if err != nil {
			return failing{err}
		}
		return z
	case "br":
		return brotli.NewReader(in)
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return failing{err}
		}
		return z.IOReadCloser()
	}
	return in
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// flushEncoder is what all compressors here can do.
type flushEncoder interface {
	io.WriteCloser
	Flush() error
}

// encoders maps a Content-Encoding, with a note behind a space, to what makes
// it.
var encoders = map[string]func(io.Writer) flushEncoder{
	"gzip":        func(w io.Writer) flushEncoder { return gzip.NewWriter(w) },
	"br":          func(w io.Writer) flushEncoder { return brotli.NewWriter(w) },
	"zstd":        func(w io.Writer) flushEncoder { z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); return z },
	"deflate":     func(w io.Writer) flushEncoder { return zlib.NewWriter(w) },
	"deflate raw": func(w io.Writer) flushEncoder { z, _ := flate.NewWriter(w, 6); return z },
}

func encoded(t testing.TB, coding, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := encoders[coding](&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// both asks both sites the same.
func (w *twins) both(t testing.TB, client *http.Client, a ask) (with, bare reply) {
	t.Helper()
	return fetch(t, client, w.with, a), fetch(t, client, w.bare, a)
}

// check asks both and compares, going by the outcome that is wanted.
func (w *twins) check(t testing.TB, client *http.Client, a ask, outcome string) reply {
	t.Helper()
	with, bare := w.both(t, client, a)
	compare(t, with, bare, outcome)
	return with
}

// compare fails the test unless with is bare but for what the outcome changes.
// An outcome other than injected stands for itself, "head" for an answer to
// HEAD.
func compare(t testing.TB, with, bare reply, outcome string) {
	t.Helper()
	if with.err != nil || bare.err != nil {
		t.Errorf("incomplete: %v; without the module: %v", with.err, bare.err)
		return
	}
	if with.status != bare.status || with.proto != bare.proto {
		t.Errorf("%s %d, without the module %s %d", with.proto, with.status, bare.proto, bare.status)
	}
	body := with.body
	if outcome == "injected" {
		body = withoutScript(t, body)
	}
	if body != bare.body {
		t.Errorf("the body differs from the one without the module:\n%s\nwant\n%s", shorten(body), shorten(bare.body))
	}
	if len(with.hints) != len(bare.hints) {
		t.Errorf("%d early hints, without the module %d", len(with.hints), len(bare.hints))
	}
	if with.length >= 0 && with.length != int64(len(with.raw)) && outcome != "head" && with.status != 304 {
		t.Errorf("Content-Length %d for %d bytes", with.length, len(with.raw))
	}
	compareHeaders(t, with.header, bare.header, outcome)
}

// compareHeaders compares every header but Date and those that name a port.
func compareHeaders(t testing.TB, with, bare http.Header, outcome string) {
	t.Helper()
	with, want := with.Clone(), bare.Clone()
	said := "skipped; reason=" + outcome
	if outcome == "injected" {
		said = outcome
	}
	want.Set("Session-Context", said)
	switch outcome {
	case "injected":
		for name := range want {
			if dropped[name] || strings.HasSuffix(name, "-Cache-Control") {
				delete(want, name)
			}
		}
		if cache := bare.Get("Cache-Control"); !strings.Contains(cache, "no-store") {
			want.Set("Cache-Control", "private, no-cache")
		}
		want.Set("Cdn-Cache-Control", "no-store")
		want.Set("Surrogate-Control", "no-store")
		want.Set("X-Accel-Expires", "0")
		// Ours come behind the upstream's.
		n := len(bare["Set-Cookie"])
		if ours := with["Set-Cookie"]; len(ours) <= n || !strings.Contains(ours[n], "fb_") {
			t.Errorf("Set-Cookie %q, without the module %q", ours, bare["Set-Cookie"])
		} else {
			want["Set-Cookie"] = slices.Concat(bare["Set-Cookie"], ours[n:])
		}
		// Its length is compared with its body; a decoded page has none.
		delete(want, "Content-Length")
		delete(with, "Content-Length")
		if with.Get("Content-Encoding") == "" {
			delete(want, "Content-Encoding")
		}
		// What the document says of its encoding is in the header now, and a
		// type that was missing is what the server would have guessed.
		ct, theirs := with.Get("Content-Type"), want.Get("Content-Type")
		if strings.HasPrefix(ct, theirs+"; charset=") || theirs == "" && ct == "text/html; charset=utf-8" {
			want.Set("Content-Type", ct)
		}
		if announced := want.Get("Trailer"); announced != "" {
			kept := strings.FieldsFunc(announced, func(r rune) bool { return r == ',' || r == ' ' })
			kept = slices.DeleteFunc(kept, func(name string) bool { return dropped[http.CanonicalHeaderKey(name)] })
			want.Set("Trailer", strings.Join(kept, ", "))
		}
	case "head":
		for name := range want {
			if dropped[name] || name == "Content-Length" || name == "Content-Encoding" {
				delete(want, name)
			}
		}
		want.Set("Cache-Control", "private, no-cache")
		want.Set("Cdn-Cache-Control", "no-store")
		want.Set("Surrogate-Control", "no-store")
		want.Set("X-Accel-Expires", "0")
	}
	if outcome == "head" || bare.Get("Content-Encoding") != with.Get("Content-Encoding") {
		// encode says Vary by what it has before it: a length, or an encoding.
		for _, h := range []http.Header{with, want} {
			if lines := h["Vary"]; len(lines) == 1 && lines[0] == "Accept-Encoding" {
				delete(h, "Vary")
			}
		}
	}
	for _, h := range []http.Header{with, want} {
		// Whether nothing has a length depends on when a proxy flushes.
		if h.Get("Content-Length") == "0" {
			delete(h, "Content-Length")
		}
	}
	for _, name := range []string{"Date", "Alt-Svc"} {
		delete(want, name)
		delete(with, name)
	}
	for _, name := range slices.Sorted(maps.Keys(mergeKeys(with, want))) {
		if !slices.Equal(with[name], want[name]) {
			t.Errorf("%s is %q, want %q", name, with[name], want[name])
		}
	}
}

func mergeKeys(a, b http.Header) http.Header {
	m := a.Clone()
	maps.Copy(m, b)
	return m
}

// dropped is what an injected page loses, as README says.
var dropped = map[string]bool{
	"Etag": true, "Last-Modified": true, "Accept-Ranges": true, "Expires": true,
	"Content-Md5": true, "Digest": true, "Content-Digest": true, "Repr-Digest": true,
	"Edge-Control": true, "X-Accel-Expires": true, "X-Litespeed-Cache-Control": true,
}

func shorten(s string) string {
	if len(s) > 600 {
		return s[:300] + " … " + s[len(s)-300:]
	}
	return s
}

// address is what reverse_proxy takes for an origin.
func address(origin string) string {
	_, addr, _ := strings.Cut(origin, "://")
	return addr
}

// longPage is longer than any buffer on its way but ours.
var longPage = "<!doctype html><html><head><title>x</title></head><body>" + strings.Repeat("<p>text of the page</p>", 400) + "</body></html>"

// until reads to a mark, which has to come while the upstream waits. A hang
// ends by the client's timeout.
func until(t testing.TB, r io.Reader, mark string) string {
	t.Helper()
	var b strings.Builder
	buf := make([]byte, 1)
	for !strings.HasSuffix(b.String(), mark) {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil && !strings.HasSuffix(b.String(), mark) {
			t.Fatalf("%v before %q; so far %q", err, mark, b.String())
		}
	}
	return b.String()
}
