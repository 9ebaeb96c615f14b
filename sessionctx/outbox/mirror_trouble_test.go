package outbox

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A mirror that can't write one datasource doesn't hold that one up for ever
// only because it takes the others.
func TestABrokenDirectoryOfAMirrorIsOneDatasources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		first, second, told := &recorder{}, &recorder{}, &countingObserver{}
		o := mustOpen(t, m, Options{SegmentRows: 4})
		setMirrors(t, o, Mirror{Name: "m", Sink: second, Observer: told})
		o.SetSink(first)
		m.failOn(func(op, path string) error {
			if strings.HasPrefix(path, "/q/mirror.m/events_v1") {
				return errors.New("bad sector")
			}
			return nil
		})
		appendRows(t, o, "events_v1", 0, 4)
		for i := range 150 {
			appendRows(t, o, "session_v1", i*4, i*4+4)
			time.Sleep(time.Second)
		}
		seen := first.rowsOf()
		if len(seen) != 604 {
			t.Errorf("the first got %d rows of 604", len(seen))
		}
		if n := len(second.rowsOf()); n != 600 {
			t.Errorf("the mirror got %d rows of 600", n)
		}
		if told.dropped.Load() != 4 {
			t.Errorf("%d rows counted as dropped", told.dropped.Load())
		}
		mustClose(t, o)
	})
}

// full makes the disk hold so many bytes.
func (m *memFS) full(bytes int) {
	m.failOn(func(op, _ string) error {
		if op != "write" && op != "create" && op != "link" {
			return nil
		}
		used := 0
		seen := map[*memNode]bool{}
		for _, n := range m.files {
			if !seen[n] {
				seen[n] = true
				used += len(n.live)
			}
		}
		if used >= bytes {
			return syscall.ENOSPC
		}
		return nil
	})
}

// A disk that is full of what waits for mirrors takes new rows all the same:
// mirrors make room, segments and dead letters, their oldest first.
func TestMirrorsYieldOnAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		out  Outcome
	}{
		{"that are down", Retry(0, errTest)},
		{"that bury everything", DeadLetter(errTest)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				first, told := &recorder{}, &countingObserver{}
				o := mustOpen(t, m, Options{SegmentRows: 10})
				down := &recorder{answer: always(c.out)}
				setMirrors(t, o, Mirror{Name: "m", Sink: down, Observer: told}, Mirror{Name: "n", Sink: down, Observer: told})
				o.SetSink(first)
				m.full(20_000)
				const all = 2000
				for i := 0; i < all; i += 10 {
					appendRows(t, o, "events_v1", i, i+10)
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute)
				first.once(t, "the first", "events_v1", 0, all)
				dropped := int64(0)
				for _, name := range o.MirrorNames() {
					st := o.Mirror(name).Stats()
					dead := int64(st.Datasources["events_v1"].DeadRows)
					if st.Rows+dead+st.Dropped != all || st.Dropped == 0 || st.Rows+dead < 100 {
						t.Errorf("%s: %+v", name, st)
					}
					dropped += st.Dropped
				}
				if dropped != told.dropped.Load() {
					t.Errorf("%d rows dropped, told of %d", dropped, told.dropped.Load())
				}
				mustClose(t, o)
			})
		})
	}
}

// What the first sink still waits for is no room that a mirror could make.
func TestMirrorsKeepWhatTheFirstHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		down := &recorder{answer: always(Retry(0, errTest))}
		o := mirrored(t, m, Options{SegmentRows: 10}, down, down)
		m.full(5_000)
		n := 0
		var err error
		for ; err == nil && n < 1000; n++ {
			err = o.Append(context.Background(), row("events_v1", n))
			time.Sleep(100 * time.Millisecond)
		}
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("after %d rows: %v", n, err)
		}
		if st := o.Mirror("m").Stats(); st.Dropped != 0 || st.Rows == 0 {
			t.Errorf("mirror %+v", st)
		}
		m.failOn(nil)
		mustClose(t, o)
	})
}

// A mirror whose requests take longer than segments take to be sealed does not
// fall behind for good, and the first sink waits a few seconds for that.
func TestASlowMirrorKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &recorder{}
		slow := sinkFunc(func(context.Context, Batch) Outcome {
			time.Sleep(3 * time.Second)
			return Delivered(0, nil)
		})
		o := mirrored(t, newMemFS(), Options{}, first, slow)
		for i := range 6000 { // ten minutes
			appendRows(t, o, "events_v1", i, i+1)
			time.Sleep(100 * time.Millisecond)
		}
		if n := o.Mirror("m").Stats().Datasources["events_v1"].Sealed; n > 10 {
			t.Errorf("%d segments wait for the mirror", n)
		}
		if oldest := o.Stats().Oldest; oldest > 12*time.Second {
			t.Errorf("rows wait %v for the first sink", oldest)
		}
		mustClose(t, o)
	})
}

// What a mirror that gets no new rows has behind it delays none.
func TestADrainedMirrorDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, down := &recorder{}, &recorder{answer: always(Retry(0, errTest))}
		o := mirrored(t, newMemFS(), Options{SegmentRows: 4}, first, down)
		appendRows(t, o, "events_v1", 0, 80)
		time.Sleep(time.Minute)
		setMirrors(t, o, Mirror{Name: "m", Sink: down, DrainOnly: true}, Mirror{Name: "n", Sink: &recorder{}})
		appendRows(t, o, "events_v1", 80, 81)
		time.Sleep(2 * time.Second)
		first.once(t, "the first", "events_v1", 0, 81)
		mustClose(t, o)
	})
}

// No sink has had an invalid row. When it is sent after all, each gets it; rows
// that the first refused go to the first alone.
func TestALetterGoesToThoseThatHaveNotHadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &recorder{}, &recorder{}
		o := mirrored(t, newMemFS(), Options{}, first, second)
		if err := o.AppendInvalid(context.Background(), "why", row("events_v1", 0)); err != nil {
			t.Fatal(err)
		}
		first.script(always(DeadLetter(errTest)))
		appendRows(t, o, "events_v1", 1, 2)
		flush(t, o)
		first.script(nil)
		mark := first.count()
		for _, l := range o.DeadLetters() {
			if err := o.Requeue(l.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		(&recorder{tries: first.all()[mark:]}).once(t, "the first, later", "events_v1", 0, 2)
		second.once(t, "the mirror", "events_v1", 0, 2)
		mustClose(t, o)
	})
}

// A mirror's directory that a power cut would forget holds the first sink up, as
// one that can't be written does: what that one was given is deleted.
func TestADirectoryOfAMirrorThatIsNotDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		first := &recorder{}
		o := mustOpen(t, m, Options{SegmentRows: 4})
		appendRows(t, o, "events_v1", 0, 4) // its own directory is made, and durable
		m.failOn(func(op, path string) error {
			if op == "syncdir" && path == "/q" {
				return errors.New("bad sector")
			}
			return nil
		})
		down := &recorder{answer: always(Retry(0, errors.New("down")))}
		setMirrors(t, o, Mirror{Name: "m", Sink: down})
		o.SetSink(first)
		time.Sleep(10 * time.Second)
		if n := len(first.rowsOf()); n != 0 {
			t.Errorf("the first got %d rows that the mirror may lose", n)
		}
		m.failOn(func(string, string) error { return nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(first.rowsOf()); n != 4 {
			t.Errorf("the first got %d rows of 4", n)
		}
		cut := m.crash(rng(1))
		mustClose(t, o)

		second := &recorder{}
		o = mustOpen(t, cut.kill(), Options{SegmentRows: 4})
		setMirrors(t, o, Mirror{Name: "m", Sink: second})
		o.SetSink(first)
		time.Sleep(10 * time.Second)
		if n := len(second.rowsOf()); n != 4 {
			t.Errorf("after a power cut the mirror got %d rows of 4", n)
		}
		mustClose(t, o)
	})
}
