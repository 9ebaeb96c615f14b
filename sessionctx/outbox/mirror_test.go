package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// mirrored opens an outbox with a mirror.
func mirrored(t testing.TB, fs fsys, opt Options, first, second Sink) *Outbox {
	t.Helper()
	o := mustOpen(t, fs, opt)
	setMirrors(t, o, Mirror{Name: "m", Sink: second})
	o.SetSink(first)
	return o
}

func setMirrors(t testing.TB, o *Outbox, list ...Mirror) {
	t.Helper()
	if err := o.SetMirrors(list); err != nil {
		t.Fatal(err)
	}
}

// rowsOf counts how often each row was sent.
func (r *recorder) rowsOf() map[string]int {
	seen := map[string]int{}
	for _, b := range r.all() {
		for _, l := range lines(b.Body) {
			seen[l]++
		}
	}
	return seen
}

// once checks that rows from…to came once each and no other did.
func (r *recorder) once(t testing.TB, who string, ds string, from, to int) {
	t.Helper()
	seen := r.rowsOf()
	for i := from; i < to; i++ {
		if l := string(row(ds, i).JSON); seen[l] != 1 {
			t.Errorf("%s got %s %d times", who, l, seen[l])
		}
	}
	if len(seen) != to-from {
		t.Errorf("%s got %d rows, want %d", who, len(seen), to-from)
	}
}

func TestEachSinkHasItsOwnProgress(t *testing.T) {
	for _, failing := range []string{"first", "mirror"} {
		t.Run(failing+" fails", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				bad, good := &recorder{answer: func(Batch) Outcome { return Retry(0, errTest) }}, &recorder{}
				first, second := Sink(bad), Sink(good)
				if failing == "mirror" {
					first, second = good, bad
				}
				o := mirrored(t, m, Options{SegmentRows: 4}, first, second)
				appendRows(t, o, "events_v1", 0, 21)
				time.Sleep(time.Minute)
				good.once(t, "the one that works", "events_v1", 0, 21)
				if bad.count() < 3 {
					t.Errorf("the one that fails was tried %d times", bad.count())
				}
				bad.script(nil)
				mark := bad.count()
				time.Sleep(10 * time.Minute)
				(&recorder{tries: bad.all()[mark:]}).once(t, "the other, later", "events_v1", 0, 21)
				if n := o.Stats().Rows + o.Mirror("m").Stats().Rows; n != 0 {
					t.Errorf("%d rows are left", n)
				}
				mustClose(t, o)
			})
		})
	}
}

// What a mirror has had is not handed over again by a start, though it still
// waits for the first sink; bytes are the same.
func TestAStartHandsNothingOverTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		down := &recorder{answer: func(Batch) Outcome { return Retry(0, errTest) }}
		second := &recorder{}
		o := mirrored(t, m, Options{SegmentRows: 4}, down, second)
		appendRows(t, o, "events_v1", 0, 10)
		time.Sleep(time.Minute)
		mustClose(t, o)
		first := &recorder{}
		o = mirrored(t, m, Options{SegmentRows: 4}, first, second)
		appendRows(t, o, "events_v1", 10, 20)
		time.Sleep(time.Minute)
		second.once(t, "the mirror", "events_v1", 0, 20)
		first.once(t, "the first", "events_v1", 0, 20)
		bodies := map[string]string{}
		for _, b := range second.all() {
			bodies[b.Name] = string(b.Body)
		}
		for _, b := range append(first.all(), down.all()...) {
			if bodies[b.Name] != string(b.Body) {
				t.Errorf("batch %s differs between the sinks", b.Name)
			}
		}
		mustClose(t, o)
	})
}

// A clock that is set back while nothing waits makes no names that look as if
// they had been handed over.
func TestMarksOutliveAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		second := &recorder{}
		o := mirrored(t, m, Options{}, &recorder{}, second)
		appendRows(t, o, "events_v1", 0, 1)
		time.Sleep(time.Minute)
		mustClose(t, o)
		later := time.Now().Add(time.Hour).UnixMicro()
		if err := m.Remove("/q/mirror.m/marks"); err != nil {
			t.Fatal(err)
		}
		f, err := m.Create("/q/mirror.m/marks")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f.(*memFile), `{"events_v1":%d}`, later)
		o = mirrored(t, m, Options{}, &recorder{}, second)
		appendRows(t, o, "events_v1", 1, 2)
		time.Sleep(time.Minute)
		second.once(t, "the mirror", "events_v1", 0, 2)
		mustClose(t, o)
	})
}

func TestHalvesBelongToOneSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		first := &recorder{answer: func(b Batch) Outcome {
			if b.Rows > 2 {
				return Split(errTest)
			}
			return Delivered(0, nil)
		}}
		second := &recorder{}
		o := mirrored(t, m, Options{SegmentRows: 8}, first, second)
		appendRows(t, o, "events_v1", 0, 8)
		time.Sleep(time.Minute)
		if n := second.count(); n != 1 {
			t.Errorf("the mirror got %d batches", n)
		}
		second.once(t, "the mirror", "events_v1", 0, 8)
		if o.Stats().Rows != 0 {
			t.Errorf("left: %+v", o.Stats())
		}
		mustClose(t, o)
	})
}

// A mirror that takes nothing fills its own share and then drops its oldest;
// the first sink and the producers notice nothing.
func TestAFullMirrorDropsItsOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		first := &recorder{}
		second := &recorder{answer: func(Batch) Outcome { return Hold(errTest) }}
		told := &countingObserver{}
		o := mustOpen(t, m, Options{MaxDisk: 4000, SegmentBytes: 1000, SegmentRows: 10})
		setMirrors(t, o, Mirror{Name: "m", Sink: second, Observer: told})
		o.SetSink(first)
		for i := range 30 {
			appendRows(t, o, "events_v1", i*10, i*10+10)
			time.Sleep(time.Second)
		}
		first.once(t, "the first", "events_v1", 0, 300)
		st := o.Mirror("m").Stats()
		if st.Bytes > 4000 || st.Rows == 0 || st.Rows+st.Dropped != 300 || told.dropped.Load() != st.Dropped {
			t.Errorf("mirror %+v, told of %d", st, told.dropped.Load())
		}
		rows, err := o.Mirror("m").Peek("events_v1", 1)
		if err != nil || len(rows) != 1 || string(rows[0]) != string(row("events_v1", 299).JSON) {
			t.Errorf("newest row in the mirror: %q, %v", rows, err)
		}
		mustClose(t, o)
	})
}

type countingObserver struct {
	NopObserver
	dropped atomic.Int64
}

func (c *countingObserver) Dropped(_ string, rows int, _ error) { c.dropped.Add(int64(rows)) }

// Where names can't be linked, files are copied.
func TestFileSystemsWithoutLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		m.failOn(func(op, _ string) error {
			if op == "link" {
				return syscall.EPERM
			}
			return nil
		})
		first, second := &recorder{}, &recorder{}
		o := mirrored(t, m, Options{SegmentRows: 4}, first, second)
		appendRows(t, o, "events_v1", 0, 11)
		time.Sleep(time.Minute)
		first.once(t, "the first", "events_v1", 0, 11)
		second.once(t, "the mirror", "events_v1", 0, 11)
		mustClose(t, o)
	})
}

// A mirror whose directory can't be written holds the first sink up for a
// minute, once; what it misses is counted, and it goes on when it can.
func TestABrokenMirrorIsNotWaitedForForEver(t *testing.T) {
	for _, broken := range []string{"open", "link"} {
		t.Run(broken, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				trouble := func(op, path string) error {
					if strings.HasPrefix(path, "/q/mirror.m") && (broken == "open" || op == "syncdir") {
						return errors.New("bad sector")
					}
					return nil
				}
				if broken == "open" {
					m.failOn(trouble)
				}
				first, second, told := &recorder{}, &recorder{}, &countingObserver{}
				o := mustOpen(t, m, Options{SegmentRows: 4})
				setMirrors(t, o, Mirror{Name: "m", Sink: second, Observer: told})
				o.SetSink(first)
				time.Sleep(time.Second)
				m.failOn(trouble)
				appendRows(t, o, "events_v1", 0, 4)
				time.Sleep(mirrorPatience / 2)
				if first.count() != 0 {
					t.Error("rows left that the mirror had not got")
				}
				time.Sleep(mirrorPatience)
				first.once(t, "the first", "events_v1", 0, 4)
				if told.dropped.Load() != 4 {
					t.Errorf("%d rows counted as dropped", told.dropped.Load())
				}
				appendRows(t, o, "events_v1", 4, 8)
				time.Sleep(2 * diskRetry)
				first.once(t, "the first", "events_v1", 0, 8)
				m.failOn(nil)
				time.Sleep(5 * time.Second)
				appendRows(t, o, "events_v1", 8, 12)
				time.Sleep(5 * time.Second)
				seen := second.rowsOf()
				for i := 8; i < 12; i++ {
					if seen[string(row("events_v1", i).JSON)] == 0 {
						t.Errorf("the mirror did not get row %d after it was mended", i)
					}
				}
				mustClose(t, o)
			})
		})
	}
}

// A mirror that is named no more keeps its rows; they are told of, and are
// delivered when it is named again, as a mirror or to be drained.
func TestAMirrorLeavesAndComesBack(t *testing.T) {
	for _, drain := range []bool{false, true} {
		t.Run(fmt.Sprint("drained: ", drain), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				log, logs := logged()
				down := &recorder{answer: func(Batch) Outcome { return Retry(0, errTest) }}
				o := mirrored(t, m, Options{SegmentRows: 4, Logger: log}, &recorder{}, down)
				appendRows(t, o, "events_v1", 0, 4)
				time.Sleep(time.Minute)
				setMirrors(t, o)
				time.Sleep(time.Minute)
				appendRows(t, o, "events_v1", 4, 8)
				time.Sleep(time.Minute)
				if n := logs.FilterMessageSnippet("not configured any more").Len(); n != 1 {
					t.Errorf("%d lines tell of the rows that stay", n)
				}
				if st := o.Mirrors(); len(st) != 1 || st[0].InUse || st[0].Name != "m" || st[0].Rows != 4 {
					t.Errorf("status %+v", st)
				}
				mustClose(t, o)

				o = mustOpen(t, m, Options{SegmentRows: 4, Logger: log})
				setMirrors(t, o)
				time.Sleep(time.Second)
				if n := logs.FilterMessageSnippet("not configured any more").Len(); n != 2 {
					t.Errorf("%d lines tell of the rows after a start", n)
				}
				back := &recorder{}
				setMirrors(t, o, Mirror{Name: "m", Sink: back, DrainOnly: drain})
				o.SetSink(&recorder{})
				appendRows(t, o, "events_v1", 8, 12)
				time.Sleep(time.Minute)
				want := 8
				if drain {
					want = 4
				}
				if got := back.rowsOf(); len(got) != want || got[string(row("events_v1", 0).JSON)] != 1 {
					t.Errorf("it got %v", got)
				}
				mustClose(t, o)
			})
		})
	}
}

// A mirror that is new while a batch is on its way gets that batch too: the
// sink that it was on its way to is replaced, and nobody knows whether it came.
func TestANewMirrorGetsWhatIsOnItsWay(t *testing.T) {
	for _, out := range []Outcome{Retry(0, errTest), Delivered(0, nil), Split(errTest), DeadLetter(errTest)} {
		t.Run(fmt.Sprint(out.Verdict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				o := mustOpen(t, m, Options{SegmentRows: 4})
				release := make(chan struct{})
				var once atomic.Bool
				first := &recorder{}
				o.SetSink(sinkFunc(func(ctx context.Context, b Batch) Outcome {
					if once.Swap(true) {
						return first.Deliver(ctx, b)
					}
					<-release
					return out
				}))
				appendRows(t, o, "events_v1", 0, 4)
				time.Sleep(time.Second)
				second := &recorder{}
				setMirrors(t, o, Mirror{Name: "m", Sink: second})
				close(release)
				time.Sleep(time.Hour)
				second.once(t, "the new mirror", "events_v1", 0, 4)
				if o.Stats().Rows != 0 {
					t.Errorf("left: %+v", o.Stats())
				}
				mustClose(t, o)
			})
		})
	}
}

type sinkFunc func(context.Context, Batch) Outcome

func (f sinkFunc) Deliver(ctx context.Context, b Batch) Outcome { return f(ctx, b) }

// Sessions go before the events that follow them to a mirror as well, whose
// segments come when they are sealed.
func TestAMirrorKeepsTheOrderOfDatasources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		second := &recorder{}
		o := mirrored(t, m, Options{SegmentRows: 2, After: map[string]string{"events_v1": "session_v1"}}, &recorder{}, second)
		appendRows(t, o, "session_v1", 0, 1) // stays open for a second
		appendRows(t, o, "events_v1", 0, 2)  // is sealed at once
		time.Sleep(5 * time.Second)
		tries := second.all()
		if len(tries) != 2 || tries[0].Datasource != "session_v1" {
			t.Errorf("%d tries, %v", len(tries), tries)
		}
		mustClose(t, o)
	})
}

// closingSink counts how often it was closed.
type closingSink struct {
	recorder
	closed atomic.Int32
}

func (c *closingSink) Close() error { c.closed.Add(1); return nil }

func TestSinksAreClosedWhenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := &closingSink{}, &closingSink{}, &closingSink{}
		o := mirrored(t, newMemFS(), Options{}, a, b)
		synctest.Wait()
		if err := o.SetLimits(0, Refuse); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.closed.Load()+b.closed.Load() != 0 {
			t.Error("a sink was closed that is in use")
		}
		setMirrors(t, o, Mirror{Name: "m", Sink: c})
		synctest.Wait()
		if a.closed.Load() != 0 || b.closed.Load() != 1 {
			t.Errorf("closed %d and %d times after the mirror's was replaced", a.closed.Load(), b.closed.Load())
		}
		mustClose(t, o)
		if a.closed.Load() != 1 || b.closed.Load() != 1 || c.closed.Load() != 1 {
			t.Errorf("closed %d, %d, %d times at the end", a.closed.Load(), b.closed.Load(), c.closed.Load())
		}
	})
}

func TestBadMirrorsAreRefused(t *testing.T) {
	o := mustOpen(t, newMemFS(), Options{})
	defer o.Close()
	for _, names := range [][]string{{""}, {"a b"}, {"../x"}, {"a.b"}, {"ä"}, {strings.Repeat("a", 65)}, {"a", "a"}} {
		var list []Mirror
		for _, n := range names {
			list = append(list, Mirror{Name: n, Sink: &recorder{}})
		}
		if err := o.SetMirrors(list); err == nil {
			t.Errorf("%q were taken", names)
		}
	}
}
