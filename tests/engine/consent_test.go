package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// decided is a proven decision with what came of it in the period.
type decided struct {
	*month.Decision
	newest, changes, withdraws bool
}

// consents are the period's decisions, and what they come to by subject.
type consents struct {
	decisions                     []decided
	unproven                      int
	proofs                        map[string]int
	subjects, withConsent, undone int
}

func (q question) consents() consents {
	c := consents{proofs: make(map[string]int)}
	type subject struct{ id, domain string }
	chains := make(map[subject][]*month.Decision)
	for _, d := range q.truth.Decisions {
		if d.Tenant != q.tenant || d.Given.After(q.period.end) {
			continue
		}
		if q.period.has(d.Given) {
			c.proofs[d.Proof]++
			if !d.Proven() {
				c.unproven++
			}
		}
		if d.Proven() {
			who := subject{d.Subject, d.Domain}
			chains[who] = append(chains[who], d)
		}
	}
	for _, chain := range chains {
		current, consented, undid := false, false, false
		for i, d := range chain {
			end := d.Expires
			if i+1 < len(chain) && chain[i+1].Given.Before(end) {
				end = chain[i+1].Given
			}
			consented = consented || d.Granted() && end.After(q.period.start)
			if !q.period.has(d.Given) {
				continue
			}
			current = true
			one := decided{Decision: d, newest: i == len(chain)-1}
			if i > 0 && d.Given.Before(chain[i-1].Expires) {
				f := chain[i-1]
				one.changes = f.Analytics != d.Analytics || f.Marketing != d.Marketing || f.Functional != d.Functional
				one.withdraws = f.Analytics && !d.Analytics || f.Marketing && !d.Marketing || f.Functional && !d.Functional
			}
			undid = undid || one.withdraws
			c.decisions = append(c.decisions, one)
		}
		if current {
			c.subjects++
		}
		if consented {
			c.withConsent++
		}
		if undid {
			c.undone++
		}
	}
	return c
}

func count(all []decided, of func(decided) bool) int { return len(filter(all, of)) }

func analytics(d decided) bool  { return d.Analytics }
func marketing(d decided) bool  { return d.Marketing }
func functional(d decided) bool { return d.Functional }

// consentLists are the arrays of consent_rates; an empty key is none.
var consentLists = map[string]func(decided) string{
	"sources":         func(d decided) string { return d.Source },
	"policy_versions": func(d decided) string { return d.Policy },
	"countries":       func(d decided) string { return d.Country },
	"segments":        func(d decided) string { return d.Segment },
	"domains":         func(d decided) string { return d.Domain },
}

func TestConsentRates(t *testing.T) {
	seen := make(map[string]int)
	asked(t, func(t *testing.T, c *ClickHouse, q question) {
		for what, n := range checkConsents(t, c, q) {
			seen[what] += n
		}
	})
	for what, n := range seen {
		if n <= 0 {
			t.Errorf("%s: %s", what, fmt.Sprint(n))
		}
	}
}

// checkConsents returns how often each thing was to be counted.
func checkConsents(t *testing.T, c *ClickHouse, q question) map[string]int {
	seen := make(map[string]int)
	parameters := q.parameters()
	delete(parameters, "conversionEventId")
	step := time.Hour
	if q.period.end.Sub(q.period.start) > 20*24*time.Hour {
		parameters["granularity"], step = "day", 24*time.Hour
	}
	row := one[map[string]json.RawMessage](t, c, "consent_rates", parameters)
	if want := 12 + 1 + len(consentLists) + 6; len(row) != want {
		t.Errorf("%d columns, want %d", len(row), want)
	}
	all := q.consents()
	newest := filter(all.decisions, func(d decided) bool { return d.newest })
	withdrawals := count(all.decisions, func(d decided) bool { return d.withdraws })
	changes := count(all.decisions, func(d decided) bool { return d.changes })
	for column, want := range map[string]int{
		"decisions": len(all.decisions), "unproven_decisions": all.unproven, "subjects": all.subjects,
		"accepted_all":      count(newest, func(d decided) bool { return d.Analytics && d.Marketing && d.Functional }),
		"refused_all":       count(newest, func(d decided) bool { return !d.Granted() }),
		"changed_decisions": changes, "withdrawals": withdrawals, "subjects_with_consent": all.withConsent,
	} {
		total(t, row, column, want)
		seen[column] += want
	}
	seen["changes that withdraw nothing"] += changes - withdrawals
	seen["consent from before the period"] += all.withConsent - count(newest, decided.Granted)
	for column, want := range map[string]float64{
		"analytics_rate":  share(count(newest, analytics), all.subjects),
		"marketing_rate":  share(count(newest, marketing), all.subjects),
		"functional_rate": share(count(newest, functional), all.subjects),
		"withdrawal_rate": share(all.undone, all.withConsent),
	} {
		var got float64
		if json.Unmarshal(row[column], &got) != nil || !near(got, want) {
			t.Errorf("%s is %s, want %v", column, row[column], want)
		}
	}
	ranked := func(x, y []any) int {
		return cmp.Or(y[1].(int)-x[1].(int), cmp.Compare(x[0].(string), y[0].(string)))
	}
	never := func(int) int { return -1 }
	var proofs [][]any
	for proof, n := range all.proofs {
		proofs = append(proofs, []any{proof, n})
	}
	slices.SortFunc(proofs, ranked)
	checkList(t, row, "proofs", proofs, never)
	for column, of := range consentLists {
		byKey := make(map[string][]decided)
		for _, d := range all.decisions {
			if key := of(d); key != "" {
				byKey[key] = append(byKey[key], d)
			}
		}
		var want [][]any
		for key, decisions := range byKey {
			last := filter(decisions, func(d decided) bool { return d.newest })
			want = append(want, []any{key, len(decisions), len(last), count(last, analytics), count(last, marketing), count(last, functional)})
		}
		slices.SortFunc(want, ranked)
		checkList(t, row, column, want, never)
	}
	var ts []string
	series := make(map[string][]int)
	for start := q.period.start.Truncate(step); !start.After(q.period.end); start = start.Add(step) {
		in := filter(all.decisions, func(d decided) bool { return d.Given.Truncate(step).Equal(start) })
		ts = append(ts, start.Format(time.DateTime))
		for column, of := range map[string]func(decided) bool{
			"decisions": func(decided) bool { return true }, "analytics": analytics, "marketing": marketing, "functional": functional,
			"withdrawals": func(d decided) bool { return d.withdraws },
		} {
			series[column] = append(series[column], count(in, of))
		}
	}
	same(t, row, "series_ts", ts)
	for column, figures := range series {
		same(t, row, "series_"+column, figures)
	}
	return seen
}
