package outbox

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// Stats is what the outbox holds at a moment.
type Stats struct {
	Rows    int64         `json:"rows"`       // on disk, not delivered
	Bytes   int64         `json:"bytes"`      // of segments and dead letters
	MaxDisk int64         `json:"max_disk"`   // bytes
	Oldest  time.Duration `json:"oldest_age"` // age of the oldest row that waits
	Damaged int64         `json:"damaged"`    // lines with a wrong checksum met since Open
	Cut     int64         `json:"cut_bytes"`  // torn tails cut at Open
	Dropped int64         `json:"dropped"`    // rows lost since Open, see Observer.Dropped

	Datasources map[string]DatasourceStats `json:"datasources"`
}

// DatasourceStats is a datasource's share.
type DatasourceStats struct {
	Rows        int64         `json:"rows"`
	Bytes       int64         `json:"bytes"` // of segments
	Oldest      time.Duration `json:"oldest_age"`
	Sealed      int           `json:"sealed"` // segments
	Parked      int           `json:"parked"` // segments among them
	DeadLetters int           `json:"dead_letters"`
	DeadRows    int           `json:"dead_rows"` // rows, or damaged lines
	State       State         `json:"state"`
	LastError   string        `json:"last_error,omitempty"` // while not ok
}

// Dir is the outbox's directory.
func (o *Outbox) Dir() string { return o.dir }

// Stats tells what is waiting. It reads no file.
func (o *Outbox) Stats() Stats {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	st := Stats{
		Bytes: o.disk, MaxDisk: o.maxDisk.Load(),
		Damaged: o.damaged, Cut: o.cut, Dropped: o.dropped,
		Datasources: make(map[string]DatasourceStats, len(o.queues)),
	}
	for _, q := range o.queues {
		d := DatasourceStats{
			Rows: int64(q.openRows), Bytes: q.openSize,
			Sealed: len(q.sealed), DeadLetters: len(q.dead), State: q.delivery.state,
		}
		if d.State != StateOK {
			d.LastError = errorText(q.delivery.lastError)
		}
		if !q.openBorn.IsZero() {
			d.Oldest = max(0, now.Sub(q.openBorn)) // a clock may be set back
		}
		for _, s := range q.sealed {
			d.Rows += int64(s.rows)
			d.Bytes += s.size
			d.Oldest = max(d.Oldest, now.Sub(bornAt(s.name)))
			if s.parked {
				d.Parked++
			}
		}
		for _, l := range q.dead {
			d.DeadRows += l.rows
		}
		if q.invalid != nil {
			d.DeadRows += q.invalid.openRows // a letter to be
		}
		st.Rows += d.Rows
		st.Oldest = max(st.Oldest, d.Oldest)
		st.Datasources[q.name] = d
	}
	return st
}

// Peek returns the newest n rows of a datasource that are still on disk, oldest
// of them first. For an operator's eye: it reads whole segments.
func (o *Outbox) Peek(datasource string, n int) ([][]byte, error) {
	o.mu.Lock()
	q := o.queues[datasource]
	o.mu.Unlock()
	if q == nil || n <= 0 {
		return nil, nil
	}
	entries, err := o.fs.ReadDir(q.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if _, kind, _, ok := parseFileName(e.name); ok && (kind == kindOpen || kind == kindSealed) {
			files = append(files, e.name)
		}
	}
	slices.Sort(files)
	var rows [][]byte
	for i := len(files) - 1; i >= 0 && len(rows) < n; i-- {
		data, err := o.fs.ReadFile(filepath.Join(q.dir, files[i]), -1, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue // delivered meanwhile
		}
		if err != nil {
			return nil, err
		}
		found, err := scanSegment(data)
		if err != nil {
			return nil, err
		}
		part := found.rows[max(0, len(found.rows)-(n-len(rows))):]
		for j := range part {
			part[j] = bytes.Clone(part[j])
		}
		rows = append(slices.Clone(part), rows...)
	}
	return rows, nil
}
