package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
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
