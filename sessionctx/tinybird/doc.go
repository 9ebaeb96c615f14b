// Package tinybird sends the outbox's batches to Tinybird's Events API.
//
// It owns one request and the reading of its answer: which status, header and
// body means delivered, again, slower, smaller, never or "mend the
// configuration".
//
// It promises the same bytes for the same batch, that an answer counts as an
// acknowledgement only if it says what became of every row, and that neither
// errors nor logs hold the token.
//
// It never retries, waits or keeps anything by itself: that is the outbox's
// business. It follows no redirects, which would carry rows elsewhere.
package tinybird
