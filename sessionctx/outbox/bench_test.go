package outbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// benchRow is about the size of an event row.
var benchRow = []byte(`{"event_id":"cta_click","pad":"` + string(bytes.Repeat([]byte("x"), 560)) + `"}`)

// BenchmarkAppend64 has 64 producers, each waiting until its row is durable.
// Compare with BenchmarkRaw64Rows: the same rows, 64 in a write and fdatasync,
// which is the most that this disk can give.
func BenchmarkAppend64(b *testing.B) { benchAppend(b, 64) }

func BenchmarkAppend1(b *testing.B) { benchAppend(b, 1) }

func benchAppend(b *testing.B, producers int) {
	commits := new(countCommits)
	o, err := Open(b.TempDir(), Options{Observer: commits})
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	o.SetSink(swallow{})
	b.SetBytes(int64(len(benchRow)))
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range producers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := o.Append(context.Background(), Row{"events_v1", benchRow}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(b.N)/float64(max(1, commits.n.Load())), "rows/commit")
}

func BenchmarkRaw64Rows(b *testing.B) { benchRaw(b, 64) }

func BenchmarkRaw1Row(b *testing.B) { benchRaw(b, 1) }

func benchRaw(b *testing.B, rows int) {
	dir := b.TempDir()
	var record []byte
	record = appendRecord(record, benchRow)
	block := bytes.Repeat(record, rows)
	b.SetBytes(int64(len(benchRow)))
	b.ResetTimer()
	var f *os.File
	for i, written := 0, 0; i < b.N; i, written = i+rows, written+len(block) {
		if f == nil || written > 4<<20 {
			if f != nil {
				f.Close()
			}
			var err error
			if f, err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err != nil {
				b.Fatal(err)
			}
			written = 0
		}
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	f.Close()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

type swallow struct{}

func (swallow) Deliver(context.Context, Batch) Outcome { return Delivered(0, nil) }

type countCommits struct {
	NopObserver
	n atomic.Int64
}

func (c *countCommits) Committed(int, time.Duration) { c.n.Add(1) }
