package caddymodule

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// ABTest is an A/B test.
type ABTest struct {
	ID string `json:"id,omitempty"`
	// Segments whose visitors take part. Default: all.
	Segments []string `json:"segments,omitempty"`
	// Variants; the first is the control.
	Variants []*Variant `json:"variants,omitempty"`
	// Share of visitors that take part, in percent with two decimals at
	// most. Default: 100.
	Traffic *float64 `json:"traffic,omitempty"`
	// `running` (default), `draft`, `paused` or `completed`.
	Status string `json:"status,omitempty"`
	// Nobody new takes part from then on: a date (00:00 UTC of that day) or
	// a time of RFC 3339.
	Until string `json:"until,omitempty"`
	// Variant that everyone gets.
	Winner string `json:"winner,omitempty"`
}

// Variant is one arm of an A/B test.
type Variant struct {
	ID string `json:"id,omitempty"`
	// Share of the test's visitors, relative to its other variants; 1 to
	// 1000000000.
	Weight int `json:"weight,omitempty"`
	// Landing page of the variant's visitors.
	LandingPage string `json:"landing_page,omitempty"`
}

func (t *ABTest) values(c *sessionctx.Campaign) (*sessionctx.Test, error) {
	wrong := func(option, format string, args ...any) error {
		return wrongIn(t, option, fmt.Errorf(format, args...))
	}
	if err := checkID("ab_test", t.ID); err != nil {
		return nil, wrongIn(t, "", err)
	}
	if slices.ContainsFunc(c.Tests, func(o sessionctx.Test) bool { return o.ID == t.ID }) {
		return nil, wrong("", "ab_test %s is defined twice: give each test an id of its own", t.ID)
	}
	out := &sessionctx.Test{ID: t.ID, Segments: t.Segments, Traffic: 10000}
	for i, s := range t.Segments {
		if c.Segment(s) == nil {
			return nil, wrong("segment", "ab_test %s names segment %s, which the campaign does not define: add a line `segment %s`, or leave it out", t.ID, s, s)
		}
		if slices.Contains(t.Segments[:i], s) {
			return nil, wrong("segment", "ab_test %s names segment %s twice: once is enough", t.ID, s)
		}
	}
	if t.Traffic != nil {
		var err error
		if out.Traffic, err = hundredths(*t.Traffic); err != nil {
			return nil, wrong("traffic", "traffic of ab_test %s: %w", t.ID, err)
		}
	}
	status, err := choice("status of ab_test "+t.ID, t.Status, "running", "draft", "paused", "completed")
	if err != nil {
		return nil, wrongIn(t, "status", err)
	}
	out.Status = sessionctx.TestStatus(status)
	if t.Until != "" {
		if out.Until, err = parseUntil(t.Until); err != nil {
			return nil, wrong("until", "until of ab_test %s: %w", t.ID, err)
		}
	}
	if len(t.Variants) < 2 {
		return nil, wrong("", "ab_test %s needs two variants at least and has %d: add lines `variant <id> <weight>`, the control first", t.ID, len(t.Variants))
	}
	for i, v := range t.Variants {
		if v == nil {
			return nil, wrong("", "variant %d of ab_test %s is null: give it an id, or leave it out", i+1, t.ID)
		}
		variant, err := v.values()
		if err != nil {
			return nil, wrongIn(v, "", err)
		}
		if slices.ContainsFunc(out.Variants, func(o sessionctx.Variant) bool { return o.ID == v.ID }) {
			return nil, wrongIn(v, "", fmt.Errorf("variant %s of ab_test %s is defined twice: give each variant an id of its own", v.ID, t.ID))
		}
		out.Variants = append(out.Variants, variant)
	}
	if t.Winner != "" {
		if !slices.ContainsFunc(out.Variants, func(o sessionctx.Variant) bool { return o.ID == t.Winner }) {
			return nil, wrong("winner", "winner %s of ab_test %s is none of its variants: known are %s", t.Winner, t.ID, variantIDs(out.Variants))
		}
		out.Winner = t.Winner
	}
	return out, nil
}

func (v *Variant) values() (sessionctx.Variant, error) {
	if err := checkID("variant", v.ID); err != nil {
		return sessionctx.Variant{}, err
	}
	if v.Weight < 1 || v.Weight > sessionctx.MaxWeight {
		return sessionctx.Variant{}, fmt.Errorf("weight %d of variant %s is not between 1 and %d: leave a variant out that nobody should get", v.Weight, v.ID, sessionctx.MaxWeight)
	}
	if v.LandingPage != "" {
		if err := checkID("landing_page of variant "+v.ID, v.LandingPage); err != nil {
			return sessionctx.Variant{}, err
		}
	}
	return sessionctx.Variant{ID: v.ID, Weight: v.Weight, LandingPageID: v.LandingPage}, nil
}

// hundredths gives a share in percent as hundredths of a percent, which it has
// to be a whole number of: a smaller one would be rounded to nobody.
func hundredths(percent float64) (int, error) {
	if !(percent >= 0 && percent <= 100) { // NaN is neither
		return 0, fmt.Errorf("%v%% is not a share between 0%% and 100%%", percent)
	}
	n := math.Round(percent * 100)
	if math.Abs(percent*100-n) > 1e-6 {
		return 0, fmt.Errorf("%v%% has more than two decimals: shares are hundredths of a percent, like 0.01%%", percent)
	}
	return int(n), nil
}

func variantIDs(variants []sessionctx.Variant) string {
	ids := make([]string, len(variants))
	for i, v := range variants {
		ids[i] = v.ID
	}
	return strings.Join(ids, ", ")
}

func parseUntil(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a date like 2027-01-31 nor a time like 2027-01-31T12:00:00Z", s)
}
