// Package store keeps what ids and tokens cannot carry: claims that one
// caller wins, session states, sequence numbers. Every entry has a lifetime.
//
// It owns one narrow interface, [Store], and two engines behind it: [Embedded],
// a bbolt file for one node, and [Redis], Redis 7 or Valkey for several.
//
// It promises that a claim is won by exactly one caller and is durable before
// anybody is told of it (as durable as Redis is configured to be, there), that
// a Put never waits, that a value which does not verify is never returned but
// counts as absent, and that every call with a deadline returns by then.
//
// It never looks into values, never judges who may read what, and never keeps
// a page waiting for a store that is down: such calls fail fast with
// [ErrUnavailable], and what to do then is the caller's decision.
package store
