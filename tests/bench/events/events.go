package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// connections post at the same time.
const connections = 64

// benchEvents compares durable event posts to a static answer and to the disk.
func benchEvents(setting rig.Setting, plain, full *rig.Server, raw string) error {
	visitor, err := rig.Visit(full.Addr, "/")
	if err != nil {
		return err
	}
	var static, durable []rig.Sample
	var ofStatic, ofDisk, disk []float64
	for range setting.Rounds {
		one, err := post(plain, setting.Round, visitor.Token)
		if err != nil {
			return err
		}
		static = append(static, one)
		two, err := post(full, setting.Round, visitor.Token)
		if err != nil {
			return err
		}
		durable = append(durable, two)
		n, took, err := rawCommits(raw, connections, setting.Round)
		if err != nil {
			return err
		}
		rows := float64(n) / took.Seconds()
		disk = append(disk, rows)
		ofStatic = append(ofStatic, two.PerSecond/one.PerSecond)
		ofDisk = append(ofDisk, two.PerSecond/rows)
	}
	fmt.Printf("Events (events/track with a token, %d connections, each answered after its fsync)\n", connections)
	fmt.Printf("durable acks/s          %s, CPU %.0f µs\n", rig.MedianOf(durable, perSecond).Text(0), rig.MedianOf(durable, cpu).Mid)
	fmt.Printf("of a static 200         %s of %.0f/s, CPU %.0f µs\n", rig.Median(ofStatic).Text(2), rig.MedianOf(static, perSecond).Mid, rig.MedianOf(static, cpu).Mid)
	fmt.Printf("of raw group commit     %s of %.0f rows/s (one write and fsync of %d rows, again and again)\n",
		rig.Median(ofDisk).Text(2), rig.Median(disk).Mid, connections)
	return nil
}

func perSecond(s rig.Sample) float64 { return s.PerSecond }

func cpu(s rig.Sample) float64 { return s.CPU }

// post loads a server with events for a round.
func post(server *rig.Server, round time.Duration, token string) (rig.Sample, error) {
	request := func(conn, seq int, dst []byte) []byte {
		body := fmt.Appendf(nil, `{"token":"%s","event_id":"click","event_type":"engagement","event_value":1,"page_url":"https://lp.example.com/","event_uuid":"%d-%d-%d"}`,
			token, time.Now().UnixNano(), conn, seq)
		dst = fmt.Appendf(dst, "POST /client-api/v1/events/track HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nOrigin: http://%s\r\nContent-Length: %d\r\n\r\n",
			server.Addr, rig.Agent, server.Addr, len(body))
		return append(dst, body...)
	}
	return server.Measure(func() (int, time.Duration, error) {
		began := time.Now()
		n, err := load(server.Addr, connections, round, request)
		return n, time.Since(began), err
	})
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
