package outbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var crashes = flag.Int("crashes", 300, "runs of the power cut simulation")

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// world is what stands outside of the outbox: who was promised what, and what
// the sink has.
type world struct {
	mu        sync.Mutex
	r         *rand.Rand
	promised  map[string]bool
	delivered map[string]int
	bodies    map[string]string // batch name → body at its first try
	regrouped []string
	kind      bool // answer well from now on
}

func (w *world) Deliver(_ context.Context, b Batch) Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := b.Datasource + "/" + b.Name
	if first, ok := w.bodies[id]; ok && first != string(b.Body) {
		w.regrouped = append(w.regrouped, fmt.Sprintf("%s:\n%sthen\n%s", id, first, b.Body))
	}
	w.bodies[id] = string(b.Body)
	take := func() {
		for _, l := range lines(b.Body) {
			w.delivered[l]++
		}
	}
	if w.kind {
		take()
		return Delivered(0, nil)
	}
	switch w.r.IntN(10) {
	case 0:
		return Retry(0, errTest)
	case 1:
		take() // written, and the answer lost
		return Retry(0, errTest)
	case 2:
		return Split(errTest)
	case 3:
		return Blame(errTest)
	case 4:
		return DeadLetter(errTest)
	case 5:
		take()
		return Delivered(1, errTest)
	case 6:
		return Throttle(time.Second, errTest)
	}
	take()
	return Delivered(0, nil)
}

// Power cuts at random points, on a disk that also fails now and then: what was
// acknowledged is delivered, or among the dead letters, or still there; and a
// batch that was sent before a cut has the same bytes after it.
func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	runs := *crashes
	if testing.Short() {
		runs = min(runs, 40)
	}
	for seed := range uint64(runs) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { powerCut(t, seed) })
		})
		if !ok {
			return
		}
	}
}

func powerCut(t *testing.T, seed uint64) {
	r := rng(seed)
	w := &world{r: rng(seed + 1e6), promised: map[string]bool{}, delivered: map[string]int{}, bodies: map[string]string{}}
	opt := Options{SegmentRows: 3 + r.IntN(10), SegmentBytes: 4000, After: map[string]string{"events_v1": "session_v1"}, CloseGrace: time.Second}
	m := newMemFS()
	next := 0
	for range 3 { // lives, each ended by a cut
		var cutAt int
		faults := r.IntN(3) == 0
		fr := rng(seed*31 + uint64(next))
		power := true
		cutAt = m.ops + 5 + r.IntN(200)
		m.failOn(func(op, _ string) error {
			if m.ops > cutAt || !power {
				power = false
				return errors.New("no power")
			}
			if faults && fr.IntN(25) == 0 && op != "read" && op != "readdir" {
				return errors.New("bad sector")
			}
			return nil
		})
		opt.fs = m
		o, err := Open("/q", opt)
		if err == nil {
			o.SetSink(w)
			var all sync.WaitGroup
			for range 4 {
				base := next
				next += 1000
				pause := time.Duration(r.IntN(300)) * time.Millisecond
				all.Go(func() {
					for i := range 25 {
						rows := []Row{row("events_v1", base+i)}
						if i%4 == 0 {
							rows = append(rows, row("session_v1", base+i), row("events_v1", base+500+i))
						}
						if o.Append(context.Background(), rows...) == nil {
							w.mu.Lock()
							for _, r := range rows {
								w.promised[string(r.JSON)] = true
							}
							w.mu.Unlock()
						}
						time.Sleep(pause)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Duration(r.IntN(20)) * time.Second)
			synctest.Wait()
		}
		killed := r.IntN(3) == 0
		cut := m
		if !killed {
			cut = m.crash(r)
		}
		if o != nil && err == nil {
			m.failOn(func(string, string) error { return errors.New("no power") })
			o.Close()
		}
		m = cut.kill()
		time.Sleep(time.Millisecond) // names come from the clock, and no start is that fast
	}

	w.mu.Lock()
	w.kind = true
	w.mu.Unlock()
	opt.fs = m
	o, err := Open("/q", opt)
	if err != nil {
		t.Fatal(err)
	}
	o.SetSink(w)
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	kept := map[string]bool{}
	for _, l := range o.DeadLetters() {
		text, err := o.ReadDeadLetter(l.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines(text) {
			kept[line] = true
		}
	}
	if st := o.Stats(); st.Rows != 0 {
		t.Errorf("still there after hours of a kind sink: %+v", st)
	}
	w.mu.Lock()
	lost := 0
	for row := range w.promised {
		if w.delivered[row] == 0 && !kept[row] {
			lost++
			t.Errorf("lost: %s", row)
		}
	}
	if len(w.regrouped) > 0 {
		t.Errorf("other bytes under the same name: %s", strings.Join(w.regrouped, ", "))
	}
	w.mu.Unlock()
	mustClose(t, o)
	for path := range m.files {
		if strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".open") {
			t.Errorf("left over: %s", path)
		}
	}
}

// A power cut at every step of a split leaves either the whole or both halves.
func TestSplitIsAllOrNothing(t *testing.T) {
	finished := false
	for step := 0; !finished; step++ {
		for seed := range uint64(8) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				o := mustOpen(t, m, Options{SegmentRows: 5})
				appendRows(t, o, "events_v1", 0, 5)
				r := &recorder{answer: func(b Batch) Outcome {
					if b.Rows < 5 {
						return Hold(errTest)
					}
					n := 0
					m.failOn(func(op, _ string) error {
						if n++; n > step {
							return errTest
						}
						return nil
					})
					return Split(errTest)
				}}
				o.SetSink(r)
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
				finished = r.count() > 1
				after := m.crash(rng(seed))
				o.Close()

				r = &recorder{}
				o = mustOpen(t, after, Options{})
				defer o.Close()
				o.SetSink(r)
				time.Sleep(time.Minute)
				var got []int
				for _, b := range r.all() {
					got = append(got, b.Rows)
				}
				if s := fmt.Sprint(got); s != "[5]" && s != "[2 3]" {
					t.Errorf("cut at step %d: batches of %s rows", step, s)
				}
			})
			if step > 100 {
				t.Fatal("the split never ends")
			}
		}
	}
}
