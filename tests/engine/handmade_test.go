package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// handmade is the row that is kept for the datasource, with some keys changed:
// what the made-up month does not have.
func handmade(t testing.TB, datasource string, changes map[string]any) []byte {
	t.Helper()
	text, err := os.ReadFile("../../tinybird/testdata/" + datasource + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(text, &row); err != nil {
		t.Fatal(err)
	}
	maps.Copy(row, changes)
	if text, err = json.Marshal(row); err != nil {
		t.Fatal(err)
	}
	return text
}

// handmadeDay is the day of handmade rows.
var handmadeDay = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -10)

func insertHandmade(t testing.TB, c *ClickHouse, datasource string, changes map[string]any) {
	t.Helper()
	if err := c.Insert(datasource, [][]byte{handmade(t, datasource, changes)}); err != nil {
		t.Fatal(err)
	}
}

func clock(after time.Duration) string {
	return handmadeDay.Add(after).Format("2006-01-02T15:04:05.000Z")
}

// session and purchase are a session and a conversion in it, so long after the
// day began.
func session(id string, after time.Duration) map[string]any {
	return map[string]any{
		"row_id": "r_" + id, "session_id": id, "original_session_id": id, "user_id": "u_" + id, "visitor_day": nil,
		"timestamp": clock(after), "original_timestamp": clock(after),
	}
}

func purchase(id, session string, after time.Duration, value float64) map[string]any {
	return map[string]any{
		"row_id": "r_" + id, "id": id, "session_id": session, "timestamp": clock(after),
		"event_id": "buy", "event_value": value, "time_on_page": nil,
	}
}

// handmadeParameters ask for handmade rows of a part of the day.
func handmadeParameters(from, to time.Duration) map[string]string {
	const layout = "2006-01-02 15:04:05.000"
	return map[string]string{
		"workspaceId": "ws_1", "projectId": "pr_1", "campaignId": "cmp_1", "environment": "production",
		"campaignEnvironment": "production", "conversionEventId": "buy",
		"periodStart": handmadeDay.Add(from).Format(layout), "periodEnd": handmadeDay.Add(to).Format(layout),
	}
}

// TestRowsThatNoMonthHas: events before, without and beside their session's row,
// rows that came twice with another content, values below zero and of other
// currencies.
func TestRowsThatNoMonthHas(t *testing.T) {
	const day, ten = 24 * time.Hour, 10 * time.Hour
	c := open(t)
	insertHandmade(t, c, "session_v1", session("a", ten))
	// A program of another environment has the id, too.
	insertHandmade(t, c, "session_v1", with(session("a", ten), map[string]any{"environment": "dev", "bot_score": 1}))
	insertHandmade(t, c, "events_v1", purchase("early", "late", ten+time.Second, -5))
	insertHandmade(t, c, "events_v1", purchase("first", "a", ten+4*time.Second, 9)) // a retry, delivered first
	insertHandmade(t, c, "events_v1", purchase("first", "a", ten+3*time.Second, 7))
	insertHandmade(t, c, "events_v1", with(purchase("euros", "a", ten+5*time.Second, 100), map[string]any{"event_value_currency": "EUR"}))
	insertHandmade(t, c, "events_v1", with(purchase("other", "a", ten+5*time.Second, 3), map[string]any{"workspace_id": "ws_2"}))

	type sums struct{ Conversions, Value float64 }
	total := func(p map[string]string) (s sums) {
		row := one[map[string]json.RawMessage](t, c, "sum_primitives", p)
		for name, to := range map[string]*float64{"current_conversions": &s.Conversions, "current_conversion_value": &s.Value} {
			if err := json.Unmarshal(row[name], to); err != nil {
				t.Fatalf("%s: %s: %v", name, row[name], err)
			}
		}
		return s
	}
	ofVisits := func() (s sums) {
		row := one[map[string]json.RawMessage](t, c, "conversions_breakdown", handmadeParameters(0, day))
		for name, to := range map[string]*float64{"total_conversions": &s.Conversions, "total_conversion_value": &s.Value} {
			if err := json.Unmarshal(row[name], to); err != nil {
				t.Fatalf("%s: %s: %v", name, row[name], err)
			}
		}
		return s
	}
	is := func(what string, got, want sums) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	is("all events", total(handmadeParameters(0, day)), sums{3, 2})
	is("events of visits", ofVisits(), sums{2, 7})
	is("a millisecond", total(handmadeParameters(ten+3*time.Second, ten+3*time.Second)), sums{1, 7})
	is("the retry's millisecond", total(handmadeParameters(ten+4*time.Second, ten+4*time.Second)), sums{0, 0})
	is("a period that ends before it begins", total(handmadeParameters(day, 0)), sums{0, 0})
	euros := handmadeParameters(0, day)
	euros["currency"] = "EUR"
	is("euros", total(euros), sums{3, 100})

	insertHandmade(t, c, "session_v1", session("late", ten))
	is("with the late session", ofVisits(), sums{3, 2})
	for _, table := range []string{"session_v1", "events_v1"} {
		if err := c.Exec("OPTIMIZE TABLE " + table + " FINAL"); err != nil {
			t.Fatal(err)
		}
	}
	is("of one part", ofVisits(), sums{3, 2})
}

// TestNoParameterLeavesItsString: whatever a parameter holds, other tenants'
// rows stay theirs, and what is asked stays one query.
func TestNoParameterLeavesItsString(t *testing.T) {
	const hostile = `x' OR '1'='1' OR \' OR 1=1 -- {{String(workspaceId)}} {% end %} "` + "`" + `; DROP TABLE session_v1 /* %`
	c := open(t)
	insertHandmade(t, c, "session_v1", session("a", time.Hour))
	insertHandmade(t, c, "events_v1", purchase("e", "a", time.Hour, 5))
	insertHandmade(t, c, "traffic_v1", map[string]any{"timestamp": clock(time.Hour)})
	insertHandmade(t, c, "consents_v1", map[string]any{"timestamp": clock(time.Hour), "given_at": clock(time.Hour)})
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range project.Endpoints() {
		all := handmadeParameters(0, 24*time.Hour)
		all["asOf"] = handmadeDay.Add(61 * time.Minute).Format("2006-01-02 15:04:05.000")
		if strings.HasPrefix(endpoint, "ab_test") {
			delete(all, "periodStart")
			delete(all, "periodEnd")
			all["abTestId"], all["confidenceLevel"] = "hero", "95"
		}
		answer := func(p map[string]string) string {
			t.Helper()
			return fmt.Sprint(ask[map[string]any](t, c, endpoint, p))
		}
		asking := func(name, value string) map[string]string {
			p := maps.Clone(all)
			p[name] = value
			return p
		}
		nobody := answer(asking("workspaceId", "nobody"))
		if answer(all) == nobody {
			t.Errorf("%s says of nobody what it says of the rows", endpoint)
		}
		for _, name := range []string{"workspaceId", "projectId", "campaignId", "environment", "campaignEnvironment"} {
			if got := answer(asking(name, hostile)); got != nobody {
				t.Errorf("%s with a hostile %s: %s", endpoint, name, got)
			}
		}
		others := maps.Clone(all)
		for _, name := range []string{"conversionEventId", "currency", "eventIds", "abTestId", "controlVariantId"} {
			others[name] = hostile
		}
		answer(others)
		name, read := map[string]string{
			"timeseries_primitives": "granularity", "consent_rates": "granularity", "traffic_overview": "granularity", "ab_test_winner": "winnerStrategy",
		}[endpoint]
		if !read {
			continue
		}
		sql, err := project.Compile(endpoint, asking(name, hostile))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Query[map[string]any](c, sql); err == nil || !strings.Contains(err.Error(), name+" is ") {
			t.Errorf("%s with a hostile %s: %v", endpoint, name, err)
		}
	}
}
