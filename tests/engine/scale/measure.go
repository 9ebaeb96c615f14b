package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
)

// settings are those of every query that is measured: two threads, a limit far
// below what the machine has, and none of the engine's memory of what an
// earlier query found, which would make every run but the first look cheap.
const settings = "max_threads = 2, max_memory_usage = 6000000000, use_query_condition_cache = 0"

// figure is what a query costs.
type figure struct {
	engine.Cost
	memory uint64
	// counted: only what was read was looked at.
	counted bool
}

// countOnly is how often to measure where rows and bytes are enough.
const countOnly = -1

// measure asks once to warm up, then so many times, of which CPU and time are
// the medians, and once more to see the memory.
func measure(c *engine.ClickHouse, sql string, times int) (figure, error) {
	var f figure
	if times == countOnly {
		cost, err := c.Measure(sql, settings)
		return figure{Cost: cost, counted: true}, err
	}
	var cpu, took []time.Duration
	for i := range times + 1 {
		cost, err := c.Measure(sql, settings)
		if err != nil {
			return f, err
		}
		if i == 0 && times > 0 {
			continue
		}
		f.Cost = cost
		cpu, took = append(cpu, cost.CPU), append(took, cost.Time)
	}
	f.CPU, f.Time = median(cpu), median(took)
	var err error
	f.memory, err = c.PeakMemory(sql, settings)
	return f, err
}

func median[T cmp.Ordered](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// cells are a figure's cells of a table.
func (f figure) cells() string {
	read := thousands(f.Rows) + " | " + megabytes(f.Bytes)
	if f.counted {
		return read + " | – | – | –"
	}
	return read + fmt.Sprintf(" | %s | %s | %s", megabytes(f.memory), milliseconds(f.CPU), milliseconds(f.Time))
}

const cellNames = "rows read | MB read | MB held | CPU ms | ms"

func megabytes(n uint64) string {
	if n < 10e6 {
		return fmt.Sprintf("%.1f", float64(n)/1e6)
	}
	return thousands(uint64(float64(n)/1e6 + 0.5))
}

func milliseconds(d time.Duration) string { return thousands(uint64(d.Milliseconds())) }

// thousands writes a number with a comma between its thousands.
func thousands(n uint64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
