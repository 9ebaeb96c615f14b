package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// The whole program with few rows, so that it still works on the day when it is
// needed: every endpoint of the folder is asked.
func TestItStillMeasures(t *testing.T) {
	var out strings.Builder
	if err := run(&out, "../../../tinybird", "", "short", ""); err != nil {
		t.Fatal(err)
	}
	project, err := engine.LoadProject("../../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range project.Endpoints() {
		if !strings.Contains(out.String(), "| `"+endpoint+"` | largest | ") {
			t.Errorf("%s was not asked", endpoint)
		}
	}
	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	compared := []string{"consent_rates"} // its table is small, and kept whole
	for _, by := range comparisons {
		compared = append(compared, by.endpoints...)
		way := by.candidates[0]
		if !strings.Contains(out.String(), "| `"+way.key+"` | `"+way.partition+"` | ") {
			t.Errorf("%v were not kept by %s", by.datasources, way.name)
		}
		for _, name := range by.datasources {
			if ds, _ := set.Datasource(name); ds.SortingKey != way.key || ds.PartitionKey != way.partition {
				t.Errorf("the first candidate is not how %s is kept: %s, %s", name, ds.SortingKey, ds.PartitionKey)
			}
		}
	}
	if slices.Sort(compared); !slices.Equal(compared, project.Endpoints()) {
		t.Errorf("keys are compared by %v, endpoints are %v", compared, project.Endpoints())
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// Rows that are made here are such as the module sends: the strict check takes
// them, ids are what they ought to be, and there is as much as was asked for.
func TestRowsAreLikeTheModules(t *testing.T) {
	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	c, err := engine.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := define(c); err != nil {
		t.Fatal(err)
	}
	s := shape{visits: 5000, events: 25000, span: shortSpan, end: time.Now().UTC().Truncate(time.Hour)}
	for _, name := range set.Names() {
		ds, _ := set.Datasource(name)
		if err := fill(c, ds, s); err != nil {
			t.Fatal(err)
		}
		rows, err := engine.Query[map[string]any](c, "SELECT * REPLACE ("+stamps(ds)+") FROM "+name+" ORDER BY cityHash64(row_id) LIMIT 500")
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			line, err := json.Marshal(nest(ds, row))
			if err != nil {
				t.Fatal(err)
			}
			if err := ds.Check(line); err != nil {
				t.Fatalf("%v\n%s", err, line)
			}
		}
		type counts struct{ Rows, IDs, Campaigns uint64 }
		n, err := engine.Query[counts](c, "SELECT count() AS Rows, uniqExact(row_id) AS IDs, uniqExact(campaign_id) AS Campaigns FROM "+name)
		if err != nil {
			t.Fatal(err)
		}
		if double := float64(n[0].Rows-n[0].IDs) / float64(n[0].IDs); double < 0.01 || double > 0.05 {
			t.Errorf("%s: %d rows of %d ids", name, n[0].Rows, n[0].IDs)
		}
		want := map[string]float64{"session_v1": 1.12 * 5000, "events_v1": 25000, "traffic_v1": 0.6 * 5000, "consents_v1": 1250}[name]
		if ids := float64(n[0].IDs); ids < 0.85*want || ids > 1.15*want || n[0].Campaigns < 250 {
			t.Errorf("%s: %+v, want %.0f ids and most campaigns", name, n[0], want)
		}
	}
	orphans, err := engine.Query[struct{ Events, Sessions uint64 }](c, `SELECT
		(SELECT count() FROM events_v1 WHERE session_id NOT IN (SELECT session_id FROM session_v1)) AS Events,
		(SELECT count() FROM session_v1 WHERE original_session_id NOT IN (SELECT session_id FROM session_v1)) AS Sessions`)
	if err != nil {
		t.Fatal(err)
	}
	if orphans[0].Events+orphans[0].Sessions != 0 {
		t.Errorf("%+v belong to no session", orphans[0])
	}
}

// stamps writes times as the module does.
func stamps(ds *schema.Datasource) string {
	var all []string
	for _, column := range ds.Columns {
		if strings.HasPrefix(column.Type.Text, "DateTime64") {
			all = append(all, "concat(replaceOne(toString("+column.Name+"), ' ', 'T'), 'Z') AS "+column.Name)
		}
	}
	return strings.Join(all, ", ")
}

// nest is the row as it is sent, by the columns' JSON paths.
func nest(ds *schema.Datasource, row map[string]any) map[string]any {
	sent := make(map[string]any)
	for _, column := range ds.Columns {
		at := sent
		for _, key := range column.Path[:len(column.Path)-1] {
			if at[key] == nil {
				at[key] = make(map[string]any)
			}
			at = at[key].(map[string]any)
		}
		at[column.Path[len(column.Path)-1]] = row[column.Name]
	}
	return sent
}
