package sessionctx

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
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
	Weight        int    // relative to the test's other variants; 1 to MaxWeight
	LandingPageID string // empty: the segment's or the campaign's
}

// MaxWeight is the largest weight of a variant. It fits 32 bits, and against
// it a hash of 64 bits is as good as evenly spread.
const MaxWeight = 1_000_000_000

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

// hasWinner reports whether everybody of the test's segments gets one variant.
func (t *Test) hasWinner() bool { return t.Winner != "" && t.Status != TestDraft }

func (t *Test) takes(segment string) bool {
	return len(t.Segments) == 0 || slices.Contains(t.Segments, segment)
}

// assign gives the visitor's variants. held are those that the user cookie
// brought, as sticky wrote them: in segments that the test takes they stay as long as the campaign
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
		if t.hasWinner() {
			out = append(out, Assignment{t.ID, t.Winner})
			continue
		}
		if v := c.heldVariant(held, t.ID); t.variant(v) != nil {
			out = append(out, Assignment{t.ID, v})
			continue
		}
		if t.Status != TestRunning || !t.Until.IsZero() && !now.Before(t.Until) {
			continue
		}
		if v, ok := t.bucket(c.ID, subject); ok {
			out = append(out, Assignment{t.ID, v})
		}
	}
	return out
}

// bucket picks the subject's variant by hash: the same on every node, spread
// as the weights say, and independent from one test to the next and from one
// campaign to the next. Whether the subject takes part and which variant he
// gets are two independent parts of one hash, so that more traffic moves nobody.
func (t *Test) bucket(campaign, subject string) (variant string, in bool) {
	var buf [256]byte
	b := buf[:0]
	for _, p := range [...]string{"ab_test", campaign, t.ID, subject} {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	if binary.BigEndian.Uint64(sum[:])%10000 >= uint64(t.Traffic) {
		return "", false
	}
	total := uint64(0)
	for i := range t.Variants {
		total += uint64(t.Variants[i].Weight)
	}
	at := binary.BigEndian.Uint64(sum[8:]) % total
	for i := range t.Variants {
		w := uint64(t.Variants[i].Weight)
		if at < w {
			return t.Variants[i].ID, true
		}
		at -= w
	}
	panic("unreachable: weights sum to total")
}

// A user cookie is for all campaigns of a workspace, and two of them may call
// a test by the same name. So it holds tests as campaign/test; no id has a
// slash.

// sticky is how the user cookie holds a session's variants. Those of a declared
// winner are not held: when it is withdrawn, everybody goes back to what he was
// given before.
func (c *Campaign) sticky(as []Assignment) []Assignment {
	out := make([]Assignment, 0, len(as))
	for _, a := range as {
		if !c.forces(a.TestID) {
			out = append(out, Assignment{c.ID + "/" + a.TestID, a.VariantID})
		}
	}
	return out
}

// heldVariant is the variant of the campaign's test that a user cookie holds,
// empty if none.
func (c *Campaign) heldVariant(held []Assignment, test string) string {
	for _, a := range held {
		if rest, ok := strings.CutPrefix(a.TestID, c.ID); ok && rest != "" && rest[0] == '/' && rest[1:] == test {
			return a.VariantID
		}
	}
	return ""
}

// holds reports whether a user cookie holds all of a session's variants that it
// should.
func (c *Campaign) holds(held, as []Assignment) bool {
	for _, a := range as {
		if c.heldVariant(held, a.TestID) != a.VariantID && !c.forces(a.TestID) {
			return false
		}
	}
	return true
}

func (c *Campaign) test(id string) *Test {
	for i := range c.Tests {
		if c.Tests[i].ID == id {
			return &c.Tests[i]
		}
	}
	return nil
}

// forces reports whether everybody gets the test's winner.
func (c *Campaign) forces(test string) bool {
	t := c.test(test)
	return t != nil && t.hasWinner()
}

// forget takes from a session that goes on what the campaign no longer knows:
// a variant that is gone can't be shown, and what is shown instead must not be
// counted as it. Nothing is drawn in its place before the next session, so
// that no session sees two variants of a test.
func (c *Campaign) forget(s *Session) {
	gone := func(a Assignment) bool {
		t := c.test(a.TestID)
		return t == nil || t.variant(a.VariantID) == nil
	}
	if !slices.ContainsFunc(s.Assignments, gone) {
		return
	}
	s.Assignments = slices.DeleteFunc(slices.Clone(s.Assignments), gone)
	s.LandingPageID = c.landingPage(s.SegmentID, s.Assignments)
}

// landingPage is the page of a visitor: the variant's, else the segment's,
// else the campaign's.
func (c *Campaign) landingPage(segment string, as []Assignment) string {
	for _, a := range as {
		if t := c.test(a.TestID); t != nil {
			if v := t.variant(a.VariantID); v != nil && v.LandingPageID != "" {
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
	variant := b.Text("ab_test_variant_id", 64)
	if t := c.test(b.Text("ab_test_id", 64)); t != nil && t.variant(variant) != nil {
		s.Assignments = []Assignment{{t.ID, variant}}
	}
	s.LandingPageID = c.landingPage(s.SegmentID, s.Assignments)
}
