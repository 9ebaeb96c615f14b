package outbox

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Errors that a caller tells apart with errors.Is. Others that Append returns
// concern the rows themselves (ErrRow) or the caller's context.
var (
	// ErrFull: MaxDisk is reached (90 % of it for LowPriority datasources).
	ErrFull = errors.New("outbox is full")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("outbox is closed")
	// ErrUnavailable wraps what the disk said; a later Append may succeed.
	ErrUnavailable = errors.New("outbox cannot write")
	// ErrLocked: another process, or another Outbox of this one, has the
	// directory open. Worth waiting for during a restart.
	ErrLocked = errors.New("outbox directory is in use")
	// ErrRow: a row is not one JSON object on one line, is larger than a
	// segment, or names a datasource that is not a valid name.
	ErrRow = errors.New("invalid row")
)

// Overflow says what happens when MaxDisk is reached.
type Overflow int

const (
	// Refuse makes Append and Add return ErrFull; nothing acknowledged is lost.
	Refuse Overflow = iota
	// DropOldest deletes the oldest dead letters while these take more than half
	// of MaxDisk, then the oldest sealed segments, those of LowPriority
	// datasources first, and counts them. It breaks the promise for them.
	DropOldest
)

// Options are an operator's choices. The zero value is useful.
type Options struct {
	// MaxDisk bounds the bytes of segments and dead letters. Default 2 GiB.
	MaxDisk int64
	// Overflow is Refuse by default.
	Overflow Overflow
	// LowPriority names datasources that are refused at 90 % of MaxDisk.
	LowPriority []string
	// After holds a datasource's batches until the rows of another that are
	// older than the batch are delivered, 10 s at most: {"events_v1":
	// "session_v1"}.
	After map[string]string

	// SegmentRows, SegmentBytes (of JSON and LFs) and SegmentAge seal a
	// segment; age (±20 %) only while nothing sealed waits. Defaults 10,000,
	// 4 MiB, 1 s. With mirrors, age seals while something waits too, the more of
	// it the later, after a minute at most; and 6 s later at most while a mirror
	// is behind.
	SegmentRows  int
	SegmentBytes int64
	SegmentAge   time.Duration

	// CommitDelay is how long an added row waits for somebody else's commit.
	// Default 100 ms.
	CommitDelay time.Duration
	// DeadLetterAge is how long dead letters are kept. Default 30 days.
	DeadLetterAge time.Duration
	// CloseGrace is how long Close lets requests in flight finish before it
	// cancels them. Default 5 s.
	CloseGrace time.Duration

	// Logger gets one line a change of state. Default: none.
	Logger *zap.Logger
	// Observer is told what happens, for metrics. Default: nobody.
	Observer Observer

	fs fsys
	// source is the outbox that a mirror's belongs to.
	source *Outbox
}

func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		name  string
		value *int64
		def   int64
	}{
		{"max disk", &o.MaxDisk, 2 << 30},
		{"segment bytes", &o.SegmentBytes, 4 << 20},
		{"segment age", (*int64)(&o.SegmentAge), int64(time.Second)},
		{"commit delay", (*int64)(&o.CommitDelay), int64(100 * time.Millisecond)},
		{"dead letter age", (*int64)(&o.DeadLetterAge), int64(30 * 24 * time.Hour)},
		{"close grace", (*int64)(&o.CloseGrace), int64(5 * time.Second)},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("outbox: %s is negative (%d): leave it out for the default", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.SegmentRows <= 0 {
		o.SegmentRows = 10_000
	}
	if o.SegmentBytes > o.MaxDisk {
		return o, fmt.Errorf("outbox: max disk (%d bytes) is smaller than a segment (%d bytes): raise it", o.MaxDisk, o.SegmentBytes)
	}
	for ds, first := range o.After {
		if o.After[first] == ds || ds == first {
			return o, fmt.Errorf("outbox: %q and %q wait for each other: remove one", ds, first)
		}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Observer == nil {
		o.Observer = NopObserver{}
	}
	if o.fs == nil {
		o.fs = osFS{}
	}
	return o, nil
}

// Observer is told what happens, in whatever goroutine it happens, so it must
// be quick and safe for concurrent use. Embed NopObserver to implement a part.
type Observer interface {
	// Committed: rows are durable; took is the write and the sync.
	Committed(rows int, took time.Duration)
	// Delivered: the sink has the rows, quarantined of them set aside there.
	Delivered(datasource string, rows, quarantined int)
	// Retried: a try failed and will be repeated with the same bytes.
	Retried(datasource string, reason error)
	// DeadLettered: rows (or damaged lines) went to the dead letters; kind is
	// one of the Letter constants. Copies are also counted by Delivered.
	DeadLettered(datasource string, rows int, kind string)
	// Dropped: rows are gone: DropOldest, or added rows that could not be
	// written. Never rows that Append acknowledged under Refuse.
	Dropped(datasource string, rows int, reason error)
	// StateChanged: a datasource's delivery fails, is held, or works again.
	StateChanged(datasource string, state State, reason error)
}

// NopObserver ignores everything.
type NopObserver struct{}

func (NopObserver) Committed(int, time.Duration)      {}
func (NopObserver) Delivered(string, int, int)        {}
func (NopObserver) Retried(string, error)             {}
func (NopObserver) DeadLettered(string, int, string)  {}
func (NopObserver) Dropped(string, int, error)        {}
func (NopObserver) StateChanged(string, State, error) {}
