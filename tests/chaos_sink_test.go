package tests

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// sinkFaults are what a network and the Events API do at their worst.
var sinkFaults = []standin.Fault{
	{Status: 408},
	{Status: 500},
	{Status: 502},
	{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
	{Status: 429, Header: http.Header{"Retry-After": {"0.2"}}},
	{Status: 429, Header: http.Header{"X-Ratelimit-Reset": {"1"}}},
	{Status: 413},
	{Status: 422, CommitFirst: true},
	{Status: 422},
	{Status: 400, Body: `{"error":"row 1: cannot parse a JSON value"}`},
	{Status: 400, Body: `{"error":"the parameter name is missing"}`},
	{Status: 401},
	{Status: 403},
	{Status: 404},
	{Status: 405},
	{Status: 302, Header: http.Header{"Location": {"https://elsewhere.example/"}}},
	{Status: 200, CommitFirst: true, Body: `{"successful_rows":0,"quarantined_rows":1}`},
	{Status: 200, CommitFirst: true, Body: `<html>a proxy's page</html>`},
	{Status: 202, CommitFirst: true},
	{Status: 500, CommitFirst: true},
	{CloseConn: true},
	{CommitFirst: true, CloseConn: true},
	{CommitFirst: true, TruncateBody: true},
	{CommitFirst: true, SlowDrip: 2 * time.Millisecond},
	{CommitFirst: true, Hang: 400 * time.Millisecond},
	{Hang: 400 * time.Millisecond, CloseConn: true},
	{CommitFirst: true, Hang: 4 * time.Second}, // longer than the sink waits
}

// front stands before the stand-in, at two addresses, and looks at the bytes
// of every try: those of a batch are the same each time, but for halves.
type front struct {
	tb   *standin.Server
	urls []string
	dead string // an address where nobody listens

	mu     sync.Mutex
	calm   bool
	tries  int
	bodies []*sentBody
	of     map[rowKey]int // a row's latest body
	wire   map[[32]byte][32]byte
	wrong  []string
}

type rowKey [16]byte

// sentBody is a request body, by the hashes of its rows.
type sentBody struct {
	rows  []rowKey
	tries int
}

func newFront(t testing.TB, tb *standin.Server) *front {
	f := &front{tb: tb, dead: "http://" + freeAddr(t), of: map[rowKey]int{}, wire: map[[32]byte][32]byte{}}
	for range 2 {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		t.Cleanup(s.CloseClientConnections)
		f.urls = append(f.urls, s.URL)
	}
	return f
}

// rest ends the front's own faults.
func (f *front) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calm = true
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+standin.DefaultToken {
		// Before any fault: no service says 2xx to rows that it did not take.
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	f.mu.Lock()
	f.tries++
	cut := !f.calm && f.tries%23 == 0
	f.mu.Unlock()
	if cut { // before the body is read
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	plain := []byte(nil)
	if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		plain, err = io.ReadAll(z)
		if err == nil {
			f.see(r.URL.Query().Get("name"), body, plain)
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.tb.ServeHTTP(w, r)
}

// see holds a body against what was sent before.
func (f *front) see(ds string, wire, plain []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hash, packed := sha256.Sum256(append([]byte(ds+"\n"), plain...)), sha256.Sum256(wire)
	if was, ok := f.wire[hash]; ok && was != packed {
		f.wrong = append(f.wrong, ds+": the same rows were packed into other bytes")
	}
	f.wire[hash] = packed
	if ds == "session_v1" {
		return // a session's row that is made twice is the same row, in two batches
	}
	b := &sentBody{tries: 1}
	for row := range bytes.Lines(plain) {
		sum := sha256.Sum256(row)
		b.rows = append(b.rows, rowKey(sum[:16]))
	}
	at, known := f.of[b.rows[0]]
	for _, row := range b.rows {
		if was, ok := f.of[row]; ok != known || was != at {
			f.wrong = append(f.wrong, fmt.Sprintf("%s: a batch of %d rows has rows of several others", ds, len(b.rows)))
			return
		}
	}
	if known {
		before := f.bodies[at]
		before.tries++
		if len(before.rows) == len(b.rows) && same16(before.rows, b.rows) {
			return
		}
		if !half(before.rows, b.rows) {
			f.wrong = append(f.wrong, fmt.Sprintf("%s: a batch of %d rows was sent again as another of %d", ds, len(before.rows), len(b.rows)))
			return
		}
	}
	f.bodies = append(f.bodies, b)
	for _, row := range b.rows {
		f.of[row] = len(f.bodies) - 1
	}
}

func same16(a, b []rowKey) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// half reports whether part is a whole's first or second half.
func half(whole, part []rowKey) bool {
	middle := len(whole) / 2
	for _, h := range [][]rowKey{whole[:middle], whole[middle:]} {
		if len(h) == len(part) && same16(h, part) {
			return true
		}
	}
	return false
}

// repeats is how many bodies were sent more than once.
func (f *front) repeats() (n int) {
	for _, b := range f.bodies {
		if b.tries > 1 {
			n++
		}
	}
	return n
}
