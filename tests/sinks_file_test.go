package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// TestFileSinkOverKills: the process is killed again and again while rows are
// written to files; every acknowledged event is in one, whole, and what is
// there twice is the same row.
func TestFileSinkOverKills(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("\t\tsink file DIR/rows")+landing("10m", "rate_limit 1000000 100000"))
	s := newVisitor(t, c.site, desktop, false).visit("/")
	var mu sync.Mutex
	var acknowledged []string
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			v := newVisitor(t, c.site, desktop, false)
			v.client.Timeout = 10 * time.Second
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				uuid := fmt.Sprintf("%d-%d", worker, n)
				a, err := v.tryCall("POST", "events/track", map[string]any{
					"token": s.Session.Token, "event_id": "a", "event_type": "system", "event_uuid": uuid, "metadata": map[string]any{"uuid": uuid},
				})
				if err != nil || a.status != 200 {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				mu.Lock()
				acknowledged = append(acknowledged, uuid)
				mu.Unlock()
			}
		})
	}
	for range 3 {
		time.Sleep(1300 * time.Millisecond)
		c.kill()
		c.start()
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	if len(acknowledged) < 50 {
		t.Fatalf("only %d events were acknowledged: the test shows nothing", len(acknowledged))
	}
	eventually(t, 60*time.Second, "every acknowledged event is in a file", func() error {
		have := rowsIn(t, c.path("rows"), "events_v1")
		n := 0
		for _, uuid := range acknowledged {
			if !have[`{"uuid":"`+uuid+`"}`] {
				n++
			}
		}
		if n > 0 {
			return fmt.Errorf("%d of %d are missing", n, len(acknowledged))
		}
		return nil
	})
	c.stop() // nothing is being written any more
	for file := range filesOf(t, c.path("rows"), "events_v1") {
		if file != "" && file[len(file)-1] != '\n' {
			t.Errorf("a file ends with half a row: %.80q", file[max(0, len(file)-80):])
		}
	}
}

// filesOf are the contents of a datasource's files.
func filesOf(t *testing.T, dir, datasource string) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, datasource+"*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[string(text)] = true
	}
	return files
}

// fileRows are the rows of a datasource's newest file, each of which fits its
// columns.
func fileRows(dir, datasource string) (rows []map[string]any, err error) {
	set, err := schema.Load()
	if err != nil {
		return nil, err
	}
	ds, _ := set.Datasource(datasource)
	text, err := os.ReadFile(filepath.Join(dir, datasource+".ndjson"))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if err := ds.Check(bytes.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("%s: %w", datasource, err)
		}
		var row map[string]any
		numbers := json.NewDecoder(bytes.NewReader(line))
		numbers.UseNumber()
		if err := numbers.Decode(&row); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// rowsIn are the rows of a datasource by their metadata. A row that is there
// twice has to be the same.
func rowsIn(t *testing.T, dir, datasource string) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	byID := map[string]string{}
	for file := range filesOf(t, dir, datasource) {
		for line := range bytes.Lines([]byte(file)) {
			if line[len(line)-1] != '\n' {
				continue // it is being written
			}
			var row struct {
				ID       string `json:"row_id"`
				Metadata string `json:"metadata"`
			}
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatalf("a row that is none: %v: %.200s", err, line)
			}
			if other, twice := byID[row.ID]; twice && other != string(line) {
				t.Fatalf("one id, two rows:\n%s%s", other, line)
			}
			byID[row.ID] = string(line)
			have[row.Metadata] = true
		}
	}
	return have
}
