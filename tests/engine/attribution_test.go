package engine

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// known is a breakdown of visits whose first touch somebody knows.
func known(of func(v visit) string) breakdown {
	return breakdown{limit: 30, of: func(v visit) ([]any, bool) {
		key := of(v)
		return []any{key}, key != "" && v.FirstSource != "lost"
	}}
}

// hostOf is a first touch's referrer, empty for none.
func hostOf(v visit) string {
	if v.First.Referrer == "" {
		return ""
	}
	return host(v.First.Referrer)
}

// firstTouch are the columns of attribution_first_touch, but for click_ids.
var firstTouch = map[string]breakdown{
	"attribution_sources": {of: plain(func(v visit) string { return v.FirstSource }), limit: 30},
	"origins": known(func(v visit) string {
		return or(v.First.Own, or(v.First.Ref, or(v.First.Source, orDirect(hostOf(v)))))
	}),
	"utm_sources":   known(func(v visit) string { return orDirect(v.First.Source) }),
	"utm_mediums":   known(func(v visit) string { return orDirect(v.First.Medium) }),
	"utm_campaigns": known(func(v visit) string { return orDirect(v.First.Campaign) }),
	"utm_terms":     known(func(v visit) string { return v.First.Term }),
	"utm_contents":  known(func(v visit) string { return v.First.Content }),
	"refs":          known(func(v visit) string { return v.First.Ref }),
	"sources":       known(func(v visit) string { return orDirect(v.First.Own) }),
	"referrers":     known(func(v visit) string { return orDirect(hostOf(v)) }),
	"landing_pages": known(func(v visit) string { path, _, _ := strings.Cut(v.First.LandingPage, "?"); return path }),
}

// clickIDs are the kinds that occur in the month, by their parameters.
var clickIDs = map[string]string{"gclid": "gclid", "gbraid": "gbraid", "fbclid": "fbclid", "ScCid": "sc_cid"}

func TestAttributionFirstTouch(t *testing.T) {
	seen := make(map[string]bool)
	asked(t, func(t *testing.T, c *ClickHouse, q question) { maps.Copy(seen, checkFirstTouch(t, c, q)) })
	for _, what := range []string{"server", "client", "lost", "utm_terms", "utm_contents", "gclid", "gbraid", "fbclid", "sc_cid"} {
		if !seen[what] {
			t.Errorf("the month has no visit with %s", what)
		}
	}
}

// checkFirstTouch returns which columns, click ids and sources of first touches
// were to be there.
func checkFirstTouch(t *testing.T, c *ClickHouse, q question) map[string]bool {
	seen := make(map[string]bool)
	row := one[map[string]json.RawMessage](t, c, "attribution_first_touch", q.parameters())
	if want := 5 + len(firstTouch) + 1; len(row) != want {
		t.Errorf("%d columns, want %d", len(row), want)
	}
	visits := q.visits()
	q.checkTotals(t, row, visits)
	conversions := func(g group) int { return q.worth(g.visits).conversions }
	tuple := func(g group) []any {
		w := q.worth(g.visits)
		told := len(filter(g.visits, func(v visit) bool { return v.FirstSource == "client" }))
		return append(g.key, len(g.visits), visitors(g.visits), w.conversions, w.value, 100*share(w.visits, len(g.visits)), told)
	}
	rateAt := func(width int) int { return width - 2 }
	for column, b := range firstTouch {
		var want [][]any
		for _, g := range b.groups(visits, conversions, sessionsOf) {
			want = append(want, tuple(g))
			seen[column] = true
		}
		checkList(t, row, column, want, rateAt)
	}
	// A visit may have several, so each kind is asked for apart.
	var kinds []group
	for parameter, kind := range clickIDs {
		with := breakdown{of: func(v visit) ([]any, bool) {
			u, err := url.Parse(v.First.LandingPage)
			return []any{kind}, err == nil && u.Query().Has(parameter)
		}}
		kinds = append(kinds, with.groups(visits)...)
	}
	slices.SortFunc(kinds, func(a, b group) int {
		return cmp.Or(conversions(b)-conversions(a), sessionsOf(b)-sessionsOf(a), strings.Compare(a.key[0].(string), b.key[0].(string)))
	})
	var want [][]any
	for _, g := range kinds {
		seen[g.key[0].(string)] = true
		want = append(want, tuple(g))
	}
	checkList(t, row, "click_ids", want, rateAt)
	for _, v := range visits {
		seen[v.FirstSource] = true
	}
	return seen
}
