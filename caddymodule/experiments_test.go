package caddymodule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

var experimentsAt = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// experimentBench is a campaign with a test, as one config after another has it.
type experimentBench struct {
	t       *testing.T
	figures *metrics
	logs    *observer.ObservedLogs
	log     *zap.Logger
	now     time.Time
	users   int
}

func newExperimentBench(t *testing.T) *experimentBench {
	counted = newOnce(countedGeneration)
	core, logs := observer.New(zapcore.InfoLevel)
	return &experimentBench{t: t, figures: newMetrics(), logs: logs, log: zap.New(core), now: experimentsAt}
}

// load is what the Start of a config does. The campaign has the test's name.
func (b *experimentBench) load(tests ...sessionctx.Test) *experiments {
	h := &Handler{campaign: &sessionctx.Campaign{CampaignRef: b.ref(), Tests: tests}}
	return holdExperiments([]*Handler{h}, b.figures, b.log, b.now)
}

func (b *experimentBench) ref() sessionctx.CampaignRef {
	return sessionctx.CampaignRef{ID: b.t.Name(), Environment: sessionctx.Production}
}

func halves(weights ...int) sessionctx.Test {
	t := sessionctx.Test{ID: "hero", Traffic: 10000, Status: sessionctx.TestRunning}
	for i, w := range append(weights, []int{50, 50}[min(len(weights), 2):]...) {
		t.Variants = append(t.Variants, sessionctx.Variant{ID: []string{"control", "bold"}[i], Weight: w})
	}
	return t
}

// session is the first one of a new user.
func (b *experimentBench) session(variant string) *sessionctx.Session {
	b.users++
	return &sessionctx.Session{
		ID: fmt.Sprint("s", b.users), UserID: fmt.Sprint("u", b.users), Campaign: b.ref(), CreatedAt: b.now.UnixMilli(),
		Assignments: []sessionctx.Assignment{{TestID: "hero", VariantID: variant}},
	}
}

func (b *experimentBench) count(e *experiments, s *sessionctx.Session, at string) {
	e.count(s, s.UserID, at)
}

// figure is a metric's value with these labels, -1 where there is none.
func (b *experimentBench) figure(c prometheus.Collector, labels ...string) float64 {
	b.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			slices.Sort(got)
			want := append([]string{b.t.Name(), "hero"}, labels...)
			slices.Sort(want)
			if slices.Equal(got, want) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func (b *experimentBench) expect(what string, got, want float64) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestOnlyFreshDrawsAreCountedOnce(t *testing.T) {
	b := newExperimentBench(t)
	before := b.session("bold")
	b.now = b.now.Add(time.Minute)
	e := b.load(halves())
	defer e.release()

	fresh := b.session("bold")
	b.count(e, fresh, atScript)
	b.count(e, fresh, atScript)
	b.count(e, fresh, atPage)
	second := *fresh // a later session of the same subject
	second.ID = "another"
	b.count(e, &second, atScript)
	returning, renewed, preview, other, gone, none := b.session("bold"), b.session("bold"), b.session("bold"), b.session("bold"), b.session("gone"), b.session("bold")
	returning.Returning = true
	renewed.RenewalCount = 1
	preview.Campaign.Environment = sessionctx.Preview
	other.Campaign.ID = "cmp_of_none"
	none.Assignments = nil
	for _, s := range []*sessionctx.Session{before, returning, renewed, preview, other, gone, none} {
		b.count(e, s, atScript)
	}
	b.expect("sessions", b.figure(b.figures.abSessions, "bold"), 1)
	b.expect("sessions of the other variant", b.figure(b.figures.abSessions, "control"), -1)
	b.expect("pages", b.figure(b.figures.abPages, "bold"), 1)
	b.count(e, b.session("control"), atScript)
	b.expect("sessions of the other variant", b.figure(b.figures.abSessions, "control"), 1)
}

// Tests of one name and one set of weights are none of each other's: of two
// campaigns, or of one and its preview.
func TestCampaignsAreCountedApart(t *testing.T) {
	b := newExperimentBench(t)
	other, preview := b.ref(), b.ref()
	other.ID += "_other"
	preview.Environment = sessionctx.Preview
	var handlers []*Handler
	for _, ref := range []sessionctx.CampaignRef{preview, b.ref(), other} {
		handlers = append(handlers, &Handler{campaign: &sessionctx.Campaign{CampaignRef: ref, Tests: []sessionctx.Test{halves()}}})
	}
	e := holdExperiments(handlers, b.figures, b.log, b.now)
	defer e.release()
	b.count(e, b.session("bold"), atScript)
	elsewhere := b.session("bold")
	elsewhere.UserID, elsewhere.Campaign = "u1", other // the same user there
	b.count(e, elsewhere, atScript)
	b.expect("sessions", b.figure(b.figures.abSessions, "bold"), 1)
	for id, ts := range e.byCampaign {
		if len(ts) != 1 || ts[0].campaign != id || ts[0].stages[stageIndex(atScript)].total != 1 {
			t.Errorf("%s has %d tallies, of %s with %d visitors", id, len(ts), ts[0].campaign, ts[0].stages[stageIndex(atScript)].total)
		}
	}
	if len(e.byCampaign) != 2 {
		t.Errorf("%d campaigns are counted, want 2", len(e.byCampaign))
	}
}

// A reload forgets whose rows were made, so they are asked for again; meanwhile
// a visitor without cookies may have said yes to them.
func TestAYesBetweenTwoConfigsCountsNobodyTwice(t *testing.T) {
	b := newExperimentBench(t)
	e := b.load(halves())
	s := b.session("bold")
	e.count(s, "visitor day", atScript)
	next := b.load(halves())
	e.release()
	defer next.release()
	b.count(next, s, atScript)
	b.expect("sessions", b.figure(b.figures.abSessions, "bold"), 1)
	// One behind the same address is bucketed alike, and no visitor more.
	neighbour := b.session("bold")
	next.count(neighbour, "visitor day", atScript)
	b.count(next, neighbour, atScript)
	b.expect("sessions of one address", b.figure(b.figures.abSessions, "bold"), 1)
}

func TestTestsThatDrawNobodyAreNotCounted(t *testing.T) {
	b := newExperimentBench(t)
	won := halves()
	won.Winner = "bold"
	e := b.load(won)
	defer e.release()
	b.count(e, b.session("bold"), atScript)
	b.expect("sessions", b.figure(b.figures.abSessions, "bold"), -1)
}

// lose lets n visitors come of whom those of bold never show a sign of life.
func (b *experimentBench) lose(e *experiments, n int) {
	for range n {
		for _, v := range []string{"control", "bold"} {
			s := b.session(v)
			b.count(e, s, atPage)
			if v == "control" {
				b.count(e, s, atScript)
			}
		}
	}
}

func TestCountsGoOnOverAReloadAndTheAlarmIsToldOnce(t *testing.T) {
	b := newExperimentBench(t)
	e := b.load(halves())
	b.lose(e, 70)
	if n := b.logs.Len(); n != 0 {
		t.Fatalf("%d lines after 70 visitors, want none", n)
	}
	next := b.load(halves())
	e.release()
	b.lose(next, 70)
	if n := b.logs.Len(); n != 1 {
		t.Fatalf("%d lines after 70 more, want one", n)
	}
	line := b.logs.All()[0]
	fields := line.ContextMap()
	if line.Level != zapcore.WarnLevel || fields["counted_at"] != atScript || fields["test"] != "hero" || fields["campaign"] != t.Name() ||
		!strings.Contains(fmt.Sprint(fields["look_at"]), "too few") || fields["p"].(float64) > sessionctx.SampleRatioAlarm {
		t.Errorf("the line is %s with %v", line.Message, fields)
	}
	b.expect("pages of control", b.figure(b.figures.abPages, "control"), 140)
	b.expect("sessions of control", b.figure(b.figures.abSessions, "control"), 140)
	if p := b.figure(b.figures.abRatio, atScript); p < 0 || p > sessionctx.SampleRatioAlarm {
		t.Errorf("p at the script is %v", p)
	}
	b.expect("p at the page", b.figure(b.figures.abRatio, atPage), 1)

	// What was an alarm stays one, however the visitors even out.
	for range 300 {
		b.count(next, b.session("bold"), atScript)
	}
	if p := b.figure(b.figures.abRatio, atScript); p > sessionctx.SampleRatioAlarm {
		t.Errorf("the alarm is gone: p is %v", p)
	}
	again := b.load(halves())
	next.release()
	b.lose(again, 500)
	if n := b.logs.FilterFieldKey("counted_at").Len(); n != 1 {
		t.Errorf("%d lines, want the one", n)
	}
	again.release()
	b.expect("p of a test that no config has", b.figure(b.figures.abRatio, atScript), -1)
}

func TestCountsBeginAnewWhenWeightsChange(t *testing.T) {
	b := newExperimentBench(t)
	e := b.load(halves())
	b.lose(e, 120)
	drawnBefore := b.session("control")
	b.now = b.now.Add(time.Second)
	next := b.load(halves(90, 10))
	e.release()
	b.count(next, drawnBefore, atScript)
	b.expect("p of none", b.figure(b.figures.abRatio, atScript), -1)
	// 9 to 1 is right now.
	for i := range 500 {
		b.count(next, b.session([]string{"control", "bold"}[bitOf(i%10 == 0)]), atScript)
	}
	if b.logs.Len() != 0 {
		t.Errorf("an alarm: %v", b.logs.All())
	}
	// Requests of the old config may still come.
	b.count(e, b.session("bold"), atScript)
	if p := b.figure(b.figures.abRatio, atScript); p < 0.9 {
		t.Errorf("p is %v", p)
	}
	// A config that is refused after its Start leaves no trace.
	refused := b.load(halves(1, 1))
	refused.release()
	for i := range lookEvery {
		b.count(next, b.session([]string{"control", "bold"}[bitOf(i%10 == 0)]), atScript)
	}
	if p := b.figure(b.figures.abRatio, atScript); p < 0.9 {
		t.Errorf("after a refused config p is %v", p)
	}
	// Back to the first weights: those counts are gone.
	b.now = b.now.Add(time.Second)
	back := b.load(halves())
	next.release()
	b.lose(back, 20)
	back.release()
	if b.logs.Len() != 0 {
		t.Errorf("an alarm: %v", b.logs.All())
	}
}

func bitOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestALossBeforeThePageIsToldAsOne(t *testing.T) {
	b := newExperimentBench(t)
	e := b.load(halves())
	defer e.release()
	for range 200 {
		s := b.session("control")
		b.count(e, s, atPage)
		b.count(e, s, atScript)
	}
	lines := b.logs.All()
	if len(lines) != 2 || lines[0].ContextMap()["counted_at"] != atPage || lines[1].ContextMap()["counted_at"] != atScript {
		t.Fatalf("lines %v", lines)
	}
	for _, l := range lines {
		if !strings.Contains(fmt.Sprint(l.ContextMap()["look_at"]), "before the page") {
			t.Errorf("look at %v", l.ContextMap()["look_at"])
		}
	}
}

// No visitor is counted twice, however long ago the first time was, and all
// whose sign of life comes in time are counted.
func TestWhatCameOnceNeverCountsAgain(t *testing.T) {
	o := newOnce(100)
	random := rand.New(rand.NewPCG(1, 2))
	times := map[int]int{}
	for i := range 5000 {
		key := func(n int) onceKey { return onceKey{atScript, "cmp", fmt.Sprint(n)} }
		if o.first(key(i), int64(1000+i)) {
			times[i]++
		}
		back := random.IntN(i + 1)
		if o.first(key(back), int64(1000+back)) {
			times[back]++
		}
		if o.first(key(i), int64(1000+i)) {
			times[i]++
		}
	}
	if len(times) != 5000 {
		t.Errorf("%d of 5000 were counted", len(times))
	}
	for n, x := range times {
		if x != 1 {
			t.Errorf("%d was counted %d times", n, x)
		}
	}
	if len(o.young) > 100 || len(o.old) > 100 {
		t.Errorf("%d and %d are remembered, want 100 at most", len(o.young), len(o.old))
	}
}

// A date is 00:00 UTC of that day, whatever the server's own time zone.
func TestUntilEndsATestToTheMillisecond(t *testing.T) {
	for until, end := range map[string]time.Time{
		"2027-01-01":                time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		"2027-01-01T09:30:00+02:00": time.Date(2027, 1, 1, 7, 30, 0, 0, time.UTC),
	} {
		c := &Campaign{Workspace: "ws_1", Project: "pr_1", Campaign: "cmp_1", ABTests: []*ABTest{{
			ID: "hero", Until: until, Variants: []*Variant{{ID: "control", Weight: 1}, {ID: "bold", Weight: 1}},
		}}}
		campaign, err := c.values()
		if err != nil {
			t.Fatal(err)
		}
		ring, err := sessionctx.NewRing(rand.NewChaCha8([32]byte{}), experimentsAt.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("behind", -11*3600), time.FixedZone("ahead", 14*3600)} {
			for _, tt := range []struct {
				now  time.Time
				part bool
			}{{end.Add(-24 * time.Hour), true}, {end.Add(-time.Millisecond), true}, {end, false}, {end.Add(24 * time.Hour), false}} {
				now := tt.now.In(zone)
				v, err := sessionctx.Identify(sessionctx.Input{
					Ring: ring, Campaign: campaign, Facts: &sessionctx.Facts{}, Now: now, Random: rand.NewChaCha8([32]byte{1}),
				})
				if err != nil {
					t.Fatal(err)
				}
				v.Assign("", now)
				if part := len(v.Session.Assignments) == 1; part != tt.part {
					t.Errorf("until %s, at %v: takes part is %v", until, now, part)
				}
			}
		}
	}
}

func BenchmarkCountDrawn(b *testing.B) {
	e := holdExperiments([]*Handler{{campaign: &sessionctx.Campaign{
		CampaignRef: sessionctx.CampaignRef{ID: "bench", Environment: sessionctx.Production}, Tests: []sessionctx.Test{halves()},
	}}}, newMetrics(), zap.NewNop(), experimentsAt)
	defer e.release()
	s := &sessionctx.Session{
		Campaign: sessionctx.CampaignRef{ID: "bench", Environment: sessionctx.Production}, CreatedAt: time.Now().UnixMilli(),
		Assignments: []sessionctx.Assignment{{TestID: "hero", VariantID: "bold"}},
	}
	users := make([]string, 1<<16)
	for i := range users {
		users[i] = fmt.Sprint(i)
	}
	b.Run("a new visitor", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%len(users) == 0 {
				b.StopTimer()
				counted = newOnce(countedGeneration)
				b.StartTimer()
			}
			s.Assignments[0].VariantID = []string{"control", "bold"}[i%2]
			e.count(s, users[i%len(users)], atPage)
		}
	})
	b.Run("one who was counted", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.count(s, users[0], atPage)
		}
	})
}
