package sessionctx

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// byChance is the probability of counts at least as far from the weights as
// these.
func byChance(observed, weights []int) float64 { return CheckSampleRatio(weights, observed).P }

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

// testOf is a running test with variants "0", "1", … of these weights.
func testOf(id string, traffic int, weights ...int) Test {
	t := Test{ID: id, Traffic: traffic, Status: TestRunning}
	for i, w := range weights {
		t.Variants = append(t.Variants, Variant{ID: strconv.Itoa(i), Weight: w})
	}
	return t
}

// split buckets the users: how many get each variant, and how many take part.
func split(t *Test, users []string) (counts []int, in int) {
	counts = make([]int, len(t.Variants))
	for _, u := range users {
		if v, ok := t.bucket("cmp_1", u); ok {
			at, _ := strconv.Atoi(v)
			counts[at]++
			in++
		}
	}
	return counts, in
}

func TestVariantsAreSpreadAsTheirWeightsSay(t *testing.T) {
	ids := userIDs(t, users)
	for name, weights := range map[string][]int{
		"halves":              {50, 50},
		"nine to one":         {90, 10},
		"thirds":              {1, 1, 1},
		"three ways":          {50, 30, 20},
		"one in a hundred":    {99, 1},
		"weights of no order": {7, 1, 13, 2},
		"as many as traffic":  {9000, 1000},
		"large weights":       {1_000_000, 999_999, 3},
		"the largest weights": {MaxWeight, MaxWeight, MaxWeight, 1},
	} {
		for _, traffic := range []int{10000, 3000} {
			t.Run(fmt.Sprintf("%s, %d%% of traffic", name, traffic/100), func(t *testing.T) {
				test := testOf("hero", traffic, weights...)
				got, in := split(&test, ids)
				if traffic == 10000 && in != users {
					t.Errorf("%d of %d take part in a test of all traffic", in, users)
				}
				if p := byChance(got, weights); p < 0.001 {
					t.Errorf("%v for weights %v: p = %.2g", got, weights, p)
				}
				// The same counts are far from other weights: the check can fail.
				wrong := make([]int, len(weights))
				for i, w := range weights {
					wrong[i] = 4 * w
				}
				wrong[0] = 5 * weights[0]
				if p := byChance(got, wrong); p >= 0.001 {
					t.Errorf("%v pass for weights %v too", got, wrong)
				}
			})
		}
	}
}

func TestOneInAMillionIsPossible(t *testing.T) {
	test := testOf("hero", 10000, 1, 999_999)
	got, _ := split(&test, userIDs(t, users))
	// Poisson with mean 0.2: more than 4 comes once in 400,000 times.
	if got[0] > 4 {
		t.Errorf("%d of %d got a variant that is for one in a million", got[0], users)
	}
	found := false
	for i := 0; i < 20_000_000 && !found; i++ {
		v, _ := test.bucket("cmp_1", strconv.Itoa(i))
		found = v == "0"
	}
	if !found {
		t.Error("nobody of 20 million got it")
	}
}

func TestTrafficIsTheShareThatTakesPart(t *testing.T) {
	ids := userIDs(t, users)
	for _, share := range []int{0, 1, 100, 2000, 3000, 5000, 9999, 10000} {
		test := testOf("hero", share, 1, 1)
		_, in := split(&test, ids)
		if share == 0 || share == 10000 {
			if want := users * share / 10000; in != want {
				t.Errorf("%d of 10000: %d took part", share, in)
			}
			continue
		}
		if p := byChance([]int{in, users - in}, []int{share, 10000 - share}); p < 0.001 {
			t.Errorf("%d of 10000: %d of %d took part, p = %.2g", share, in, users, p)
		}
	}
}

func TestRaisingTrafficMovesNobody(t *testing.T) {
	few := Test{ID: "hero", Traffic: 1000, Variants: []Variant{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}}}
	many := few
	many.Traffic = 9000
	for _, u := range userIDs(t, 20_000) {
		if v, in := few.bucket("cmp_1", u); in {
			if w, still := many.bucket("cmp_1", u); !still || v != w {
				t.Fatalf("%s went from %s to %s", u, v, w)
			}
		}
	}
}

// dependence is the probability of a table at least as far from independence
// of its rows and columns, by chance: Pearson's χ² of a contingency table.
func dependence(table [][]int) float64 {
	n, rows, columns := 0, make([]int, len(table)), make([]int, len(table[0]))
	for r := range table {
		for c, x := range table[r] {
			n, rows[r], columns[c] = n+x, rows[r]+x, columns[c]+x
		}
	}
	chi := 0.0
	for r := range table {
		for c, x := range table[r] {
			want := float64(rows[r]) * float64(columns[c]) / float64(n)
			chi += (float64(x) - want) * (float64(x) - want) / want
		}
	}
	return chiSquareBeyond(chi, (len(rows)-1)*(len(columns)-1))
}

func TestTestsAreIndependent(t *testing.T) {
	ids := userIDs(t, users)
	type bucket struct {
		campaign string
		test     Test
	}
	for _, tt := range []struct {
		name string
		a, b bucket
		same bool
	}{
		{"two tests", bucket{"cmp_1", testOf("a", 10000, 1, 1)}, bucket{"cmp_1", testOf("b", 10000, 1, 1)}, false},
		{"of unequal weights", bucket{"cmp_1", testOf("a", 10000, 90, 10)}, bucket{"cmp_1", testOf("b", 10000, 1, 1, 1)}, false},
		{"with parts of the traffic", bucket{"cmp_1", testOf("a", 3000, 1, 1)}, bucket{"cmp_1", testOf("b", 3000, 1, 1)}, false},
		{"of one name in two campaigns", bucket{"cmp_1", testOf("hero", 10000, 1, 1)}, bucket{"cmp_2", testOf("hero", 10000, 1, 1)}, false},
		{"whose names join to the same", bucket{"cmp_1", testOf("1hero", 10000, 1, 1)}, bucket{"cmp_11", testOf("hero", 10000, 1, 1)}, false},
		{"a test and itself", bucket{"cmp_1", testOf("a", 10000, 1, 1)}, bucket{"cmp_1", testOf("a", 10000, 1, 1)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			variants := make([][]int, len(tt.a.test.Variants)) // of those in both
			for i := range variants {
				variants[i] = make([]int, len(tt.b.test.Variants))
			}
			parts := [][]int{{0, 0}, {0, 0}}  // in or out of either
			within := [][]int{{0, 0}, {0, 0}} // variant of the first by part of the second
			for _, u := range ids {
				x, inA := tt.a.test.bucket(tt.a.campaign, u)
				y, inB := tt.b.test.bucket(tt.b.campaign, u)
				parts[bit(inA)][bit(inB)]++
				if inA && inB {
					variants[x[0]-'0'][y[0]-'0']++
				}
				if inA {
					within[min(x[0]-'0', 1)][bit(inB)]++
				}
			}
			if p := dependence(variants); (p < 0.001) != tt.same {
				t.Errorf("variants %v: p = %.2g", variants, p)
			}
			if tt.a.test.Traffic == 10000 {
				return
			}
			if p := dependence(parts); p < 0.001 {
				t.Errorf("who takes part in either: %v, p = %.2g", parts, p)
			}
			if p := dependence(within); p < 0.001 {
				t.Errorf("variant by part in the other: %v, p = %.2g", within, p)
			}
		})
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestWhoGetsWhichVariant(t *testing.T) {
	variants := []Variant{{ID: "control", Weight: 1}, {ID: "bold", Weight: 1}}
	held := []Assignment{{"cmp_1/hero", "bold"}}
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
		{"a variant that is gone is drawn anew", Test{Status: TestRunning}, "", []Assignment{{"cmp_1/hero", "gone"}}, any},
		{"another test's variant says nothing", Test{Status: TestRunning, Traffic: -1}, "", []Assignment{{"cmp_1/other", "bold"}}, none},
		{"nor does a test of that name in another campaign", Test{Status: TestRunning, Traffic: -1}, "", []Assignment{{"cmp_2/hero", "bold"}}, none},
		{"nor does one whose campaign begins like this", Test{Status: TestRunning, Traffic: -1}, "", []Assignment{{"cmp_11/hero", "bold"}}, none},
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
			c := &Campaign{CampaignRef: CampaignRef{ID: "cmp_1"}, Tests: []Test{tt.test}}
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

// visitor is a browser with cookies that comes day after day.
type visitor struct {
	tb   testing.TB
	ring *Ring
	jar  []Cookie
	day  int
	seed uint64 // of ids
}

// visit is a new session of the visitor on another day: the browser has long
// let go of the last one's cookie.
func (v *visitor) visit(c *Campaign) *Session {
	v.tb.Helper()
	v.jar = without(v.jar, c.CookieNames(true).Session)
	v.day += 2
	return v.page(c, "everyone", noon.Add(time.Duration(v.day)*24*time.Hour))
}

func (v *visitor) page(c *Campaign, segment string, now time.Time) *Session {
	v.tb.Helper()
	v.seed++
	in := testInput(v.ring, c, v.seed)
	in.Now = now
	in.Carried = v.ring.OpenCookies(v.jar, c, true, now.UnixMilli())
	visit, err := Identify(in)
	if err != nil {
		v.tb.Fatal(err)
	}
	visit.Assign(segment, now)
	v.jar = keep(v.jar, cookiesOf(v.tb, v.ring, visit, true, now))
	return &visit.Session
}

func TestAWinnerThatIsWithdrawnLeavesNoTrace(t *testing.T) {
	v := &visitor{tb: t, ring: testRing(t, 1)}
	c := testCampaign()
	drawn := v.visit(c).Test()
	other := map[string]string{"control": "bold", "bold": "control"}[drawn.VariantID]
	won := testCampaign()
	won.Tests[0].Winner = other
	won.Tests = append(won.Tests, testOf("footer", 10000, 1, 1)) // so that the cookie is written
	if got := v.visit(won).Test(); got.VariantID != other {
		t.Fatalf("the winner is %s, the visitor got %v", other, got)
	}
	again := testCampaign()
	again.Tests[0].Variants[0].Weight, again.Tests[0].Variants[1].Weight = 1, 1
	again.Tests[0].Traffic = 0 // so nothing is drawn: it has to be held
	if got := v.visit(again).Test(); got != drawn {
		t.Errorf("after the winner was withdrawn the visitor got %v, was %v", got, drawn)
	}
}

func TestTwoCampaignsOfOneWorkspaceMayNameATestAlike(t *testing.T) {
	spring, summer := testCampaign(), testCampaign()
	summer.ID = "cmp_2"
	ring := testRing(t, 1)
	equal, moved := 0, 0
	const visitors = 400
	for i := range uint64(visitors) {
		v := &visitor{tb: t, ring: ring, seed: 10 * i}
		a := v.visit(spring).Test()
		b := v.visit(summer).Test()
		if a == b {
			equal++
		}
		later := testCampaign()
		later.Tests[0].Traffic = 0
		if v.visit(later).Test() != a {
			moved++
		}
	}
	if p := byChance([]int{equal, visitors - equal}, []int{1, 1}); p < 0.001 {
		t.Errorf("%d of %d got the same variant in both campaigns: p = %.2g", equal, visitors, p)
	}
	if moved > 0 {
		t.Errorf("%d of %d lost their variant by a visit to the other campaign", moved, visitors)
	}
}

func TestASessionForgetsWhatTheCampaignNoLongerKnows(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Campaign)
		keeps  bool
	}{
		{"nothing changed", func(*Campaign) {}, true},
		{"other weights", func(c *Campaign) { c.Tests[0].Variants[0].Weight = 99 }, true},
		{"paused", func(c *Campaign) { c.Tests[0].Status = TestPaused }, true},
		{"the variant is gone", func(c *Campaign) { c.Tests[0].Variants = c.Tests[0].Variants[:1] }, false},
		{"the variant has another name", func(c *Campaign) { c.Tests[0].Variants[1].ID = "bolder" }, false},
		{"the test has another name", func(c *Campaign) { c.Tests[0].ID = "header" }, false},
		{"the test is gone", func(c *Campaign) { c.Tests = nil }, false},
	} {
		for _, later := range []struct {
			name  string
			after time.Duration
		}{{"the same session", time.Minute}, {"its successor", 40 * time.Minute}} {
			t.Run(tt.name+", "+later.name, func(t *testing.T) {
				c := testCampaign()
				c.Tests[0].Variants[0].Weight, c.Tests[0].Variants[1].Weight = 1, MaxWeight // bold
				v := &visitor{tb: t, ring: testRing(t, 1)}
				first := v.page(c, "mobile", noon)
				if first.Test().VariantID != "bold" || first.LandingPageID != "lp_3" {
					t.Fatalf("the visitor got %v on %s", first.Test(), first.LandingPageID)
				}
				tt.change(c)
				got := v.page(c, "mobile", noon.Add(later.after))
				if got.OriginalID != first.ID || got.UserID != first.UserID {
					t.Fatal("the session did not go on")
				}
				want, page := []Assignment(nil), "lp_2"
				if tt.keeps {
					want, page = first.Assignments, "lp_3"
				}
				if !slices.Equal(got.Assignments, want) || got.LandingPageID != page {
					t.Errorf("got %v on %s, want %v on %s", got.Assignments, got.LandingPageID, want, page)
				}
			})
		}
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

func BenchmarkAssign(b *testing.B) {
	user := newUserID(b, testRing(b, 1), 1, "ws_1")
	for _, n := range []int{1, 12} {
		c := &Campaign{CampaignRef: CampaignRef{ID: "cmp_1"}}
		held := []Assignment(nil)
		for i := range n {
			c.Tests = append(c.Tests, testOf(fmt.Sprintf("test_%d", i), 10000, 50, 50))
			held = append(held, Assignment{fmt.Sprintf("cmp_1/test_%d", i), "1"})
		}
		b.Run(fmt.Sprintf("%d tests, drawn", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.assign(user, "everyone", nil, noon)
			}
		})
		b.Run(fmt.Sprintf("%d tests, held", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.assign(user, "everyone", held, noon)
			}
		})
	}
}
