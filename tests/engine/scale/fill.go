package main

import (
	"embed"
	"fmt"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

const (
	workspaces = 20
	campaigns  = 300
	// wholeSpan is how far back visits go, eventsKept and trafficKept how far back
	// events and pages: a day less than their datasources keep.
	wholeSpan   = 395 * 24 * time.Hour
	eventsKept  = 89 * 24 * time.Hour
	trafficKept = 364 * 24 * time.Hour
	// shortSpan is where it shall only be seen whether everything works: few
	// partitions, a month and the one before it.
	shortSpan = 70 * 24 * time.Hour
	// chunk is how many visits one INSERT makes.
	chunk = 250_000
	// whole is how many sessions there are unless fewer are asked for.
	whole = 10_000_000
	// sessionsAVisit is how many rows of session_v1 a visit has, with renewals.
	sessionsAVisit = 1.12
	// One row in so many came twice; one event in so many came again a minute
	// later with its row id.
	twice, again = 50, 100
)

// shape is how much there is, of how long, up to when.
type shape struct {
	visits, events int64
	span           time.Duration
	end            time.Time
}

// create makes the datasource's table. A granule, the least that ClickHouse
// reads of it, is in the proportion to it in which 8,192 rows are to the whole
// number of sessions: as many granules are read of few rows as of many.
func (s shape) create(c *engine.ClickHouse, ds *schema.Datasource) error {
	scaled := *ds
	// The TTL is what a table ends with, before its settings.
	scaled.TTL += fmt.Sprintf(" SETTINGS index_granularity = %d", s.granule())
	return c.Create(&scaled)
}

func (s shape) granule() int64 {
	return max(16, min(8192, int64(8192*float64(s.visits)*sessionsAVisit/whole)))
}

// since is the number of the first visit of the last d, or a little earlier
// one, as visits are moved within their day (rows/visits.sql).
func (s shape) since(d time.Duration) int64 {
	part := max(0, float64(s.span-d-24*time.Hour)/float64(s.span))
	return int64(float64(s.visits) * part * part)
}

// mean is how many events a session has.
func (s shape) mean() float64 {
	part := max(0, float64(s.span-eventsKept)/float64(s.span))
	return float64(s.events) / (float64(s.visits) * (1 - part*part) * sessionsAVisit)
}

// Rows are made in the engine: each file is a SELECT of a datasource's columns,
// with what is in braces filled in.
//
//go:embed rows
var files embed.FS

func rows(name string) string {
	text, err := files.ReadFile("rows/" + name + ".sql")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}

// define makes the functions that the files of rows use. They are of the
// process, not of a database.
func define(c *engine.ClickHouse) error {
	for statement := range strings.SplitSeq(rows("functions"), ";\n") {
		statement = strings.Replace(statement, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := c.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// fill makes the table of a datasource and its rows.
func fill(c *engine.ClickHouse, ds *schema.Datasource, s shape) error {
	if err := s.create(c, ds); err != nil {
		return err
	}
	kept := s.span
	switch ds.Name {
	case "events_v1":
		kept = min(kept, eventsKept)
	case "traffic_v1":
		kept = min(kept, trafficKept)
	}
	var columns []string
	for _, column := range ds.Columns {
		columns = append(columns, "`"+column.Name+"`")
	}
	list := strings.Join(columns, ", ")
	for first := s.since(kept); first < s.visits; first += chunk {
		text := strings.NewReplacer(
			"({visits})", "("+rows("visits")+")").Replace(rows(ds.Name))
		text = strings.NewReplacer(
			"{visits}", fmt.Sprint(s.visits), "{mean}", fmt.Sprint(s.mean()),
			"{end}", fmt.Sprint(s.end.UnixMilli()), "{span}", fmt.Sprint(s.span.Milliseconds()), "{kept}", fmt.Sprint(kept.Milliseconds()),
			"{workspaces}", fmt.Sprint(workspaces), "{campaigns}", fmt.Sprint(campaigns),
			"{first}", fmt.Sprint(first), "{count}", fmt.Sprint(min(chunk, s.visits-first)),
		).Replace(text)
		if err := c.Exec(fmt.Sprintf("INSERT INTO %s (%s)\n%s\nSELECT %s FROM (%s)", ds.Name, list, inserting, list, text)); err != nil {
			return fmt.Errorf("making rows of %s: %w", ds.Name, err)
		}
	}
	if err := c.Exec(fmt.Sprintf("INSERT INTO %[1]s\n%[3]s\nSELECT * FROM %[1]s WHERE cityHash64(row_id) %% %[2]d = 0", ds.Name, twice, inserting)); err != nil {
		return fmt.Errorf("making rows of %s come twice: %w", ds.Name, err)
	}
	if ds.Name == "events_v1" {
		if err := c.Exec(fmt.Sprintf("INSERT INTO events_v1\n%s\nSELECT * REPLACE (timestamp + toIntervalMinute(1) AS timestamp) FROM events_v1 WHERE cityHash64(row_id, 1) %% %d = 0", inserting, again)); err != nil {
			return fmt.Errorf("making events come again: %w", err)
		}
	}
	return settle(c, ds.Name)
}

// inserting keeps blocks small enough for the memory that the benchmark may
// use, and large enough for few parts.
const inserting = "SETTINGS max_threads = 2, max_insert_threads = 1, min_insert_block_size_rows = 500000, min_insert_block_size_bytes = 300000000, max_partitions_per_insert_block = 1000"

// settle merges each partition into one part, so that what is read depends on
// the rows alone and not on what has been merged by then.
func settle(c *engine.ClickHouse, table string) error {
	if err := c.Exec("OPTIMIZE TABLE " + table + " FINAL"); err != nil {
		return fmt.Errorf("merging %s: %w", table, err)
	}
	return nil
}

// size is what a table has.
type size struct {
	Rows, Disk, Plain, Parts uint64
}

func sizeOf(c *engine.ClickHouse, table string) (size, error) {
	all, err := engine.Query[size](c, `SELECT sum(rows) AS Rows, sum(bytes_on_disk) AS Disk, sum(data_uncompressed_bytes) AS Plain, count() AS Parts
		FROM system.parts WHERE active AND database = currentDatabase() AND table = '`+table+`'`)
	if err != nil {
		return size{}, fmt.Errorf("reading the size of %s: %w", table, err)
	}
	return all[0], nil
}
