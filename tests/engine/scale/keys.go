package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
)

// candidate is a way to keep rows.
type candidate struct {
	name, partition, key string
}

const (
	month = "toYYYYMM(timestamp)"
	own   = "workspace_id, project_id, campaign_id, timestamp, session_id, row_id"
)

var referenceKey = candidate{"the reference's, time first", month, "timestamp, workspace_id, project_id, campaign_id, session_id, row_id"}

// comparison keeps the rows of some datasources by each candidate, and asks the
// endpoints that read them.
type comparison struct {
	datasources, endpoints []string
	candidates             []candidate
}

// comparisons begin with the key that the datasources have.
var comparisons = []comparison{{
	datasources: []string{"session_v1", "events_v1"},
	endpoints: []string{
		"ab_test_result", "ab_test_winner", "attribution_first_touch", "audience_breakdown", "conversions_breakdown",
		"overview_analytics", "realtime_overview", "sum_primitives", "timeseries_primitives",
	},
	candidates: []candidate{
		{"the datasources' own", month, own},
		referenceKey,
		{"environments before the time", month, "workspace_id, project_id, campaign_id, campaign_environment, ifNull(environment, ''), timestamp, session_id, row_id"},
		{"the day, then the session", month, "workspace_id, project_id, campaign_id, toDate(timestamp), session_id, row_id"},
		{"the session before the time", month, "workspace_id, project_id, campaign_id, session_id, timestamp, row_id"},
		{"own key, weeks", "toMonday(timestamp)", own},
		{"own key, no partitions", "tuple()", own},
	},
}, {
	// The tables of sessions are empty there, so that what is read is pages.
	datasources: []string{"traffic_v1"},
	endpoints:   []string{"traffic_overview"},
	candidates: []candidate{
		{"the datasource's own, time first", month, "timestamp, request_id, row_id"},
		{"the tenant before the time", month, "ifNull(workspace_id, ''), ifNull(project_id, ''), ifNull(campaign_id, ''), timestamp, request_id, row_id"},
		{"the campaign alone before the time", month, "ifNull(campaign_id, ''), timestamp, request_id, row_id"},
	},
}}

// compareKeys keeps the rows in each candidate's order and asks there.
func (b *bench) compareKeys(out io.Writer, project *engine.Project, by comparison) error {
	names := strings.Join(by.datasources, "` and `")
	fmt.Fprintf(out, "\n## Sorting keys and partitions of `%s`\n\nSums over the endpoints that read them, each asked for the longest period; MB held is the most that one of them held.\n\n| | key | partitions |", names)
	for _, name := range by.datasources {
		fmt.Fprintf(out, " `%s` MB |", name)
	}
	for _, campaign := range b.campaigns {
		fmt.Fprintf(out, " %s: %s |", campaign.name, cellNames)
	}
	fmt.Fprintf(out, "\n|---|---|---|%s\n", strings.Repeat("---:|", len(by.datasources)+5*len(b.campaigns)))
	for _, way := range by.candidates[:min(len(by.candidates), b.candidates)] {
		progress("keeping rows of %s by %s", names, way.name)
		c, err := b.keep(way, by.datasources)
		if err != nil {
			return fmt.Errorf("keeping rows by %s: %w", way.key, err)
		}
		row, err := b.askAll(c, project, by, way)
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

// keep is a database with the rows of some datasources, kept so.
func (b *bench) keep(by candidate, datasources []string) (*engine.ClickHouse, error) {
	c, err := engine.Open(b.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range datasources {
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
func (b *bench) askAll(c *engine.ClickHouse, project *engine.Project, by comparison, way candidate) (string, error) {
	row := fmt.Sprintf("| %s | `%s` | `%s` ", way.name, way.key, way.partition)
	for _, name := range by.datasources {
		s, err := sizeOf(c, name)
		if err != nil {
			return "", err
		}
		row += "| " + megabytes(s.Disk) + " "
	}
	for _, campaign := range b.campaigns {
		sum, err := b.sumOf(c, project, campaign, by.endpoints)
		if err != nil {
			return "", fmt.Errorf("rows kept by %s: %w", way.key, err)
		}
		row += "| " + sum.cells() + " "
	}
	return row + "|", nil
}

// sumOf adds up what endpoints cost; memory is the most that one of them held.
func (b *bench) sumOf(c *engine.ClickHouse, project *engine.Project, campaign asked, endpoints []string) (figure, error) {
	var sum figure
	all, err := questions(project, b.end, []asked{campaign}, b.periods[len(b.periods)-1:])
	if err != nil {
		return sum, err
	}
	for _, q := range all {
		if !slices.Contains(endpoints, q.endpoint) {
			continue
		}
		f, err := measure(c, q.sql, min(b.times, 0)) // many endpoints make up for few times
		if err != nil {
			return sum, fmt.Errorf("asking %s: %w", q.endpoint, err)
		}
		sum.Rows, sum.Bytes, sum.CPU = sum.Rows+f.Rows, sum.Bytes+f.Bytes, sum.CPU+f.CPU
		sum.memory, sum.Time, sum.counted = max(sum.memory, f.memory), sum.Time+f.Time, f.counted
	}
	return sum, nil
}
