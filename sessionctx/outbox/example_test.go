package outbox_test

import (
	"context"
	"fmt"
	"os"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

type printer struct{ done chan struct{} }

func (p printer) Deliver(_ context.Context, b outbox.Batch) outbox.Outcome {
	fmt.Printf("%d rows for %s\n%s", b.Rows, b.Datasource, b.Body)
	close(p.done)
	return outbox.Delivered(0, nil)
}

func Example() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	o, err := outbox.Open(dir, outbox.Options{LowPriority: []string{"traffic_v1"}})
	if err != nil {
		panic(err)
	}
	defer o.Close()
	ctx := context.Background()

	// On disk when Append returns.
	err = o.Append(ctx, outbox.Row{Datasource: "events_v1", JSON: []byte(`{"event_id":"signup"}`)})
	if err != nil {
		panic(err)
	}

	p := printer{make(chan struct{})}
	o.SetSink(p)
	if err := o.Flush(ctx); err != nil { // else it goes a second later
		panic(err)
	}
	<-p.done
	// Output:
	// 1 rows for events_v1
	// {"event_id":"signup"}
}
