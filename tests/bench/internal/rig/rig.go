// Package rig is what the benchmark programs share: how long they measure,
// processes and what these use, a page request, medians. It knows nothing of
// what is compared.
package rig

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

// Setting is how long is measured.
type Setting struct {
	Rounds int
	Round  time.Duration
}

// FromEnv is the setting s, but for what BENCH_ROUNDS and BENCH_TIME say.
func FromEnv(s Setting) (Setting, error) {
	if v := os.Getenv("BENCH_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return s, fmt.Errorf("BENCH_ROUNDS %q is not a number of rounds: give a whole number from 1", v)
		}
		s.Rounds = n
	}
	if v := os.Getenv("BENCH_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		// wrk measures whole seconds.
		if err != nil || d < time.Second || d%time.Second != 0 {
			return s, fmt.Errorf("BENCH_TIME %q is not how long a round takes: give whole seconds, like 2s", v)
		}
		s.Round = d
	}
	return s, nil
}

// Spread is the median of a figure over rounds, and between what it lay.
type Spread struct{ Mid, Low, High float64 }

// Median is the spread of v, which has at least one element.
func Median(v []float64) Spread {
	v = slices.SortedFunc(slices.Values(v), cmp.Compare[float64])
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return Spread{Mid: mid, Low: v[0], High: v[len(v)-1]}
}

// MedianOf is the spread of a figure of samples.
func MedianOf(samples []Sample, figure func(Sample) float64) Spread {
	v := make([]float64, len(samples))
	for i, s := range samples {
		v[i] = figure(s)
	}
	return Median(v)
}

// Text is the spread with so many decimals.
func (s Spread) Text(decimals int) string {
	return fmt.Sprintf("%.*f (%.*f … %.*f)", decimals, s.Mid, decimals, s.Low, decimals, s.High)
}

// FreeAddr is an address on loopback that nobody listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
