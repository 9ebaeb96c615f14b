package engine

import (
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// What follows computes from the truth, in plain Go, what endpoints are asked.

// period is closed on both sides.
type period struct{ start, end time.Time }

func (p period) has(at time.Time) bool { return !at.Before(p.start) && !at.After(p.end) }

// before is the period of equal length that ends where p begins.
func (p period) before() period {
	return period{p.start.Add(-p.end.Sub(p.start) - time.Millisecond), p.start.Add(-time.Millisecond)}
}

// days is the period of n whole days that begins day days after the month.
func days(truth *month.Truth, day, n int) period {
	start := truth.Start.AddDate(0, 0, day)
	return period{start, start.AddDate(0, 0, n).Add(-time.Millisecond)}
}

// question is what is asked of the truth.
type question struct {
	truth      *month.Truth
	tenant     month.Tenant
	period     period
	conversion string
	currency   string
	// renewals counts each session as a visit; programs leaves nobody out.
	renewals, programs bool
}

// visit is a visit as an endpoint sees it: of the period, with what was done in
// the period.
type visit struct {
	*month.Session // the row that stands for it
	start          time.Time
	events         []*month.Event
}

func (q question) people(v *month.Visit) bool {
	return v.Tenant == q.tenant && (q.programs || !v.Person.Program())
}

// visits are those that began in the period.
func (q question) visits() []visit {
	var all []visit
	add := func(start time.Time, rows []*month.Session, events []*month.Event) {
		// What has a row only after the period is not known in it.
		if !q.period.has(start) || len(rows) == 0 || rows[0].At.After(q.period.end) {
			return
		}
		v := visit{Session: rows[0], start: start}
		known := make(map[*month.Session]bool)
		for _, s := range rows {
			known[s] = !s.At.After(q.period.end)
		}
		for _, e := range events {
			if q.period.has(e.At) && known[e.Session] {
				v.events = append(v.events, e)
			}
		}
		all = append(all, v)
	}
	for _, v := range q.truth.Visits {
		switch {
		case !q.people(v):
		case q.renewals:
			for _, s := range v.Rows() {
				add(s.At, []*month.Session{s}, s.Events)
			}
		default:
			add(v.Start(), v.Rows(), v.Events())
		}
	}
	return all
}

// events are all that happened in the period, whenever their visit began.
func (q question) events() []*month.Event {
	var all []*month.Event
	for _, v := range q.truth.Visits {
		if !q.people(v) {
			continue
		}
		for _, e := range v.Events() {
			if q.period.has(e.At) {
				all = append(all, e)
			}
		}
	}
	return all
}

func (q question) converts(e *month.Event) bool { return e.ID == q.conversion }

// value is the event's worth in the currency that is asked for.
func (q question) value(e *month.Event) float64 {
	if e.Currency != q.currency {
		return 0
	}
	return e.Value
}

// conversions counts and sums a visit's conversions.
func (q question) conversions(v visit) (n int, value float64) {
	for _, e := range v.events {
		if q.converts(e) {
			n++
			value += q.value(e)
		}
	}
	return n, value
}

// duration is how long a visit lasted, in seconds; false if nothing tells.
func (v visit) duration() (int, bool) {
	longest, last := -1, -1
	var at time.Time
	for _, e := range v.events {
		if e.TimeOnPage < 0 {
			continue
		}
		if e.ID == "page-unload" {
			longest = max(longest, e.TimeOnPage)
		}
		if !e.At.Before(at) {
			last, at = e.TimeOnPage, e.At
		}
	}
	if longest >= 0 {
		return longest, true
	}
	return last, last >= 0
}

// parameters are the question as a request asks it.
func (q question) parameters() map[string]string {
	const layout = "2006-01-02 15:04:05.000"
	p := map[string]string{
		"workspaceId": q.tenant.Workspace, "projectId": q.tenant.Project, "campaignId": q.tenant.Campaign,
		"environment": q.tenant.Environment, "campaignEnvironment": q.tenant.CampaignEnvironment,
		"conversionEventId": q.conversion,
	}
	if !q.period.start.IsZero() {
		p["periodStart"], p["periodEnd"] = q.period.start.Format(layout), q.period.end.Format(layout)
	}
	if q.currency != "USD" {
		p["currency"] = q.currency
	}
	if q.renewals {
		p["includeRenewals"] = "1"
	}
	if q.programs {
		p["minimumBotScore"] = "0"
	}
	return p
}

// visitors counts unique ones.
func visitors(visits []visit) int {
	seen := make(map[string]bool)
	for _, v := range visits {
		seen[v.Visitor()] = true
	}
	return len(seen)
}

// host is the referrer's, as endpoints name it.
func host(referrer string) string {
	if referrer == "" {
		return "Direct"
	}
	u, err := url.Parse(referrer)
	if err != nil {
		return referrer
	}
	return u.Hostname()
}

// orDirect is how endpoints name what is null.
func orDirect(s string) string { return or(s, "Direct") }

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// near compares figures that are sums or quotients of many floats.
func near(got, want float64) bool {
	return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))
}

// rounded compares a figure of two decimals with what it was rounded from.
func rounded(got, want float64) bool { return math.Abs(got-want) <= 0.005+1e-9 }

// ask asks an endpoint and decodes its rows.
func ask[T any](t testing.TB, c *ClickHouse, endpoint string, parameters map[string]string) []T {
	t.Helper()
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	sql, err := project.Compile(endpoint, parameters)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Query[T](c, sql)
	if err != nil {
		t.Fatalf("%s: %v", endpoint, err)
	}
	return rows
}

// one asks an endpoint that answers with one row.
func one[T any](t testing.TB, c *ClickHouse, endpoint string, parameters map[string]string) T {
	t.Helper()
	rows := ask[T](t, c, endpoint, parameters)
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want 1", endpoint, len(rows))
	}
	return rows[0]
}
