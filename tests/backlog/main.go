// Command backlog makes and delivers a large outbox, each in a process of its
// own, for a test and a benchmark of what an outage leaves behind.
//
//	backlog fill DIR BYTES    appends rows and ends without closing the outbox
//	backlog drain DIR         opens it, delivers everything, prints a Report
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// Report is what draining took.
type Report struct {
	Rows       int
	OutOfOrder int   // rows that came before an older one
	Open, All  int64 // milliseconds until it was open, and until all was delivered
	Grown      int64 // bytes of resident memory at its peak beyond that at the start
}

func main() {
	err := fmt.Errorf("usage: backlog fill DIR BYTES, or backlog drain DIR")
	switch {
	case len(os.Args) == 4 && os.Args[1] == "fill":
		err = fill(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "drain":
		err = drain(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backlog:", err)
		os.Exit(1)
	}
}

const datasource = "events_v1"

func fill(dir, size string) error {
	want, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	o, err := outbox.Open(dir, outbox.Options{MaxDisk: 2 * want})
	if err != nil {
		return err
	}
	pad := strings.Repeat("x", 560)
	rows := make([]outbox.Row, 0, 5000)
	for n, written := 0, int64(0); written < want; {
		rows = rows[:0]
		for range cap(rows) {
			row := fmt.Appendf(nil, `{"n":%d,"event_id":"cta_click","pad":"%s"}`, n, pad)
			rows = append(rows, outbox.Row{Datasource: datasource, JSON: row})
			written += int64(len(row))
			n++
		}
		if err := o.Append(context.Background(), rows...); err != nil {
			return err
		}
	}
	os.Exit(0) // as if it was killed
	return nil
}

// order is a sink that takes all and looks at the order.
type order struct {
	Report
	last int
}

func (s *order) Deliver(_ context.Context, b outbox.Batch) outbox.Outcome {
	for row := range bytes.Lines(b.Body) {
		digits, _, _ := bytes.Cut(bytes.TrimPrefix(row, []byte(`{"n":`)), []byte(","))
		n, err := strconv.Atoi(string(digits))
		if err != nil || n != s.last+1 {
			s.OutOfOrder++
		}
		s.last = n
		s.Rows++
	}
	return outbox.Delivered(0, nil)
}

func drain(dir string) error {
	before, err := peak()
	if err != nil {
		return err
	}
	began := time.Now()
	o, err := outbox.Open(dir, outbox.Options{})
	if err != nil {
		return err
	}
	s := &order{last: -1}
	s.Open = time.Since(began).Milliseconds()
	o.SetSink(s)
	for o.Stats().Rows > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	s.All = time.Since(began).Milliseconds()
	if err := o.Close(); err != nil {
		return err
	}
	after, err := peak()
	if err != nil {
		return err
	}
	s.Grown = after - before
	return json.NewEncoder(os.Stdout).Encode(s.Report)
}

// peak is the most memory that this process had so far, in bytes.
func peak() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmHWM: this runs on Linux only")
}
