package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// recordSize is a row with its checksum and line feed, as the outbox writes it.
var recordSize = len(eventRow) + 10

// rawSamples is how long each write and sync took.
type rawSamples struct {
	n      int
	took   time.Duration
	each   []time.Duration
	device float64 // bytes that went to the device, 0 if not known
}

func (r rawSamples) perSecond() float64 { return float64(r.n) / r.took.Seconds() }

// rawWrites writes and syncs blocks of a size, one after the other, in files
// that grow to 4 MiB, as the outbox's do.
func rawWrites(dir string, size int, d time.Duration) (r rawSamples, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	block := bytes.Repeat([]byte("x"), size)
	before := deviceWritten(dir)
	var f *os.File
	defer func() { f.Close() }()
	began := time.Now()
	for written := 0; time.Since(began) < d; written += size {
		start := time.Now()
		if f == nil || written > 4<<20 {
			f.Close()
			if f, err = os.Create(filepath.Join(dir, strconv.Itoa(r.n))); err != nil {
				return r, err
			}
			written = 0
		}
		if _, err := f.Write(block); err != nil {
			return r, err
		}
		if err := syncData(f); err != nil {
			return r, err
		}
		r.each = append(r.each, time.Since(start))
		r.n++
	}
	r.took = time.Since(began)
	r.device = float64(deviceWritten(dir) - before)
	return r, nil
}

// quantile is the share q of sorted durations, in milliseconds.
func quantile(list []time.Duration, q float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return float64(list[min(len(list)-1, int(q*float64(len(list))))]) / 1e6
}
