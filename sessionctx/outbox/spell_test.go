package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A day of the same trouble is a few lines, each of which says what happened and
// what to do; the end of it is one. The trouble comes with every try or batch.
func TestALongOutageIsAFewLines(t *testing.T) {
	refuseAll := func(m *memFS) {
		m.failOn(func(op, _ string) error {
			if op == "sync" || op == "create" {
				return errTest
			}
			return nil
		})
	}
	for _, tt := range []struct {
		trouble string
		answer  func(Batch) Outcome
		break_  func(*memFS)
		opt     Options
		lines   int    // at most
		says    string // each line of them, but for the last
		ends    bool   // with "works again"
	}{
		{"no answer", always(Retry(0, errors.New("no answer"))), nil, Options{}, 2, "tried again until they are taken", true},
		{"a wrong token", always(Hold(errors.New("token refused: give another"))), nil, Options{}, 2, "until the configuration is mended", true},
		{"answers of 429", always(Throttle(30*time.Second, errors.New("too many requests"))), nil, Options{}, 2, "see to the sink if it lasts", true},
		{"quarantine", always(Delivered(1, errors.New("1 of 1 in quarantine"))), nil, Options{}, 6, "delete the copy", false},
		{"a view that fails", always(DeadLetter(errors.New("in part"))), nil, Options{}, 6, "send them again or delete them", false},
		{"rows that are too large", always(Split(errors.New("too large"))), nil, Options{}, 6, "send them again or delete them", false},
		{"a schema that fits none", always(Blame(errors.New("bad row"))), nil, Options{}, 7, "", true},
		{"a full outbox that drops", always(Retry(0, errors.New("no answer"))), nil, Options{MaxDisk: 4000, SegmentBytes: 500, Overflow: DropOldest}, 8, "", true},
		{"a disk that fails", nil, refuseAll, Options{}, 6, "check the disk", false},
	} {
		t.Run(tt.trouble, func(t *testing.T) {
			log, logs := logged()
			tt.opt.Logger = log
			delivering(t, tt.opt, func(t *testing.T, o *Outbox, r *recorder) {
				r.script(tt.answer)
				if tt.break_ != nil {
					tt.break_(o.fs.(*memFS))
				}
				const step = 20 * time.Second
				for i := range int(24 * time.Hour / step) {
					if err := o.Add(row("events_v1", i)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(step)
				}
				r.script(nil)
				o.fs.(*memFS).failOn(nil)
				time.Sleep(time.Hour)
				if n := o.Stats().Rows; n != 0 {
					t.Errorf("%d rows wait after it", n)
				}
				var lines []string
				for _, e := range logs.All() {
					lines = append(lines, fmt.Sprint(e.Level, " ", e.Message))
				}
				text := strings.Join(lines, "\n")
				if len(lines) == 0 || len(lines) > tt.lines {
					t.Errorf("%d lines:\n%s", len(lines), text)
				}
				last := len(lines)
				if tt.ends {
					if last--; lines[last] != "info delivery works again" {
						t.Errorf("the last of\n%s", text)
					}
				}
				for _, line := range lines[:last] {
					if !strings.Contains(line, tt.says) {
						t.Errorf("does not say %q: %s", tt.says, line)
					}
				}
			})
		})
	}
}

// Each batch that is parked is told once, whatever it does then.
func TestParkedBatchesAreToldOnceEach(t *testing.T) {
	log, logs := logged()
	delivering(t, Options{Logger: log}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(func(b Batch) Outcome {
			if bytes.Contains(b.Body, []byte(`"n":0}`)) {
				return Retry(0, errTest)
			}
			return Delivered(0, nil)
		})
		appendRows(t, o, "events_v1", 0, 1)
		flush(t, o)
		for i := range 3 * 24 * 60 {
			if err := o.Append(context.Background(), row("events_v1", 1+i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := logs.FilterMessageSnippet("parked").Len(); n != 1 {
			t.Errorf("%d lines about it", n)
		}
		if n := logs.Len(); n > 20 {
			t.Errorf("%d lines in three days", n)
		}
	})
}

func TestASpellIsToldAtEachTenfoldAndAnew(t *testing.T) {
	var s spell
	now := time.Unix(1e9, 0)
	told := []int{}
	for i := 1; i <= 2000; i++ {
		now = now.Add(time.Second)
		if s.tell(now) {
			told = append(told, i)
		}
	}
	if fmt.Sprint(told) != "[1 10 100 1000]" {
		t.Errorf("told %v", told)
	}
	if !s.tell(now.Add(spellOver + time.Second)) {
		t.Error("a new spell is not told")
	}
}
