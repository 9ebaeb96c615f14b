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
	end := time.Now().Add(d)
	err := eachConnection(addr, n, end, func(conn int, send func([]byte) error) error {
		var buf []byte
		for seq := 0; time.Now().Before(end); seq++ {
			buf = request(conn, seq, buf[:0])
			if err := send(buf); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return int(done.Load()), err
}

// pace sends requests at a rate over n connections, each when it is due, and
// tells how long after that it was answered.
func pace(addr string, n int, d time.Duration, rate float64, request func(conn, seq int, dst []byte) []byte) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	step := time.Duration(float64(n) / rate * float64(time.Second))
	began := time.Now()
	err := eachConnection(addr, n, began.Add(d), func(conn int, send func([]byte) error) error {
		var buf []byte
		var took []time.Duration
		due := began.Add(step * time.Duration(conn) / time.Duration(n))
		for seq := 0; due.Sub(began) < d; seq++ {
			time.Sleep(time.Until(due))
			buf = request(conn, seq, buf[:0])
			if err := send(buf); err != nil {
				return err
			}
			took = append(took, time.Since(due))
			due = due.Add(step)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, took...)
		return nil
	})
	return all, err
}

// eachConnection runs use for each of n connections, which are given up some time
// after end. send waits for the answer.
func eachConnection(addr string, n int, end time.Time, use func(conn int, send func(request []byte) error) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
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
			if err := use(conn, func(request []byte) error { return exchange(c, r, request) }); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return fmt.Errorf("load on %s: %w", addr, err)
	default:
		return nil
	}
}

// exchange sends a request and reads its answer, which must be a 200.
func exchange(c net.Conn, r *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
