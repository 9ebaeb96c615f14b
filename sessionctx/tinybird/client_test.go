package tinybird

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

const testToken = "p.eyJ1IjogInNlY3JldCJ9.do-not-log"

func newClient(t testing.TB, url string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{URL: url, Token: testToken}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// unpacked is what a request's body says.
func unpacked(body io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func batch(rows int) outbox.Batch {
	var body bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&body, "{\"n\":%d}\n", i)
	}
	return outbox.Batch{Datasource: "events_v1", Name: "1", Rows: rows, Body: body.Bytes()}
}

func TestRequestIsAsTheAPIWantsIt(t *testing.T) {
	var bodies [][]byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, c := range []struct{ name, got, want string }{
			{"method", r.Method, "POST"},
			{"uri", r.RequestURI, "/v0/events?name=events_v1&wait=true"},
			{"type", r.Header.Get("Content-Type"), "application/x-ndjson"},
			{"encoding", r.Header.Get("Content-Encoding"), "gzip"},
			{"authorization", r.Header.Get("Authorization"), "Bearer " + testToken},
		} {
			if c.got != c.want {
				t.Errorf("%s is %q, want %q", c.name, c.got, c.want)
			}
		}
		packed, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if int64(len(packed)) != r.ContentLength {
			t.Errorf("content length %d, body %d", r.ContentLength, len(packed))
		}
		bodies = append(bodies, packed)
		io.WriteString(w, `{"successful_rows":50,"quarantined_rows":0}`)
	}))
	defer srv.Close()
	c := newClient(t, srv.URL+"/", nil)
	b := batch(50)
	for range 3 {
		if out := c.Deliver(context.Background(), b); out.Verdict != outbox.VerdictDelivered || out.Reason != nil {
			t.Fatalf("outcome %+v", out)
		}
	}
	again := newClient(t, srv.URL, nil)
	again.Deliver(context.Background(), b)
	for _, packed := range bodies[1:] {
		if !bytes.Equal(packed, bodies[0]) {
			t.Error("compressed bytes differ between tries")
		}
	}
	if plain, err := unpacked(bytes.NewReader(bodies[0])); err != nil || !bytes.Equal(plain, b.Body) {
		t.Errorf("body %q, %v", plain, err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("rows went elsewhere")
	}))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	out := newClient(t, srv.URL, nil).Deliver(context.Background(), batch(1))
	if out.Verdict != outbox.VerdictHold || !strings.Contains(out.Reason.Error(), elsewhere.URL) {
		t.Errorf("outcome %+v", out)
	}
}

// raw is a server that does what no http.Handler may.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	return "http://" + ln.Addr().String()
}

// readRequest takes a request off a connection and leaves the answer to the test.
func readRequest(conn net.Conn) {
	buf := make([]byte, 64<<10)
	conn.Read(buf)
}

func TestBrokenConnectionsAreRetried(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"closed before an answer", func(c net.Conn) { readRequest(c) }},
		{"reset before an answer", func(c net.Conn) { readRequest(c); c.(*net.TCPConn).SetLinger(0) }},
		{"cut inside the headers", func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le") }},
		{"cut inside the body", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n{\"successful_rows\":1")
		}},
		{"not HTTP", func(c net.Conn) { readRequest(c); io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := newClient(t, raw(t, c.serve), nil).Deliver(context.Background(), batch(1))
			if out.Verdict != outbox.VerdictRetry || out.Reason == nil {
				t.Errorf("outcome %+v", out)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + ln.Addr().String()
		ln.Close()
		if out := newClient(t, url, nil).Deliver(context.Background(), batch(1)); out.Verdict != outbox.VerdictRetry {
			t.Errorf("outcome %+v", out)
		}
	})
}

func TestSilentServerTimesOut(t *testing.T) {
	done := make(chan struct{})
	url := raw(t, func(c net.Conn) { readRequest(c); <-done })
	defer close(done)
	c := newClient(t, url, func(cfg *Config) { cfg.Timeout = 30 * time.Millisecond })
	out := c.Deliver(context.Background(), batch(1))
	if out.Verdict != outbox.VerdictRetry || !errors.Is(out.Reason, context.DeadlineExceeded) || !strings.Contains(out.Reason.Error(), "30ms") {
		t.Errorf("outcome %+v", out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if out := c.Deliver(ctx, batch(1)); out.Verdict != outbox.VerdictRetry || !errors.Is(out.Reason, context.Canceled) {
		t.Errorf("outcome %+v", out)
	}
}

func TestEndlessAnswerIsNotReadToItsEnd(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		for range 1 << 14 { // 1 GiB
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
		t.Error("all of it was read")
	}))
	defer srv.Close()
	out := newClient(t, srv.URL, nil).Deliver(context.Background(), batch(1))
	if out.Verdict != outbox.VerdictRetry {
		t.Errorf("outcome %+v", out)
	}
}

// Nor one that is small only while it is packed.
func TestEndlessPackedAnswerIsNotReadToItsEnd(t *testing.T) {
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		zeros := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := z.Write(zeros); err != nil {
				return
			}
			_ = z.Flush()
		}
	}))
	defer srv.Close()
	out := newClient(t, srv.URL, nil).Deliver(context.Background(), batch(1))
	if out.Verdict != outbox.VerdictHold || len(out.Reason.Error()) > 2000 {
		t.Errorf("%d, %.200s", out.Verdict, out.Reason)
	}
	<-ended
}

func TestTokenIsInNoError(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		fmt.Fprintf(w, `{"error":"invalid authentication %s"}`, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}))
	defer srv.Close()
	out := newClient(t, srv.URL, nil).Deliver(context.Background(), batch(1))
	if text := out.Reason.Error(); strings.Contains(text, testToken) || !strings.Contains(text, "[token]") {
		t.Errorf("reason: %s", text)
	}
	_, err := New(Config{URL: "https://user:hunter2@api.tinybird.co", Token: testToken})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error: %v", err)
	}
	_, err = New(Config{URL: testToken, Token: "https://api.tinybird.co"})
	if err == nil || strings.Contains(err.Error(), testToken) {
		t.Errorf("error: %v", err)
	}
	_, err = New(Config{URL: "https://api.tinybird.co", Token: testToken + "\n"})
	if err == nil || strings.Contains(err.Error(), testToken) {
		t.Errorf("error: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, url := range []string{
		"https://api.tinybird.co", "https://api.us-east.aws.tinybird.co/", "http://127.0.0.1:7181", "http://localhost:7181",
		"http://[::1]:7181", "https://proxy.example/tinybird",
	} {
		if _, err := New(Config{URL: url, Token: "t"}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{
		"", "api.tinybird.co", "http://api.tinybird.co", "ftp://api.tinybird.co", "https://", "https://api.tinybird.co/v0/events",
		"https://api.tinybird.co?token=x", "https://u@api.tinybird.co", "https://api.tinybird.co/#x", ":", "https://%zz",
	} {
		if _, err := New(Config{URL: url, Token: "t"}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
	if _, err := New(Config{URL: "http://tinybird.internal", Token: "t", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"", " ", "a b", "a\n", "é"} {
		if _, err := New(Config{URL: "https://api.tinybird.co", Token: token}); err == nil {
			t.Errorf("token %q was taken", token)
		}
	}
	if _, err := New(Config{URL: "https://api.tinybird.co", Token: "t", Timeout: -1}); err == nil {
		t.Error("negative timeout was taken")
	}
}

// The whole way: rows through the outbox to a server that commits and then
// loses the answer, throttles, and asks for smaller bodies. Each row arrives,
// and what arrives twice arrives with the same bytes.
func TestOutboxThroughClient(t *testing.T) {
	var mu sync.Mutex
	rows := map[string]int{}
	bodies := map[string]int{}
	requests := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain, err := unpacked(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		requests++
		switch requests {
		case 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(429)
			return
		case 2:
			w.WriteHeader(413)
			return
		}
		list := strings.Split(strings.TrimSpace(string(plain)), "\n")
		bodies[string(plain)]++
		if bodies[string(plain)] == 1 {
			for _, l := range list {
				rows[l]++
			}
		}
		if requests == 3 {
			panic(http.ErrAbortHandler) // committed, then the connection died
		}
		fmt.Fprintf(w, `{"successful_rows":%d,"quarantined_rows":0}`, len(list))
	}))
	defer srv.Close()
	o, err := outbox.Open(t.TempDir(), outbox.Options{SegmentRows: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for i := range 100 {
		if err := o.Append(context.Background(), outbox.Row{Datasource: "events_v1", JSON: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	o.SetSink(newClient(t, srv.URL, nil))
	for end := time.Now().Add(20 * time.Second); o.Stats().Rows > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %+v", o.Stats())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(rows) != 100 {
		t.Errorf("%d rows arrived", len(rows))
	}
	for l, n := range rows {
		if n != 1 {
			t.Errorf("%s arrived %d times in different bodies", l, n)
		}
	}
}

func BenchmarkCompress4MiB(b *testing.B) {
	c := newClient(b, "https://api.tinybird.co", nil)
	var body bytes.Buffer
	for i := 0; body.Len() < 4<<20; i++ {
		fmt.Fprintf(&body, "{\"event_id\":\"cta_click\",\"session_id\":\"%032x\",\"n\":%d,\"page_url\":\"https://example.com/landing?utm_source=x\"}\n", i*7919, i)
	}
	b.SetBytes(int64(body.Len()))
	for b.Loop() {
		if _, err := c.compress(body.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
