package outbox

import (
	"context"
	"time"
)

// Row is one row for one datasource.
type Row struct {
	Datasource string
	// JSON is one JSON object on one line. It is copied before Append returns.
	JSON []byte
}

// Batch is a sealed segment: what a sink sends in one piece.
type Batch struct {
	Datasource string
	// Name is the segment's, unique within the datasource and the same on
	// every try, after a restart too.
	Name string
	Rows int
	// Body is newline-delimited JSON, uncompressed, the same bytes on every
	// try. A sink must not change it or keep it after Deliver returns.
	Body []byte
}

// Sink is where batches go. Deliver is called for one batch a datasource at a
// time, for several datasources at once, and must return soon after ctx ends.
//
// A sink that is an io.Closer is closed when another has taken its place and
// its last delivery has ended. It lets go of its connections then, no more: the
// one before may come back, and is delivered through again.
type Sink interface {
	Deliver(ctx context.Context, b Batch) Outcome
}

// Verdict is what became of a batch.
type Verdict int

const (
	// VerdictRetry: unknown or not in; send the same bytes again.
	VerdictRetry Verdict = iota
	// VerdictDelivered: the sink has the rows for good.
	VerdictDelivered
	// VerdictThrottle: not in; wait as told, this datasource only.
	VerdictThrottle
	// VerdictSplit: too large for the sink; send it as two halves.
	VerdictSplit
	// VerdictBlame: refused because of a row; halve down to that row.
	VerdictBlame
	// VerdictDeadLetter: must not be sent again.
	VerdictDeadLetter
	// VerdictHold: the configuration is wrong; keep everything, probe.
	VerdictHold
)

// again tells whether the same batch is to be sent again, sooner or later.
func (v Verdict) again() bool {
	return v == VerdictRetry || v == VerdictThrottle || v == VerdictHold
}

// Outcome is a sink's answer. Make one with the functions below.
type Outcome struct {
	Verdict Verdict
	// After is the least wait before the next try (Retry, Throttle).
	After time.Duration
	// Quarantined counts rows that the sink took but set aside (Delivered).
	Quarantined int
	// Reason tells what happened, for logs and dead letters. With Delivered it
	// means: keep a copy among the dead letters. No secrets in it.
	Reason error
}

// Delivered: the rows are in. A reason, if there is one, keeps a copy of the
// batch among the dead letters; quarantined rows should come with one. A reason
// without quarantined rows says that the sink took them, but may not hold them:
// that copy is kept like what no sink has.
func Delivered(quarantined int, keepCopy error) Outcome {
	return Outcome{Verdict: VerdictDelivered, Quarantined: quarantined, Reason: keepCopy}
}

// Retry: nobody knows whether the rows are in, or they are not. The same bytes
// go again after a backoff (1 s doubling to 5 min, full jitter), not before
// after has passed, for ever.
func Retry(after time.Duration, reason error) Outcome {
	return Outcome{Verdict: VerdictRetry, After: after, Reason: reason}
}

// Throttle: the sink wants fewer requests for this datasource.
func Throttle(after time.Duration, reason error) Outcome {
	return Outcome{Verdict: VerdictThrottle, After: after, Reason: reason}
}

// Split: the body is too large. A single row that is too large becomes a dead
// letter; later segments are made smaller.
func Split(reason error) Outcome { return Outcome{Verdict: VerdictSplit, Reason: reason} }

// Blame: the sink took nothing because a row is bad. The batch is halved until
// the row is alone, which becomes a dead letter.
func Blame(reason error) Outcome { return Outcome{Verdict: VerdictBlame, Reason: reason} }

// DeadLetter: sending again would do harm.
func DeadLetter(reason error) Outcome { return Outcome{Verdict: VerdictDeadLetter, Reason: reason} }

// Hold: the configuration is wrong (token, name, host); everything is kept, the
// same batch is a probe each minute and at once after SetSink. The reason
// should tell the remedy.
func Hold(reason error) Outcome { return Outcome{Verdict: VerdictHold, Reason: reason} }

// State is how a datasource's delivery fares.
type State string

// The states of a datasource's delivery.
const (
	StateOK      State = "ok"
	StateFailing State = "failing"
	StateHeld    State = "held"
)
