package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

const datasource = "events_v1"

// eventRow has about the size of an event.
var eventRow = []byte(`{"event_id":"cta_click","pad":"` + strings.Repeat("x", 560) + `"}`)

// measureInterface compares 64 producers, each of which waits for its row, with
// the disk's own pace at 64 rows a write and sync.
func (b *bench) measureInterface() error {
	var ratios, appended, raw, perRow, device, rawDevice []float64
	for range b.Rounds {
		disk, err := rawWrites(b.fresh("raw"), recordSize*connections, b.Round)
		if err != nil {
			return err
		}
		own, err := appends(b.fresh("interface"), b.Round)
		if err != nil {
			return err
		}
		raw = append(raw, disk.perSecond()*connections)
		appended = append(appended, own.rate)
		ratios = append(ratios, own.rate/(disk.perSecond()*connections))
		perRow = append(perRow, own.fileBytes)
		device = append(device, own.deviceBytes)
		rawDevice = append(rawDevice, disk.device/float64(disk.n*connections))
	}
	ratio, size := rig.Median(ratios), rig.Median(perRow)
	fmt.Printf("**At the interface**, %d producers, rows of %d bytes\n\n| | |\n|---|---|\n", connections, len(eventRow))
	fmt.Printf("| raw, %d rows a write and fdatasync | %s rows/s |\n", connections, rig.Median(raw).Text(0))
	fmt.Printf("| outbox | %s rows/s |\n", rig.Median(appended).Text(0))
	fmt.Printf("| outbox of raw | %s |\n", ratio.Text(2))
	fmt.Printf("| bytes in files a row | %.1f, %.3f of the row |\n", size.Mid, size.Mid/float64(len(eventRow)))
	fmt.Printf("| bytes to the device a row | %s |\n", deviceText(device))
	fmt.Printf("| the same, raw | %s |\n", deviceText(rawDevice))
	b.Bar("rows appended ≥ 0.64 of raw", ratio.Text(2), ratio.Mid >= 0.64)
	b.Bar("bytes in files ≤ 1.05 of the row", fmt.Sprintf("%.3f", size.Mid/float64(len(eventRow))), size.Mid <= 1.05*float64(len(eventRow)))
	return nil
}

func deviceText(v []float64) string {
	if rig.Median(v).High == 0 {
		return "not told by this system"
	}
	return rig.Median(v).Text(0)
}

// appending is a round of an outbox by itself.
type appending struct {
	rate                   float64 // rows a second
	fileBytes, deviceBytes float64 // a row
}

func appends(dir string, d time.Duration) (appending, error) {
	o, err := outbox.Open(dir, outbox.Options{MaxDisk: 1 << 40})
	if err != nil {
		return appending{}, err
	}
	defer o.Close()
	before := deviceWritten(dir)
	var rows atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, connections)
	began := time.Now()
	for range connections {
		all.Go(func() {
			for time.Since(began) < d {
				if err := o.Append(context.Background(), outbox.Row{Datasource: datasource, JSON: eventRow}); err != nil {
					failed <- err
					return
				}
				rows.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return appending{}, err
	default:
	}
	written := deviceWritten(dir) - before
	n := float64(rows.Load())
	size, err := fileBytes(dir)
	return appending{n / took.Seconds(), float64(size) / n, float64(written) / n}, err
}

// fileBytes is what the files of a directory hold.
func fileBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
