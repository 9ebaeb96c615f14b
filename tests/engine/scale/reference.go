package main

import (
	"fmt"
	"io"
	"strings"
)

// shapes are questions as the reference is known to ask them, and as this
// project does. Both are asked of the same rows; the reference's are kept by its
// own key. {tenant} filters one campaign, {from} and {end} bound a month.
var shapes = []struct {
	name, sql string
	reference bool // of tables with the reference's key
}{
	{"sessions of a month, count()", "SELECT count() FROM session_v1 WHERE {tenant} AND {month}", true},
	{"the same, own key", "SELECT count() FROM session_v1 WHERE {tenant} AND {month}", false},
	{"the same, own key, distinct row ids", "SELECT uniqExact(row_id) FROM session_v1 WHERE {tenant} AND {month}", false},
	{"the same, own key, first row of each id", "SELECT count() FROM (SELECT session_id FROM session_v1 WHERE {tenant} AND {month} ORDER BY timestamp LIMIT 1 BY row_id)", false},
	{"events of a month by id, count()", "SELECT event_id, count(), sum(event_value) FROM events_v1 WHERE {tenant} AND {month} GROUP BY event_id", true},
	{"the same, own key", "SELECT event_id, count(), sum(event_value) FROM events_v1 WHERE {tenant} AND {month} GROUP BY event_id", false},
	{"the same, own key, first row of each id", "SELECT event_id, count(), sum(event_value) FROM (SELECT event_id, event_value FROM events_v1 WHERE {tenant} AND {month} ORDER BY timestamp, session_event_sequence, id LIMIT 1 BY row_id) GROUP BY event_id", false},
	{"the same, own key, one row of each id by GROUP BY", "SELECT e.1 AS event_id, count(), sum(e.2) FROM (SELECT argMin((event_id, event_value), (timestamp, session_event_sequence, id)) AS e FROM events_v1 WHERE {tenant} AND {month} GROUP BY row_id) GROUP BY event_id", false},
	{"sessions of a month, hourly view", "SELECT countMerge(session_count), uniqMerge(unique_users) FROM sessions_hourly WHERE {tenant} AND hour >= toStartOfHour(fromUnixTimestamp64Milli({from})) AND hour < fromUnixTimestamp64Milli({end})", true},
	{"what the events' hourly view costs at each INSERT of 1,000 events: LEFT JOIN session_v1", "SELECT s.country, count() FROM (SELECT session_id FROM events_v1 WHERE {tenant} LIMIT 1000) AS e LEFT JOIN session_v1 AS s ON s.session_id = e.session_id GROUP BY s.country", true},
}

// hourly is the reference's view of sessions, its dimensions all in the key:
// as the reference has it, ClickHouse refuses it.
const hourly = `CREATE TABLE sessions_hourly ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(hour)
	ORDER BY (workspace_id, project_id, campaign_id, environment, campaign_environment, hour, device_type, country, city, utm_source, utm_medium, utm_campaign, referrer, source, ref, landing_page_id, browser, device_os)
	AS SELECT toStartOfHour(timestamp) AS hour, workspace_id, project_id, campaign_id, ifNull(environment, '') AS environment, campaign_environment,
		device_type, country, city, ifNull(utm_source, 'Direct') AS utm_source, ifNull(utm_medium, 'Direct') AS utm_medium, ifNull(utm_campaign, 'Direct') AS utm_campaign,
		ifNull(referrer, 'Direct') AS referrer, ifNull(source, 'Direct') AS source, ifNull(ref, 'Direct') AS ref, ifNull(landing_page_id, 'Unknown') AS landing_page_id, browser, device_os,
		countState() AS session_count, uniqState(user_id) AS unique_users
	FROM session_v1 GROUP BY ALL SETTINGS max_threads = 2, max_bytes_before_external_group_by = 1000000000`

// compareReference asks the shapes.
func (b *bench) compareReference(out io.Writer) error {
	progress("keeping rows as the reference does")
	reference, err := b.keep(referenceKey, []string{"session_v1", "events_v1"})
	if err != nil {
		return err
	}
	defer reference.Close()
	if err := reference.Exec(hourly); err != nil {
		return fmt.Errorf("making the hourly view: %w", err)
	}
	view, err := sizeOf(reference, "sessions_hourly")
	if err != nil {
		return err
	}
	sessions, err := sizeOf(reference, "session_v1")
	if err != nil {
		return err
	}
	campaign := sizes[0]
	with := parameters(campaign, b.periods[len(b.periods)-1], b.end)
	from := b.end.Add(-b.periods[len(b.periods)-1].length)
	month := fmt.Sprintf("timestamp >= fromUnixTimestamp64Milli(%d) AND timestamp < fromUnixTimestamp64Milli(%d)", from.UnixMilli(), b.end.UnixMilli())
	tenant := fmt.Sprintf("workspace_id = '%s' AND project_id = '%s' AND campaign_id = '%s' AND environment = 'production' AND campaign_environment = 'production'",
		with["workspaceId"], with["projectId"], with["campaignId"])
	fill := strings.NewReplacer("{tenant}", tenant, "{month}", month, "{from}", fmt.Sprint(from.UnixMilli()), "{end}", fmt.Sprint(b.end.UnixMilli()))
	fmt.Fprintf(out, "\n## Beside the reference's shapes\n\nThe largest campaign, a month. The hourly view of sessions has %s rows for %s sessions.\n\n| | key | %s |\n|---|---|---:|---:|---:|---:|---:|\n",
		thousands(view.Rows), thousands(sessions.Rows), cellNames)
	for _, shape := range shapes {
		c, key := b.filled, "own"
		if shape.reference {
			c, key = reference, "reference"
		}
		f, err := measure(c, fill.Replace(shape.sql), b.times)
		if err != nil {
			return fmt.Errorf("%s: %w", shape.name, err)
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", shape.name, key, f.cells())
	}
	return nil
}
