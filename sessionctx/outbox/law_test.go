package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is what stands outside of the outbox: who was promised what, what the
// sink has, what an operator gave up and what was dropped by his choice.
//
// The law: promised = delivered ∪ dead letters ∪ still on disk, but for what he
// deleted, and for as many rows as drop_oldest says that it dropped.
type world struct {
	NopObserver

	mu        sync.Mutex
	r         *rand.Rand
	promised  map[string]bool
	delivered map[string]int
	givenUp   map[string]bool
	dropped   int               // rows, by drop_oldest
	bodies    map[string]string // batch name → body at its first try
	regrouped []string
	kind      bool // answer well from now on
}

func newWorld(seed uint64) *world {
	return &world{
		r: rng(seed + 1e6), promised: map[string]bool{}, delivered: map[string]int{},
		givenUp: map[string]bool{}, bodies: map[string]string{},
	}
}

func (w *world) promise(rows []Row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rows {
		w.promised[string(r.JSON)] = true
	}
}

// soothe makes the sink answer well from now on.
func (w *world) soothe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kind = true
}

// Dropped counts what drop_oldest took; added rows were promised to nobody.
func (w *world) Dropped(_ string, rows int, reason error) {
	if reason != ErrFull {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped += rows
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

// tidy is an operator at the dead letters: some are sent again, some deleted.
func (w *world) tidy(o *Outbox) {
	for i, l := range o.DeadLetters() {
		text, err := o.ReadDeadLetter(l.ID)
		if err != nil {
			continue // delivered meanwhile, or the disk fails
		}
		if i%2 == 0 {
			_ = o.Requeue(l.ID)
			continue
		}
		w.mu.Lock()
		for _, line := range lines(text) {
			w.givenUp[line] = true
		}
		w.mu.Unlock()
		_ = o.DeleteDeadLetter(l.ID)
	}
}

// check holds the law against what is on disk.
func (w *world) check(t testing.TB, o *Outbox) {
	t.Helper()
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
	for ds := range o.Stats().Datasources {
		rows, err := o.Peek(ds, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			kept[string(r)] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var lost []string
	for row := range w.promised {
		if w.delivered[row] == 0 && !kept[row] && !w.givenUp[row] {
			lost = append(lost, row)
		}
	}
	if len(lost) > w.dropped {
		t.Errorf("%d rows are lost, %d were dropped as configured: %s", len(lost), w.dropped, strings.Join(lost, " "))
	}
	if len(w.regrouped) > 0 {
		t.Errorf("other bytes under the same name: %s", strings.Join(w.regrouped, ", "))
	}
}
