package schema

import (
	"slices"
	"strings"
	"testing"
)

func TestLoadKnowsEveryDatasource(t *testing.T) {
	set, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(set.Names(), names) {
		t.Fatalf("got %v, want %v", set.Names(), names)
	}
	if _, ok := set.Datasource("sessions"); ok {
		t.Fatal("an unknown name was found")
	}
}

func TestReferenceColumnsAreAllThereAndComeFirst(t *testing.T) {
	for name, want := range map[string]int{"session_v1": 43, "events_v1": 32, "traffic_v1": 27, "consents_v1": 0} {
		ds := datasource(t, name)
		n := 0
		for i, c := range ds.Columns {
			if c.Reference {
				n++
				if n != i+1 {
					t.Errorf("%s: the reference's column %s stands behind one of ours", name, c.Name)
				}
			}
		}
		if n != want {
			t.Errorf("%s: %d columns of the reference, want %d", name, n, want)
		}
		if ds.HasReference() != (want > 0) {
			t.Errorf("%s: HasReference is %v", name, ds.HasReference())
		}
	}
}

func TestEveryDatasourceHasWhatTheEndpointsRelyOn(t *testing.T) {
	ttl := map[string]string{
		"session_v1":  "toIntervalMonth(25)",
		"events_v1":   "toIntervalDay(90)",
		"traffic_v1":  "toIntervalMonth(12)",
		"consents_v1": "toIntervalYear(5)",
	}
	for _, name := range names {
		ds := datasource(t, name)
		id, ok := ds.Column("row_id")
		if !ok || id.Type.Nullable {
			t.Errorf("%s: row_id is missing or nullable", name)
		}
		if segment, ok := ds.Column("segment_id"); !ok || !segment.Type.Nullable {
			t.Errorf("%s: segment_id is missing or not nullable", name)
		}
		if ds.Engine != "MergeTree" || ds.PartitionKey != "toYYYYMM(timestamp)" {
			t.Errorf("%s: engine %s by %s", name, ds.Engine, ds.PartitionKey)
		}
		if !strings.HasSuffix(ds.TTL, ttl[name]) {
			t.Errorf("%s: TTL %s, want %s", name, ds.TTL, ttl[name])
		}
		if ds.Description == "" || len(ds.Tokens) != 2 {
			t.Errorf("%s: description %q, tokens %v", name, ds.Description, ds.Tokens)
		}
		key := strings.Split(ds.SortingKey, ", ")
		if key[len(key)-1] != "row_id" {
			t.Errorf("%s: the sorting key does not end in row_id: %s", name, ds.SortingKey)
		}
		for _, part := range key {
			if c, ok := ds.Column(part); !ok || c.Type.Nullable {
				t.Errorf("%s: %s of the sorting key is missing or nullable", name, part)
			}
		}
	}
}

func TestTrafficIsNested(t *testing.T) {
	ds := datasource(t, "traffic_v1")
	for name, want := range map[string]string{
		"city":            "$.geo.city",
		"is_eu_country":   "$.geo.is_eu_country",
		"device_type":     "$.device.type",
		"device_os":       "$.device.os",
		"browser":         "$.device.browser",
		"connection_type": "$.device.connection_type",
		"language":        "$.localization.language",
		"referrer":        "$.traffic.referrer",
		"user_agent":      "$.traffic.user_agent",
		"bot_score":       "$.bot_score",
		"session_id":      "$.session_id",
		"counted":         "$.counted",
	} {
		if c, _ := ds.Column(name); c.JSONPath() != want {
			t.Errorf("%s is at %s, want %s", name, c.JSONPath(), want)
		}
	}
}

func TestBindNoticesListsThatFellBehind(t *testing.T) {
	text := []byte("SCHEMA >\n    `a` String `json:$.a`\n")
	for name, tc := range map[string]struct {
		reference []string
		rules     map[string]rule
	}{
		"a reference column that is gone":  {reference: []string{"b"}},
		"a rule for a column that is gone": {rules: map[string]rule{"b": nonEmpty}},
		"a rule of another family":         {rules: map[string]rule{"a": flag}},
		"a rule that is not defined":       {rules: map[string]rule{"a": {}}},
	} {
		t.Run(name, func(t *testing.T) {
			ds, err := Parse("x", text)
			if err != nil {
				t.Fatal(err)
			}
			if err := ds.bind(tc.reference, tc.rules); err == nil {
				t.Fatal("no error")
			}
		})
	}
}
