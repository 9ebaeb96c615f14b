package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound: the store answers, and has no living value under the key.
	ErrNotFound = errors.New("no living entry")
	// ErrUnavailable: the store cannot answer now. It comes wrapped with the
	// cause. After a Claim or a Next that ends so, the entry may still have
	// been made: a repeated Claim then returns it as standing.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnsure is the cause of an ErrUnavailable of a store that works, but
	// may not know all members of a group.
	ErrUnsure = errors.New("groups may lack members")
	// ErrClosed: Close was called before.
	ErrClosed = errors.New("store closed")
	// ErrLocked: another process (or another Embedded of this one) has the
	// database file open. Waiting and opening again is the remedy.
	ErrLocked = errors.New("database file is in use")
)

const (
	// MaxKey is the longest key, in bytes; the shortest is one byte.
	MaxKey = 512
	// MaxValue is the longest value, in bytes, before sealing.
	MaxValue = 1 << 20
	// MaxReserve is the most numbers that one Next may reserve.
	MaxReserve = 1 << 20
)

// Store is a key-value store whose entries end by themselves. All methods are
// safe for concurrent use. Times to live count in whole milliseconds and must
// be at least one. Byte slices that go in are not kept once the call returns,
// and those that come out belong to the caller.
type Store interface {
	// Claim stores value under key for ttl unless a living value stands there.
	// It returns the value that stands (value itself, if won) and whether it is
	// this caller's. Of any number of concurrent claimers exactly one wins, and
	// none is answered before the winner's value is durable.
	Claim(ctx context.Context, key string, value []byte, ttl time.Duration) (standing []byte, won bool, err error)

	// Get returns the living value of key, or ErrNotFound if the store answers
	// and has none, or ErrUnavailable if it cannot answer.
	Get(ctx context.Context, key string) ([]byte, error)

	// Put stores value under key, in place of what stands there, for ttl. The
	// store keeps value: it must not change any more. Put never waits for I/O:
	// the value is visible to this process at once, and written shortly after.
	// A crash before that loses it. When too many wait, it is dropped and
	// counted in Stats.Dropped.
	Put(key string, value []byte, ttl time.Duration)

	// Join makes member one of key's group for ttl, or replaces its value if it
	// is one. Like Put it never waits, and keeps value. Groups are apart from
	// values and numbers. Any number of members may join, on any node, and none
	// undoes another's joining; a group remembers as many as Sole needs.
	Join(key, member string, value []byte, ttl time.Duration)

	// Sole returns the only living member of the groups of all keys together,
	// in one read: ErrNotFound if there is none, ErrSeveral if there are more.
	// A member of several of these groups is one, with its value in the first.
	// What can't be told for sure is ErrUnavailable: a damaged member may have
	// been another's, and so may one that a store had to drop, on any node, or
	// that was lost (ErrUnsure).
	Sole(ctx context.Context, keys ...string) (Member, error)

	// Lack says that somebody who should have joined a group could not, and
	// would count for ttl: until then nobody is known to be alone in any.
	Lack(ttl time.Duration)

	// Next reserves n consecutive sequence numbers of key and returns the
	// first; a new key starts at 1, and each call prolongs its life to ttl.
	// Numbers are apart from values: a key may have both. Concurrent callers
	// never get the same number. A crash may skip some.
	Next(ctx context.Context, key string, n int, ttl time.Duration) (first int64, err error)

	// Delete removes key, its value and its sequence numbers. It returns when
	// the removal is durable. Deleting what is not there is no error. Its group
	// ends by itself.
	Delete(ctx context.Context, key string) error

	// Stats returns figures since opening. It does no I/O but a stat of the file.
	Stats() Stats

	// Close writes what waits, then ends the store. Calls that come later get
	// ErrClosed. Closing twice is no error.
	Close() error
}

// Sealer encrypts or authenticates values at rest. Name is the entry's name
// within the store; binding it into the seal keeps an entry from being moved
// to another name. Open refuses what Seal did not make.
type Sealer interface {
	Seal(name string, plain []byte) []byte
	Open(name string, sealed []byte) ([]byte, error)
}

// Stats are figures since the store was opened; those from Pending on describe
// the present.
type Stats struct {
	Claims     uint64 // claims answered
	ClaimsLost uint64 // of these, those that found a living value
	Commits    uint64 // embedded: transactions; redis: batches of written-behind entries
	Swept      uint64 // embedded: entries removed because their time was over
	Dropped    uint64 // puts that were never written: queue full, or store down too long
	Damaged    uint64 // values that did not verify and were treated as absent
	SetAside   uint64 // embedded: database files renamed aside as damaged
	Failures   uint64 // calls and write-behind commits that ended in ErrUnavailable
	Pending    int    // puts waiting to be written
	FileBytes  int64  // embedded: size of the database file
	Down       bool   // redis: calls fail fast at present
	// redis: why, or what the server refused within the last minute, with the
	// remedy
	Trouble string
	Advice  []string // redis: settings of the server that lose what is kept
	Unsure  string   // why Sole can't be sure at present, and until when
}

// Entries have names of their own, so that the sequence numbers and the value
// of one key do not meet.
func valueName(key string) string   { return "v:" + key }
func counterName(key string) string { return "n:" + key }

func checkKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("key of %d bytes: must have 1 to %d", len(key), MaxKey)
	}
	return nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("time to live of %s: must be at least 1ms", ttl)
	}
	return nil
}

func checkEntry(key string, value []byte, ttl time.Duration) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("value of %d bytes: must have at most %d", len(value), MaxValue)
	}
	return checkTTL(ttl)
}

func checkReserve(key string, n int, ttl time.Duration) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if n < 1 || n > MaxReserve {
		return fmt.Errorf("reserving %d numbers: must be 1 to %d", n, MaxReserve)
	}
	return checkTTL(ttl)
}

// unavailable wraps cause so that both it and ErrUnavailable can be tested for.
func unavailable(doing string, cause error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, cause)
}

// answer is what a bounded call returns.
type answer[T any] struct {
	value T
	err   error
}

// bounded runs f and waits for it no longer than ctx's deadline, even where f
// sits in a page fault of a hung disk or in another caller's dial. Without a
// deadline it costs nothing. f may go on after the return: it must share
// nothing with the caller.
func bounded[T any](ctx context.Context, f func() (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		return f()
	}
	done := make(chan answer[T], 1)
	go func() {
		v, err := f()
		done <- answer[T]{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}
