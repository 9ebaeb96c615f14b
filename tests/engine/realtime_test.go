package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// realtime is realtime_overview's row.
type realtime struct {
	ActiveSessions  int     `json:"active_sessions"`
	Events          int     `json:"events"`
	Conversions     int     `json:"conversions"`
	ConversionValue float64 `json:"conversion_value"`
	Countries       []tally `json:"countries"`
	Devices         []tally `json:"devices"`
	LandingPages    []tally `json:"top_landing_pages"`
	Sources         []tally `json:"traffic_sources"`
	TopEvents       []tally `json:"top_events"`
}

// tally is a key and how often it occurs.
type tally struct {
	Key string
	N   int
}

// UnmarshalJSON reads a tuple, which comes as an array.
func (c *tally) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&c.Key, &c.N}) }

// most are the limit most frequent of counts, 0 for all; what has no name is left out.
func most(counts map[string]int, limit int) []tally {
	var all []tally
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if key != "" {
			all = append(all, tally{key, counts[key]})
		}
	}
	slices.SortStableFunc(all, func(a, b tally) int { return cmp.Compare(b.N, a.N) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}

// now computes what happens in the minutes before at.
func (q question) now(at time.Time, minutes int) realtime {
	window := period{at.Add(-time.Duration(minutes)*time.Minute + time.Millisecond), at}
	newest := make(map[*month.Session]*month.Session) // by the visit that it is of
	countries, devices, pages, sources, events := make(map[string]int), make(map[string]int), make(map[string]int), make(map[string]int), make(map[string]int)
	var want realtime
	for _, v := range q.truth.Visits {
		if !q.people(v) {
			continue
		}
		for _, s := range v.Rows() {
			alive := window.has(s.At)
			for _, e := range s.Events {
				if !window.has(e.At) {
					continue
				}
				alive = true
				want.Events++
				if e.Type != "system" {
					events[e.ID]++
				}
				if q.converts(e) {
					want.Conversions++
					want.ConversionValue += q.value(e)
				}
			}
			if alive && q.renewals {
				newest[s] = s
			} else if alive {
				newest[v.Sessions[0]] = s // sessions are in order
			}
		}
	}
	for _, s := range newest {
		countries[s.Visit.Person.Country]++
		devices[s.Visit.Person.Device]++
		pages[s.LandingPage]++
		sources[or(s.Touch.Own, or(s.Touch.Ref, orDirect(s.Touch.Source)))]++
	}
	want.ActiveSessions = len(newest)
	want.Countries, want.Devices = most(countries, 0), most(devices, 0)
	want.LandingPages, want.Sources, want.TopEvents = most(pages, 5), most(sources, 10), most(events, 5)
	return want
}

func (r realtime) differs(want realtime) string {
	if near(r.ConversionValue, want.ConversionValue) {
		r.ConversionValue = want.ConversionValue
	}
	if fmt.Sprint(r) == fmt.Sprint(want) {
		return ""
	}
	return fmt.Sprintf("got  %+v\nwant %+v", r, want)
}

func realtimeParameters(q question, at time.Time, minutes int) map[string]string {
	p := q.parameters()
	delete(p, "periodStart")
	delete(p, "periodEnd")
	p["asOf"] = at.Format("2006-01-02 15:04:05.000")
	if minutes != 30 {
		p["lookbackMinutes"] = fmt.Sprint(minutes)
	}
	return p
}

func TestRealtimeOverview(t *testing.T) {
	active := 0
	asked(t, func(t *testing.T, c *ClickHouse, q question) {
		checkRealtime(t, c, q)
		active += checkNow(t, c, q, q.truth.Start.AddDate(0, 0, 20).Add(15*time.Hour+123*time.Millisecond), 30)
	})
	if active == 0 {
		t.Error("nobody was there in any half an hour")
	}
}

// checkRealtime asks what happened where the period begins and ends.
func checkRealtime(t *testing.T, c *ClickHouse, q question) {
	checkNow(t, c, q, q.period.end, 5)
	checkNow(t, c, q, q.period.end, 12*24*60)
	checkNow(t, c, q, q.period.start, 24*60)
}

// checkNow asks what happened in the minutes before at, and returns how many
// visits that were.
func checkNow(t *testing.T, c *ClickHouse, q question, at time.Time, minutes int) int {
	t.Helper()
	want := q.now(at, minutes)
	if diff := one[realtime](t, c, "realtime_overview", realtimeParameters(q, at, minutes)).differs(want); diff != "" {
		t.Errorf("%d minutes before %v\n%s", minutes, at, diff)
	}
	return want.ActiveSessions
}

// What is in no month: an event that came before its session's row, and a
// visitor who moved between two sessions. It is asked of the clock, too.
func TestRealtimeOverviewOfWhatJustCame(t *testing.T) {
	c := open(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	person := &month.Person{User: "user_1", Country: "DE", City: "Halle", Continent: "EU", Device: "mobile", OS: "iOS", Browser: "Safari", BotScore: 99}
	session := func(id string, at time.Time, p *month.Person, renewal int) *month.Session {
		return &month.Session{ID: id, User: p.User, City: p.City, At: at, Renewal: renewal, FirstSource: "server", LandingPage: "lp_1"}
	}
	view := func(s *month.Session, at time.Time) {
		s.Events = append(s.Events, &month.Event{Session: s, ID: "page-view", Type: "engagement", At: at, Sequence: 1, Value: 1, Currency: "USD", TimeOnPage: -1})
	}
	visit := func(p *month.Person, sessions ...*month.Session) *month.Visit {
		v := &month.Visit{Tenant: month.Main, Person: p, Sessions: sessions}
		for _, s := range sessions {
			s.Visit = v
		}
		return v
	}
	insert := func(truth *month.Truth, keep func(month.Batch) bool) {
		for _, batch := range truth.Batches(3) {
			if keep(batch) {
				if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	all := func(month.Batch) bool { return true }
	events := func(b month.Batch) bool { return b.Datasource == "events_v1" }

	// Began hours ago, and is renewed on the way, in another country.
	abroad := *person
	abroad.Country = "FR"
	first, next := session("s_1", now.Add(-2*time.Hour), person, 0), session("s_2", now.Add(-20*time.Minute), &abroad, 1)
	view(first, now.Add(-10*time.Minute)) // a tab that was left open
	insert(&month.Truth{Visits: []*month.Visit{visit(person, first)}}, all)
	first.Events = nil
	renewed := visit(&abroad, first, next)
	renewed.FirstLost = true // its row is there
	insert(&month.Truth{Visits: []*month.Visit{renewed}}, all)

	// Its row is still under way.
	waits := session("s_3", now.Add(-time.Minute), person, 0)
	view(waits, now.Add(-time.Second))
	insert(&month.Truth{Visits: []*month.Visit{visit(person, waits)}}, events)

	// From now on, which is not yet.
	later := session("s_4", now.Add(time.Hour), person, 0)
	insert(&month.Truth{Visits: []*month.Visit{visit(person, later)}}, all)

	q := question{tenant: month.Main, conversion: month.Conversion, currency: "USD"}
	parameters := realtimeParameters(q, now, 30)
	delete(parameters, "asOf")
	want := realtime{
		ActiveSessions: 2, Events: 2,
		Countries: []tally{{"FR", 1}, {"Unknown", 1}}, Devices: []tally{{"mobile", 1}, {"unknown", 1}},
		LandingPages: []tally{{"lp_1", 2}}, Sources: []tally{{"Direct", 1}, {"Unknown", 1}}, TopEvents: []tally{{"page-view", 2}},
	}
	if diff := one[realtime](t, c, "realtime_overview", parameters).differs(want); diff != "" {
		t.Errorf("now\n%s", diff)
	}
	// Then it is over.
	parameters["asOf"] = now.Add(40 * time.Minute).Format("2006-01-02 15:04:05.000")
	if diff := one[realtime](t, c, "realtime_overview", parameters).differs(realtime{}); diff != "" {
		t.Errorf("40 minutes later\n%s", diff)
	}
	parameters["lookbackMinutes"] = "0"
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	sql, err := project.Compile("realtime_overview", parameters)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Query[realtime](c, sql); err == nil || !strings.Contains(err.Error(), "lookbackMinutes is 1 or more") {
		t.Errorf("the error for no minutes is %v", err)
	}
}
