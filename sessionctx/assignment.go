package sessionctx

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// Test is an A/B test. Its first variant is the control.
type Test struct {
	ID string
	// Segments are those whose visitors take part; empty means all.
	Segments []string
	Variants []Variant
	// Traffic is the share of visitors that take part, in hundredths of a
	// percent: 10000 is all.
	Traffic int
	Status  TestStatus
	// Until ends the test; nobody new takes part from then on. The zero
	// Time means never.
	Until time.Time
	// Winner is the variant that everybody of the test's segments gets;
	// empty until one is declared.
	Winner string
}

// Variant is one arm of a test.
type Variant struct {
	ID            string
	Weight        int    // relative to the test's other variants
	LandingPageID string // empty: the segment's or the campaign's
}

// TestStatus says whether a test takes visitors.
type TestStatus string

const (
	TestRunning   TestStatus = "running"
	TestDraft     TestStatus = "draft"
	TestPaused    TestStatus = "paused"
	TestCompleted TestStatus = "completed"
)

// Assignment is the variant of a test that a visitor was given.
type Assignment struct {
	TestID, VariantID string
}

func (t *Test) variant(id string) *Variant {
	for i := range t.Variants {
		if t.Variants[i].ID == id {
			return &t.Variants[i]
		}
	}
	return nil
}

func (t *Test) takes(segment string) bool {
	return len(t.Segments) == 0 || slices.Contains(t.Segments, segment)
}

// assign gives the visitor's variants. held are those that a session or cookie
// brought: in segments that the test takes they stay as long as the campaign
// knows them, whatever became of weights, traffic and status since; only a
// declared winner replaces them.
// subject is what the visitor is bucketed by: the user, or before consent the
// visitor key's day.
func (c *Campaign) assign(subject, segment string, held []Assignment, now time.Time) []Assignment {
	if len(c.Tests) == 0 {
		return nil
	}
	out := make([]Assignment, 0, len(c.Tests))
	for i := range c.Tests {
		t := &c.Tests[i]
		if !t.takes(segment) {
			continue
		}
		if t.Winner != "" && t.Status != TestDraft {
			out = append(out, Assignment{t.ID, t.Winner})
			continue
		}
		if at := slices.IndexFunc(held, func(a Assignment) bool { return a.TestID == t.ID }); at >= 0 {
			if t.variant(held[at].VariantID) != nil {
				out = append(out, held[at])
				continue
			}
		}
		if t.Status != TestRunning || !t.Until.IsZero() && !now.Before(t.Until) {
			continue
		}
		if v, ok := t.bucket(subject); ok {
			out = append(out, Assignment{t.ID, v})
		}
	}
	return out
}

// bucket picks the subject's variant by hash: the same on every node, spread
// as the weights say, and independent from one test to the next.
func (t *Test) bucket(subject string) (variant string, in bool) {
	if hash64("traffic", t.ID, subject)%10000 >= uint64(t.Traffic) {
		return "", false
	}
	total := uint64(0)
	for i := range t.Variants {
		total += uint64(t.Variants[i].Weight)
	}
	at := hash64("variant", t.ID, subject) % total
	for i := range t.Variants {
		w := uint64(t.Variants[i].Weight)
		if at < w {
			return t.Variants[i].ID, true
		}
		at -= w
	}
	panic("unreachable: weights sum to total")
}

func hash64(parts ...string) uint64 {
	var buf [256]byte
	b := buf[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// landingPage is the page of a visitor: the variant's, else the segment's,
// else the campaign's.
func (c *Campaign) landingPage(segment string, as []Assignment) string {
	for _, a := range as {
		for i := range c.Tests {
			if c.Tests[i].ID != a.TestID {
				continue
			}
			if v := c.Tests[i].variant(a.VariantID); v != nil && v.LandingPageID != "" {
				return v.LandingPageID
			}
		}
	}
	if s := c.Segment(segment); s != nil && s.LandingPageID != "" {
		return s.LandingPageID
	}
	return c.LandingPageID
}

// ClientAssignment takes segment and variant from a client's word, where the
// server's own record is lost and the campaign knows what it names.
func (c *Campaign) ClientAssignment(s *Session, b Body) {
	if id := b.Text("segment_id", 64); c.Segment(id) != nil {
		s.SegmentID = id
	}
	test, variant := b.Text("ab_test_id", 64), b.Text("ab_test_variant_id", 64)
	for i := range c.Tests {
		if t := &c.Tests[i]; t.ID == test && t.variant(variant) != nil {
			s.Assignments = []Assignment{{t.ID, variant}}
		}
	}
	s.LandingPageID = c.landingPage(s.SegmentID, s.Assignments)
}
