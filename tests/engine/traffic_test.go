package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// pagesBy is what an array of traffic_overview lists pages by; an empty key is none.
type pagesBy struct {
	of    func(p *month.Page) string
	limit int // 0: all
}

var trafficLists = map[string]pagesBy{
	"purposes":          {of: func(p *month.Page) string { return p.Purpose }},
	"statuses":          {of: func(p *month.Page) string { return fmt.Sprintf("%dxx", p.Status/100) }},
	"agents":            {of: agent},
	"bot_scores":        {of: func(p *month.Page) string { return fmt.Sprint(p.Person.BotScore) }},
	"countries":         {of: func(p *month.Page) string { return p.Person.Country }, limit: 30},
	"devices":           {of: func(p *month.Page) string { return p.Person.Device }, limit: 10},
	"operating_systems": {of: func(p *month.Page) string { return p.Person.OS }, limit: 10},
	"browsers":          {of: func(p *month.Page) string { return p.Person.Browser }, limit: 10},
	"languages":         {of: func(p *month.Page) string { return or(p.Person.Language, "Unknown") }, limit: 10},
	"landing_pages":     {of: func(p *month.Page) string { return p.LandingPage }, limit: 15},
	"segments":          {of: func(p *month.Page) string { return p.Segment }, limit: 10},
	"ab_test_variants": {of: func(p *month.Page) string {
		if !started(p) {
			return ""
		}
		return p.Session.Variant
	}, limit: 10},
	"referrers": {of: func(p *month.Page) string { return host(p.Referrer) }, limit: 10},
}

func agent(p *month.Page) string {
	score := p.Person.BotScore
	switch {
	case p.Person.VerifiedBot:
		return "verified crawler"
	case score >= 1 && score <= 5:
		return "program"
	case score >= 6 && score < 30:
		return "suspect"
	case p.CorporateProxy:
		return "corporate proxy"
	case score == 0:
		return "unknown"
	}
	return "person"
}

// started says that the page's session has a row.
func started(p *month.Page) bool {
	return p.Session != nil && slices.Contains(p.Session.Visit.Rows(), p.Session)
}

// traffic is what pages come to.
type traffic struct{ pages, counted, people, sessions, started int }

func (q question) traffic(pages []*month.Page) traffic {
	sessions, begun := make(map[string]bool), make(map[string]bool)
	var n traffic
	for _, p := range pages {
		n.pages++
		if !p.Counted {
			continue
		}
		n.counted++
		if p.Person.Program() && !q.programs {
			continue
		}
		n.people++
		visit := p.SessionID
		if started(p) && !q.renewals {
			visit = p.Session.Visit.Sessions[0].ID
		}
		sessions[visit] = true
		if started(p) {
			begun[visit] = true
		}
	}
	n.sessions, n.started = len(sessions), len(begun)
	return n
}

func TestTrafficOverview(t *testing.T) {
	keys := make(map[string]bool)
	asked(t, func(t *testing.T, c *ClickHouse, q question) { maps.Copy(keys, checkTraffic(t, c, q)) })
	for _, key := range []string{
		"purposes prefetch", "purposes retried", "purposes range", "statuses 4xx", "statuses 5xx", "bot_scores 0",
		"agents verified crawler", "agents program", "agents suspect", "agents corporate proxy", "agents unknown", "agents person", "ab_test_variants bold",
	} {
		if !keys[key] {
			t.Errorf("no page of the month is in %s", key)
		}
	}
}

// Pages of before there were environments are production's.
func TestTrafficOfBeforeIsProductions(t *testing.T) {
	c := open(t)
	page := filter(aMonth().Pages, func(p *month.Page) bool { return p.Tenant == month.Main })[0]
	truth := &month.Truth{Pages: []*month.Page{page}}
	for _, batch := range truth.Batches(1) {
		var row map[string]any
		if err := json.Unmarshal(batch.Rows[0], &row); err != nil {
			t.Fatal(err)
		}
		delete(row, "campaign_environment")
		row["environment"] = nil
		old, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Insert(batch.Datasource, [][]byte{old}); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, want := range map[month.Tenant]int{month.Main: 1, month.Preview: 0, month.Development: 0} {
		q := questions()["the whole month"]
		q.tenant = tenant
		parameters := q.parameters()
		delete(parameters, "conversionEventId")
		total(t, one[map[string]json.RawMessage](t, c, "traffic_overview", parameters), "total_pages", want)
	}
}

// checkTraffic returns the keys that were to be in a list.
func checkTraffic(t *testing.T, c *ClickHouse, q question) map[string]bool {
	steps := map[string]time.Duration{"": time.Hour, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour}
	keys := make(map[string]bool)
	pages := filter(q.truth.Pages, func(p *month.Page) bool { return p.Tenant == q.tenant && q.period.has(p.At) })
	for granularity, step := range steps {
		if granularity != "" && q != questions()["ten days"] && (granularity != "minute" || q != questions()["three hours and a bit"]) {
			continue
		}
		parameters := q.parameters()
		delete(parameters, "conversionEventId")
		if granularity != "" {
			parameters["granularity"] = granularity
		}
		row := one[map[string]json.RawMessage](t, c, "traffic_overview", parameters)
		if want := 5 + len(trafficLists) + 5; len(row) != want {
			t.Errorf("%d columns, want %d", len(row), want)
		}
		all := q.traffic(pages)
		total(t, row, "total_pages", all.pages)
		total(t, row, "counted_pages", all.counted)
		total(t, row, "people_pages", all.people)
		total(t, row, "sessions", all.sessions)
		total(t, row, "started_sessions", all.started)
		for column, b := range trafficLists {
			byKey := make(map[string][]*month.Page)
			for _, p := range pages {
				if key := b.of(p); key != "" {
					byKey[key] = append(byKey[key], p)
				}
			}
			var want [][]any
			for key, pages := range byKey {
				n := q.traffic(pages)
				tuple := []any{key, n.pages, n.counted, n.people, n.sessions}
				if column == "bot_scores" {
					tuple[0] = int(pages[0].Person.BotScore)
				}
				want = append(want, tuple)
				keys[column+" "+key] = true
			}
			slices.SortFunc(want, func(x, y []any) int {
				if column == "bot_scores" {
					return x[0].(int) - y[0].(int)
				}
				return cmp.Or(y[1].(int)-x[1].(int), cmp.Compare(x[0].(string), y[0].(string)))
			})
			if b.limit > 0 && len(want) > b.limit {
				want = want[:b.limit]
			}
			checkList(t, row, column, want, func(int) int { return -1 })
		}
		var ts []string
		series := make(map[string][]int)
		byBucket := make(map[time.Time][]*month.Page)
		for _, p := range pages {
			byBucket[p.At.Truncate(step)] = append(byBucket[p.At.Truncate(step)], p)
		}
		for start := q.period.start.Truncate(step); !start.After(q.period.end); start = start.Add(step) {
			n := q.traffic(byBucket[start])
			ts = append(ts, start.Format(time.DateTime))
			for column, figure := range map[string]int{"pages": n.pages, "counted_pages": n.counted, "people_pages": n.people, "sessions": n.sessions} {
				series[column] = append(series[column], figure)
			}
		}
		same(t, row, "series_ts", ts)
		for column, figures := range series {
			same(t, row, "series_"+column, figures)
		}
	}
	return keys
}

// same compares a column that is a list.
func same[T any](t *testing.T, row map[string]json.RawMessage, column string, want []T) {
	t.Helper()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(row[column]) != string(text) {
		t.Errorf("%s is %s\nwant %s", column, row[column], text)
	}
}
