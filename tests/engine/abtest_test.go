package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

type variant struct {
	Test                string   `json:"ab_test_id"`
	ID                  string   `json:"ab_test_variant_id"`
	Event               string   `json:"conversion_event_id"`
	Confidence          int      `json:"confidence_level"`
	IsControl           int      `json:"is_control"`
	Exposures           int      `json:"exposures"`
	UniqueUsers         int      `json:"unique_users"`
	NewExposures        int      `json:"new_user_exposures"`
	ReturningExposures  int      `json:"returning_user_exposures"`
	Conversions         int      `json:"conversions"`
	Rate                float64  `json:"conversion_rate"`
	Revenue             float64  `json:"total_revenue"`
	OrderValue          float64  `json:"avg_order_value"`
	ConvertingSessions  int      `json:"converting_sessions"`
	ConvertingUsers     int      `json:"converting_users"`
	Duration            float64  `json:"avg_session_duration"`
	BounceRate          float64  `json:"bounce_rate"`
	Low                 float64  `json:"cvr_ci_low"`
	High                float64  `json:"cvr_ci_high"`
	AbsoluteLift        *float64 `json:"absolute_lift"`
	RelativeLift        *float64 `json:"relative_lift"`
	Z                   *float64 `json:"z_statistic"`
	P                   *float64 `json:"p_value"`
	Significant         int      `json:"is_statistically_significant"`
	WinProbability      *float64 `json:"win_probability"`
	RecommendedExposure *int     `json:"recommended_sample_size_per_variant"`
}

// winner is ab_test_winner's row.
type winner struct {
	Test        string   `json:"ab_test_id"`
	Event       string   `json:"conversion_event_id"`
	Confidence  int      `json:"confidence_level"`
	Control     string   `json:"control_variant_id"`
	Winner      string   `json:"winner_variant_id"`
	Significant int      `json:"is_statistically_significant"`
	Rate        float64  `json:"winner_conversion_rate"`
	Exposures   int      `json:"winner_exposures"`
	Conversions int      `json:"winner_conversions"`
	Lift        *float64 `json:"absolute_lift"`
	P           *float64 `json:"p_value"`
}

// ever asks about everything that happened: tests have no period.
func ever(q question) question {
	q.period = period{time.Time{}, q.truth.End.AddDate(1, 0, 0)}
	return q
}

func testParameters(q question, test string, more map[string]string) map[string]string {
	p := q.parameters()
	delete(p, "periodStart")
	delete(p, "periodEnd")
	p["abTestId"], p["confidenceLevel"] = test, "95"
	maps.Copy(p, more)
	return p
}

// variants computes a test's rows in plain Go.
func (q question) variants(test, control string, confidence int) []variant {
	visits := filter(q.visits(), func(v visit) bool { return v.Test == test && v.Variant != "" })
	all := make(map[string]*variant)
	byVariant := breakdown{of: plain(func(v visit) string { return v.Variant })}
	for _, g := range byVariant.groups(visits, sessionsOf) {
		w := q.worth(g.visits)
		converting := filter(g.visits, func(v visit) bool { n, _ := q.conversions(v); return n > 0 })
		r := &variant{
			Test: test, ID: g.key[0].(string), Event: q.conversion, Confidence: confidence,
			Exposures: len(g.visits), UniqueUsers: visitors(g.visits), Conversions: w.conversions, Revenue: w.value,
			ConvertingSessions: w.visits, ConvertingUsers: visitors(converting), Rate: share(w.visits, len(g.visits)),
		}
		seconds, timed, bounced, paid, value := 0, 0, 0, 0, 0.0
		for _, v := range g.visits {
			if v.Returning {
				r.ReturningExposures++
			} else {
				r.NewExposures++
			}
			if d, ok := v.duration(); ok {
				seconds, timed = seconds+d, timed+1
			}
			if len(filter(v.events, func(e *month.Event) bool { return e.Type != "system" })) <= 1 {
				bounced++
			}
			for _, e := range v.events {
				if q.converts(e) && q.value(e) > 0 {
					paid++
					value += q.value(e)
				}
			}
		}
		r.Duration, r.BounceRate = share(seconds, timed), 100*share(bounced, len(g.visits))
		if paid > 0 {
			r.OrderValue = value / float64(paid)
		}
		all[r.ID] = r
	}
	c := all[control]
	for _, r := range all {
		r.compare(c)
	}
	rows := slices.SortedFunc(maps.Values(all), func(a, b *variant) int {
		return cmp.Or(b.IsControl-a.IsControl, cmp.Compare(b.Rate, a.Rate), strings.Compare(a.ID, b.ID))
	})
	var values []variant
	for _, r := range rows {
		values = append(values, *r)
	}
	return values
}

// compare fills in the statistics, as textbooks have them.
func (r *variant) compare(c *variant) {
	quantile := map[int]float64{90: 1.6448536269514722, 95: 1.959963984540054, 99: 2.5758293035489004}[r.Confidence]
	n, p := float64(r.Exposures), r.Rate
	z2 := quantile * quantile
	middle, half := (p+z2/(2*n))/(1+z2/n), quantile/(1+z2/n)*math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	r.Low, r.High = middle-half, middle+half
	if c == nil {
		return
	}
	m, q := float64(c.Exposures), c.Rate
	lift, z, pValue := p-q, 0.0, 1.0
	win := 0.5 * float64(1+cmp.Compare(lift, 0))
	if r == c {
		r.IsControl = 1
	} else {
		pooled := float64(r.ConvertingSessions+c.ConvertingSessions) / (n + m)
		if e := math.Sqrt(pooled * (1 - pooled) * (1/n + 1/m)); e > 0 {
			z = lift / e
		}
		pValue = math.Erfc(math.Abs(z) / math.Sqrt2)
		if e := math.Sqrt(p*(1-p)/n + q*(1-q)/m); e > 0 {
			win = 0.5 * (1 + math.Erf(lift/e/math.Sqrt2))
		}
		if pValue < 1-float64(r.Confidence)/100 {
			r.Significant = 1
		}
	}
	r.AbsoluteLift, r.Z, r.P, r.WinProbability = &lift, &z, &pValue, &win
	if q > 0 {
		relative := p/q - 1
		r.RelativeLift = &relative
	}
	base := max(q, 0.01)
	if target := min(base*1.1, 1); target > base {
		size := int(math.Ceil(math.Pow(quantile*math.Sqrt(2*base*(1-base))+
			0.8416212335729143*math.Sqrt(base*(1-base)+target*(1-target)), 2) / math.Pow(target-base, 2)))
		r.RecommendedExposure = &size
	}
}

// differs says in what two rows differ.
func (r variant) differs(want variant) string {
	for _, pair := range []struct {
		name      string
		got, want *float64
	}{
		{"conversion_rate", &r.Rate, &want.Rate}, {"total_revenue", &r.Revenue, &want.Revenue},
		{"avg_order_value", &r.OrderValue, &want.OrderValue}, {"avg_session_duration", &r.Duration, &want.Duration},
		{"cvr_ci_low", &r.Low, &want.Low}, {"cvr_ci_high", &r.High, &want.High},
		{"absolute_lift", r.AbsoluteLift, want.AbsoluteLift}, {"relative_lift", r.RelativeLift, want.RelativeLift},
		{"z_statistic", r.Z, want.Z}, {"p_value", r.P, want.P}, {"win_probability", r.WinProbability, want.WinProbability},
	} {
		if (pair.got == nil) != (pair.want == nil) || pair.got != nil && !near(*pair.got, *pair.want) {
			return fmt.Sprintf("%s of %s: got %v, want %v", pair.name, want.ID, deref(pair.got), deref(pair.want))
		}
	}
	if (r.RecommendedExposure == nil) != (want.RecommendedExposure == nil) ||
		r.RecommendedExposure != nil && *r.RecommendedExposure != *want.RecommendedExposure {
		return fmt.Sprintf("recommended_sample_size_per_variant of %s differs", want.ID)
	}
	if !rounded(r.BounceRate, want.BounceRate) {
		return fmt.Sprintf("bounce_rate of %s: got %v, want %v", want.ID, r.BounceRate, want.BounceRate)
	}
	whole := func(v variant) string {
		return fmt.Sprint(v.Test, v.ID, v.Event, v.Confidence, v.IsControl, v.Exposures, v.UniqueUsers, v.NewExposures,
			v.ReturningExposures, v.Conversions, v.ConvertingSessions, v.ConvertingUsers, v.Significant)
	}
	if whole(r) != whole(want) {
		return fmt.Sprintf("got  %+v\nwant %+v", r, want)
	}
	return ""
}

func deref(f *float64) any {
	if f == nil {
		return nil
	}
	return *f
}

func TestABTestResult(t *testing.T) { asked(t, checkResult) }

func checkResult(t *testing.T, c *ClickHouse, q question) {
	q = ever(q)
	for _, ask95 := range []struct {
		confidence int
		control    string // as asked for
		is         string
	}{{95, month.Control, month.Control}, {99, "bold", "bold"}, {90, "", "bold"}, {95, "nobody", "nobody"}} {
		more := map[string]string{"confidenceLevel": fmt.Sprint(ask95.confidence)}
		if ask95.control != "" {
			more["controlVariantId"] = ask95.control
		}
		got := ask[variant](t, c, "ab_test_result", testParameters(q, month.Test, more))
		want := q.variants(month.Test, ask95.is, ask95.confidence)
		if len(got) != len(want) {
			t.Fatalf("%d variants, want %d", len(got), len(want))
		}
		for i := range want {
			if diff := got[i].differs(want[i]); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// trial is a truth in which so many of so many visits converted.
func trial(test string, arms map[string][2]int) *month.Truth {
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -10)
	truth := &month.Truth{Start: start, End: start.AddDate(0, 0, 1)}
	for name, arm := range arms {
		for i := range arm[1] {
			id := fmt.Sprintf("%s_%s_%d", test, name, i)
			person := &month.Person{
				User: "user_" + id, Country: "DE", City: "Halle", Continent: "EU",
				Device: "desktop", OS: "Linux", Browser: "Firefox", BotScore: 99,
			}
			v := &month.Visit{Tenant: month.Main, Person: person}
			s := &month.Session{Visit: v, ID: id, User: person.User, At: start, FirstSource: "server", Test: test, Variant: name}
			if i < arm[0] {
				s.Events = append(s.Events, &month.Event{
					Session: s, ID: month.Conversion, Type: "conversion", At: start.Add(time.Second), Sequence: 1, Value: 1, Currency: "USD", TimeOnPage: -1,
				})
			}
			v.Sessions = []*month.Session{s}
			truth.Visits = append(truth.Visits, v)
		}
	}
	return truth
}

// Figures that others have published for the same counts.
func TestStatisticsAreThoseOfWorkedExamples(t *testing.T) {
	c := open(t)
	q := question{tenant: month.Main, conversion: month.Conversion, currency: "USD"}
	examples := map[string]map[string][2]int{
		// Newcombe, Two-sided confidence intervals for the single proportion,
		// Statistics in Medicine 17 (1998), table I, method 3.
		"newcombe": {"a": {81, 263}, "b": {15, 148}, "c": {0, 20}, "d": {1, 29}},
		// Exercises on two proportions with their solutions.
		"equal":  {"a": {28, 254}, "b": {36, 301}},
		"claims": {"a": {140, 200}, "b": {255, 340}},
		// The example that Evan Miller's sample size calculator opens with: 20 %,
		// and an absolute effect of 5 %.
		"miller": {"a": {40, 200}, "b": {50, 200}},
		// All against none: their errors are estimated as none.
		"certain": {"a": {0, 20}, "b": {20, 20}},
	}
	for test, arms := range examples {
		for _, batch := range trial(test, arms).Batches(3) {
			if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	result := func(test, control string, more map[string]string) map[string]variant {
		p := map[string]string{"controlVariantId": control}
		maps.Copy(p, more)
		rows := make(map[string]variant)
		for _, v := range ask[variant](t, c, "ab_test_result", testParameters(q, test, p)) {
			rows[v.ID] = v
		}
		return rows
	}
	is := func(what string, got *float64, want, within float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > within {
			t.Errorf("%s is %v, published is %v", what, deref(got), want)
		}
	}
	newcombe := result("newcombe", "a", nil)
	for arm, want := range map[string][2]float64{"a": {0.2553, 0.3662}, "b": {0.0624, 0.1605}, "c": {0, 0.1611}, "d": {0.0061, 0.1718}} {
		v := newcombe[arm]
		is("the lower end of "+arm, &v.Low, want[0], 0.00005)
		is("the upper end of "+arm, &v.High, want[1], 0.00005)
	}
	is("z of 28/254 and 36/301", result("equal", "b", nil)["a"].Z, -0.344, 0.0005)
	is("p of 28/254 and 36/301", result("equal", "b", nil)["a"].P, 0.7307, 0.0005)
	is("z of 140/200 and 255/340", result("claims", "b", nil)["a"].Z, -1.266015, 0.0000005)
	miller := result("miller", "a", map[string]string{"minimumLift": "0.25"})["b"]
	if n := miller.RecommendedExposure; n == nil || *n < 1030 || *n > 1031 {
		t.Errorf("the sample size for 20 %% and 5 %% is %v, published is 1030", n)
	}
	is("the lift from 20 % to 25 %", miller.RelativeLift, 0.25, 1e-12)
	is("the chance of 20/20 against 0/20", result("certain", "a", nil)["b"].WinProbability, 1, 0)
	is("the chance of 0/20 against 20/20", result("certain", "b", nil)["a"].WinProbability, 0, 0)
	is("the control's own", result("certain", "b", nil)["b"].WinProbability, 0.5, 0)
}

// Events are kept for 90 days, sessions for longer: what a visit before that led
// to is forgotten, so such a visit is not taken for one that did not convert.
func TestVisitsThatOutliveTheirEventsAreNotInATest(t *testing.T) {
	c := open(t)
	truth := trial("old", map[string][2]int{"control": {10, 20}})
	for _, v := range truth.Visits[:10] {
		for _, s := range v.Sessions {
			s.At = time.Now().UTC().AddDate(0, 0, -91)
			s.Events = nil
		}
	}
	for _, batch := range truth.Batches(3) {
		if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
			t.Fatal(err)
		}
	}
	q := question{tenant: month.Main, conversion: month.Conversion, currency: "USD"}
	got := one[variant](t, c, "ab_test_result", testParameters(q, "old", nil))
	if got.Exposures != 10 {
		t.Errorf("%d visits are in the test, want 10", got.Exposures)
	}
}

func TestABTestWinner(t *testing.T) {
	c := open(t)
	q := question{tenant: month.Main, conversion: month.Conversion, currency: "USD"}
	examples := map[string]map[string][2]int{
		"clear":   {"plain": {50, 500}, "bold": {90, 500}, "calm": {80, 500}},
		"worse":   {"plain": {90, 500}, "bold": {50, 500}},
		"unclear": {"plain": {50, 500}, "bold": {55, 500}},
		"equal":   {"plain": {50, 500}, "bold": {50, 500}},
	}
	for test, arms := range examples {
		for _, batch := range trial(test, arms).Batches(3) {
			if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct{ test, strategy, winner string }{
		{"clear", "winner-only", "bold"}, {"clear", "winner-or-control", "bold"},
		{"worse", "winner-only", "plain"}, {"worse", "winner-or-control", "plain"},
		{"unclear", "winner-only", "bold"}, {"unclear", "winner-or-control", "plain"},
		{"equal", "winner-only", "plain"}, {"equal", "winner-or-control", "plain"},
	} {
		t.Run(test.test+", "+test.strategy, func(t *testing.T) {
			more := map[string]string{"controlVariantId": "plain", "winnerStrategy": test.strategy}
			got := one[winner](t, c, "ab_test_winner", testParameters(q, test.test, more))
			rows := ask[variant](t, c, "ab_test_result", testParameters(q, test.test, more))
			at := slices.IndexFunc(rows, func(v variant) bool { return v.ID == test.winner })
			v := rows[at]
			if got.Winner != test.winner || got.Control != "plain" || got.Test != test.test || got.Event != q.conversion || got.Confidence != 95 {
				t.Errorf("got %+v, want %s", got, test.winner)
			}
			if got.Significant != v.Significant || got.Rate != v.Rate || got.Exposures != v.Exposures || got.Conversions != v.Conversions ||
				*got.Lift != *v.AbsoluteLift || *got.P != *v.P {
				t.Errorf("the winner's figures %+v are not those of ab_test_result, %+v", got, v)
			}
		})
	}
}
