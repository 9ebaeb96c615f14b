package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func mustOpen(t testing.TB, fs fsys, opt Options) *Outbox {
	t.Helper()
	opt.fs = fs
	o, err := Open("/q", opt)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustClose(t testing.TB, o *Outbox) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Fatal("closing:", err)
	}
}

func row(ds string, n int) Row {
	return Row{ds, fmt.Appendf(nil, `{"ds":%q,"n":%d}`, ds, n)}
}

func appendRows(t testing.TB, o *Outbox, ds string, from, to int) {
	t.Helper()
	var rows []Row
	for i := from; i < to; i++ {
		rows = append(rows, row(ds, i))
	}
	if err := o.Append(context.Background(), rows...); err != nil {
		t.Fatal(err)
	}
}

// recorder is a sink that answers as a script says and remembers what it took.
type recorder struct {
	mu     sync.Mutex
	tries  []try
	answer func(Batch) Outcome // nil: everything is delivered
}

type try struct {
	at time.Time
	Batch
}

func (r *recorder) Deliver(_ context.Context, b Batch) Outcome {
	b.Body = bytes.Clone(b.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries = append(r.tries, try{time.Now(), b})
	if r.answer == nil {
		return Delivered(0, nil)
	}
	return r.answer(b)
}

func (r *recorder) script(f func(Batch) Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *recorder) all() []try {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tries)
}

func (r *recorder) count() int { return len(r.all()) }

// logged opens a logger whose lines a test can count.
func logged() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}

func lines(body []byte) []string {
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
}

var errTest = errors.New("test")
