package caddymodule

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestCallsOfOneMomentShareADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deadlines{after: 3 * time.Second}
		start := time.Now()
		first := d.context()
		for _, tt := range []struct {
			at     time.Duration
			shared bool
		}{{0, true}, {sharedFor - 1, true}, {sharedFor, false}} {
			time.Sleep(time.Until(start.Add(tt.at)))
			began := time.Now()
			ctx := d.context()
			if (ctx == first) != tt.shared {
				t.Errorf("after %v the first is shared: %v", tt.at, !tt.shared)
			}
			ends, ok := ctx.Deadline()
			if left := ends.Sub(began); !ok || left < d.after || left > d.after+sharedFor {
				t.Errorf("after %v it ends in %v", tt.at, left)
			}
		}
		time.Sleep(time.Minute) // long idle: what has ended is not given out
		ctx := d.context()
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(d.after + sharedFor)
		synctest.Wait()
		if err := ctx.Err(); err != context.DeadlineExceeded {
			t.Errorf("it has ended with %v", err)
		}
	})
}
