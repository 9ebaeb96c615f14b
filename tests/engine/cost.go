package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	chdbpurego "github.com/chdb-io/chdb-go/chdb-purego"
)

// Cost is what a query took. Rows and Bytes are exact, the rest is as the
// machine was.
type Cost struct {
	// Rows and Bytes are read from tables, bytes uncompressed; what is read
	// twice counts twice.
	Rows, Bytes uint64
	// CPU is of all threads, Time that of the clock.
	CPU, Time time.Duration
}

// Measure runs a SELECT and tells its cost. settings are ClickHouse's, like
// "max_threads = 2".
func (c *ClickHouse) Measure(sql, settings string) (Cost, error) {
	before, err := c.cpu()
	if err != nil {
		return Cost{}, err
	}
	began := time.Now()
	text, err := c.query(sql + "\nSETTINGS " + settings + " FORMAT JSON")
	took := time.Since(began)
	if err != nil {
		return Cost{}, err
	}
	after, err := c.cpu()
	if err != nil {
		return Cost{}, err
	}
	var result struct {
		Statistics struct {
			Rows  uint64 `json:"rows_read"`
			Bytes uint64 `json:"bytes_read"`
		} `json:"statistics"`
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return Cost{}, fmt.Errorf("decoding a result's statistics: %w", err)
	}
	return Cost{Rows: result.Statistics.Rows, Bytes: result.Statistics.Bytes, CPU: after - before, Time: took}, nil
}

// cpu is what the process's queries and merges have used so far.
func (c *ClickHouse) cpu() (time.Duration, error) {
	used, err := Query[struct{ Microseconds int64 }](c,
		"SELECT sum(value) AS Microseconds FROM system.events WHERE event = 'OSCPUVirtualTimeMicroseconds'")
	if err != nil {
		return 0, fmt.Errorf("reading CPU time: %w", err)
	}
	return time.Duration(used[0].Microseconds) * time.Microsecond, nil
}

// look is how often PeakMemory looks.
const look = 2 * time.Millisecond

// PeakMemory runs a SELECT and tells how much memory it held at most, in bytes.
// It looks from a second connection, and so tells a little less where the most
// was held between the last look and the end.
func (c *ClickHouse) PeakMemory(sql, settings string) (uint64, error) {
	watcher, err := chdbpurego.NewConnectionFromConnString(c.session.Path())
	if err != nil {
		return 0, fmt.Errorf("connecting a second time: %w", err)
	}
	defer watcher.Close()
	var (
		peak uint64
		done = make(chan struct{})
		wait sync.WaitGroup
	)
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(look):
				peak = max(peak, peakOfOthers(watcher))
			}
		}
	})
	err = c.Exec(sql + "\nSETTINGS " + settings + " FORMAT Null")
	close(done)
	wait.Wait()
	return peak, err
}

// peakOfOthers is the most that running queries but this one have held; 0 if
// none runs.
func peakOfOthers(conn chdbpurego.ChdbConn) uint64 {
	result, err := conn.Query(`SELECT max(peak_memory_usage) AS Peak FROM system.processes
		WHERE query_id != queryID() SETTINGS output_format_json_quote_64bit_integers = 0`, "JSONEachRow")
	if err != nil || result == nil {
		return 0
	}
	defer result.Free()
	var row struct{ Peak uint64 }
	if err := json.NewDecoder(strings.NewReader(string(result.Buf()))).Decode(&row); err != nil {
		return 0
	}
	return row.Peak
}
