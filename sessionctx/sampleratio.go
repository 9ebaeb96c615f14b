package sessionctx

import "math"

// SampleRatio says whether visitors were split over a test's variants as its
// weights say. Where they weren't, something lets one variant's visitors go
// missing, and the test's result is worth nothing.
type SampleRatio struct {
	// ChiSquare is Pearson's statistic, Σ (observed − expected)² / expected,
	// with DegreesOfFreedom, one less than there are variants.
	ChiSquare        float64
	DegreesOfFreedom int
	// P is the probability of a ChiSquare at least as large by chance. It
	// holds for one look at a number of visitors that was settled before,
	// and needs about five expected visitors in each variant.
	P float64
	// AlwaysP may be looked at after every visitor, for as long as one likes:
	// where the split is right, the chance that it ever falls to p, at any
	// look, is at most p. So the smallest one that was seen counts.
	AlwaysP float64
	// Mismatch is the alarm: AlwaysP is at most SampleRatioAlarm.
	Mismatch bool
}

// SampleRatioAlarm is the chance that a test whose split is right ever raises
// the alarm in all its life. Those who look for mismatches use 0.0005 to 0.01
// (Fabijan et al., Diagnosing Sample Ratio Mismatch in Online Controlled
// Experiments, KDD 2019).
const SampleRatioAlarm = 0.001

// sampleRatioPrior is how many visitors the prior around the weights is worth.
// It expects deviations of about √(w(1−w)/1000) in a share w, 1.6 percentage
// points of a half: what a slow or broken variant costs. Any value keeps the
// alarm honest; this one finds such losses soonest.
const sampleRatioPrior = 1000

// CheckSampleRatio compares the visitors that each variant has with the
// weights, which are positive and as many. Each visitor is to be drawn anew and
// counted once: one who comes again brings no news.
//
// A χ² test that is looked at again and again finds a deviation sooner or
// later where there is none. So the alarm rests on a test that is valid at all
// times (Lindon & Malek, Anytime-Valid Inference for Multinomial Count Data,
// NeurIPS 2022): the Bayes factor of shares drawn from a Dirichlet distribution
// around the weights θ against the weights themselves,
//
//	E = B(kθ + x) / B(kθ) / Π θᵢ^xᵢ,   B(a) = Π Γ(aᵢ) / Γ(Σ aᵢ),
//
// is a martingale of mean 1 where the weights are right, and so reaches 1/α
// with probability α at most, in all the test's life (Ville's inequality). It
// was chosen over spending α on planned looks because there is no plan: visitors
// come as they come, nobody knows how many, and every look is free. It is exact
// for any counts, small ones too, and needs nothing but them.
func CheckSampleRatio(weights, counts []int) SampleRatio {
	total, n := 0.0, 0.0
	for i, w := range weights {
		total += float64(w)
		n += float64(counts[i])
	}
	out := SampleRatio{DegreesOfFreedom: len(weights) - 1}
	logE := logGamma(sampleRatioPrior) - logGamma(sampleRatioPrior+n)
	for i, w := range weights {
		share, x := float64(w)/total, float64(counts[i])
		if n > 0 {
			out.ChiSquare += (x - n*share) * (x - n*share) / (n * share)
		}
		prior := sampleRatioPrior * share
		logE += logGamma(prior+x) - logGamma(prior) - x*math.Log(share)
	}
	out.P = chiSquareBeyond(out.ChiSquare, out.DegreesOfFreedom)
	out.AlwaysP = min(1, math.Exp(-logE))
	out.Mismatch = out.AlwaysP <= SampleRatioAlarm
	return out
}

func logGamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// chiSquareBeyond is the probability that χ² with that many degrees of freedom
// is at least x: Q(df/2, x/2), the regularized upper incomplete gamma function.
func chiSquareBeyond(x float64, df int) float64 {
	if x <= 0 || df < 1 {
		return 1
	}
	return upperGamma(float64(df)/2, x/2)
}

// upperGamma is Q(a, x) for a and x above 0: one less the series of P(a, x)
// where x is below a+1, which converges fast there, and Legendre's continued
// fraction above, evaluated by Lentz's method (Press et al., Numerical Recipes
// §6.2; DLMF 8.7.1, 8.9.2).
func upperGamma(a, x float64) float64 {
	const (
		precise = 1e-15
		turns   = 100_000 // never reached: about √a are needed
		tiny    = 1e-300  // in place of a zero divisor
	)
	scale := math.Exp(a*math.Log(x) - x - logGamma(a))
	if x < a+1 {
		term := 1 / a
		sum := term
		for n := 1.0; n < turns && term > sum*precise; n++ {
			term *= x / (a + n)
			sum += term
		}
		return max(0, 1-sum*scale)
	}
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	fraction := d
	for i := 1.0; i < turns; i++ {
		an := i * (a - i)
		b += 2
		d = an*d + b
		if math.Abs(d) < tiny {
			d = tiny
		}
		c = b + an/c
		if math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		fraction *= c * d
		if math.Abs(c*d-1) < precise {
			break
		}
	}
	return scale * fraction
}
