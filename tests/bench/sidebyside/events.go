package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// benchEvents compares durable event posts to a static answer and to the disk.
func benchEvents(s setting, plain, full *server, dir string) error {
	token, _, err := visit(full.addr)
	if err != nil {
		return err
	}
	request := func(host string) func(conn, seq int, dst []byte) []byte {
		return func(conn, seq int, dst []byte) []byte {
			body := fmt.Appendf(nil, `{"token":"%s","event_id":"click","event_type":"engagement","event_value":1,"page_url":"https://lp.example.com/","event_uuid":"%d-%d-%d"}`,
				token, time.Now().UnixNano(), conn, seq)
			dst = fmt.Appendf(dst, "POST /client-api/v1/events/track HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nOrigin: http://%s\r\nContent-Length: %d\r\n\r\n",
				host, agent, host, len(body))
			return append(dst, body...)
		}
	}
	const connections = 64
	var static, durable, disk []sample
	for range s.rounds {
		for _, v := range []struct {
			server *server
			to     *[]sample
		}{{plain, &static}, {full, &durable}} {
			one, err := v.server.measure(s.round, func(d time.Duration) (int, error) {
				return load(v.server.addr, connections, d, request(v.server.addr))
			})
			if err != nil {
				return err
			}
			*v.to = append(*v.to, one)
		}
		n, took, err := rawCommits(filepath.Join(dir, "raw"), connections, s.round)
		if err != nil {
			return err
		}
		disk = append(disk, sample{perSecond: float64(n) / took.Seconds()})
	}
	perSecond := func(s sample) float64 { return s.perSecond }
	ratio := func(other []sample) string {
		r := make([]sample, len(durable))
		for i := range durable {
			r[i].perSecond = durable[i].perSecond / other[i].perSecond
		}
		mid, low, high := median(r, perSecond)
		return fmt.Sprintf("%.2f (%.2f–%.2f)", mid, low, high)
	}
	acks, low, high := median(durable, perSecond)
	answers, _, _ := median(static, perSecond)
	rows, _, _ := median(disk, perSecond)
	cpu, _, _ := median(durable, func(s sample) float64 { return s.cpu })
	cpuStatic, _, _ := median(static, func(s sample) float64 { return s.cpu })
	fmt.Printf("Events (events/track with a token, %d connections, each answered after its fsync)\n", connections)
	fmt.Printf("durable acks/s          %.0f (%.0f–%.0f), CPU %.0f µs\n", acks, low, high, cpu)
	fmt.Printf("of a static 200         %s of %.0f/s, CPU %.0f µs\n", ratio(static), answers, cpuStatic)
	fmt.Printf("of raw group commit     %s of %.0f rows/s (one write and fsync of %d rows, again and again)\n", ratio(disk), rows, connections)
	return nil
}

var tokenPattern = regexp.MustCompile(`"token":("[^"]+")`)

// visit opens a page as somebody new and returns its token and cookies.
func visit(addr string) (token, cookies string, err error) {
	req, err := http.NewRequest("GET", "http://"+addr+"/10k?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0KCQiA", nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Referer", "https://www.google.com/")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", "", err
	}
	m := tokenPattern.FindSubmatch(b)
	if m == nil {
		return "", "", fmt.Errorf("the page has no token")
	}
	var all []string
	for _, c := range res.Cookies() {
		all = append(all, c.Name+"="+c.Value)
	}
	err = json.Unmarshal(m[1], &token)
	return token, strings.Join(all, "; "), err
}

// rawCommits writes and syncs rows in groups as large as the load could make.
func rawCommits(path string, rows int, d time.Duration) (n int, took time.Duration, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	group := bytes.Repeat([]byte("x"), 900*rows) // an event's row is about 900 bytes
	began := time.Now()
	for time.Since(began) < d {
		if _, err := f.Write(group); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		n += rows
	}
	return n, time.Since(began), nil
}
