// Package kafka sends the outbox's batches to Kafka: a topic for each
// datasource, a message for each row.
//
// It promises that a batch counts as delivered only when all in-sync replicas
// have each of its rows, that rows of one session are in one partition in their
// order, and that neither errors nor logs hold the password. A batch that fails
// half way comes again as a whole: what the topic has twice has the same
// row_id. Kafka's own idempotence removes only the twins of its client's
// retries.
//
// It never retries a batch, waits between tries or keeps anything by itself:
// that is the outbox's business.
package kafka
