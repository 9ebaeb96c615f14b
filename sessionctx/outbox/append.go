package outbox

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// maxBacklog bounds the bytes that wait for a disk that is too slow.
	maxBacklog = 32 << 20

	// commitEarly is how many bytes of added rows are not left to wait any
	// longer: buffers that stay small are used again and again.
	commitEarly = 256 << 10
)

// Append makes rows durable and returns then: all of them when it returns nil.
// On an error none, some or all may be on disk. Rows of several calls share a
// write and a sync. It fails with ErrFull, ErrClosed, ErrUnavailable or ErrRow
// (all wrapped), or with the context's error if that ends first. A call is
// refused as a whole, at the lowest limit among its datasources.
func (o *Outbox) Append(ctx context.Context, rows ...Row) error {
	return o.append(ctx, "", rows)
}

// append is Append, or with a reason AppendInvalid.
func (o *Outbox) append(ctx context.Context, why string, rows []Row) error {
	if len(rows) == 0 {
		return ctx.Err()
	}
	var few [4]*chunk
	chunks := few[:0]
	g, chunks, err := o.take(rows, why, true, chunks)
	if err != nil {
		return err
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the outbox to commit: %w", ctx.Err())
	}
	for _, c := range chunks {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// Add hands rows over without waiting: they go with the next commit, or start
// one after CommitDelay. Nil does not mean durable: a crash before the commit,
// or a failing write, loses them.
func (o *Outbox) Add(rows ...Row) error {
	if len(rows) == 0 {
		return nil
	}
	var few [4]*chunk
	_, _, err := o.take(rows, "", false, few[:0])
	return err
}

// take encodes rows into the group that commits next: all or none. why is not
// empty for invalid rows.
func (o *Outbox) take(rows []Row, why string, wait bool, chunks []*chunk) (*group, []*chunk, error) {
	var size int64
	for i := range rows {
		if err := o.checkRow(&rows[i]); err != nil {
			return nil, nil, err
		}
		size += int64(len(rows[i].JSON)) + recordOverhead
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.admit(rows, size); err != nil {
		return nil, nil, err
	}
	g := o.group
	if g == nil {
		g = &group{done: make(chan struct{}), due: time.Now().Add(o.opt.CommitDelay)}
		o.group = g
		signal(o.wake)
	}
	for i := range rows {
		q := o.queue(rows[i].Datasource)
		if why != "" {
			q = q.invalidRows()
		}
		c := q.pending
		if c == nil {
			c = &chunk{q: q, chunkBuffers: q.takeSpare(), why: why}
			q.pending = c
			g.chunks = append(g.chunks, c)
		}
		c.buf = appendRecord(c.buf, rows[i].JSON)
		c.ends = append(c.ends, len(c.buf))
		if !wait {
			c.added++
		}
		if !slices.Contains(chunks, c) {
			chunks = append(chunks, c)
		}
	}
	g.rows += len(rows)
	o.backlog += size
	if g.size < commitEarly && g.size+size >= commitEarly {
		signal(o.wake)
	}
	g.size += size
	if wait {
		g.waiters++
		if g.waiters == 1 {
			signal(o.wake)
		}
	}
	return g, chunks, nil
}

func (o *Outbox) checkRow(r *Row) error {
	if !validDatasource(r.Datasource) {
		return fmt.Errorf("%w: datasource %q: want letters, digits and underscores", ErrRow, r.Datasource)
	}
	if n := int64(len(r.JSON)); n+1 > o.opt.SegmentBytes {
		return fmt.Errorf("%w for %s: %d bytes, a segment holds %d", ErrRow, r.Datasource, n, o.opt.SegmentBytes)
	}
	return checkLine(*r)
}

// checkLine says whether a row can be a line of a segment.
func checkLine(r Row) error {
	n := len(r.JSON)
	switch {
	case n < 2 || r.JSON[0] != '{' || r.JSON[n-1] != '}':
		return fmt.Errorf("%w for %s: not a JSON object", ErrRow, r.Datasource)
	case bytes.IndexByte(r.JSON, '\n') >= 0:
		return fmt.Errorf("%w for %s: holds a line feed: encode it on one line", ErrRow, r.Datasource)
	}
	return nil
}

// admit decides, under the lock, whether rows may come in.
func (o *Outbox) admit(rows []Row, size int64) error {
	if o.closed {
		return ErrClosed
	}
	if o.backlog > 0 && o.backlog+size > maxBacklog {
		return fmt.Errorf("%w: %d bytes wait for the disk under %s", ErrUnavailable, o.backlog, o.dir)
	}
	if Overflow(o.overflow.Load()) == DropOldest {
		return nil // the committer makes room
	}
	used := o.disk + o.backlog
	limit := o.maxDisk.Load()
	for i := range rows {
		if slices.Contains(o.opt.LowPriority, rows[i].Datasource) {
			limit = o.maxDisk.Load() / 10 * 9
			break
		}
	}
	if used+size > limit {
		signal(o.sweep)
		return fmt.Errorf("%w: %d bytes are used under %s, and such rows are taken up to %d: let deliveries catch up or raise max_disk", ErrFull, used, o.dir, limit)
	}
	return nil
}
