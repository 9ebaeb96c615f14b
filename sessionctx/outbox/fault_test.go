package outbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// contents are the rows that a start would find.
func contents(t testing.TB, o *Outbox, ds string) map[string]bool {
	t.Helper()
	rows, err := o.Peek(ds, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, r := range rows {
		if set[string(r)] {
			t.Errorf("%s is there twice", r)
		}
		set[string(r)] = true
	}
	return set
}

func TestDiskFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		op   string
		err  error
	}{
		{"disk full at a write", "write", syscall.ENOSPC},
		{"write error", "write", syscall.EIO},
		{"failed fsync", "sync", syscall.EIO},
		{"failed fsync of the directory", "syncdir", syscall.EIO},
		{"no file can be made", "create", syscall.ENOSPC},
		{"no directory can be made", "mkdir", syscall.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemFS()
			counter := &committed{}
			o := mustOpen(t, m, Options{Observer: counter, SegmentRows: 3})
			fault := func(op, _ string) error {
				if op == c.op {
					return c.err
				}
				return nil
			}
			if c.op != "mkdir" {
				appendRows(t, o, "events_v1", 0, 2)
			}
			m.failOn(fault)
			failed := 0
			for i := 100; i < 103; i++ { // the second and third need a new file
				err := o.Append(context.Background(), row("events_v1", i))
				if err != nil && (!errors.Is(err, ErrUnavailable) || !errors.Is(err, c.err)) {
					t.Fatalf("append: %v", err)
				}
				if err != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Fatal("no append noticed")
			}
			m.failOn(nil)
			appendRows(t, o, "events_v1", 10, 12)
			mustClose(t, o)
			o = mustOpen(t, m, Options{})
			defer o.Close()
			got := contents(t, o, "events_v1")
			want := []Row{row("events_v1", 10), row("events_v1", 11)}
			if c.op != "mkdir" {
				want = append(want, row("events_v1", 0), row("events_v1", 1))
			}
			for _, r := range want {
				if !got[string(r.JSON)] {
					t.Errorf("%s is lost; got %v", r.JSON, got)
				}
			}
			if st := o.Stats(); st.Damaged != 0 || st.Cut != 0 {
				t.Errorf("garbage was left: %+v", st)
			}
		})
	}
}

// After a failed fsync the kernel may claim that the next one worked although
// the first one's bytes never reached the disk. Nothing acknowledged may sit
// behind such a hole.
func TestNothingIsAcknowledgedBehindAFailedSync(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{})
	appendRows(t, o, "events_v1", 0, 5)
	once := true
	m.failOn(func(op, _ string) error {
		if op == "sync" && once {
			once = false
			return syscall.EIO
		}
		return nil
	})
	if err := o.Append(context.Background(), row("events_v1", 5)); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	appendRows(t, o, "events_v1", 6, 9)
	after := m.crash(rng(1))
	o.Close()
	o2 := mustOpen(t, after, Options{})
	defer o2.Close()
	got := contents(t, o2, "events_v1")
	for _, i := range []int{0, 1, 2, 3, 4, 6, 7, 8} {
		if r := string(row("events_v1", i).JSON); !got[r] {
			t.Errorf("%s is lost", r)
		}
	}
	if st := o2.Stats(); st.Damaged != 0 {
		t.Errorf("%d damaged", st.Damaged)
	}
}

func TestOneDatasourcesFaultIsNotTheOthers(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{})
	defer o.Close()
	m.failOn(func(op, path string) error {
		if op == "write" && strings.Contains(path, "traffic_v1") {
			return syscall.EIO
		}
		return nil
	})
	if err := o.Append(context.Background(), row("events_v1", 0), row("traffic_v1", 0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("mixed append: %v", err)
	}
	if err := o.Append(context.Background(), row("events_v1", 1)); err != nil {
		t.Errorf("append: %v", err)
	}
}

func TestAddedRowsThatCouldNotBeWrittenAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		counter := &committed{}
		o := mustOpen(t, m, Options{Observer: counter})
		m.failOn(func(op, _ string) error { return syscall.ENOSPC })
		if err := o.Add(row("traffic_v1", 0), row("traffic_v1", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if counter.lost.Load() != 2 || o.Stats().Dropped != 2 {
			t.Errorf("%d lost", counter.lost.Load())
		}
		if err := o.Add(row("traffic_v1", 2)); err != nil {
			t.Fatal(err)
		}
		if err := o.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("close: %v", err)
		}
	})
}

// A disk that is broken for long must not eat files, memory or rows.
func TestLongFaultIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{})
		appendRows(t, o, "events_v1", 0, 3)
		m.failOn(func(op, _ string) error {
			switch op {
			case "sync", "truncate", "rename", "remove":
				return syscall.EIO
			}
			return nil
		})
		for i := range 100 {
			if err := o.Append(context.Background(), row("events_v1", 100+i)); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if n := len(m.files); n > maxRest+1 {
			t.Errorf("%d files", n)
		}
		if n := o.Stats().Rows; n != 3 {
			t.Errorf("%d rows", n)
		}
		m.failOn(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := o.Stats().Datasources["events_v1"].Sealed; n != 1 {
			t.Errorf("%d sealed after the disk came back", n)
		}
		appendRows(t, o, "events_v1", 3, 5)
		mustClose(t, o)
		o = mustOpen(t, m, Options{})
		defer o.Close()
		if got := contents(t, o, "events_v1"); len(got) != 5 {
			t.Errorf("rows: %v", got)
		}
	})
}

// When the disk can't follow an answer, only the disk's part is tried again.
func TestDeliveredBatchIsNotSentAgainForADisksSake(t *testing.T) {
	for _, c := range []struct {
		name string
		out  Outcome
		op   string
		dead int
	}{
		{"delivered, unlink fails", Delivered(0, nil), "remove", 0},
		{"partly written, burial fails", DeadLetter(errTest), "rename", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				r := &recorder{answer: func(Batch) Outcome { return c.out }}
				o := mustOpen(t, m, Options{})
				defer o.Close()
				appendRows(t, o, "events_v1", 0, 3)
				if err := o.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				m.failOn(func(op, _ string) error {
					if op == c.op {
						return syscall.EROFS
					}
					return nil
				})
				o.SetSink(r)
				time.Sleep(20 * time.Minute)
				m.failOn(nil)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if n := r.count(); n != 1 {
					t.Errorf("sent %d times", n)
				}
				if st := o.Stats(); st.Rows != 0 || len(o.DeadLetters()) != c.dead {
					t.Errorf("left %+v, dead %+v", st, o.DeadLetters())
				}
			})
		})
	}
}

func TestUnreadableSegmentDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		r := &recorder{}
		o := mustOpen(t, m, Options{SegmentRows: 5})
		defer o.Close()
		appendRows(t, o, "events_v1", 0, 15)
		var first string
		o.mu.Lock()
		first = o.queues["events_v1"].sealed[0].file
		o.mu.Unlock()
		m.failOn(func(op, path string) error {
			if op == "read" && strings.HasSuffix(path, first) {
				return syscall.EIO
			}
			return nil
		})
		o.SetSink(r)
		time.Sleep(2 * time.Hour)
		if n := r.count(); n != 2 {
			t.Errorf("%d batches passed", n)
		}
		list := o.DeadLetters()
		if len(list) != 1 || list[0].Kind != LetterParked || !strings.Contains(list[0].Reason, first) {
			t.Errorf("parked: %+v", list)
		}
		m.failOn(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.count(); n != 3 || o.Stats().Rows != 0 {
			t.Errorf("%d batches after the disk came back, stats %+v", n, o.Stats())
		}
	})
}

func TestSegmentDeletedByHandIsForgotten(t *testing.T) {
	m := newMemFS()
	counter := &committed{}
	o := mustOpen(t, m, Options{SegmentRows: 2, Observer: counter})
	defer o.Close()
	appendRows(t, o, "events_v1", 0, 4)
	o.mu.Lock()
	gone := o.queues["events_v1"].sealed[0].file
	o.mu.Unlock()
	if err := m.Remove("/q/events_v1/" + gone); err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	o.SetSink(r)
	waitFor(t, func() bool { return o.Stats().Rows == 0 })
	if r.count() != 1 || counter.lost.Load() != 2 || o.Stats().Bytes != 0 {
		t.Errorf("%d sent, %d lost, %+v", r.count(), counter.lost.Load(), o.Stats())
	}
}

// A start on a full disk must still be able to deliver, which is what frees it.
func TestStartOnAFullDisk(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{})
	appendRows(t, o, "events_v1", 0, 3)
	mustClose(t, o)
	for path, n := range m.files {
		if strings.HasSuffix(path, ".open") {
			n.live = append(n.live, "torn"...)
		}
	}
	m.failOn(func(op, _ string) error {
		if op == "write" || op == "create" {
			return syscall.ENOSPC
		}
		return nil
	})
	o = mustOpen(t, m, Options{})
	defer o.Close()
	r := &recorder{}
	o.SetSink(r)
	waitFor(t, func() bool { return o.Stats().Rows == 0 })
	if b := r.all(); len(b) != 1 || b[0].Rows != 3 {
		t.Errorf("batches %+v", b)
	}
}

func TestDirectoryDeletedByHandIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	counter := &committed{}
	o, err := Open(dir, Options{SegmentRows: 2, Observer: counter})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	appendRows(t, o, "events_v1", 0, 3)
	if err := os.RemoveAll(filepath.Join(dir, "events_v1")); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i := range 10 { // rows for a file that has no name are nobody's
		if o.Append(context.Background(), row("events_v1", 10+i)) != nil {
			failed++
		}
	}
	appendRows(t, o, "events_v1", 20, 24)
	got := contents(t, o, "events_v1")
	for i := 20; i < 24; i++ {
		if !got[string(row("events_v1", i).JSON)] {
			t.Errorf("row %d is not there; %d appends failed; got %v", i, failed, got)
		}
	}
	r := &recorder{}
	o.SetSink(r)
	if err := o.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return o.Stats().Rows == 0 })
}

// A disk that fails for a while leaves two segments to be sealed at once. Then
// nothing is open, and nothing is old.
func TestNothingIsOpenAfterTwoWereSealedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{SegmentRows: 2})
		m.failOn(func(op, _ string) error {
			if op == "rename" {
				return syscall.EIO
			}
			return nil
		})
		appendRows(t, o, "events_v1", 0, 4)
		m.failOn(nil)
		time.Sleep(2 * diskRetry)
		r := &recorder{}
		o.SetSink(r)
		time.Sleep(time.Hour)
		if st := o.Stats(); r.count() != 2 || st.Rows != 0 || st.Oldest != 0 {
			t.Errorf("%d batches came, left %+v", r.count(), st)
		}
		mustClose(t, o)
	})
}

// DropOldest makes room on a disk that is smaller than max_disk, too.
func TestDropOldestOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{SegmentRows: 10, Overflow: DropOldest})
		o.SetSink(&recorder{answer: always(Retry(0, errTest))})
		m.full(20_000)
		for i := range 2000 {
			appendRows(t, o, "events_v1", i, i+1)
		}
		st := o.Stats()
		if st.Rows+st.Dropped != 2000 || st.Rows < 300 || st.Dropped == 0 {
			t.Errorf("%+v", st)
		}
		if rows, err := o.Peek("events_v1", 1); err != nil || string(rows[0]) != string(row("events_v1", 1999).JSON) {
			t.Errorf("newest is %q, %v", rows, err)
		}
		m.failOn(nil)
		mustClose(t, o)
	})
}

// A clock that is set back makes nothing younger than it can be.
func TestAgesOfRowsFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{})
		time.Sleep(time.Hour)
		appendRows(t, o, "events_v1", 0, 1)
		flush(t, o)
		mustClose(t, o)
		synctest.Wait()
		sealed := m.paths("events_v1", "sealed")[0]
		future := "/q/events_v1/" + fileName(segmentName(time.Now().Add(time.Hour).UnixMicro()), kindSealed, 1)
		if err := m.Rename(sealed, future); err != nil {
			t.Fatal(err)
		}
		o = mustOpen(t, m, Options{})
		appendRows(t, o, "events_v1", 1, 2)
		st := o.Stats()
		if st.Oldest != 0 || st.Datasources["events_v1"].Oldest != 0 || st.Rows != 2 {
			t.Errorf("%+v", st)
		}
		r := &recorder{}
		o.SetSink(r)
		time.Sleep(time.Minute)
		r.once(t, "the sink", "events_v1", 0, 2)
		mustClose(t, o)
	})
}
