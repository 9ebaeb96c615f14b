package outbox

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBlamedBatchIsHalvedDownToTheRow(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		bad := row("events_v1", 613)
		var rows atomic.Int64
		r.script(func(b Batch) Outcome {
			if bytes.Contains(b.Body, bad.JSON) {
				return Blame(errors.New("row 613 is bad"))
			}
			rows.Add(int64(b.Rows))
			return Delivered(0, nil)
		})
		appendRows(t, o, "events_v1", 0, 1000)
		flush(t, o)
		if n := rows.Load(); n != 999 {
			t.Errorf("%d rows delivered", n)
		}
		if n := r.count(); n > 22 {
			t.Errorf("%d requests", n)
		}
		dead := o.DeadLetters()
		if len(dead) != 1 || dead[0].Kind != LetterRefused || dead[0].Rows != 1 || dead[0].Reason != "row 613 is bad" {
			t.Fatalf("dead letters %+v", dead)
		}
		text, err := o.ReadDeadLetter(dead[0].ID)
		if err != nil || string(text) != string(bad.JSON)+"\n" {
			t.Errorf("letter %q, %v", text, err)
		}
		r.script(nil)
		if err := o.Requeue(dead[0].ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b := r.all(); string(b[len(b)-1].Body) != string(bad.JSON)+"\n" || len(o.DeadLetters()) != 0 || o.Stats().Bytes != 0 {
			t.Errorf("after requeue: %+v", o.Stats())
		}
	})
}

// A sink that blames every row has another trouble than rows.
func TestASinkThatBlamesEverythingIsSlowedDown(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Blame(errTest)))
		appendRows(t, o, "events_v1", 0, 500)
		flush(t, o)
		time.Sleep(10 * time.Minute)
		if n := len(o.DeadLetters()); n > blameLimit+12 {
			t.Errorf("%d dead letters in ten minutes", n)
		}
		st := o.Stats().Datasources["events_v1"]
		if st.State != StateHeld || !strings.Contains(st.LastError, "schema") {
			t.Errorf("stats %+v", st)
		}
		r.script(nil)
		time.Sleep(2 * time.Minute)
		if st := o.Stats(); st.Rows != 0 || st.Datasources["events_v1"].State != StateOK {
			t.Errorf("after mending: %+v", st)
		}
	})
}

func TestPartlyWrittenBatchIsNotSentAgain(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(DeadLetter(errors.New("view failed"))))
		appendRows(t, o, "events_v1", 0, 5)
		flush(t, o)
		time.Sleep(time.Hour)
		dead := o.DeadLetters()
		if r.count() != 1 || len(dead) != 1 || dead[0].Rows != 5 || dead[0].Kind != LetterPartial || dead[0].Reason != "view failed" {
			t.Errorf("%d tries, dead %+v", r.count(), dead)
		}
	})
}

func TestQuarantinedRowsLeaveACopy(t *testing.T) {
	counter := &quarantine{}
	delivering(t, Options{Observer: counter}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Delivered(2, errors.New("2 of 5 quarantined"))))
		appendRows(t, o, "events_v1", 0, 5)
		flush(t, o)
		dead := o.DeadLetters()
		if len(dead) != 1 || dead[0].Kind != LetterCopy || dead[0].Rows != 5 || o.Stats().Rows != 0 {
			t.Errorf("dead %+v", dead)
		}
		if counter.rows.Load() != 5 || counter.quarantined.Load() != 2 {
			t.Errorf("observed %d and %d", counter.rows.Load(), counter.quarantined.Load())
		}
	})
}

// What the sink took without saying that it holds it may be nowhere else, so it
// does not yield to new rows; these are refused when nothing fits any more.
func TestUnconfirmedRowsAreKept(t *testing.T) {
	delivering(t, Options{MaxDisk: 20_000, SegmentBytes: 1000}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Delivered(0, errTest)))
		n := 0
		var err error
		for ; err == nil && n < 2000; n++ {
			err = o.Append(context.Background(), row("events_v1", n))
			time.Sleep(time.Second)
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("after %d rows: %v", n, err)
		}
		flush(t, o)
		rows := 0
		for _, l := range o.DeadLetters() {
			if l.Kind != LetterUnconfirmed {
				t.Errorf("letter %+v", l)
			}
			rows += l.Rows
		}
		if rows != n-1 {
			t.Errorf("%d rows are kept of %d", rows, n-1)
		}
	})
}

// A letter whose file was deleted by hand can be deleted from the list.
func TestALetterDeletedByHandIsForgotten(t *testing.T) {
	m := newMemFS()
	synctest.Test(t, func(t *testing.T) {
		o := mustOpen(t, m, Options{})
		o.SetSink(&recorder{answer: always(DeadLetter(errTest))})
		appendRows(t, o, "events_v1", 0, 1)
		flush(t, o)
		for _, path := range m.paths("events_v1", "dead") {
			if err := m.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.DeleteDeadLetter(o.DeadLetters()[0].ID); err != nil {
			t.Error(err)
		}
		if st := o.Stats(); len(o.DeadLetters()) != 0 || st.Bytes != 0 {
			t.Errorf("left: %+v", st)
		}
		mustClose(t, o)
	})
}

type quarantine struct {
	NopObserver
	rows, quarantined atomic.Int64
}

func (q *quarantine) Delivered(_ string, rows, quarantined int) {
	q.rows.Add(int64(rows))
	q.quarantined.Add(int64(quarantined))
}

func TestDeadLettersAgeAndYield(t *testing.T) {
	t.Run("after their time", func(t *testing.T) {
		delivering(t, Options{DeadLetterAge: 48 * time.Hour}, func(t *testing.T, o *Outbox, r *recorder) {
			r.script(always(DeadLetter(errTest)))
			appendRows(t, o, "events_v1", 0, 1)
			flush(t, o)
			time.Sleep(47 * time.Hour)
			if n := len(o.DeadLetters()); n != 1 {
				t.Errorf("%d after 47 h", n)
			}
			time.Sleep(2 * time.Hour)
			if n := len(o.DeadLetters()); n != 0 || o.Stats().Bytes != 0 {
				t.Errorf("%d after 49 h, %d bytes", n, o.Stats().Bytes)
			}
		})
	})
	t.Run("copies yield to new rows, others don't", func(t *testing.T) {
		delivering(t, Options{MaxDisk: 20_000, SegmentBytes: 1000}, func(t *testing.T, o *Outbox, r *recorder) {
			r.script(always(DeadLetter(errTest)))
			appendRows(t, o, "events_v1", 0, 50)
			flush(t, o)
			keep := len(o.DeadLetters())
			r.script(always(Delivered(1, errTest)))
			for i := range 2000 {
				appendRows(t, o, "events_v1", i, i+1)
				time.Sleep(time.Second)
			}
			kinds := map[string]int{}
			for _, l := range o.DeadLetters() {
				kinds[l.Kind]++
			}
			if kinds[LetterPartial] != keep || kinds[LetterCopy] == 0 {
				t.Errorf("kinds %v, want %d partial", kinds, keep)
			}
		})
	})
	t.Run("by hand", func(t *testing.T) {
		delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
			r.script(always(DeadLetter(errTest)))
			appendRows(t, o, "events_v1", 0, 1)
			flush(t, o)
			id := o.DeadLetters()[0].ID
			if err := o.DeleteDeadLetter(id); err != nil {
				t.Fatal(err)
			}
			for _, f := range []func(string) error{o.DeleteDeadLetter, o.Requeue} {
				for _, id := range []string{id, "", "nope/x", "events_v1", "../../etc/passwd"} {
					if err := f(id); !errors.Is(err, ErrNoLetter) {
						t.Errorf("%q: %v", id, err)
					}
				}
			}
			if len(o.DeadLetters()) != 0 || o.Stats().Bytes != 0 {
				t.Error("still there")
			}
		})
	})
}
