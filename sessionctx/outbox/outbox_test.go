package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRowsOutliveTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "outbox")
	o, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	appendRows(t, o, "events_v1", 0, 100)
	appendRows(t, o, "session_v1", 0, 3)
	mustClose(t, o)
	if err := o.Append(context.Background(), row("events_v1", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}

	o, err = Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	st := o.Stats()
	if st.Rows != 103 || st.Datasources["events_v1"].Rows != 100 || st.Datasources["events_v1"].Sealed != 1 {
		t.Fatalf("stats %+v", st)
	}
	rows, err := o.Peek("events_v1", 2)
	if err != nil || len(rows) != 2 || string(rows[1]) != `{"ds":"events_v1","n":99}` {
		t.Errorf("peek: %q, %v", rows, err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	dir := filepath.Join(t.TempDir(), "outbox")
	o, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	appendRows(t, o, "events_v1", 0, 1)
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenerIsRefusedAndNamesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	o, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v", err)
	}
	mustClose(t, o)
	o, err = Open(dir, Options{})
	if err != nil {
		t.Fatal("after close:", err)
	}
	mustClose(t, o)
}

func TestInvalidRowsAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{SegmentBytes: 1000})
	defer o.Close()
	for _, bad := range []Row{
		{"events_v1", nil},
		{"events_v1", []byte(`[1]`)},
		{"events_v1", []byte("{\"a\":\n1}")},
		{"events_v1", []byte(`{"a":"` + strings.Repeat("x", 1000) + `"}`)},
		{"", []byte(`{}`)},
		{"../../etc", []byte(`{}`)},
		{"9lives", []byte(`{}`)},
	} {
		if err := o.Append(context.Background(), row("events_v1", 1), bad); !errors.Is(err, ErrRow) {
			t.Errorf("%.40q: %v", bad, err)
		}
		if err := o.Add(bad); !errors.Is(err, ErrRow) {
			t.Errorf("add %.40q: %v", bad, err)
		}
	}
	if st := o.Stats(); st.Rows != 0 {
		t.Errorf("rows on disk: %+v", st)
	}
}

// A commit is one write and one sync a file, however many wait for it.
func TestGroupCommit(t *testing.T) {
	var syncs, writes atomic.Int64
	m := newMemFS()
	gate := make(chan struct{})
	m.failOn(func(op, path string) error {
		switch op {
		case "sync":
			syncs.Add(1)
		case "write":
			writes.Add(1)
		}
		return nil
	})
	counter := &committed{gate: gate}
	o := mustOpen(t, m, Options{Observer: counter})
	defer o.Close()
	// The first commit's observer holds the committer while 64 gather.
	go o.Append(context.Background(), row("events_v1", 0))
	for o.Stats().Rows == 0 {
		runtime.Gosched()
	}
	before, beforeWrites := syncs.Load(), writes.Load()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			if err := o.Append(context.Background(), row("events_v1", i+1)); err != nil {
				t.Error(err)
			}
		})
	}
	for pending := 0; pending < 64; runtime.Gosched() {
		o.mu.Lock()
		if o.group != nil {
			pending = o.group.rows
		}
		o.mu.Unlock()
	}
	close(gate)
	all.Wait()
	if n, w := syncs.Load()-before, writes.Load()-beforeWrites; n != 1 || w != 1 {
		t.Errorf("64 appends took %d syncs and %d writes", n, w)
	}
	if st := o.Stats(); st.Rows != 65 {
		t.Errorf("%d rows", st.Rows)
	}
}

type committed struct {
	NopObserver
	gate chan struct{}
	rows atomic.Int64
	lost atomic.Int64
}

func (c *committed) Committed(rows int, _ time.Duration) {
	c.rows.Add(int64(rows))
	if c.gate != nil {
		<-c.gate
	}
}

func (c *committed) Dropped(_ string, rows int, _ error) { c.lost.Add(int64(rows)) }

func TestConcurrentAppendsAreAllThere(t *testing.T) {
	dir := t.TempDir()
	o, err := Open(dir, Options{SegmentRows: 50})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range 64 {
		all.Go(func() {
			for i := range 20 {
				ds := []string{"events_v1", "session_v1", "traffic_v1"}[i%3]
				if err := o.Append(context.Background(), row(ds, g*1000+i), row("events_v1", 100_000+g*1000+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustClose(t, o)
	o, err = Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := map[string]bool{}
	for _, ds := range []string{"events_v1", "session_v1", "traffic_v1"} {
		rows, err := o.Peek(ds, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if seen[string(r)] {
				t.Errorf("%s is there twice", r)
			}
			seen[string(r)] = true
		}
	}
	if len(seen) != 64*20*2 {
		t.Errorf("%d rows of %d", len(seen), 64*20*2)
	}
}

func TestAddedRowsGoAfterTheDelayOrWithTheNextCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpen(t, newMemFS(), Options{SegmentAge: time.Hour})
		defer o.Close()
		start := time.Now()
		if err := o.Add(row("traffic_v1", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if n := o.Stats().Rows; n != 0 {
			t.Fatalf("%d rows committed after 99 ms", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := o.Stats().Rows; n != 1 {
			t.Fatalf("%d rows committed after 100 ms", n)
		}
		if err := o.Add(row("traffic_v1", 2)); err != nil {
			t.Fatal(err)
		}
		appendRows(t, o, "events_v1", 0, 1)
		if n := o.Stats().Rows; n != 3 {
			t.Errorf("%d rows after an append", n)
		}
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("append waited until %v", d)
		}
		if err := o.Add(row("traffic_v1", 3)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, o)
		if n := o.Stats().Rows; n != 4 {
			t.Errorf("%d rows after close", n)
		}
	})
}

func TestManyAddedRowsDoNotWaitForTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpen(t, newMemFS(), Options{SegmentAge: time.Hour})
		defer o.Close()
		start := time.Now()
		large := Row{Datasource: "traffic_v1", JSON: []byte(`{"page":"` + strings.Repeat("x", commitEarly/4) + `"}`)}
		for i, want := range []int64{0, 0, 0, 4, 4} {
			if err := o.Add(large); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := o.Stats().Rows; n != want {
				t.Errorf("after %d rows of 64 KiB %d are committed, want %d", i+1, n, want)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func TestSegmentsAreSealedWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		o := mustOpen(t, newMemFS(), Options{SegmentRows: 10, SegmentBytes: 400, SegmentAge: time.Hour})
		defer o.Close()
		appendRows(t, o, "events_v1", 0, 95) // one call, several segments
		o.SetSink(r)
		synctest.Wait()
		rows := 0
		for _, b := range r.all() {
			if b.Rows > 10 || len(b.Body) > 400 {
				t.Errorf("batch of %d rows, %d bytes", b.Rows, len(b.Body))
			}
			rows += b.Rows
		}
		if open := o.Stats().Datasources["events_v1"].Rows; rows+int(open) != 95 {
			t.Errorf("%d delivered and %d open", rows, open)
		}
		appendRows(t, o, "wide_v1", 0, 1)
		for i := range 4 {
			big := Row{"wide_v1", []byte(fmt.Sprintf(`{"n":%d,"x":"%s"}`, i, strings.Repeat("x", 380)))}
			if err := o.Append(context.Background(), big); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, b := range r.all() {
			if len(b.Body) > 400 {
				t.Errorf("batch of %d bytes", len(b.Body))
			}
		}
	})
}

func TestOpenSegmentIsSealedByAgeOnlyWhileNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: func(Batch) Outcome { return Retry(0, errTest) }}
		o := mustOpen(t, newMemFS(), Options{})
		defer o.Close()
		start := time.Now()
		appendRows(t, o, "events_v1", 0, 1)
		o.SetSink(r)
		for r.count() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if age := r.all()[0].at.Sub(start); age < 800*time.Millisecond || age > 1210*time.Millisecond {
			t.Errorf("sealed after %v", age)
		}
		for i := range 50 { // grows, as the first one still waits
			appendRows(t, o, "events_v1", i+1, i+2)
			time.Sleep(100 * time.Millisecond)
		}
		if n := o.Stats().Datasources["events_v1"].Sealed; n != 1 {
			t.Errorf("%d sealed segments wait", n)
		}
		r.script(nil)
		time.Sleep(10 * time.Minute)
		tries := r.all()
		if last := tries[len(tries)-1]; last.Rows != 50 {
			t.Errorf("last batch has %d rows, want the 50 that gathered", last.Rows)
		}
		if st := o.Stats(); st.Rows != 0 || st.Bytes != 0 {
			t.Errorf("left: %+v", st)
		}
	})
}

func TestTornTailIsCut(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{})
	appendRows(t, o, "events_v1", 0, 3)
	mustClose(t, o)
	for path, n := range m.files {
		if strings.HasSuffix(path, ".open") {
			n.live = append(n.live, "0badc0de {\"torn\":"...)
		}
	}
	r := &recorder{}
	o = mustOpen(t, m, Options{})
	defer o.Close()
	if st := o.Stats(); st.Rows != 3 || st.Cut != 17 || st.Damaged != 0 {
		t.Errorf("stats %+v", st)
	}
	o.SetSink(r)
	waitFor(t, func() bool { return r.count() == 1 })
	if got := len(lines(r.all()[0].Body)); got != 3 {
		t.Errorf("%d rows", got)
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestDamagedLineGoesToDeadLettersAndTheRestGoesOn(t *testing.T) {
	for _, kind := range []string{"open", "sealed"} {
		t.Run(kind, func(t *testing.T) {
			m := newMemFS()
			o := mustOpen(t, m, Options{})
			appendRows(t, o, "events_v1", 0, 3)
			if kind == "sealed" {
				if err := o.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			mustClose(t, o)
			for path, n := range m.files {
				if strings.HasSuffix(path, kind) {
					n.live = bytes.Replace(n.live, []byte(`"n":1}`), []byte(`"n":7}`), 1)
				}
			}
			r := &recorder{}
			o = mustOpen(t, m, Options{})
			o.SetSink(r)
			waitFor(t, func() bool { return o.Stats().Rows == 0 })
			tries := r.all()
			if len(tries) != 1 || tries[0].Rows != 2 || bytes.Contains(tries[0].Body, []byte(`7}`)) {
				t.Fatalf("delivered %+v", tries)
			}
			dead := o.DeadLetters()
			if len(dead) != 1 || dead[0].Kind != LetterDamaged || dead[0].Rows != 1 || o.Stats().Damaged != 1 {
				t.Fatalf("dead letters %+v", dead)
			}
			text, err := o.ReadDeadLetter(dead[0].ID)
			if err != nil || !bytes.Contains(text, []byte(`\"n\":7}`)) {
				t.Errorf("letter %s, %v", text, err)
			}
			if err := o.Requeue(dead[0].ID); err == nil {
				t.Error("damaged lines were requeued")
			}
			mustClose(t, o)
			o = mustOpen(t, m, Options{})
			defer o.Close()
			if again := o.DeadLetters(); len(again) != 1 || again[0] != dead[0] {
				if len(again) != 1 || !again[0].At.Equal(dead[0].At) || again[0].Reason != dead[0].Reason {
					t.Errorf("after a restart: %+v", again)
				}
			}
		})
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	for _, file := range []string{"0000000000000042.open", "0000000000000042.7.sealed"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "events_v1", file)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, newerSegment(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, Options{})
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s: %v", file, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		o, err := Open(dir, Options{})
		if err != nil {
			t.Fatal("lock not released after a refusal:", err)
		}
		mustClose(t, o)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"notes.txt", "events_v1/notes.txt", "events_v1/1.2.sealed", "lost+found/x"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	appendRows(t, o, "events_v1", 0, 1)
	mustClose(t, o)
	if data, err := os.ReadFile(filepath.Join(dir, "events_v1", "notes.txt")); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestFullDiskShareRefuses(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{MaxDisk: 10_000, SegmentBytes: 1000, LowPriority: []string{"traffic_v1"}})
	defer o.Close()
	fill := func(ds string) (err error) {
		for i := 0; err == nil; i++ {
			err = o.Append(context.Background(), row(ds, i))
		}
		return err
	}
	if err := fill("traffic_v1"); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if used := o.Stats().Bytes; used > 9000 || used < 8500 {
		t.Errorf("low priority stopped at %d bytes", used)
	}
	if err := o.Append(context.Background(), row("events_v1", 0)); err != nil {
		t.Errorf("events refused at 90 %%: %v", err)
	}
	if err := fill("events_v1"); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if used := o.Stats().Bytes; used > 10_000+200 || used < 9500 {
		t.Errorf("stopped at %d bytes", used)
	}
	if err := o.Add(row("events_v1", 0)); !errors.Is(err, ErrFull) {
		t.Errorf("add: %v", err)
	}
	r := &recorder{}
	o.SetSink(r)
	waitFor(t, func() bool { return o.Stats().Bytes < 5000 })
	if err := o.Append(context.Background(), row("events_v1", 0)); err != nil {
		t.Errorf("after delivery: %v", err)
	}
}

func TestDropOldestMakesRoomAndCounts(t *testing.T) {
	counter := &committed{}
	o := mustOpen(t, newMemFS(), Options{MaxDisk: 10_000, SegmentBytes: 1000, Overflow: DropOldest, LowPriority: []string{"traffic_v1"}, Observer: counter})
	defer o.Close()
	appendRows(t, o, "traffic_v1", 0, 100)
	for i := range 500 {
		appendRows(t, o, "events_v1", i, i+1)
	}
	st := o.Stats()
	if st.Bytes > 10_000+1500 {
		t.Errorf("%d bytes", st.Bytes)
	}
	if st.Rows+st.Dropped != 600 || counter.lost.Load() != st.Dropped {
		t.Errorf("%d rows, %d dropped, %d observed", st.Rows, st.Dropped, counter.lost.Load())
	}
	if n := st.Datasources["traffic_v1"].Sealed; n != 0 {
		t.Errorf("%d low-priority segments outlived others", n)
	}
	rows, err := o.Peek("events_v1", 1)
	if err != nil || string(rows[0]) != `{"ds":"events_v1","n":499}` {
		t.Errorf("newest is %q, %v", rows, err)
	}
}

func TestAppendHeedsItsContext(t *testing.T) {
	m := newMemFS()
	gate := make(chan struct{})
	counter := &committed{gate: gate}
	o := mustOpen(t, m, Options{Observer: counter})
	go o.Append(context.Background(), row("events_v1", 0)) // its observer holds the committer
	waitFor(t, func() bool { return o.Stats().Rows == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := o.Append(ctx, row("events_v1", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	close(gate)
	mustClose(t, o)
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, opt := range []Options{
		{MaxDisk: -1},
		{MaxDisk: 1000},
		{After: map[string]string{"a": "b", "b": "a"}},
		{After: map[string]string{"a": "a"}},
	} {
		if _, err := Open(t.TempDir(), opt); err == nil {
			t.Errorf("%+v was taken", opt)
		}
	}
}

func TestSetLimitsAppliesAtOnce(t *testing.T) {
	o, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	row := Row{Datasource: "events_v1", JSON: []byte(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`)}
	for range 5 {
		if err := o.Append(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.SetLimits(5<<20, Refuse); err != nil {
		t.Fatal(err)
	}
	if err := o.Append(t.Context(), row); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the new limit: %v", err)
	}
	if err := o.SetLimits(1, Refuse); err == nil {
		t.Error("a limit smaller than a segment was taken")
	}
	if err := o.SetLimits(0, Refuse); err != nil {
		t.Fatal(err)
	}
	if err := o.Append(t.Context(), row); err != nil {
		t.Errorf("with the default limit: %v", err)
	}
}
