package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
)

// candidate is a way to keep session_v1 and events_v1.
type candidate struct {
	name, partition, key string
}

const (
	month = "toYYYYMM(timestamp)"
	own   = "workspace_id, project_id, campaign_id, timestamp, session_id, row_id"
)

var referenceKey = candidate{"the reference's, time first", month, "timestamp, workspace_id, project_id, campaign_id, session_id, row_id"}

var candidates = []candidate{
	{"the datasources' own", month, own},
	referenceKey,
	{"environments before the time", month, "workspace_id, project_id, campaign_id, campaign_environment, ifNull(environment, ''), timestamp, session_id, row_id"},
	{"the day, then the session", month, "workspace_id, project_id, campaign_id, toDate(timestamp), session_id, row_id"},
	{"the session before the time", month, "workspace_id, project_id, campaign_id, session_id, timestamp, row_id"},
	{"own key, weeks", "toMonday(timestamp)", own},
	{"own key, no partitions", "tuple()", own},
}

// compareKeys keeps the rows in each candidate's order and asks all endpoints
// there.
func (b *bench) compareKeys(out io.Writer, project *engine.Project) error {
	fmt.Fprint(out, "\n## Sorting keys and partitions\n\nSums over all endpoints that read `session_v1` and `events_v1`, each asked for the longest period; MB held is the most that one of them held.\n\n| | key | partitions | sessions MB | events MB |")
	for _, campaign := range b.campaigns {
		fmt.Fprintf(out, " %s: rows read | MB read | MB held | CPU ms |", campaign.name)
	}
	fmt.Fprintf(out, "\n|---|---|---|---:|---:|%s\n", strings.Repeat("---:|", 4*len(b.campaigns)))
	for _, by := range b.candidates {
		progress("keeping rows by %s", by.name)
		c, err := b.keep(by)
		if err != nil {
			return fmt.Errorf("keeping rows by %s: %w", by.key, err)
		}
		row, err := b.askAll(c, project, by)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, row)
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// keep is a database with the rows of sessions and events, kept so.
func (b *bench) keep(by candidate) (*engine.ClickHouse, error) {
	c, err := engine.Open(b.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"session_v1", "events_v1"} {
		ds, _ := b.set.Datasource(name)
		changed := *ds
		changed.SortingKey, changed.PartitionKey = by.key, by.partition
		if err := b.create(c, &changed); err != nil {
			return nil, err
		}
		if err := c.Exec(fmt.Sprintf("INSERT INTO %[1]s\n%[2]s\nSELECT * FROM %[3]s.%[1]s", name, inserting, b.filled.Database())); err != nil {
			return nil, fmt.Errorf("copying %s: %w", name, err)
		}
		if err := settle(c, name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// askAll is a candidate's row of the table.
func (b *bench) askAll(c *engine.ClickHouse, project *engine.Project, by candidate) (string, error) {
	row := fmt.Sprintf("| %s | `%s` | `%s` ", by.name, by.key, by.partition)
	for _, name := range []string{"session_v1", "events_v1"} {
		s, err := sizeOf(c, name)
		if err != nil {
			return "", err
		}
		row += "| " + megabytes(s.Disk) + " "
	}
	for _, campaign := range b.campaigns {
		sum, err := b.sumOf(c, project, campaign)
		if err != nil {
			return "", fmt.Errorf("rows kept by %s: %w", by.key, err)
		}
		row += fmt.Sprintf("| %s | %s | %s | %s ", thousands(sum.Rows), megabytes(sum.Bytes), megabytes(sum.memory), milliseconds(sum.CPU))
	}
	return row + "|", nil
}

// sumOf adds up what endpoints of sessions and events cost; memory is the most
// that one of them held.
func (b *bench) sumOf(c *engine.ClickHouse, project *engine.Project, campaign asked) (figure, error) {
	var sum figure
	all, err := questions(project, b.end, []asked{campaign}, b.periods[len(b.periods)-1:])
	if err != nil {
		return sum, err
	}
	for _, q := range all {
		if slices.Contains([]string{"traffic_overview", "consent_rates"}, q.endpoint) {
			continue
		}
		f, err := measure(c, q.sql, b.times)
		if err != nil {
			return sum, fmt.Errorf("asking %s: %w", q.endpoint, err)
		}
		sum.Rows, sum.Bytes, sum.CPU = sum.Rows+f.Rows, sum.Bytes+f.Bytes, sum.CPU+f.CPU
		sum.memory = max(sum.memory, f.memory)
	}
	return sum, nil
}
