package sessionctx

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// upperGamma is Q(a, x), the regularized upper incomplete gamma function, by
// its series below a+1 and its continued fraction above (Numerical Recipes
// §6.2). The survival function of χ² with k degrees of freedom is Q(k/2, x/2).
func upperGamma(a, x float64) float64 {
	lg, _ := math.Lgamma(a)
	scale := math.Exp(-x + a*math.Log(x) - lg)
	if x < a+1 {
		sum, term := 1/a, 1/a
		for n := 1.0; n < 1000 && math.Abs(term) > sum*1e-15; n++ {
			term *= x / (a + n)
			sum += term
		}
		return 1 - sum*scale
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for i := 1.0; i < 1000; i++ {
		an := -i * (i - a)
		b += 2
		d = 1 / (an*d + b)
		c = b + an/c
		h *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return scale * h
}

// chiSquare is the probability of counts at least as far from the expected
// ones as these, by chance.
func chiSquare(observed []int, weights []float64) float64 {
	n, total := 0, 0.0
	for i := range observed {
		n += observed[i]
		total += weights[i]
	}
	x := 0.0
	for i := range observed {
		want := float64(n) * weights[i] / total
		x += (float64(observed[i]) - want) * (float64(observed[i]) - want) / want
	}
	if x == 0 {
		return 1
	}
	return upperGamma(float64(len(observed)-1)/2, x/2)
}

func TestTheChiSquareOfThisTestIsRight(t *testing.T) {
	// Tabulated critical values.
	for _, tt := range []struct{ k, x, p float64 }{
		{1, 3.841, 0.05}, {1, 10.828, 0.001}, {3, 7.815, 0.05}, {3, 16.266, 0.001}, {10, 3.940, 0.95},
	} {
		if got := upperGamma(tt.k/2, tt.x/2); math.Abs(got-tt.p) > tt.p*0.01 {
			t.Errorf("χ²(%v) beyond %v: %v, want %v", tt.k, tt.x, got, tt.p)
		}
	}
}

const users = 200_000

// userIDs are ids as real ones are made.
func userIDs(tb testing.TB, n int) []string {
	tb.Helper()
	ring := testRing(tb, 1)
	random := seeded(42)
	out := make([]string, n)
	for i := range out {
		s, err := ring.NewUserID(random, noonMS, "ws_1")
		if err != nil {
			tb.Fatal(err)
		}
		out[i] = s
	}
	return out
}

func TestVariantsAreSpreadAsTheirWeightsSay(t *testing.T) {
	ids := userIDs(t, users)
	for name, weights := range map[string][]int{
		"halves":               {50, 50},
		"thirds":               {1, 1, 1},
		"one in a hundred":     {99, 1},
		"weights of no order":  {7, 1, 13, 2},
		"weights beyond bytes": {1_000_000, 999_999, 3},
	} {
		t.Run(name, func(t *testing.T) {
			test := Test{ID: "hero", Traffic: 10000, Status: TestRunning}
			want := make([]float64, len(weights))
			for i, w := range weights {
				test.Variants = append(test.Variants, Variant{ID: fmt.Sprint(i), Weight: w})
				want[i] = float64(w)
			}
			got := make([]int, len(weights))
			for _, u := range ids {
				v, in := test.bucket(u)
				if !in {
					t.Fatal("somebody is left out of all traffic")
				}
				got[v[0]-'0']++
			}
			if p := chiSquare(got, want); p < 0.001 {
				t.Errorf("%v for weights %v: p = %.2g", got, weights, p)
			}
		})
	}
}

func TestTrafficIsTheShareThatTakesPart(t *testing.T) {
	ids := userIDs(t, users)
	for _, share := range []int{0, 1, 100, 2000, 5000, 9999, 10000} {
		test := Test{ID: "hero", Traffic: share, Variants: []Variant{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}}}
		in, a := 0, 0
		for _, u := range ids {
			v, ok := test.bucket(u)
			if ok {
				in++
			}
			if v == "a" {
				a++
			}
		}
		if share == 0 || share == 10000 {
			if want := users * share / 10000; in != want {
				t.Errorf("%d of 10000: %d took part", share, in)
			}
			continue
		}
		if p := chiSquare([]int{in, users - in}, []float64{float64(share), float64(10000 - share)}); p < 0.001 {
			t.Errorf("%d of 10000: %d of %d took part, p = %.2g", share, in, users, p)
		}
		// Those who take part are spread evenly: the two hashes are independent.
		if p := chiSquare([]int{a, in - a}, []float64{1, 1}); p < 0.001 {
			t.Errorf("%d of 10000: variants %d and %d, p = %.2g", share, a, in-a, p)
		}
	}
}

func TestRaisingTrafficMovesNobody(t *testing.T) {
	few := Test{ID: "hero", Traffic: 1000, Variants: []Variant{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}}}
	many := few
	many.Traffic = 9000
	for _, u := range userIDs(t, 20_000) {
		if v, in := few.bucket(u); in {
			if w, still := many.bucket(u); !still || v != w {
				t.Fatalf("%s went from %s to %s", u, v, w)
			}
		}
	}
}

func TestTestsAreIndependent(t *testing.T) {
	a := Test{ID: "a", Traffic: 10000, Variants: []Variant{{ID: "0", Weight: 1}, {ID: "1", Weight: 1}}}
	b := a
	b.ID = "b"
	cells := make([]int, 4)
	for _, u := range userIDs(t, users) {
		x, _ := a.bucket(u)
		y, _ := b.bucket(u)
		cells[(x[0]-'0')*2+y[0]-'0']++
	}
	if p := chiSquare(cells, []float64{1, 1, 1, 1}); p < 0.001 {
		t.Errorf("cells %v: p = %.2g", cells, p)
	}
}

func TestWhoGetsWhichVariant(t *testing.T) {
	variants := []Variant{{ID: "control", Weight: 1}, {ID: "bold", Weight: 1}}
	held := []Assignment{{"hero", "bold"}}
	const any, none = "any", ""
	for _, tt := range []struct {
		name    string
		test    Test
		segment string
		held    []Assignment
		want    string
	}{
		{"a running test takes everybody", Test{Status: TestRunning}, "", nil, any},
		{"one without traffic takes nobody", Test{Status: TestRunning, Traffic: -1}, "", nil, none},
		{"a draft takes nobody", Test{Status: TestDraft}, "", nil, none},
		{"a paused one takes nobody new", Test{Status: TestPaused}, "", nil, none},
		{"a completed one takes nobody new", Test{Status: TestCompleted}, "", nil, none},
		{"what was assigned stays while paused", Test{Status: TestPaused}, "", held, "bold"},
		{"what was assigned stays when completed without a winner", Test{Status: TestCompleted}, "", held, "bold"},
		{"what was assigned stays when traffic is cut", Test{Status: TestRunning, Traffic: -1}, "", held, "bold"},
		{"what was assigned stays after the end", Test{Status: TestRunning, Until: noon}, "", held, "bold"},
		{"a variant that is gone is drawn anew", Test{Status: TestRunning}, "", []Assignment{{"hero", "gone"}}, any},
		{"another test's variant says nothing", Test{Status: TestRunning, Traffic: -1}, "", []Assignment{{"other", "bold"}}, none},
		{"before its end a test takes visitors", Test{Status: TestRunning, Until: noon.Add(time.Millisecond)}, "", nil, any},
		{"at its end it takes nobody new", Test{Status: TestRunning, Until: noon}, "", nil, none},
		{"a winner is for all", Test{Status: TestCompleted, Winner: "control"}, "", nil, "control"},
		{"a winner replaces what was assigned", Test{Status: TestRunning, Winner: "control"}, "", held, "control"},
		{"a winner outlives the end", Test{Status: TestRunning, Until: noon, Winner: "control"}, "", nil, "control"},
		{"a draft has no winner yet", Test{Status: TestDraft, Winner: "control"}, "", nil, none},
		{"a test of the visitor's segment takes him", Test{Status: TestRunning, Segments: []string{"x", "mobile"}}, "mobile", nil, any},
		{"one of another segment doesn't", Test{Status: TestRunning, Segments: []string{"x"}}, "mobile", nil, none},
		{"one of a segment doesn't take visitors without one", Test{Status: TestRunning, Segments: []string{"x"}}, "", nil, none},
		{"another segment's winner is not for him", Test{Winner: "control", Segments: []string{"x"}}, "mobile", nil, none},
		{"a variant that was assigned in another segment isn't shown in this one", Test{Status: TestRunning, Segments: []string{"x"}}, "mobile", held, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.test.ID, tt.test.Variants = "hero", variants
			switch tt.test.Traffic {
			case 0:
				tt.test.Traffic = 10000
			case -1:
				tt.test.Traffic = 0
			}
			c := &Campaign{Tests: []Test{tt.test}}
			for _, u := range userIDs(t, 200) {
				as := c.assign(u, tt.segment, tt.held, noon)
				switch {
				case tt.want == none && len(as) != 0,
					tt.want != none && len(as) != 1,
					tt.want != none && tt.want != any && as[0].VariantID != tt.want,
					tt.want == any && as[0].VariantID != "control" && as[0].VariantID != "bold":
					t.Fatalf("got %v, want %q", as, tt.want)
				}
			}
		})
	}
}

func TestAReturningUserKeepsHisVariantWhenWeightsChange(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	changed := testCampaign()
	changed.Tests[0].Variants[0].Weight, changed.Tests[0].Variants[1].Weight = 1, 999_999
	moved := 0
	for seed := range uint64(200) {
		jar, known := fullJar(t, ring, c, seed, true, noon)
		in := testInput(ring, changed, seed+1000)
		in.Now = noon.Add(48 * time.Hour)
		in.Carried = ring.OpenCookies(without(jar, c.CookieNames(true).Session), changed, true, in.Now.UnixMilli())
		v := newVisit(t, in)
		if !v.New || v.Session.UserID != known.UserID {
			t.Fatal("not a return")
		}
		if !slices.Equal(v.Session.Assignments, known.Assignments) {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d of 200 got another variant", moved)
	}
}

func TestAVariantSeenInOneSegmentIsRememberedForIt(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	c.Tests[0].Segments = []string{"everyone"}
	names := c.CookieNames(true)
	jar, known := fullJar(t, ring, c, 2, true, noon)
	visit := func(segment string, day int) Session {
		in := testInput(ring, c, uint64(day))
		in.Now = noon.Add(time.Duration(day) * 24 * time.Hour)
		in.Carried = ring.OpenCookies(without(jar, names.Session), c, true, in.Now.UnixMilli())
		v, err := Identify(in)
		if err != nil {
			t.Fatal(err)
		}
		v.Assign(segment, in.Now)
		jar = keep(jar, cookiesOf(t, ring, v, true, in.Now))
		return v.Session
	}
	if got := visit("mobile", 2); len(got.Assignments) != 0 || got.LandingPageID != "lp_2" {
		t.Errorf("in the other segment: %v on %s", got.Assignments, got.LandingPageID)
	}
	c.Tests[0].Traffic = 0
	if got := visit("everyone", 4); !slices.Equal(got.Assignments, known.Assignments) {
		t.Errorf("back in the first: %v, was %v", got.Assignments, known.Assignments)
	}
}

func TestTheLandingPageIsTheVariantsElseTheSegmentsElseTheCampaigns(t *testing.T) {
	c := testCampaign()
	c.Tests = append(c.Tests, Test{ID: "footer", Variants: []Variant{{ID: "x", Weight: 1, LandingPageID: "lp_4"}}})
	for _, tt := range []struct {
		name, segment string
		as            []Assignment
		want          string
	}{
		{"nothing matched: the campaign's", "", nil, "lp_1"},
		{"a segment without a page: the campaign's", "everyone", nil, "lp_1"},
		{"a segment with a page: the segment's", "mobile", nil, "lp_2"},
		{"a variant with a page: the variant's", "mobile", []Assignment{{"hero", "bold"}}, "lp_3"},
		{"a variant without one: the segment's", "mobile", []Assignment{{"hero", "control"}}, "lp_2"},
		{"of several tests the first that names one", "", []Assignment{{"hero", "control"}, {"footer", "x"}}, "lp_4"},
		{"of two that name one the first", "", []Assignment{{"hero", "bold"}, {"footer", "x"}}, "lp_3"},
		{"what the campaign doesn't know names none", "gone", []Assignment{{"gone", "bold"}, {"hero", "gone"}}, "lp_1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.landingPage(tt.segment, tt.as); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAClientsWordIsTakenOnlyIfTheCampaignKnowsIt(t *testing.T) {
	c := testCampaign()
	for _, tt := range []struct {
		name, body, segment, variant, page string
	}{
		{"a segment and variant of the campaign", `{"segment_id":"mobile","ab_test_id":"hero","ab_test_variant_id":"bold"}`, "mobile", "bold", "lp_3"},
		{"a segment of another", `{"segment_id":"vip"}`, "", "", "lp_1"},
		{"a variant of another", `{"ab_test_id":"hero","ab_test_variant_id":"evil"}`, "", "", "lp_1"},
		{"a test of another", `{"ab_test_id":"evil","ab_test_variant_id":"bold"}`, "", "", "lp_1"},
		{"nothing", `{"segment_id":null,"ab_test_id":null,"ab_test_variant_id":""}`, "", "", "lp_1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := ParseBody([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			var s Session
			c.ClientAssignment(&s, b)
			if s.SegmentID != tt.segment || s.Test().VariantID != tt.variant || s.LandingPageID != tt.page {
				t.Errorf("segment %q, variant %q, page %q", s.SegmentID, s.Test().VariantID, s.LandingPageID)
			}
		})
	}
}
