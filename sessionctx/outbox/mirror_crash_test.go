package outbox

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Power cuts with a mirror: for each sink, what was acknowledged is delivered,
// or among its dead letters, or still there, and a batch keeps its bytes. Where
// the disk is full now and then, the mirror may drop rows, which it counts.
func TestPowerCutsLoseNothingOfAMirror(t *testing.T) {
	simulate(t, mirroredPowerCut)
}

func mirroredPowerCut(t *testing.T, seed uint64) {
	r := rng(seed)
	first, second := newWorld(seed+1e6), newWorld(seed+2e6)
	told := &countingObserver{}
	mirrors := []Mirror{{Name: "m", Sink: second, Observer: told}}
	opt := Options{SegmentRows: 3 + r.IntN(10), SegmentBytes: 4000, After: map[string]string{"events_v1": "session_v1"}, CloseGrace: time.Second}
	m := newMemFS()
	next := 0
	for range 3 { // lives, each ended by a cut
		fault := errors.New("bad sector")
		if seed%4 == 0 {
			fault = syscall.ENOSPC
		}
		failUntilCut(m, r, seed*31+uint64(next), fault)
		opt.fs = m
		o, err := Open("/q", opt)
		if err == nil {
			if err := o.SetMirrors(mirrors); err != nil {
				t.Fatal(err)
			}
			o.SetSink(first)
			next = produce(o, first, r, next)
			time.Sleep(time.Duration(r.IntN(20)) * time.Second)
			synctest.Wait()
		}
		cut := m
		if r.IntN(3) > 0 {
			cut = m.crash(r)
		}
		if err == nil {
			m.failOn(func(string, string) error { return errors.New("no power") })
			o.Close()
		}
		m = cut.kill()
		time.Sleep(time.Millisecond) // names come from the clock, and no start is that fast
	}
	first.soothe()
	second.soothe()
	opt.fs = m
	o, err := Open("/q", opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.SetMirrors(mirrors); err != nil {
		t.Fatal(err)
	}
	o.SetSink(first)
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	second.promised = maps.Clone(first.promised)
	second.dropped = int(told.dropped.Load())
	first.check(t, o)
	second.check(t, o.Mirror("m"))
	if left := o.Stats().Rows + o.Mirror("m").Stats().Rows; left != 0 {
		t.Errorf("%d rows still wait", left)
	}
	if n := told.dropped.Load(); n != 0 && seed%4 != 0 {
		t.Errorf("%d rows were dropped", n)
	}
	mustClose(t, o)
	for path := range m.files {
		if strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".open") {
			t.Errorf("left over: %s", path)
		}
	}
}

// failUntilCut lets the power go after some operations, and some of them fail
// before that in one run of three.
func failUntilCut(m *memFS, r *rand.Rand, seed uint64, fault error) {
	faults := r.IntN(3) == 0
	fr := rng(seed)
	power := true
	cutAt := m.ops + 5 + r.IntN(300)
	m.failOn(func(op, _ string) error {
		if m.ops > cutAt || !power {
			power = false
			return errors.New("no power")
		}
		if faults && fr.IntN(25) == 0 && op != "read" && op != "readdir" {
			return fault
		}
		return nil
	})
}

// produce appends rows from several goroutines and notes which were promised.
func produce(o *Outbox, w *world, r *rand.Rand, next int) int {
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
					w.promise(rows)
				}
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	return next
}
