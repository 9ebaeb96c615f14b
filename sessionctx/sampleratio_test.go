package sessionctx

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestUpperGammaIsAsPublished(t *testing.T) {
	// χ²: critical values of the NIST/SEMATECH e-Handbook of Statistical
	// Methods §1.3.6.7.4, to the last digit that is printed there.
	for _, tt := range []struct {
		df   int
		x, p float64
	}{
		{1, 2.706, 0.10}, {1, 3.841, 0.05}, {1, 6.635, 0.01}, {1, 10.828, 0.001},
		{2, 4.605, 0.10}, {2, 5.991, 0.05}, {2, 9.210, 0.01}, {2, 13.816, 0.001},
		{3, 7.815, 0.05}, {3, 16.266, 0.001}, {10, 3.940, 0.95}, {10, 18.307, 0.05}, {10, 29.588, 0.001},
		{30, 43.773, 0.05}, {30, 59.703, 0.001}, {100, 77.929, 0.95}, {100, 124.342, 0.05}, {100, 149.449, 0.001},
	} {
		// A unit of the last digit on either side encloses the value.
		if low, high := chiSquareBeyond(tt.x+0.001, tt.df), chiSquareBeyond(tt.x-0.001, tt.df); tt.p < low || tt.p > high {
			t.Errorf("χ²(%d) beyond %v: between %v and %v, want %v", tt.df, tt.x, low, high, tt.p)
		}
	}
	// Where there is a closed form, to twelve digits: Q(1/2, x) = erfc(√x),
	// and Q(n, x) = e^-x Σ x^k/k! below n for whole n; far into the tail too.
	close := func(what string, a, x, got, want float64) {
		if math.Abs(got-want) > 1e-12*want+1e-15 {
			t.Errorf("%s: Q(%v, %v) = %v, want %v", what, a, x, got, want)
		}
	}
	for _, x := range []float64{1e-6, 0.01, 0.5, 1, 1.4999, 1.5, 2, 7, 30, 200, 700} {
		close("erfc", 0.5, x, upperGamma(0.5, x), math.Erfc(math.Sqrt(x)))
		for _, n := range []int{1, 2, 5, 20, 60} {
			sum, term := 0.0, 1.0
			for k := range n {
				sum += term
				term *= x / float64(k+1)
			}
			close("Poisson", float64(n), x, upperGamma(float64(n), x), math.Exp(-x)*sum)
		}
	}
	for _, tt := range []struct {
		df   int
		x, p float64
	}{{1, 0, 1}, {0, 5, 1}, {1, 1e6, 0}} {
		if got := chiSquareBeyond(tt.x, tt.df); got != tt.p {
			t.Errorf("χ²(%d) beyond %v: %v, want %v", tt.df, tt.x, got, tt.p)
		}
	}
}

func TestASampleRatioByHand(t *testing.T) {
	// 821,588 and 815,482 of a test of halves: the example of Kohavi, Tang &
	// Xu, Trustworthy Online Controlled Experiments (2020), chapter 3: p is
	// 1.8e-6.
	r := CheckSampleRatio([]int{50, 50}, []int{821_588, 815_482})
	if math.Abs(r.ChiSquare-22.7745) > 0.001 || r.DegreesOfFreedom != 1 || r.P < 1.75e-6 || r.P > 1.85e-6 {
		t.Errorf("got %+v", r)
	}
	if !r.Mismatch {
		t.Errorf("no alarm: %+v", r)
	}
	// The e-value by its definition, visitor by visitor: each is worth what
	// the prior and those before said of his variant, over his weight.
	weights, counts := []int{7, 2, 1}, []int{0, 0, 0}
	random := rand.New(seeded(7))
	e := 0.0
	for n := range 3000 {
		i := random.IntN(3)
		share := float64(weights[i]) / 10
		e += math.Log((1000*share + float64(counts[i])) / (1000 + float64(n)) / share)
		counts[i]++
		if got, want := CheckSampleRatio(weights, counts).AlwaysP, min(1, math.Exp(-e)); math.Abs(got-want) > 1e-9*want {
			t.Fatalf("after %d visitors AlwaysP is %v, want %v", n+1, got, want)
		}
	}
	for _, counts := range [][]int{{0, 0}, {1, 0}, {10, 0}, {500_000, 500_000}, {1, 999_999}} {
		weights := []int{50, 50}
		if counts[0] == 1 && counts[1] > 0 {
			weights = []int{1, 999_999}
		}
		if r := CheckSampleRatio(weights, counts); r.Mismatch || r.P < 0.001 || r.AlwaysP > 1 || math.IsNaN(r.AlwaysP) || math.IsNaN(r.P) {
			t.Errorf("%v of weights %v: %+v", counts, weights, r)
		}
	}
}

// run lets visitors come, n of them, looks after every 100, and says after
// how many the alarm begins and after how many a χ² test that minds no
// repetition says p < 0.001, 0 for never.
func run(seed uint64, weights []int, shares []float64, n int) (alarm, naive int) {
	random := rand.New(seeded(seed))
	counts := make([]int, len(weights))
	for i := 1; i <= n; i++ {
		at, u := 0, random.Float64()
		for ; at < len(shares)-1 && u >= shares[at]; at++ {
			u -= shares[at]
		}
		counts[at]++
		if i%100 != 0 {
			continue
		}
		r := CheckSampleRatio(weights, counts)
		if alarm == 0 && r.Mismatch {
			alarm = i
		}
		if naive == 0 && r.P < 0.01 {
			naive = i
		}
	}
	return alarm, naive
}

const ratioVisitors = 50_000

// Halves of which one loses a little, so that 48 to 52 come: the alarm has to
// begin by 50,000 visitors.
func TestALossOfVisitorsRaisesTheAlarm(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		shares  []float64
		by      int
	}{
		{"48 to 52", []int{50, 50}, []float64{0.48, 0.52}, ratioVisitors},
		{"52 to 48", []int{50, 50}, []float64{0.52, 0.48}, ratioVisitors},
		{"a tenth of a tenth is lost", []int{90, 10}, []float64{0.909, 0.091}, ratioVisitors},
		{"one of three loses 8 of 100", []int{1, 1, 1}, []float64{0.3425, 0.3425, 0.315}, ratioVisitors},
		{"half of one half", []int{50, 50}, []float64{2.0 / 3, 1.0 / 3}, 1000},
		{"all of one half", []int{50, 50}, []float64{1, 0}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			latest := 0
			for seed := range uint64(20) {
				alarm, _ := run(seed, tt.weights, tt.shares, tt.by)
				if alarm == 0 {
					t.Errorf("run %d: no alarm within %d visitors", seed, tt.by)
				}
				latest = max(latest, alarm)
			}
			t.Logf("the latest alarm came after %d visitors", latest)
		})
	}
}

// The alarm holds against being looked at again and again; the χ² test alone
// would not.
func TestFairRunsRaiseNoAlarm(t *testing.T) {
	naiveAlarms := 0
	for seed := range uint64(100) {
		weights, shares := []int{50, 50}, []float64{0.5, 0.5}
		switch seed % 4 {
		case 1:
			weights, shares = []int{90, 10}, []float64{0.9, 0.1}
		case 2:
			weights, shares = []int{1, 1, 1}, []float64{1.0 / 3, 1.0 / 3, 1.0 / 3}
		case 3:
			weights, shares = []int{999, 1}, []float64{0.999, 0.001}
		}
		alarm, naive := run(1000+seed, weights, shares, 2*ratioVisitors)
		if alarm != 0 {
			t.Errorf("run %d of weights %v: an alarm after %d visitors", seed, weights, alarm)
		}
		if naive != 0 {
			naiveAlarms++
		}
	}
	if naiveAlarms < 5 {
		t.Errorf("a χ² test looked at again and again is wrong in %d of 100 runs: the runs put nothing to the test", naiveAlarms)
	}
	t.Logf("a χ² test looked at again and again would have been wrong in %d of 100 runs", naiveAlarms)
}

// Ville's bound itself, at a level where it can be seen: the smallest AlwaysP
// of a fair run, at any of its visitors, is at most 0.05 in 1 of 20 runs.
func TestTheSmallestAlwaysPOfAFairRunIsNoSmallerThanItSays(t *testing.T) {
	const runs, level = 2000, 0.05
	below := 0
	for seed := range uint64(runs) {
		random := rand.New(seeded(5000 + seed))
		counts := []int{0, 0}
		for range 2000 {
			counts[bit(random.Float64() < 0.5)]++
			if CheckSampleRatio([]int{1, 1}, counts).AlwaysP <= level {
				below++
				break
			}
		}
	}
	// 5 % is 100; four standard deviations are 39.
	if below > 139 {
		t.Errorf("%d of %d fair runs reached %v", below, runs, level)
	}
	if below == 0 {
		t.Error("none of the fair runs came near: the bound says nothing here")
	}
}

func FuzzCheckSampleRatio(f *testing.F) {
	f.Add(uint32(50), uint32(50), uint32(48), uint32(52))
	f.Add(uint32(1), uint32(999_999), uint32(0), uint32(1<<31))
	f.Fuzz(func(t *testing.T, w0, w1, x0, x1 uint32) {
		weights := []int{1 + int(w0%MaxWeight), 1 + int(w1%MaxWeight)}
		r := CheckSampleRatio(weights, []int{int(x0), int(x1)})
		for what, v := range map[string]float64{"P": r.P, "AlwaysP": r.AlwaysP} {
			if !(v >= 0 && v <= 1) { // NaN is neither
				t.Errorf("%s is %v: %+v", what, v, r)
			}
		}
		if !(r.ChiSquare >= 0) || r.Mismatch != (r.AlwaysP <= SampleRatioAlarm) {
			t.Errorf("got %+v", r)
		}
	})
}

func BenchmarkCheckSampleRatio(b *testing.B) {
	weights, counts := []int{50, 50}, []int{48_000, 52_000}
	b.ReportAllocs()
	for b.Loop() {
		CheckSampleRatio(weights, counts)
	}
}
