package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestWebSocket: messages go both ways through the module while the access log
// wraps the answer too, on a path of their own and on a page's.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, longPage)
			return
		}
		if r.URL.Path == "/refused" {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, longPage)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		for {
			kind, b, err := conn.Read(r.Context())
			if err != nil {
				return // the client closed
			}
			if err := conn.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	}))
	defer upstream.Close()
	w := startTwins(t, "", "log\nencode gzip\nMODULE\nreverse_proxy "+address(upstream.URL), nil)
	for _, compression := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
		for _, path := range []string{"/socket", "/page"} {
			t.Run(fmt.Sprint(path[1:], compression), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				conn, res, err := websocket.Dial(ctx, w.with+path, &websocket.DialOptions{
					CompressionMode: compression,
					HTTPHeader:      http.Header{"Accept": {"text/html"}, "User-Agent": {desktop}},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.CloseNow()
				if len(res.Header["Set-Cookie"]) > 0 || res.Header.Get("Session-Context") != "skipped; reason=not_a_page_request" {
					t.Errorf("header %v", res.Header)
				}
				// HTML in a message is nobody's page.
				for _, message := range []string{"hello", longPage, "<head><title>x"} {
					if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
						t.Fatal(err)
					}
					kind, b, err := conn.Read(ctx)
					if err != nil || kind != websocket.MessageText || string(b) != "echo "+message {
						t.Fatalf("%v %s, %v", kind, shorten(string(b)), err)
					}
				}
				if err := conn.Close(websocket.StatusNormalClosure, "done"); err != nil {
					t.Errorf("closing: %v", err)
				}
			})
		}
	}
	t.Run("the page beside it", func(t *testing.T) {
		w.check(t, plainClient(t), ask{path: "/page"}, "injected")
	})
	t.Run("refused", func(t *testing.T) {
		// The answer is a page, but not one that a browser shows.
		w.check(t, plainClient(t), ask{path: "/refused", header: []string{
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "c2FtcGxlIG5vbmNlIDEyMw==",
		}}, "not_a_page_request")
	})
	t.Run("in the access log", func(t *testing.T) {
		eventually(t, 10*time.Second, "the access log tells of the upgrades", func() error {
			if n := strings.Count(w.c.log.String(), `"status":101`); n != 4 {
				return fmt.Errorf("%d lines with status 101", n)
			}
			return nil
		})
	})
}

// TestUpgrade: a connection that becomes something else passes untouched.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		line, _ := rw.ReadString('\n')
		fmt.Fprint(conn, "echo "+line)
	}))
	defer upstream.Close()
	c := startCaddy(t, globals("")+`
SITE {
	`+campaignBlock+`
	reverse_proxy `+strings.TrimPrefix(upstream.URL, "http://")+`
}
`)
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.site, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}
