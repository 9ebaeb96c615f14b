// Package schema holds the Tinybird datasources of this project and checks
// rows against them.
//
// The files in datasources are the one place where column names, types and
// JSON paths are written down. This package embeds and parses them, and from
// them answers one question: would every column of this row arrive as meant?
//
// Check is stricter than Tinybird and much stricter than ClickHouse. Tinybird
// answers 200 for a row that it then puts into quarantine, and drops keys that
// no column names; ClickHouse wraps numbers that are out of range and turns
// null into a default. None of that shows until somebody misses the data, so
// here it is an error, together with values outside the vocabularies that the
// endpoints group by.
//
// Nothing here does I/O, and everything is safe for concurrent use.
package schema
