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

// Power cuts at random points, on a disk that also fails now and then, while an
// operator changes the sink and the limits: the law holds (see world), and a
// batch that was sent before a cut has the same bytes after it.
func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	simulate(t, powerCut)
}

// simulate runs a simulation with one seed after another, until one fails.
func simulate(t *testing.T, run func(t *testing.T, seed uint64)) {
	runs := *crashes
	if testing.Short() {
		runs = min(runs, 40)
	}
	for seed := range uint64(runs) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, seed) })
		})
		if !ok {
			return
		}
	}
}

func powerCut(t *testing.T, seed uint64) {
	r := rng(seed)
	w := newWorld(seed)
	opt := Options{
		SegmentRows: 3 + r.IntN(10), SegmentBytes: 4000, CloseGrace: time.Second, Observer: w,
		After: map[string]string{"events_v1": "session_v1"}, LowPriority: []string{"traffic_v1"},
	}
	m := newMemFS()
	next := 0
	for range 3 { // lives, each ended by a cut
		m.failOn(badDay(m, r, seed*31+uint64(next)))
		opt.fs = m
		opt.MaxDisk, opt.Overflow = someLimits(r)
		o, err := Open("/q", opt)
		if err == nil {
			o.SetSink(w)
			live(o, w, r, &next)
		}
		cut := m
		if r.IntN(3) > 0 { // else the process ends, not the machine
			cut = m.crash(r)
		}
		if err == nil {
			m.failOn(func(string, string) error { return errors.New("no power") })
			o.Close()
		}
		m = cut.kill()
		time.Sleep(time.Millisecond) // names come from the clock, and no start is that fast
	}

	w.soothe()
	opt.fs, opt.Overflow, opt.MaxDisk = m, Refuse, 0
	o, err := Open("/q", opt)
	if err != nil {
		t.Fatal(err)
	}
	w.check(t, o)
	o.SetSink(w)
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	if st := o.Stats(); st.Rows != 0 {
		t.Errorf("still there after hours of a kind sink: %+v", st)
	}
	w.check(t, o)
	mustClose(t, o)
	for path := range m.files {
		if strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".open") {
			t.Errorf("left over: %s", path)
		}
	}
}

// badDay is a disk that loses its power at some call, and on some days has bad
// sectors before.
func badDay(m *memFS, r *rand.Rand, seed uint64) func(op, path string) error {
	cutAt := m.ops + 5 + r.IntN(400)
	if r.IntN(4) == 0 { // soon, while the outbox is being opened and made
		cutAt = m.ops + 1 + r.IntN(20)
	}
	faults := r.IntN(3) == 0
	fr := rng(seed)
	power := true
	return func(op, _ string) error {
		if m.ops > cutAt || !power {
			power = false
			return errors.New("no power")
		}
		if faults && fr.IntN(25) == 0 && op != "read" && op != "readdir" {
			return errors.New("bad sector")
		}
		return nil
	}
}

// someLimits are an operator's, now and then too small for what comes.
func someLimits(r *rand.Rand) (maxDisk int64, overflow Overflow) {
	if r.IntN(2) == 0 {
		return 0, Refuse
	}
	return 4000 + r.Int64N(8000), Overflow(r.IntN(2))
}

// live is what happens until the cut: four producers, pages that wait for
// nothing, and an operator who reloads, flushes and looks after dead letters.
func live(o *Outbox, w *world, r *rand.Rand, next *int) {
	var all sync.WaitGroup
	for range 4 {
		base := *next
		*next += 1000
		pause := time.Duration(r.IntN(300)) * time.Millisecond
		all.Go(func() {
			for i := range 25 {
				rows := []Row{row("events_v1", base+i)}
				if i%4 == 0 {
					rows = append(rows, row("session_v1", base+i), row("events_v1", base+500+i))
				}
				if o.Append(context.Background(), rows...) == nil {
					w.promise(rows)
				}
				if i%5 == 0 {
					_ = o.Add(row("traffic_v1", base+i))
				}
				time.Sleep(pause)
			}
		})
	}
	steps := rng(r.Uint64())
	all.Go(func() {
		for range steps.IntN(8) {
			time.Sleep(time.Duration(steps.IntN(2000)) * time.Millisecond)
			switch steps.IntN(6) {
			case 0:
				o.SetSink(nil)
			case 1, 2:
				o.SetSink(w)
			case 3:
				_ = o.SetLimits(someLimits(steps))
			case 4:
				_ = o.Flush(context.Background())
			case 5:
				w.tidy(o)
			}
		}
		o.SetSink(w)
	})
	all.Wait()
	time.Sleep(time.Duration(r.IntN(20)) * time.Second)
	if r.IntN(4) == 0 {
		time.Sleep(time.Hour)
	}
	synctest.Wait()
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

// A process that ends at any call of its start, and a power cut at any call of
// the next one's: names that nobody has synced yet are not built upon.
func TestStartsThatDoNotEnd(t *testing.T) {
	calls := 0
	for kill := 0; kill <= calls; kill++ {
		for cut := 0; cut <= calls; cut++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				w.soothe()
				opt := Options{SegmentRows: 4, SegmentBytes: 4000, Observer: w}
				m := usedDisk(t, w, opt)
				start := func(last int) {
					first := m.count()
					power := true
					m.failOn(func(string, string) error {
						if m.ops-first > last || !power {
							power = false
							return errTest
						}
						return nil
					})
					opt.fs = m
					o, err := Open("/q", opt)
					if err != nil {
						calls = max(calls, m.count()-first)
						return
					}
					rows := []Row{row("traffic_v1", last), row("events_v1", 100+last)}
					if o.Append(context.Background(), rows...) == nil {
						w.promise(rows)
					}
					calls = max(calls, m.count()-first)
					m.failOn(func(string, string) error { return errTest })
					o.Close()
				}
				start(kill)
				m.kill()
				time.Sleep(time.Millisecond)
				start(cut)
				m = m.crash(rng(uint64(kill*1000 + cut)))
				time.Sleep(time.Millisecond)
				opt.fs = m
				o, err := Open("/q", opt)
				if err != nil {
					t.Fatal(err)
				}
				defer o.Close()
				w.check(t, o)
			})
			if t.Failed() {
				t.Fatalf("killed at call %d, power cut at call %d of %d", kill, cut, calls)
			}
		}
	}
}
