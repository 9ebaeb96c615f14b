// Package standin plays Tinybird's Events API over HTTP, for tests.
//
// It answers POST /v0/events as the published API does: bearer token, gzip,
// size limit, both counts in the answer, bad rows into quarantine with a 200.
// Where Tinybird would stay silent it does not: every row is held against the
// datasource files (package schema), and one that fails is a Violation. A
// Server made by New fails its test for violations that the test did not ask
// for by Violations.
//
// Faults are programmed per datasource (Fail) and cover what a network and an
// overloaded service do: statuses, headers, cut and slow answers, broken
// connections, and the worst one, rows that are in although the answer is not.
//
// What it stored can be read back as rows, as distinct rows by row id, and as
// requests with the hashes of their bodies.
//
// It is written from the API's documentation and has never been compared with
// the real service. It knows no materialized views, rate limits or gathering of
// small inserts; the first two can be programmed as faults.
package standin
