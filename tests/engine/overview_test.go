package engine

import (
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

type overview struct {
	Sessions          int      `json:"sessions"`
	Pageviews         int      `json:"pageviews"`
	Conversions       int      `json:"conversions"`
	CTR               float64  `json:"ctr"`
	SeriesTS          []string `json:"series_ts"`
	SeriesSessions    []int    `json:"series_sessions"`
	SeriesConversions []int    `json:"series_conversions"`
}

func TestOverviewAnalytics(t *testing.T) { asked(t, checkOverview) }

func checkOverview(t *testing.T, c *ClickHouse, q question) {
	got := one[overview](t, c, "overview_analytics", q.parameters())
	visits, converting := q.visits(), 0
	sessions, conversions := make(map[time.Time]int), make(map[time.Time]int)
	for _, v := range visits {
		sessions[v.start.Truncate(time.Hour)]++
		if n, _ := q.conversions(v); n > 0 {
			converting++
		}
	}
	pageviews, bought := 0, 0
	for _, e := range q.events() {
		if e.ID == "page-view" {
			pageviews++
		}
		if q.converts(e) {
			bought++
			conversions[e.At.Truncate(time.Hour)]++
		}
	}
	if got.Sessions != len(visits) || got.Pageviews != pageviews || got.Conversions != bought {
		t.Errorf("got %d sessions, %d page views, %d conversions, want %d, %d, %d",
			got.Sessions, got.Pageviews, got.Conversions, len(visits), pageviews, bought)
	}
	if want := share(converting, len(visits)); !near(got.CTR, want) {
		t.Errorf("ctr is %v, want %v", got.CTR, want)
	}
	i := 0
	for hour := q.period.start.Truncate(time.Hour); !hour.After(q.period.end); hour = hour.Add(time.Hour) {
		if i >= len(got.SeriesTS) {
			t.Fatalf("the series ends after %d hours, before %v", i, hour)
		}
		if want := hour.Format(time.DateTime); got.SeriesTS[i] != want || got.SeriesSessions[i] != sessions[hour] || got.SeriesConversions[i] != conversions[hour] {
			t.Errorf("hour %d is %s with %d, %d, want %s with %d, %d", i,
				got.SeriesTS[i], got.SeriesSessions[i], got.SeriesConversions[i], want, sessions[hour], conversions[hour])
		}
		i++
	}
	if i != len(got.SeriesTS) {
		t.Errorf("the series has %d hours, want %d", len(got.SeriesTS), i)
	}
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// A month in which nothing of what endpoints must get right occurs would prove
// nothing.
func TestTheMonthHasWhatEndpointsMustGetRight(t *testing.T) {
	occurs := make(map[string]int)
	count := func(what string, is bool) {
		if is {
			occurs[what]++
		} else {
			occurs[what] += 0
		}
	}
	buyers := make(map[string]int)
	for _, v := range aMonth().Visits {
		p := v.Person
		count("a visit with renewals", len(v.Sessions) > 1)
		count("a line whose first session has no row", v.FirstLost)
		count("a verified crawler with a good score", p.VerifiedBot && p.BotScore > 6)
		count("a program", !p.VerifiedBot && p.Program())
		count("an unknown score", p.BotScore == 0)
		count("a suspect that is no program", p.BotScore >= 6 && p.BotScore < 99)
		buys := 0
		for _, e := range v.Events() {
			if e.ID == month.Conversion {
				buys++
			}
			count("an external conversion after the session", e.External && e.At.Sub(e.Session.At) > 24*time.Hour)
			count("a program's conversion", e.ID == month.Conversion && p.Program())
			count("a conversion in euros", e.ID == month.Conversion && e.Currency == "EUR")
		}
		count("several conversions in a visit", buys > 1)
		for _, s := range v.Sessions {
			buyers[s.VisitorDay]++
			count("a returning visitor", s.Returning)
			count("a lost first touch", s.FirstSource == "lost")
			count("an event in a renewal", s.Renewal > 0 && len(s.Events) > 0)
		}
	}
	delete(buyers, "")
	for _, n := range buyers {
		count("a visitor without cookies who comes twice a day", n > 1)
	}
	for what, n := range occurs {
		if n < 3 {
			t.Errorf("%s occurs %d times", what, n)
		}
	}
}
