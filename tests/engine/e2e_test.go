package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// endToEnd are the endpoints that are asked about what was done to a Caddy.
// Each is asked what it is asked about the made-up month.
var endToEnd = map[string]func(*testing.T, *ClickHouse, question){
	"overview_analytics":      checkOverview,
	"sum_primitives":          checkSums,
	"timeseries_primitives":   checkTimeseries,
	"audience_breakdown":      checkAudience,
	"conversions_breakdown":   checkConversions,
	"ab_test_result":          checkResult,
	"ab_test_winner":          checkWinner,
	"realtime_overview":       checkRealtime,
	"attribution_first_touch": func(t *testing.T, c *ClickHouse, q question) { checkFirstTouch(t, c, q) },
	"traffic_overview":        func(t *testing.T, c *ClickHouse, q question) { checkTraffic(t, c, q) },
	"consent_rates":           func(t *testing.T, c *ClickHouse, q question) { checkConsents(t, c, q) },
}

// TestEndToEnd drives a Caddy by HTTP, has it deliver to a stand-in for Tinybird
// that fails now and then and inserts into ClickHouse, and asks every endpoint
// for figures that equal what is true of the visitors.
func TestEndToEnd(t *testing.T) {
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range project.Endpoints() {
		if endToEnd[name] == nil {
			t.Errorf("endpoint %s is not asked: add it to endToEnd", name)
		}
	}
	c := open(t)
	tb := standin.New(t, standin.WithSink(func(datasource string, rows []byte) error {
		return c.Insert(datasource, bytes.Split(bytes.TrimSpace(rows), []byte("\n")))
	}))
	start := time.Now()
	places := map[string]*place{
		"main":    {Tenant: month.Main, cookies: true, tested: true},
		"preview": {Tenant: month.Preview, cookies: true, tested: true},
		"asking":  {Tenant: month.Tenant{Workspace: "ws_2", Project: "pr_1", Campaign: "cmp_2", CampaignEnvironment: "production", Environment: "production"}},
		"brief":   {Tenant: month.Tenant{Workspace: "ws_3", Project: "pr_1", Campaign: "cmp_3", CampaignEnvironment: "production", Environment: "production"}, cookies: true, byPage: true},
	}
	for _, p := range places {
		p.url = "http://" + freeAddr(t)
	}
	faults := program(tb)
	d := newDrive()
	caddy := startCaddy(t, d.caddyfile(tb, places, "15s"))
	early := d.early(t, caddy, places)
	reloaded := time.Now()
	caddy.reload(d.caddyfile(tb, places, "30m")(caddy.admin, ""))
	d.late(t, places, early)

	rows := d.delivered(t, tb, caddy)
	d.receive(t, rows["events_v1"])
	truth := d.truth(start)
	d.sameSessions(t, truth, rows["session_v1"])
	d.receivePages(t, truth, rows["traffic_v1"])
	d.receiveDecisions(t, truth, rows["consents_v1"])
	triedAgain(t, tb, c, faults)

	all := question{truth: truth, tenant: month.Main, conversion: month.Conversion, currency: "USD",
		period: period{start.Add(-4 * time.Hour).UTC().Truncate(time.Millisecond), truth.End.Truncate(time.Millisecond)}}
	everything := slices.Sorted(maps.Keys(endToEnd))
	for _, ask := range []struct {
		name      string
		change    func(*question)
		endpoints []string
	}{
		{"everything", func(*question) {}, everything},
		{"since the reload", func(q *question) { q.period.start = reloaded.UTC().Truncate(time.Millisecond) },
			[]string{"sum_primitives", "conversions_breakdown", "attribution_first_touch", "traffic_overview"}},
		{"programs and euros too", func(q *question) { q.programs, q.currency = true, "EUR" },
			[]string{"overview_analytics", "audience_breakdown", "ab_test_result", "realtime_overview", "traffic_overview"}},
		{"the preview", func(q *question) { q.tenant = month.Preview },
			[]string{"overview_analytics", "ab_test_winner", "traffic_overview"}},
		{"the asking site", func(q *question) { q.tenant = places["asking"].Tenant },
			[]string{"sum_primitives", "audience_breakdown", "attribution_first_touch", "consent_rates", "traffic_overview"}},
		{"the asking site since the reload", func(q *question) {
			q.tenant, q.period.start = places["asking"].Tenant, reloaded.UTC().Truncate(time.Millisecond)
		}, []string{"consent_rates"}},
		{"brief sessions", func(q *question) { q.tenant = places["brief"].Tenant },
			[]string{"timeseries_primitives", "conversions_breakdown", "attribution_first_touch", "realtime_overview", "traffic_overview"}},
		{"brief sessions, each renewal too", func(q *question) { q.tenant, q.renewals = places["brief"].Tenant, true },
			[]string{"overview_analytics", "audience_breakdown", "realtime_overview", "traffic_overview"}},
		{"a tenant without visitors", func(q *question) { q.tenant = month.OtherTenant }, []string{"sum_primitives"}},
	} {
		q := all
		ask.change(&q)
		if empty := len(q.visits()) == 0; empty != (ask.name == "a tenant without visitors") {
			t.Errorf("%s: %d visits", ask.name, len(q.visits()))
		}
		for _, endpoint := range ask.endpoints {
			t.Run(endpoint+", "+ask.name, func(t *testing.T) { endToEnd[endpoint](t, c, q) })
		}
	}
	if n := len(truth.Pages); n < 100 {
		t.Errorf("only %d pages were sent", n)
	}
	q := all
	q.tenant = places["asking"].Tenant
	if c := q.consents(); c.undone == 0 || c.unproven == 0 || c.proofs["cookie"] == 0 || c.proofs["token"] == 0 || c.proofs["visitor"] == 0 {
		t.Errorf("of what may happen to consent something did not: %+v", c)
	}
}

// program makes the stand-in fail, and returns how many requests will.
func program(tb *standin.Server) int {
	wait := http.Header{"Retry-After": {"1"}}
	faults := map[string][]standin.Fault{
		"session_v1": {{Status: http.StatusServiceUnavailable}, {CommitFirst: true, CloseConn: true}},
		"events_v1": {
			{CommitFirst: true, CloseConn: true}, {Status: http.StatusTooManyRequests, Header: wait},
			{CommitFirst: true, TruncateBody: true}, {BeforeBody: true, CloseConn: true},
		},
		"traffic_v1":  {{CommitFirst: true, Status: http.StatusInternalServerError}},
		"consents_v1": {{CommitFirst: true, CloseConn: true}},
	}
	n := 0
	for datasource, list := range faults {
		for _, f := range list {
			tb.Fail(datasource, f, 1)
			n++
		}
	}
	return n
}

// crowd lets so many visitors do something, eight at a time. Each has random
// numbers of their own, so that it doesn't matter who comes first.
func (d *drive) crowd(t testing.TB, at *place, from, to int, keepsCookies bool, do func(*browser, *mathrand.Rand)) []*browser {
	browsers := make([]*browser, to-from)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				r := mathrand.New(mathrand.NewPCG(11, uint64(from+i)))
				browsers[i] = d.stranger(t, r, at, from+i, keepsCookies)
				do(browsers[i], r)
			}
		})
	}
	for i := range browsers {
		next <- i
	}
	close(next)
	wg.Wait()
	return browsers
}

// early is what happens before the reload. It returns those whose sessions end
// soon.
func (d *drive) early(t testing.TB, c *caddy, places map[string]*place) []*browser {
	brief := d.crowd(t, places["brief"], 0, 10, true, func(b *browser, r *mathrand.Rand) {
		b.arrive(link(r))
		b.cookie = b.sessionCookie()
		if r.IntN(3) > 0 {
			b.batch(b.byToken(), nil, b.begins(r)...)
		}
		if ends := b.doc.Session.ExpiresAt; time.Now().UnixMilli() >= ends {
			t.Errorf("a visitor took longer than a session of 15 s lasts")
		}
	})
	main := places["main"]
	d.crowd(t, main, 100, 118, true, func(b *browser, r *mathrand.Rand) {
		b.arrive(link(r))
		b.ownClient(r)
		if r.IntN(2) == 0 {
			b.comesBack(r)
		}
	})
	d.crowd(t, main, 200, 212, false, func(b *browser, r *mathrand.Rand) {
		b.arrive(link(r))
		b.referenceClient(r)
	})
	d.crowd(t, places["preview"], 300, 306, true, func(b *browser, r *mathrand.Rand) {
		b.arrive(link(r))
		b.referenceClient(r)
	})
	d.crowd(t, main, 400, 404, true, (*browser).robot)
	ring := c.ring()
	d.crowd(t, main, 500, 508, false, func(b *browser, r *mathrand.Rand) {
		b.isLate(r, ring, time.Duration(31+r.IntN(180))*time.Minute, r.IntN(2) == 0)
	})
	return brief
}

// late is what happens after the reload.
func (d *drive) late(t testing.TB, places map[string]*place, brief []*browser) {
	d.crowd(t, places["asking"], 600, 616, true, (*browser).isAsked)
	d.crowd(t, places["asking"], 700, 704, false, (*browser).noVisits)
	d.crowd(t, places["main"], 800, 814, true, func(b *browser, r *mathrand.Rand) {
		b.arrive(link(r))
		b.ownClient(r)
		if r.IntN(2) == 0 {
			b.comesBack(r)
		}
	})
	for i, b := range brief {
		time.Sleep(time.Until(time.UnixMilli(b.doc.Session.ExpiresAt + 1)))
		r := mathrand.New(mathrand.NewPCG(12, uint64(i)))
		switch i % 5 {
		case 0:
			b.renewsByToken()
			b.track(b.byToken(), b.does("page-unload", "system", 1, "USD", r.IntN(200)))
			b.shops(r, b.byToken())
		case 1:
			b.leave()
			b.renewsByIDs(nil)
			b.shops(r, b.ids())
		case 2: // an older client does not notice, and is not told
			b.leave()
			a := b.does(month.Conversion, "conversion", 75, "USD", 20)
			from := time.Now()
			b.must("events/track", with(a.body, b.ids()))
			b.renewsByIDs(nil)
			b.sent(from, a)
		case 3:
			b.renewsByPage()
			b.ownClient(r)
		default:
			b.comesBack(r)
		}
	}
}

// delivered waits until all rows are in and none waits any more, ends the
// Caddy, and returns the distinct rows.
func (d *drive) delivered(t testing.TB, tb *standin.Server, c *caddy) map[string][]map[string]any {
	t.Helper()
	eventually(t, 2*time.Minute, "the outbox is empty", func() error {
		st, err := c.status()
		if err != nil || st.Outbox.Rows > 0 {
			return fmt.Errorf("%d rows wait: %w", st.Outbox.Rows, err)
		}
		for _, ds := range st.Outbox.Datasources {
			if ds.DeadRows > 0 {
				t.Fatalf("%s has dead letters: %+v", ds.Name, st.Outbox)
			}
		}
		return nil
	})
	c.stop()
	rows := make(map[string][]map[string]any)
	for _, ds := range []string{"session_v1", "events_v1", "traffic_v1", "consents_v1"} {
		if err := tb.WaitRows(context.Background(), ds, 1); err != nil {
			t.Fatal(err)
		}
		var conflicts []standin.Conflict
		rows[ds], conflicts = tb.Distinct(ds)
		for _, conflict := range conflicts {
			for column, was := range conflict.First {
				// An event that is sent again is received later and counted on.
				again := ds == "events_v1" && (column == "timestamp" || column == "session_event_sequence")
				if fmt.Sprint(conflict.Later[column]) != fmt.Sprint(was) && !again {
					t.Errorf("%v", conflict)
				}
			}
		}
	}
	return rows
}

// sameSessions: each visit has its rows, and nobody else has any.
func (d *drive) sameSessions(t *testing.T, truth *month.Truth, rows []map[string]any) {
	t.Helper()
	var got, want []string
	for _, row := range rows {
		got = append(got, fmt.Sprint(row["timestamp"], row["session_id"], row["user_id"], row["original_session_id"], row["renewal_count"], row["attribution_source"]))
	}
	for _, v := range truth.Visits {
		for _, s := range v.Rows() {
			at := s.At.Format("2006-01-02T15:04:05.000Z")
			want = append(want, fmt.Sprint(at, s.ID, s.User, v.Sessions[0].ID, s.Renewal, s.FirstSource))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d session rows, want %d:\n%q\n%q", len(got), len(want), got, want)
	}
}

// triedAgain: each request that went wrong came again, byte for byte, and so
// some rows are in twice.
func triedAgain(t *testing.T, tb *standin.Server, c *ClickHouse, faults int) {
	t.Helper()
	met := 0
	for _, ds := range []string{"session_v1", "events_v1", "traffic_v1", "consents_v1"} {
		batches := tb.Batches(ds)
		for i, b := range batches {
			if !b.Fault {
				continue
			}
			met++
			if b.WireSHA256 == "" {
				continue // it was broken before its body was read
			}
			if !slices.ContainsFunc(batches[i+1:], func(later standin.Batch) bool { return later.WireSHA256 == b.WireSHA256 }) {
				t.Errorf("%s: a batch of %d bytes that was answered %d did not come again", ds, b.WireBytes, b.Status)
			}
		}
		type count struct{ Rows, IDs int }
		counts, err := Query[count](c, "SELECT count() AS Rows, uniqExact(row_id) AS IDs FROM "+ds)
		if err != nil {
			t.Fatal(err)
		}
		if counts[0].Rows <= counts[0].IDs {
			t.Errorf("%s: no row is there twice, of %d", ds, counts[0].Rows)
		}
	}
	if met != faults {
		t.Errorf("%d requests failed, want %d", met, faults)
	}
}

// checkWinner asks for a test's winner by both strategies.
func checkWinner(t *testing.T, c *ClickHouse, q question) {
	q = ever(q)
	variants := q.variants(month.Test, month.Control, 95)
	for _, strategy := range []string{"winner-only", "winner-or-control"} {
		var want *variant
		for i := range variants {
			v := &variants[i]
			wins := v.Significant == 1 && *v.AbsoluteLift > 0
			switch {
			case strategy == "winner-or-control" && v.IsControl == 0 && !wins:
			case want == nil, wins && want.IsControl == 1, v.Rate > want.Rate && (wins || !(want.Significant == 1 && *want.AbsoluteLift > 0)):
				want = v
			}
		}
		got := ask[winner](t, c, "ab_test_winner", testParameters(q, month.Test, map[string]string{"controlVariantId": month.Control, "winnerStrategy": strategy}))
		if want == nil || len(got) != 1 {
			if (want == nil) != (len(got) == 0) {
				t.Errorf("%s: got %+v, want %+v", strategy, got, want)
			}
			continue
		}
		g := got[0]
		if g.Winner != want.ID || g.Control != month.Control || g.Exposures != want.Exposures || g.Conversions != want.Conversions ||
			g.Significant != want.Significant || !near(g.Rate, want.Rate) || !near(*g.Lift, *want.AbsoluteLift) || !near(*g.P, *want.P) {
			t.Errorf("%s: got %+v, want %+v", strategy, g, *want)
		}
	}
}
