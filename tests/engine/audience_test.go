package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// breakdown is what a breakdown lists visits by.
type breakdown struct {
	// of is a visit's key, false if the visit has none. A key of two parts is
	// a city and its country.
	of    func(v visit) ([]any, bool)
	limit int // 0: all
	// byKey: in the order of keys, not of figures.
	byKey bool
}

func plain(of func(v visit) string) func(v visit) ([]any, bool) {
	return func(v visit) ([]any, bool) {
		key := of(v)
		return []any{key}, key != ""
	}
}

// audience are the columns of audience_breakdown.
var audience = map[string]breakdown{
	"device_types":      {of: plain(func(v visit) string { return v.Visit.Person.Device }), limit: 5},
	"operating_systems": {of: plain(func(v visit) string { return v.Visit.Person.OS }), limit: 5},
	"browsers":          {of: plain(func(v visit) string { return v.Visit.Person.Browser }), limit: 5},
	"countries":         {of: plain(func(v visit) string { return v.Visit.Person.Country }), limit: 30},
	"cities":            {of: func(v visit) ([]any, bool) { return []any{v.City, v.Visit.Person.Country}, true }, limit: 5},
	"continents":        {of: plain(func(v visit) string { return v.Visit.Person.Continent }), limit: 5},
	"languages":         {of: plain(func(v visit) string { return or(v.Visit.Person.Language, "Unknown") }), limit: 5},
	"timezones":         {of: plain(func(v visit) string { return or(v.Visit.Person.Zone, "Unknown") }), limit: 5},
	"utm_sources":       {of: plain(func(v visit) string { return orDirect(v.Touch.Source) }), limit: 10},
	"sources": {of: plain(func(v visit) string {
		return or(v.Touch.Own, or(v.Touch.Ref, orDirect(v.Touch.Source)))
	}), limit: 10},
	"utm_mediums":         {of: plain(func(v visit) string { return orDirect(v.Touch.Medium) }), limit: 10},
	"utm_campaigns":       {of: plain(func(v visit) string { return orDirect(v.Touch.Campaign) }), limit: 10},
	"referrers":           {of: plain(func(v visit) string { return host(v.Touch.Referrer) }), limit: 10},
	"user_types":          {of: plain(userType)},
	"hourly_distribution": {of: func(v visit) ([]any, bool) { return []any{v.start.Hour()}, true }, byKey: true},
	"daily_distribution":  {of: func(v visit) ([]any, bool) { return weekday(v.start), true }, byKey: true},
	"landing_pages":       {of: plain(func(v visit) string { return v.LandingPage }), limit: 15},
	"segments":            {of: plain(func(v visit) string { return v.Segment }), limit: 10},
	"ab_test_variants":    {of: plain(func(v visit) string { return v.Variant }), limit: 10},
}

func userType(v visit) string {
	if v.Returning {
		return "Returning"
	}
	return "New"
}

// weekday is the day's number, 1 for Monday, and its name.
func weekday(at time.Time) []any {
	day := at.Weekday()
	return []any{(int(day)+6)%7 + 1, day.String()}
}

// group is the visits of one key.
type group struct {
	key    []any
	visits []visit
}

// groups are the breakdown's, ranked by figure, then by key.
func (b breakdown) groups(visits []visit, figures ...func(group) int) []group {
	byKey := make(map[string]*group)
	for _, v := range visits {
		key, ok := b.of(v)
		if !ok {
			continue
		}
		name := fmt.Sprint(key...)
		if n, ok := key[0].(int); ok {
			name = fmt.Sprintf("%02d", n) // numbers in their own order
		}
		if byKey[name] == nil {
			byKey[name] = &group{key: key}
		}
		byKey[name].visits = append(byKey[name].visits, v)
	}
	var names []string
	for name := range byKey {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []group
	for _, name := range names {
		all = append(all, *byKey[name])
	}
	if !b.byKey {
		slices.SortStableFunc(all, func(x, y group) int {
			for _, figure := range figures {
				if d := figure(y) - figure(x); d != 0 {
					return d
				}
			}
			return 0
		})
	}
	if b.limit > 0 && len(all) > b.limit {
		all = all[:b.limit]
	}
	return all
}

func sessionsOf(g group) int { return len(g.visits) }

// sameList compares a column's tuples with what they should be: strings and
// whole numbers exactly, other numbers as sums, the last as a percentage if so.
func sameList(got [][]any, want [][]any, percent int) string {
	if len(got) != len(want) {
		return fmt.Sprintf("got  %v\nwant %v", got, want)
	}
	for i := range want {
		if len(got[i]) != len(want[i]) {
			return fmt.Sprintf("got  %v\nwant %v", got[i], want[i])
		}
		for k, w := range want[i] {
			equal := false
			switch w := w.(type) {
			case string:
				equal = got[i][k] == w
			case int:
				equal = got[i][k] == float64(w)
			case float64:
				g, ok := got[i][k].(float64)
				equal = ok && (k == percent && rounded(g, w) || k != percent && near(g, w))
			}
			if !equal {
				return fmt.Sprintf("row %d, value %d: got %v, want %v", i, k, got[i], want[i])
			}
		}
	}
	return ""
}

func TestAudienceBreakdown(t *testing.T) { asked(t, checkAudience) }

func checkAudience(t *testing.T, c *ClickHouse, q question) {
	row := one[map[string]json.RawMessage](t, c, "audience_breakdown", q.parameters())
	visits := q.visits()
	if len(row) != len(audience)+2 {
		t.Errorf("%d columns, want %d", len(row), len(audience)+2)
	}
	total(t, row, "total_sessions", len(visits))
	total(t, row, "total_users", visitors(visits))
	for column, b := range audience {
		var want [][]any
		for _, g := range b.groups(visits, sessionsOf) {
			returning := len(filter(g.visits, func(v visit) bool { return v.Returning }))
			n, percent := len(g.visits), 100*share(len(g.visits), len(visits))
			figures := []any{n, visitors(g.visits), n - returning, returning, percent}
			if column == "user_types" {
				figures = []any{n, visitors(g.visits), percent}
			}
			want = append(want, append(g.key, figures...))
		}
		checkList(t, row, column, want, func(width int) int { return width - 1 })
	}
}

// total compares a column that is a whole number.
func total(t *testing.T, row map[string]json.RawMessage, column string, want int) {
	t.Helper()
	if got := string(row[column]); got != fmt.Sprint(want) {
		t.Errorf("%s is %s, want %d", column, got, want)
	}
}

// checkList compares a column of tuples; percent says where in one of that
// width the percentage is.
func checkList(t *testing.T, row map[string]json.RawMessage, column string, want [][]any, percent func(int) int) {
	t.Helper()
	var got [][]any
	if err := json.Unmarshal(row[column], &got); err != nil {
		t.Fatalf("%s: %v", column, err)
	}
	width := 0
	if len(want) > 0 {
		width = len(want[0])
	}
	if diff := sameList(got, want, percent(width)); diff != "" {
		t.Errorf("%s: %s", column, diff)
	}
}
