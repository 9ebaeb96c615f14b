package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// primitives are the figures that sum_primitives has once a period and
// timeseries_primitives once a bucket.
type primitives struct {
	NewSessions        int      `json:"new_sessions"`
	ReturningSessions  int      `json:"returning_sessions"`
	AllSessions        int      `json:"all_sessions"`
	Users              int      `json:"users"`
	Pageviews          int      `json:"pageviews"`
	Conversions        int      `json:"conversions"`
	ConversionValue    float64  `json:"conversion_value"`
	ExternalLinkClicks int      `json:"external_link_clicks"`
	FormSubmissions    int      `json:"form_submissions"`
	AvgSessionDuration float64  `json:"avg_session_duration"`
	BouncedSessions    int      `json:"bounced_sessions"`
	CustomEvents       []custom `json:"custom_events"`
	withDuration       int
}

// custom is an event id with how often it happened and its value.
type custom struct {
	ID    string
	Count int
	Value float64
}

// UnmarshalJSON reads a tuple, which comes as an array.
func (c *custom) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&c.ID, &c.Count, &c.Value})
}

// customs are the events that are counted one by one. One id has no comma, as
// the parameter cannot ask for those that do.
var customs = []string{"signup", "scroll-threshold-50", "never"}

// count computes the figures of visits and events.
func (q question) count(visits []visit, events []*month.Event) primitives {
	var p primitives
	seconds := 0
	for _, v := range visits {
		if v.Returning {
			p.ReturningSessions++
		} else {
			p.NewSessions++
		}
		if d, ok := v.duration(); ok {
			p.withDuration++
			seconds += d
			if d < 3 {
				p.BouncedSessions++
			}
		}
	}
	p.AllSessions, p.Users = len(visits), visitors(visits)
	p.AvgSessionDuration = share(seconds, p.withDuration)
	byID := make(map[string]*custom)
	for _, e := range events {
		switch e.ID {
		case "page-view":
			p.Pageviews++
		case "external-link-click":
			p.ExternalLinkClicks++
		case "form-submission":
			p.FormSubmissions++
		}
		if q.converts(e) {
			p.Conversions++
			p.ConversionValue += q.value(e)
		}
		if slices.Contains(customs, e.ID) {
			if byID[e.ID] == nil {
				byID[e.ID] = &custom{ID: e.ID}
			}
			byID[e.ID].Count++
			byID[e.ID].Value += q.value(e)
		}
	}
	for _, c := range byID {
		p.CustomEvents = append(p.CustomEvents, *c)
	}
	slices.SortFunc(p.CustomEvents, func(a, b custom) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.ID, b.ID))
	})
	return p
}

// differs says in what two sets of figures differ; empty if in nothing.
func (p primitives) differs(want primitives) string {
	got, sums := p, near(p.ConversionValue, want.ConversionValue) && near(p.AvgSessionDuration, want.AvgSessionDuration)
	for i, c := range want.CustomEvents {
		if i < len(got.CustomEvents) && near(got.CustomEvents[i].Value, c.Value) {
			got.CustomEvents[i].Value = c.Value
		}
	}
	got.ConversionValue, got.AvgSessionDuration = want.ConversionValue, want.AvgSessionDuration
	if len(got.CustomEvents) == 0 && len(want.CustomEvents) == 0 {
		got.CustomEvents = want.CustomEvents
	}
	if sums && fmt.Sprint(got) == fmt.Sprint(want) {
		return ""
	}
	return fmt.Sprintf("got  %+v\nwant %+v", p, want)
}

func TestSumPrimitives(t *testing.T) { asked(t, checkSums) }

func checkSums(t *testing.T, c *ClickHouse, q question) {
	parameters := q.parameters()
	parameters["eventIds"] = strings.Join(customs, ",")
	row := one[map[string]json.RawMessage](t, c, "sum_primitives", parameters)
	if len(row) != 24 {
		t.Errorf("%d columns, want 24", len(row))
	}
	previous := q
	previous.period = q.period.before()
	for prefix, q := range map[string]question{"current_": q, "previous_": previous} {
		want := q.count(q.visits(), q.events())
		got := prefixed(t, row, prefix)
		got.withDuration = want.withDuration // which is no column
		if diff := got.differs(want); diff != "" {
			t.Errorf("%s\n%s", prefix, diff)
		}
	}
}

// prefixed takes the columns with that prefix.
func prefixed(t *testing.T, row map[string]json.RawMessage, prefix string) primitives {
	t.Helper()
	columns := make(map[string]json.RawMessage)
	for name, v := range row {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			columns[rest] = v
		}
	}
	text, err := json.Marshal(columns)
	if err != nil {
		t.Fatal(err)
	}
	var p primitives
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

type bucket struct {
	primitives
	Start string  `json:"bucket_start"`
	End   string  `json:"bucket_end"`
	Label string  `json:"bucket_label"`
	Value float64 `json:"conversion_value_usd"`
	Timed int     `json:"total_sessions_with_duration"`
}

func TestTimeseriesPrimitives(t *testing.T) { asked(t, checkTimeseries) }

func checkTimeseries(t *testing.T, c *ClickHouse, q question) {
	steps := []struct {
		granularity, label string
		step               time.Duration
	}{
		{"", "2006-01-02 15:04", time.Hour},
		{"hour", "2006-01-02 15:04", time.Hour},
		{"minute", "2006-01-02 15:04", time.Minute},
		{"day", "2006-01-02", 24 * time.Hour},
		{"week", "2006-01-02", 7 * 24 * time.Hour},
	}
	visits, events := q.visits(), q.events()
	for _, s := range steps {
		short := q.period.end.Sub(q.period.start) < 24*time.Hour
		if s.step == time.Minute && !short || s.granularity != "day" && q != questions()["ten days"] && !short {
			continue
		}
		parameters := q.parameters()
		parameters["eventIds"] = strings.Join(customs, ",")
		if s.granularity != "" {
			parameters["granularity"] = s.granularity
		}
		got := ask[bucket](t, c, "timeseries_primitives", parameters)
		// Truncate counts from year 1, which began on a Monday.
		start := q.period.start.Truncate(s.step)
		for i := 0; !start.After(q.period.end); i++ {
			end := start.Add(s.step)
			in := func(at time.Time) bool { return !at.Before(start) && at.Before(end) }
			want := q.count(filter(visits, func(v visit) bool { return in(v.start) }),
				filter(events, func(e *month.Event) bool { return in(e.At) }))
			if i >= len(got) {
				t.Fatalf("%s: no bucket for %v", s.granularity, start)
			}
			g := got[i]
			if g.Start != start.Format(time.DateTime) || g.End != end.Format(time.DateTime) || g.Label != start.Format(s.label) {
				t.Errorf("%s: bucket %d is %s to %s, %q, want %v", s.granularity, i, g.Start, g.End, g.Label, start)
			}
			g.ConversionValue, g.withDuration = g.Value, g.Timed
			if diff := g.differs(want); diff != "" {
				t.Errorf("%s, %v\n%s", s.granularity, start, diff)
			}
			start = end
			if start.After(q.period.end) && len(got) != i+1 {
				t.Errorf("%s: %d buckets, want %d", s.granularity, len(got), i+1)
			}
		}
	}
}

func filter[T any](all []T, keep func(T) bool) []T {
	var kept []T
	for _, x := range all {
		if keep(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

func TestTimeseriesRefusesAnUnknownGranularity(t *testing.T) {
	c := open(t)
	q := questions()["ten days"]
	parameters := q.parameters()
	parameters["granularity"] = "month"
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	sql, err := project.Compile("timeseries_primitives", parameters)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Query[bucket](c, sql); err == nil || !strings.Contains(err.Error(), "minute, hour, day or week") {
		t.Errorf("the error is %v", err)
	}
}
