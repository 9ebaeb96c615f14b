// Package outbox is a durable queue of rows on disk, with the loop that
// delivers them.
//
// It owns one directory, locked against every other process, with a directory
// a datasource in it. Append returns when its rows are on disk (fsync, group
// commit); rows gather in segments, a full or old segment is sealed, and a
// sealed segment is one request body: the same bytes on every try, after a
// restart too.
//
// It promises: acknowledged = delivered ∪ dead letters ∪ still on disk. A row
// may arrive twice (an answer that got lost, an Append that failed half way);
// rows carry ids that make such twins collapse. The one exception is an
// operator's own choice, DropOldest.
//
// The same rows may go to further sinks, see Mirror: the promise holds for each,
// within the mirror's share of the disk.
//
// It never looks into a row, never regroups a sealed segment, never gives up on
// a batch because of the network, and knows nothing of HTTP: where rows go is a
// Sink's business.
package outbox
