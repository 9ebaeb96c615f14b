package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load sends requests over n connections that are kept, as fast as answers
// come. request appends the bytes of a connection's next request.
func load(addr string, n int, d time.Duration, request func(conn, seq int, dst []byte) []byte) (int, error) {
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, n)
	end := time.Now().Add(d)
	for conn := range n {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			c.SetDeadline(end.Add(20 * time.Second))
			r := bufio.NewReaderSize(c, 64<<10)
			var buf []byte
			for seq := 0; time.Now().Before(end); seq++ {
				buf = request(conn, seq, buf[:0])
				if _, err := c.Write(buf); err != nil {
					errs <- err
					return
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					errs <- err
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					errs <- fmt.Errorf("status %d, %v", res.StatusCode, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, fmt.Errorf("load on %s: %w", addr, err)
	default:
	}
	return int(done.Load()), nil
}

const agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"

// pageRequest is a paid visit, by somebody new if there is no cookie.
func pageRequest(host, path, cookie string) []byte {
	if cookie != "" {
		cookie = "Cookie: " + cookie + "\r\n"
	}
	return fmt.Appendf(nil, "GET %s?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0KCQiA HTTP/1.1\r\nHost: %s\r\n"+
		"User-Agent: %s\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.9\r\n"+
		"Accept-Encoding: gzip, deflate, br, zstd\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nReferer: https://www.google.com/\r\n%s\r\n",
		path, host, agent, cookie)
}

// startUpstream serves pages of 10 and 100 KB as an application would.
func startUpstream() (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	pages := map[string][]byte{}
	for name, size := range sizes {
		var b bytes.Buffer
		b.WriteString("<!doctype html><html lang=en><head><meta charset=utf-8><title>Landing</title><link rel=stylesheet href=/style.css></head><body>")
		for b.Len() < size-20 {
			b.WriteString("<section class=feature><h2>A heading</h2><p>Some text of a landing page.</p></section>\n")
		}
		b.WriteString("</body></html>")
		pages["/"+name] = b.Bytes()
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(pages[strings.TrimSuffix(r.URL.Path, "/")])
	}))
	return l.Addr().String(), nil
}

var sizes = map[string]int{"10k": 10 << 10, "100k": 100 << 10}
