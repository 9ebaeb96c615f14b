package inject

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const testScript = `<script data-session-context="">window.x=1</script>`

func appendTestScript(dst []byte, nonce string) []byte {
	if nonce == "" {
		return append(dst, testScript...)
	}
	return append(dst, strings.Replace(testScript, " ", ` nonce="`+nonce+`" `, 1)...)
}

// answer is what reached the inner writer.
type answer struct {
	*httptest.ResponseRecorder
	outcome Reason
	writes  [][]byte
	flushes int
	status  []int
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == nil {
		a.WriteHeader(http.StatusOK)
	}
	a.writes = append(a.writes, bytes.Clone(p))
	return a.Body.Write(p)
}

func (a *answer) WriteHeader(status int) {
	a.status = append(a.status, status)
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.ResponseRecorder.WriteHeader(status)
	}
}

func (a *answer) FlushError() error {
	a.flushes++
	return nil
}

func (a *answer) body() string { return a.Body.String() }

// exchange describes one request and what the upstream does with it.
type exchange struct {
	method  string
	request http.Header
	status  int
	header  http.Header
	chunks  []string
	opts    Options
	handler func(w http.ResponseWriter)
}

func (e exchange) run(t testing.TB) *answer {
	t.Helper()
	if e.method == "" {
		e.method = http.MethodGet
	}
	r := httptest.NewRequest(e.method, "https://shop.example/page", nil)
	for k, v := range e.request {
		r.Header[k] = v
	}
	if e.opts.Script == nil {
		e.opts.Script = appendTestScript
	}
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	w := NewResponseWriter(a, r, e.opts)
	defer w.Abort()
	for k, v := range e.header {
		w.Header()[k] = v
	}
	if e.handler != nil {
		e.handler(w)
	} else {
		if e.status != 0 {
			w.WriteHeader(e.status)
		}
		for _, c := range e.chunks {
			if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
				t.Fatalf("Write = %d, %v; want %d, nil", n, err, len(c))
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	a.outcome = w.Outcome()
	if got := int64(a.Body.Len()); got != w.Written() {
		t.Errorf("Written = %d, body has %d", w.Written(), got)
	}
	return a
}

// header builds a header from pairs.
func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

var htmlHeader = header("Content-Type", "text/html; charset=utf-8")

// page runs a page through the writer in the given chunks.
func page(t testing.TB, contentType string, chunks ...string) *answer {
	t.Helper()
	return exchange{header: header("Content-Type", contentType), chunks: chunks}.run(t)
}

// bytewise splits s into single bytes.
func bytewise(s string) []string {
	chunks := make([]string, len(s))
	for i := range len(s) {
		chunks[i] = s[i : i+1]
	}
	return chunks
}
