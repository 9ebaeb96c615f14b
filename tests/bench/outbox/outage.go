package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// arrival is how many rows a second come during an outage.
const arrival = 1000

const outageArg = "outage"

// outage is what an outage did to a process, in bytes of resident memory.
type outage struct {
	Rows                int
	Start, Third, Whole int64
}

// measureOutage lets an hour's rows come while the sink fails, as fast as they
// go in, in a process that does nothing else.
func (b *bench) measureOutage() error {
	seconds := 3600
	if b.short {
		seconds = 360
	}
	cmd := exec.Command(os.Args[0], outageArg, b.fresh("outage"), strconv.Itoa(seconds))
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return err
	}
	var o outage
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	fmt.Printf("\n**Memory in an outage** of %v at %d rows/s: %.1f MiB at the start, %.1f MiB after a third, %.1f MiB at its end\n",
		time.Duration(seconds)*time.Second, arrival, mib(o.Start), mib(o.Third), mib(o.Whole))
	grown := o.Whole - o.Third
	b.Bar("memory in an outage is flat (≤ 4 MiB more from its first third to its end)", fmt.Sprintf("%+.1f MiB", mib(grown)), grown <= 4<<20)
	return nil
}

// down is a sink that is out.
type down struct{}

func (down) Deliver(context.Context, outbox.Batch) outbox.Outcome {
	return outbox.Retry(0, errors.New("down"))
}

// serveOutage is the process in which it happens.
func serveOutage(dir, seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	o, err := outbox.Open(dir, outbox.Options{MaxDisk: 1 << 40})
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.SetSink(down{})
	var seen outage
	rows := make([]outbox.Row, 100)
	for i := range rows {
		rows[i] = outbox.Row{Datasource: datasource, JSON: eventRow}
	}
	for second := range n {
		for range arrival / len(rows) {
			if err := o.Append(context.Background(), rows...); err != nil {
				return err
			}
			seen.Rows += len(rows)
		}
		for at, to := range map[int]*int64{n / 100: &seen.Start, n / 3: &seen.Third, n - 1: &seen.Whole} {
			if second == at {
				if *to, err = resident(); err != nil {
					return err
				}
			}
		}
	}
	if err := o.Close(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}
