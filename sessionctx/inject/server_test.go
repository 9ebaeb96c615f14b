package inject

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// serve runs upstream behind the injector, as a handler in the chain would.
func serve(t *testing.T, upstream http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prepared := PrepareRequest(r, false)
		defer prepared.Restore()
		iw := NewResponseWriter(w, r, Options{Script: appendTestScript})
		defer iw.Abort()
		upstream(iw, r)
		if err := iw.Close(); err != nil {
			t.Logf("Close: %v", err)
		}
	}))
	s.EnableHTTP2 = true
	return s
}

// bothProtocols runs test over HTTP/1.1 and HTTP/2.
func bothProtocols(t *testing.T, upstream http.HandlerFunc, test func(t *testing.T, s *httptest.Server)) {
	t.Run("HTTP/1.1", func(t *testing.T) {
		s := serve(t, upstream)
		s.Start()
		defer s.Close()
		test(t, s)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		s := serve(t, upstream)
		s.StartTLS()
		defer s.Close()
		test(t, s)
	})
}

func TestServerContentLength(t *testing.T) {
	doc := string(benchPage(50 << 10))
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "page.html", time.Unix(1, 0), strings.NewReader(doc))
	}, func(t *testing.T, s *httptest.Server) {
		req, _ := http.NewRequest("GET", s.URL, nil)
		req.Header.Set("If-None-Match", `"x"`)
		req.Header.Set("Range", "bytes=0-9")
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if want := strings.Replace(doc, "<head>", "<head>"+testScript, 1); string(body) != want || err != nil {
			t.Errorf("body of %d bytes, %v; want %d", len(body), err, len(want))
		}
		if res.StatusCode != 200 || res.ContentLength != int64(len(body)) {
			t.Errorf("status %d, length %d", res.StatusCode, res.ContentLength)
		}
		for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges"} {
			if v := res.Header.Get(name); v != "" {
				t.Errorf("%s: %s", name, v)
			}
		}

		res, err = s.Client().Head(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 || res.ContentLength != -1 || res.Header.Get("Etag") != "" {
			t.Errorf("HEAD: status %d, length %d, %v", res.StatusCode, res.ContentLength, res.Header)
		}
	})
}

func TestServerStreams(t *testing.T) {
	step := make(chan struct{})
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for _, part := range []string{"<head><title>", "two", "three"} {
			_, _ = io.WriteString(w, part)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-step
		}
	}, func(t *testing.T, s *httptest.Server) {
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for _, want := range []string{"<head>" + testScript + "<title>", "two", "three"} {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
			step <- struct{}{}
		}
	})
}

func TestServerEarlyHintsAndTrailers(t *testing.T) {
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Trailer", "X-Time, Digest")
		_, _ = io.WriteString(w, "<html><head><title>x")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("X-Time", "1")
		w.Header().Set("Digest", "wrong")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
		w.Header().Set(http.TrailerPrefix+"Repr-Digest", "wrong")
	}, func(t *testing.T, s *httptest.Server) {
		var hints []string
		req, _ := http.NewRequest("GET", s.URL, nil)
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, h.Get("Link"))
				return nil
			},
		}))
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if string(body) != "<html><head>"+testScript+"<title>x" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		if len(hints) != 1 || hints[0] != "</a.css>; rel=preload" {
			t.Errorf("hints %q", hints)
		}
		if res.Trailer.Get("X-Time") != "1" || res.Trailer.Get("X-Late") != "2" {
			t.Errorf("trailers %v", res.Trailer)
		}
		if res.Trailer.Get("Digest") != "" || res.Trailer.Get("Repr-Digest") != "" {
			t.Errorf("digests in trailers %v", res.Trailer)
		}
	})
}

// An application server within the same process sends hints and its header
// before it has a page, and then writes byte by byte.
func TestServerEarlyFlush(t *testing.T) {
	const doc = "<!doctype html><html><head><title>x</title></head><body>y</body></html>"
	at := strings.Index(doc, "<title>") + len("<title>")
	next := make(chan struct{})
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		_ = rc.Flush()
		for i := range len(doc) {
			_, _ = io.WriteString(w, doc[i:i+1])
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			if i < at {
				continue
			}
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}, func(t *testing.T, s *httptest.Server) {
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		head := strings.Replace(doc[:at], "<head>", "<head>"+testScript, 1)
		got := make([]byte, len(head))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != head {
			t.Fatalf("%q, %v", got, err)
		}
		for i := at; i < len(doc); i++ {
			if _, err := io.ReadFull(res.Body, got[:1]); err != nil || got[0] != doc[i] {
				t.Fatalf("%q, %v; want %q", got[:1], err, doc[i])
			}
			next <- struct{}{}
		}
	})
}

func TestServerIncompleteAnswers(t *testing.T) {
	gz := func(w http.ResponseWriter, upto int) {
		body := compress(t, "gzip", string(benchPage(100<<10)))
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, body[:len(body)-upto])
	}
	for name, upstream := range map[string]http.HandlerFunc{
		"panic behind the head": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "<head><title>x")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"panic before the head": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "<html>")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"less than its length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "<head><title>x")
		},
		"less than its length, without a place": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "<!-- x")
		},
		"more than its length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, err := io.WriteString(w, "<head><title>x</title>")
			if r.ProtoMajor == 1 && !errors.Is(err, http.ErrContentLength) {
				t.Errorf("Write: %v", err)
			}
		},
		"compressed and cut off": func(w http.ResponseWriter, r *http.Request) { gz(w, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				upstream(w, r)
			}, func(t *testing.T, s *httptest.Server) {
				res, err := s.Client().Get(s.URL)
				if err != nil {
					return
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err == nil {
					t.Errorf("%q looks whole", body)
				}
			})
		})
	}
}

// A write that goes beyond the length that was declared is refused whole: it
// takes nothing with it of what came before.
func TestServerLengthTooSmall(t *testing.T) {
	first := "<head><title>x</title>" + strings.Repeat("a", 3000)
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", "5000")
		if n, err := io.WriteString(w, first); n != len(first) || err != nil {
			t.Errorf("first Write: %d, %v", n, err)
		}
		if _, err := io.WriteString(w, strings.Repeat("b", 4000)); r.ProtoMajor == 1 && !errors.Is(err, http.ErrContentLength) {
			t.Errorf("second Write: %v", err)
		}
	}, func(t *testing.T, s *httptest.Server) {
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if want := strings.Replace(first, "<head>", "<head>"+testScript, 1); !strings.HasPrefix(string(body), want) || err == nil {
			t.Errorf("%d bytes, want at least %d and an error: %v", len(body), len(want), err)
		}
	})
}

func TestServerHijack(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n<head>x")
		_ = rw.Flush()
	})
	s.Start()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
	b, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\n<head>x") {
		t.Errorf("%q, %v", b, err)
	}
}
