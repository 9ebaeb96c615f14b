package tests

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// clientsUpstream answers in each way that depends on the client's protocol.
func clientsUpstream(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("X-Upstream", "kept")
		switch r.URL.Path {
		case "/page":
			h.Set("ETag", `"1"`)
			h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			h.Set("Cache-Control", "public, max-age=60")
			h.Set("Content-Length", fmt.Sprint(len(longPage)))
			io.WriteString(w, longPage)
		case "/stream":
			for i := 0; i < len(longPage); i += 1000 {
				io.WriteString(w, longPage[i:min(i+1000, len(longPage))])
				w.(http.Flusher).Flush()
			}
		case "/trailers":
			h.Set("Trailer", "X-Time, Digest")
			h.Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
			io.WriteString(w, longPage)
			w.(http.Flusher).Flush()
			h.Set("X-Time", "1")
			h.Set("Digest", "sha-256=of-another-body")
			h.Set(http.TrailerPrefix+"X-Late", "2")
			h.Set(http.TrailerPrefix+"Repr-Digest", "of-another-body")
		case "/image":
			h.Set("Content-Type", "image/png")
			h.Set("ETag", `"2"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("\x89PNG and more"))
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/dies":
			io.WriteString(w, longPage)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(s.Close)
	return address(s.URL)
}

// startProtocols starts twins that speak everything, over TLS also.
func startProtocols(t testing.TB) (plain, secure *twins) {
	t.Helper()
	upstream := clientsUpstream(t)
	c := newCaddy(t)
	plain = &twins{t: t, c: c, with: c.site, bare: "http://" + freeAddr(t)}
	secure = &twins{t: t, c: c, with: secureOrigin(t), bare: secureOrigin(t)}
	config := "{\n\tadmin ADMIN\n\tgrace_period 1s\n\tpersist_config off\n\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust\n" +
		"\tservers {\n\t\tprotocols h1 h2 h2c h3\n\t}\n}\n"
	for _, origin := range []string{plain.with, plain.bare, secure.with, secure.bare} {
		module := ""
		if origin == plain.with || origin == secure.with {
			module = campaignBlock
		}
		config += origin + " {\n\tbind 127.0.0.1\n\t" + module + "\n\treverse_proxy " + upstream + "\n}\n"
	}
	c.write(config)
	c.start()
	noPanics(t, c)
	waitKeys(t, c)
	waitServing(t, plain.bare)
	for _, origin := range []string{secure.with, secure.bare} {
		waitCertificate(t, origin)
	}
	return plain, secure
}

// waitCertificate waits for what may come after the port opens.
func waitCertificate(t testing.TB, origin string) {
	t.Helper()
	eventually(t, 30*time.Second, origin+" has a certificate", func() error {
		conn, err := tls.Dial("tcp", strings.Replace(address(origin), "localhost", "127.0.0.1", 1),
			&tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func secureOrigin(t testing.TB) string {
	_, port, _ := net.SplitHostPort(freeAddr(t))
	return "https://localhost:" + port
}

// loopback dials 127.0.0.1 whatever localhost means.
func loopback(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, strings.Replace(addr, "localhost", "127.0.0.1", 1))
}

// TestProtocols: over every version of HTTP a page, a stream, trailers and
// HEAD are what they are without the module, but for the script.
func TestProtocols(t *testing.T) {
	t.Parallel()
	plain, secure := startProtocols(t)
	insecure := &tls.Config{InsecureSkipVerify: true}
	only := func(set func(*http.Protocols)) *http.Transport {
		p := new(http.Protocols)
		set(p)
		return &http.Transport{DisableCompression: true, TLSClientConfig: insecure, Protocols: p, DialContext: loopback}
	}
	quicTransport := &http3.Transport{
		TLSClientConfig:    insecure,
		DisableCompression: true,
		Dial: func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			tlsConf = tlsConf.Clone()
			tlsConf.ServerName = "localhost"
			return quic.DialAddr(ctx, strings.Replace(addr, "localhost", "127.0.0.1", 1), tlsConf, conf)
		},
	}
	for _, p := range []struct {
		name, proto string
		sites       *twins
		transport   http.RoundTripper
	}{
		{"HTTP/1.1", "HTTP/1.1", plain, only(func(p *http.Protocols) { p.SetHTTP1(true) })},
		{"HTTP/1.1 over TLS", "HTTP/1.1", secure, only(func(p *http.Protocols) { p.SetHTTP1(true) })},
		{"HTTP/2", "HTTP/2.0", secure, only(func(p *http.Protocols) { p.SetHTTP2(true) })},
		{"h2c", "HTTP/2.0", plain, only(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })},
		{"HTTP/3", "HTTP/3.0", secure, quicTransport},
	} {
		t.Run(p.name, func(t *testing.T) {
			client := plainClient(t)
			client.Transport = p.transport
			t.Cleanup(func() {
				client.CloseIdleConnections()
				if c, ok := p.transport.(io.Closer); ok {
					c.Close()
				}
			})
			for _, test := range []struct {
				name    string
				ask     ask
				outcome string
				length  bool // the answer says how long it is
			}{
				{"page", ask{path: "/page"}, "injected", true},
				{"stream", ask{path: "/stream"}, "injected", false},
				{"trailers", ask{path: "/trailers"}, "injected", false},
				{"HEAD", ask{path: "/page", method: "HEAD"}, "head", false},
				{"HEAD of a stream", ask{path: "/stream", method: "HEAD"}, "head", false},
				{"image", ask{path: "/image", header: asset}, "not_a_page_request", true},
				{"part of an image", ask{path: "/image", header: append([]string{"Range", "bytes=1-3"}, asset...)}, "not_a_page_request", true},
				{"image not modified", ask{path: "/image", header: append([]string{"If-None-Match", `"2"`}, asset...)}, "not_a_page_request", false},
				{"no content", ask{path: "/none"}, "no_content", false},
				{"page after all that", ask{path: "/page", header: []string{"Range", "bytes=0-4"}}, "injected", true},
			} {
				t.Run(test.name, func(t *testing.T) {
					got := p.sites.check(t, client, test.ask, test.outcome)
					if got.proto != p.proto {
						t.Errorf("the client spoke %s", got.proto)
					}
					if test.length != (got.length > 0) {
						t.Errorf("Content-Length %d", got.length)
					}
					if test.name != "trailers" {
						return
					}
					if len(got.hints) != 1 && p.name != "HTTP/3" || len(got.hints) == 1 && got.hints[0].Get("Link") == "" {
						t.Errorf("early hints %v", got.hints)
					}
					if got.trailer.Get("X-Time") != "1" || got.trailer.Get("X-Late") != "2" {
						t.Errorf("trailers %v", got.trailer)
					}
					for _, name := range []string{"Digest", "Repr-Digest"} {
						if _, announced := got.trailer[name]; announced {
							t.Errorf("trailer %s is that of another body", name)
						}
					}
				})
			}
			t.Run("upstream that dies", func(t *testing.T) {
				if got := fetch(t, client, p.sites.with, ask{path: "/dies"}); got.err == nil {
					t.Errorf("%d bytes look whole", len(got.body))
				}
			})
		})
	}
}

// TestHTTP10: a client that knows neither chunks nor keep-alive gets the page
// up to the end of the connection.
func TestHTTP10(t *testing.T) {
	t.Parallel()
	w := startTwins(t, "", "MODULE\nreverse_proxy "+clientsUpstream(t), nil)
	for _, test := range []struct{ path, method, outcome string }{
		{"/page", "GET", "injected"},
		{"/stream", "GET", "injected"},
		{"/trailers", "GET", "injected"},
		{"/page", "HEAD", "head"},
		{"/none", "GET", "no_content"},
	} {
		t.Run(test.method+" "+test.path[1:], func(t *testing.T) {
			var got [2]reply
			for i, origin := range []string{w.with, w.bare} {
				conn, err := net.Dial("tcp", address(origin))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: %s\r\nAccept: text/html\r\n\r\n", test.method, test.path, address(origin))
				all, err := io.ReadAll(conn) // ends, since the server closes
				if err != nil {
					t.Fatal(err)
				}
				r := bufio.NewReader(bytes.NewReader(all))
				res, err := http.ReadResponse(r, &http.Request{Method: test.method})
				for err == nil && res.StatusCode == http.StatusEarlyHints {
					res, err = http.ReadResponse(r, &http.Request{Method: test.method})
				}
				if err != nil {
					t.Fatalf("%v in %q", err, all)
				}
				if res.TransferEncoding != nil {
					t.Errorf("Transfer-Encoding %q for a client of HTTP/1.0", res.TransferEncoding)
				}
				body, err := io.ReadAll(res.Body)
				got[i] = reply{proto: res.Proto, status: res.StatusCode, header: res.Header, length: res.ContentLength, raw: string(body), body: string(body), err: err}
			}
			compare(t, got[0], got[1], test.outcome)
			if test.path == "/page" && test.method == "GET" && got[0].length != int64(len(got[0].raw)) {
				t.Errorf("Content-Length %d for %d bytes", got[0].length, len(got[0].raw))
			}
		})
	}
}

// TestKeepAlive: many answers of all kinds on one connection stay in step, so
// every one has the length that it says.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	w := startTwins(t, "", "MODULE\nreverse_proxy "+clientsUpstream(t), nil)
	conn, err := net.Dial("tcp", address(w.with))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	asks := []ask{
		{path: "/page"}, {path: "/stream"}, {path: "/page"}, {path: "/page", method: "HEAD"}, {path: "/none"},
		{path: "/trailers"}, {path: "/image", header: append([]string{"If-None-Match", `"2"`}, asset...)},
		{path: "/image", header: append([]string{"Range", "bytes=0-3"}, asset...)}, {path: "/stream", method: "HEAD"}, {path: "/page"},
	}
	// All at once: an answer that is too long or too short spoils the next.
	for _, a := range asks {
		req := a.request(t, w.with)
		req.Header.Set("Accept-Encoding", "identity")
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range asks {
		method := a.method
		if method == "" {
			method = "GET"
		}
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		for err == nil && res.StatusCode == http.StatusEarlyHints {
			res, err = http.ReadResponse(r, &http.Request{Method: method})
		}
		if err != nil {
			t.Fatalf("answer %d, to %s: %v", i, a.path, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("answer %d, to %s: %v", i, a.path, err)
		}
		if len(body) > len(longPage) {
			if got := withoutScript(t, string(body)); got != longPage {
				t.Errorf("answer %d, to %s, is\n%s", i, a.path, shorten(got))
			}
		} else if a.path != "/image" && len(body) > 0 || a.path == "/page" && method == "GET" {
			t.Errorf("answer %d, to %s, has %d bytes", i, a.path, len(body))
		}
		if a.path == "/page" && method == "GET" && res.ContentLength != int64(len(body)) {
			t.Errorf("answer %d: Content-Length %d for %d bytes", i, res.ContentLength, len(body))
		}
	}
}
