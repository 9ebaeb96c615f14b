package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// buried are the rows of all letters of the kind LetterInvalid.
func buried(t testing.TB, o *Outbox) map[string]bool {
	t.Helper()
	rows := map[string]bool{}
	for _, l := range o.DeadLetters() {
		if l.Kind != LetterInvalid {
			t.Errorf("a letter of kind %s", l.Kind)
			continue
		}
		text, err := o.ReadDeadLetter(l.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(lines(text)); n != l.Rows {
			t.Errorf("letter %s holds %d rows and says %d", l.ID, n, l.Rows)
		}
		for _, line := range lines(text) {
			rows[line] = true
		}
	}
	return rows
}

func TestInvalidRowsBecomeALetterAndAreNeverSent(t *testing.T) {
	counter := &buriedRows{}
	delivering(t, Options{Observer: counter}, func(t *testing.T, o *Outbox, r *recorder) {
		ctx := context.Background()
		if err := o.AppendInvalid(ctx, "column a: want b", row("events_v1", 1), row("events_v1", 2)); err != nil {
			t.Fatal(err)
		}
		if err := o.AddInvalid("another", row("events_v1", 3)); err != nil {
			t.Fatal(err)
		}
		appendRows(t, o, "events_v1", 4, 6)
		if st := o.Stats(); st.Rows != 2 || st.Datasources["events_v1"].DeadRows != 3 {
			t.Errorf("before sealing: %+v", st)
		}
		time.Sleep(3 * time.Second)
		if got := r.all(); len(got) != 1 || got[0].Rows != 2 {
			t.Errorf("sent %+v", got)
		}
		list := o.DeadLetters()
		if len(list) != 1 || list[0].Rows != 3 || list[0].Kind != LetterInvalid || list[0].Reason != "column a: want b" || list[0].Datasource != "events_v1" {
			t.Fatalf("letters %+v", list)
		}
		if counter.n != 3 {
			t.Errorf("observed %d", counter.n)
		}
		if st := o.Stats(); st.Datasources["events_v1"].DeadRows != 3 || st.Bytes != list[0].Bytes {
			t.Errorf("stats %+v, letter %+v", st, list[0])
		}
		if err := o.Requeue(list[0].ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.all(); len(got) != 2 || got[1].Rows != 3 || o.Stats().Bytes != 0 {
			t.Errorf("after requeue: %+v, %+v", got, o.Stats())
		}
	})
}

type buriedRows struct {
	NopObserver
	mu sync.Mutex
	n  int
}

func (b *buriedRows) DeadLettered(_ string, rows int, kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == LetterInvalid {
		b.n += rows
	}
}

// What is no row at all is kept as text.
func TestInvalidRowsMayBeAnyBytes(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, _ *recorder) {
		for _, bytes := range []string{"", "null", "{\"a\":\n1}", "\xff\x00", "{", "[1]", "{}"} {
			if err := o.AppendInvalid(context.Background(), "", Row{"events_v1", []byte(bytes)}); err != nil {
				t.Fatalf("%q: %v", bytes, err)
			}
		}
		flush(t, o)
		rows := buried(t, o)
		for _, want := range []string{`{"text":""}`, `{"text":"null"}`, `{"text":"{\"a\":\n1}"}`, `{"base64":"/wA="}`, `{"text":"{"}`, `{"text":"[1]"}`, `{}`} {
			if !rows[want] {
				t.Errorf("no %s among %v", want, rows)
			}
		}
		for text := range rows {
			if !json.Valid([]byte(text)) {
				t.Errorf("%s is not JSON", text)
			}
		}
		if err := o.AppendInvalid(context.Background(), "x", Row{"../x", []byte("{}")}); !errors.Is(err, ErrRow) {
			t.Errorf("a datasource that is no name: %v", err)
		}
	})
}

// A power cut at any time loses no invalid row that was acknowledged, and sends
// none.
func TestInvalidRowsOutliveAPowerCut(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rng(seed)
				m := newMemFS()
				acknowledged := map[string]bool{}
				sink := &recorder{}
				next := 0
				for range 4 {
					o := mustOpen(t, m, Options{SegmentRows: 5})
					o.SetSink(sink)
					for range 1 + r.IntN(12) {
						bad := row("events_v1", next)
						next++
						if err := o.AppendInvalid(context.Background(), "why", bad); err != nil {
							t.Fatal(err)
						}
						acknowledged[string(bad.JSON)] = true
						time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
					}
					crashed := m.crash(r)
					mustClose(t, o)
					m = crashed
				}
				o := mustOpen(t, m, Options{})
				o.SetSink(sink)
				time.Sleep(time.Minute)
				got := buried(t, o)
				for text := range acknowledged {
					if !got[text] {
						t.Errorf("%s is lost", text)
					}
				}
				for _, l := range o.DeadLetters() {
					if l.Reason != "why" {
						t.Errorf("reason %q", l.Reason)
					}
				}
				if sink.count() != 0 {
					t.Errorf("sent %+v", sink.all())
				}
				mustClose(t, o)
			})
		})
	}
}

// A fault that hits every row makes no file a second.
func TestManyInvalidRowsMakeFewLetters(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, _ *recorder) {
		const day = 24 * 3600
		for i := range day {
			if err := o.AppendInvalid(context.Background(), "why", row("events_v1", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := len(o.DeadLetters()); n < 10 || n > 600 {
			t.Errorf("%d letters in a day", n)
		}
		flush(t, o)
		if n := len(buried(t, o)); n != day {
			t.Errorf("%d rows", n)
		}
	})
}

func TestInvalidRowsKeepToMaxDisk(t *testing.T) {
	delivering(t, Options{MaxDisk: 40_000, SegmentBytes: 2000}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Retry(0, errTest)))
		var err error
		n := 0
		for ; n < 5000 && err == nil; n++ {
			err = o.AppendInvalid(context.Background(), "why", row("events_v1", n))
			time.Sleep(100 * time.Millisecond)
		}
		if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "max_disk") {
			t.Errorf("after %d rows: %v", n, err)
		}
		if st := o.Stats(); st.Bytes > 45_000 || st.Datasources["events_v1"].DeadRows != n-1 {
			t.Errorf("%d rows taken, %+v", n-1, st)
		}
	})
}

// With DropOldest too: they push out others of their kind, and half of the
// disk stays for rows that can be sent.
func TestDeadLettersDropTheirOldest(t *testing.T) {
	for _, invalid := range []bool{true, false} {
		t.Run(fmt.Sprint("invalid rows: ", invalid), func(t *testing.T) {
			delivering(t, Options{MaxDisk: 40_000, SegmentBytes: 2000, Overflow: DropOldest}, func(t *testing.T, o *Outbox, r *recorder) {
				r.script(always(DeadLetter(errTest)))
				for n := range 5000 {
					var err error
					if invalid {
						err = o.AppendInvalid(context.Background(), "why", row("events_v1", n))
					} else {
						err = o.Append(context.Background(), row("events_v1", n))
					}
					if err != nil {
						t.Fatal(n, err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				flush(t, o)
				if st := o.Stats(); st.Bytes > 45_000 || st.Dropped == 0 || st.Rows+int64(st.Datasources["events_v1"].DeadRows)+st.Dropped != 5000 {
					t.Errorf("letters alone: %+v", st)
				}
				r.script(always(Retry(0, errTest)))
				for n := range 1000 {
					appendRows(t, o, "events_v1", n, n+1)
				}
				if d := o.Stats().Datasources["events_v1"]; d.Bytes < 16_000 || d.DeadRows == 0 {
					t.Errorf("rows that wait have %d bytes, %d are dead", d.Bytes, d.DeadRows)
				}
			})
		})
	}
}

// A disk that fails refuses them, and cuts off what it may not have written.
func TestInvalidRowsOnAFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{})
		add := func(n int) error { return o.AppendInvalid(context.Background(), "why", row("events_v1", n)) }
		if err := add(1); err != nil {
			t.Fatal(err)
		}
		m.failOn(func(op, _ string) error {
			if op == "sync" {
				return errTest
			}
			return nil
		})
		if err := add(2); !errors.Is(err, ErrUnavailable) {
			t.Errorf("while syncs fail: %v", err)
		}
		m.failOn(nil)
		if err := add(3); err != nil {
			t.Errorf("after it: %v", err)
		}
		flush(t, o)
		got := buried(t, o)
		if !got[`{"ds":"events_v1","n":1}`] || !got[`{"ds":"events_v1","n":3}`] || got[`{"ds":"events_v1","n":2}`] {
			t.Errorf("kept %v", got)
		}
		mustClose(t, o)
	})
}
