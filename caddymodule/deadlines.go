package caddymodule

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines are contexts that end some time after they are asked for. Those who
// ask at about the same time share one: timers that hardly ever go off would be
// two of a hundred parts of what an event costs. They carry no values, and don't
// end with a request.
type deadlines struct {
	after  time.Duration // at least; sharedFor longer at most
	latest atomic.Pointer[deadline]
}

// sharedFor is how long a context is given out.
const sharedFor = time.Second

type deadline struct {
	context.Context
	cancel context.CancelFunc // never called: its time ends it
	until  time.Time          // given out
}

var (
	storeDeadlines  = &deadlines{after: storePatience}
	commitDeadlines = &deadlines{after: commitPatience}
)

// context is one that ends after d.after from now on.
func (d *deadlines) context() context.Context {
	now := time.Now() // not wallClock: contexts go by the runtime's
	shared := d.latest.Load()
	if shared != nil && now.Before(shared.until) {
		return shared
	}
	next := &deadline{until: now.Add(sharedFor)}
	next.Context, next.cancel = context.WithTimeout(context.Background(), d.after+sharedFor)
	if d.latest.CompareAndSwap(shared, next) {
		return next
	}
	next.cancel() // somebody else was first
	return d.latest.Load()
}
