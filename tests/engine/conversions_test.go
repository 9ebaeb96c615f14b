package engine

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// converting are the columns of conversions_breakdown that list visits.
var converting = map[string]breakdown{
	"device_conversions":           limited(audience["device_types"], 10),
	"operating_system_conversions": limited(audience["operating_systems"], 10),
	"browser_conversions":          limited(audience["browsers"], 10),
	"geographic_conversions":       limited(audience["countries"], 15),
	"city_conversions":             limited(audience["cities"], 20),
	"utm_source_conversions":       limited(audience["utm_sources"], 10),
	"utm_medium_conversions":       limited(audience["utm_mediums"], 10),
	"utm_campaign_conversions":     limited(audience["utm_campaigns"], 10),
	"referrer_conversions":         limited(audience["referrers"], 10),
	"source_conversions":           {of: plain(func(v visit) string { return orDirect(v.Touch.Own) }), limit: 10},
	"landing_page_conversions":     limited(audience["landing_pages"], 15),
	"segment_conversions":          limited(audience["segments"], 10),
	"ab_test_conversions":          limited(audience["ab_test_variants"], 10),
	"user_type_conversions":        audience["user_types"],
}

func limited(b breakdown, limit int) breakdown {
	b.limit = limit
	return b
}

// worth is what visits' conversions come to.
type worth struct {
	visits, conversions, ofNew, ofReturning int
	value                                   float64
}

func (q question) worth(visits []visit) worth {
	var w worth
	for _, v := range visits {
		n, value := q.conversions(v)
		w.conversions += n
		w.value += value
		if n > 0 {
			w.visits++
		}
		if v.Returning {
			w.ofReturning += n
		} else {
			w.ofNew += n
		}
	}
	return w
}

// occasion is the conversions of an hour, a day or a range of values.
type occasion struct {
	key                []any
	conversions, dated int
	visitors           map[string]bool
	value              float64
}

// occasions are the visits' conversions by key, in the order of keys.
func (q question) occasions(visits []visit, of func(e *month.Event) (int, []any)) [][]any {
	byKey := make(map[int]*occasion)
	var keys []int
	for _, v := range visits {
		for _, e := range v.events {
			if !q.converts(e) {
				continue
			}
			at, key := of(e)
			if key == nil {
				continue
			}
			if byKey[at] == nil {
				byKey[at] = &occasion{key: key, visitors: make(map[string]bool)}
				keys = append(keys, at)
			}
			o := byKey[at]
			o.conversions++
			o.visitors[v.Visitor()] = true
			if e.Currency == q.currency {
				o.dated++
				o.value += e.Value
			}
		}
	}
	slices.Sort(keys)
	var rows [][]any
	for _, at := range keys {
		o := byKey[at]
		average := 0.0
		if o.dated > 0 {
			average = o.value / float64(o.dated)
		}
		rows = append(rows, append(o.key, o.conversions, len(o.visitors), o.value, average))
	}
	return rows
}

func (q question) valueRange(e *month.Event) (int, []any) {
	if e.Currency != q.currency {
		return 0, nil
	}
	upTo := []float64{0, 10, 50, 100, 500, 1000}
	names := []string{"$0", "$1-10", "$11-50", "$51-100", "$101-500", "$501-1000", "$1000+"}
	at, _ := slices.BinarySearch(upTo, e.Value)
	return at, []any{names[at]}
}

// checkTotals compares the columns of all visits and their conversions.
func (q question) checkTotals(t *testing.T, row map[string]json.RawMessage, visits []visit) {
	t.Helper()
	all := q.worth(visits)
	total(t, row, "total_sessions", len(visits))
	total(t, row, "total_users", visitors(visits))
	total(t, row, "total_conversions", all.conversions)
	var value, rate float64
	if json.Unmarshal(row["total_conversion_value"], &value) != nil || !near(value, all.value) {
		t.Errorf("total_conversion_value is %s, want %v", row["total_conversion_value"], all.value)
	}
	if json.Unmarshal(row["overall_conversion_rate"], &rate) != nil || !rounded(rate, 100*share(all.visits, len(visits))) {
		t.Errorf("overall_conversion_rate is %s, want %v", row["overall_conversion_rate"], 100*share(all.visits, len(visits)))
	}
}

func TestConversionsBreakdown(t *testing.T) { asked(t, checkConversions) }

func checkConversions(t *testing.T, c *ClickHouse, q question) {
	row := one[map[string]json.RawMessage](t, c, "conversions_breakdown", q.parameters())
	if want := 5 + len(converting) + 3; len(row) != want {
		t.Errorf("%d columns, want %d", len(row), want)
	}
	visits := q.visits()
	q.checkTotals(t, row, visits)
	conversions := func(g group) int { return q.worth(g.visits).conversions }
	for column, b := range converting {
		var want [][]any
		for _, g := range b.groups(visits, conversions, sessionsOf) {
			w := q.worth(g.visits)
			tuple := append(g.key, len(g.visits), visitors(g.visits), w.conversions, w.value, 100*share(w.visits, len(g.visits)))
			if column != "user_type_conversions" {
				tuple = append(tuple, w.ofNew, w.ofReturning)
			}
			want = append(want, tuple)
		}
		rateAt := func(width int) int { return width - 3 }
		if column == "user_type_conversions" {
			rateAt = func(width int) int { return width - 1 }
		}
		checkList(t, row, column, want, rateAt)
	}
	never := func(int) int { return -1 }
	checkList(t, row, "hourly_conversions", q.occasions(visits, func(e *month.Event) (int, []any) {
		return e.At.Hour(), []any{e.At.Hour()}
	}), never)
	checkList(t, row, "daily_conversions", q.occasions(visits, func(e *month.Event) (int, []any) {
		day := weekday(e.At)
		return day[0].(int), day
	}), never)
	checkList(t, row, "value_distribution", q.occasions(visits, q.valueRange), never)
}
