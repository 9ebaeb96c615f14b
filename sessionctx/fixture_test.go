package sessionctx

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The clock of all tests, and a campaign with every feature on.
var (
	noon   = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	noonMS = noon.UnixMilli()
)

const (
	minuteMS = int64(time.Minute / time.Millisecond)
	dayMS    = int64(24 * time.Hour / time.Millisecond)
)

func testCampaign() *Campaign {
	return &Campaign{
		CampaignRef:       CampaignRef{ID: "cmp_1", Environment: Production},
		WorkspaceID:       "ws_1",
		ProjectID:         "pr_1",
		LandingPageID:     "lp_1",
		Deployment:        "production",
		SessionDuration:   30 * time.Minute,
		AttributionWindow: 30 * 24 * time.Hour,
		LegacyIDs:         24 * time.Hour,
		Cookies:           true,
		Consent:           &ConsentRules{RespectGPC: true, PrivacyPolicyURL: "https://example.com/privacy"},
		Segments:          []Segment{{ID: "mobile", LandingPageID: "lp_2"}, {ID: "everyone"}},
		Tests: []Test{{
			ID:       "hero",
			Variants: []Variant{{ID: "control", Weight: 50}, {ID: "bold", Weight: 50, LandingPageID: "lp_3"}},
			Traffic:  10000,
			Status:   TestRunning,
		}},
	}
}

// seeded is a source of randomness that gives the same in every run.
func seeded(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	for i := range 8 {
		b[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(b)
}

func testRing(tb testing.TB, seed uint64) *Ring {
	tb.Helper()
	r, err := NewRing(seeded(seed), noonMS-90*dayMS)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func rotated(tb testing.TB, r *Ring, seed uint64, now int64) *Ring {
	tb.Helper()
	next, err := r.Rotate(seeded(seed), SessionKeys, now)
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

func newUserID(tb testing.TB, r *Ring, seed uint64, workspace string) string {
	tb.Helper()
	s, err := r.NewUserID(seeded(seed), noonMS, workspace)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newSessionID(tb testing.TB, r *Ring, seed uint64, ms int64, c CampaignRef, user string) string {
	tb.Helper()
	s, err := r.NewSessionID(seeded(seed), ms, c, user)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// humanFacts is a page view by a person in Berlin who came by an ad.
func humanFacts() *Facts {
	return &Facts{
		UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0",
		Language:  "de-DE",
		Scheme:    "https",
		Host:      "lp.example.com",
		URI:       "/spring",
		Purpose:   PurposeNavigate,
		Touch:     paidTouch("spring"),
		Geo: Geo{Country: "DE", Region: "Berlin", RegionCode: "BE", City: "Berlin", Continent: "EU",
			Timezone: "Europe/Berlin", Latitude: "52.52", Longitude: "13.40", IsEU: true},
		Device: Device{Type: "desktop", OS: "Linux", Browser: "Chrome", BrowserVersion: "140.0", ConnectionType: "4g"},
		Bot:    Bot{Score: 99},
	}
}

func paidTouch(campaign string) Touch {
	return Touch{
		Time:        noonMS,
		UTM:         UTM{Source: "google", Medium: "cpc", Campaign: campaign, Term: "shoes", Content: "a"},
		Ref:         "partner",
		Source:      "ads",
		Referrer:    "https://www.google.com/search",
		LandingPage: "/spring?utm_source=google&utm_campaign=" + campaign,
		ClickIDs:    []ClickID{{"gclid", "Cj0KCQ-" + campaign}},
	}
}

// longestTouch has every value at its cap.
func longestTouch(fill string, ms int64) Touch {
	p := strings.Repeat(fill, MaxParam)
	u := strings.Repeat(fill, MaxURL)
	c := strings.Repeat(fill, MaxClickID)
	return Touch{
		Time: ms, UTM: UTM{p, p, p, p, p}, Ref: p, Source: p, Referrer: u, LandingPage: u,
		ClickIDs: []ClickID{{"li_fat_id", c}, {"msclkid", c}, {"fbclid", c}},
	}
}

// newVisit identifies and assigns as a page does.
func newVisit(tb testing.TB, in Input) *Visit {
	tb.Helper()
	v, err := Identify(in)
	if err != nil {
		tb.Fatal(err)
	}
	v.Assign("everyone", in.Now)
	return v
}

var granted = Consent{Purposes: Purposes{true, true, true}, Source: ConsentNotRequired}

func testInput(r *Ring, c *Campaign, seed uint64) Input {
	return Input{Ring: r, Campaign: c, Facts: humanFacts(), Consent: granted, Now: noon, Random: seeded(seed)}
}

func testSession(tb testing.TB, r *Ring, c *Campaign, seed uint64) Session {
	tb.Helper()
	return newVisit(tb, testInput(r, c, seed)).Session
}

// Random values of hostile and of ordinary text, of at most max bytes, as they
// are after CleanText.
func randomText(r *rand.Rand, max int) string {
	alphabets := []string{"abcXYZ019-_", "<>&'\"\\/`${}", "äß€語😀\u00a0\uffff", "</script><!--", "\u2029é"}
	a := []rune(alphabets[r.IntN(len(alphabets))])
	n := r.IntN(max + 1)
	if r.IntN(4) == 0 {
		n = 0
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteRune(a[r.IntN(len(a))])
	}
	return CleanText(b.String(), max)
}

func randomConfigID(r *rand.Rand) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	b := make([]byte, 1+r.IntN(64))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func randomTouch(r *rand.Rand) Touch {
	if r.IntN(5) == 0 {
		return Touch{Time: noonMS - r.Int64N(dayMS), LandingPage: "/"}
	}
	t := Touch{
		Time: noonMS - r.Int64N(dayMS),
		UTM: UTM{randomText(r, MaxParam), randomText(r, MaxParam), randomText(r, MaxParam),
			randomText(r, MaxParam), randomText(r, MaxParam)},
		Ref: randomText(r, MaxParam), Source: randomText(r, MaxParam),
		Referrer: randomText(r, MaxURL), LandingPage: randomText(r, MaxURL),
	}
	for _, at := range r.Perm(len(ClickIDColumns))[:r.IntN(MaxClickIDs+1)] {
		if v := randomText(r, MaxClickID); v != "" {
			t.ClickIDs = append(t.ClickIDs, ClickID{ClickIDColumns[at], v})
		}
	}
	return t
}

// randomSession is any session that this package could make.
func randomSession(tb testing.TB, ring *Ring, r *rand.Rand) Session {
	tb.Helper()
	ref := CampaignRef{randomConfigID(r), []Environment{Production, Preview}[r.IntN(2)]}
	user := newUserID(tb, ring, r.Uint64(), "ws_1")
	created := noonMS - r.Int64N(20*dayMS)
	s := Session{
		UserID: user, Campaign: ref,
		ID:        newSessionID(tb, ring, r.Uint64(), created, ref, user),
		CreatedAt: created, ExpiresAt: created + r.Int64N(dayMS),
		Returning: r.IntN(2) == 0, ConsentRequired: r.IntN(2) == 0,
	}
	s.OriginalID, s.OriginalAt = s.ID, s.CreatedAt
	if r.IntN(2) == 0 {
		s.RenewalCount = 1 + r.IntN(1000)
		s.OriginalAt = created - r.Int64N(dayMS)
		s.OriginalID = newSessionID(tb, ring, r.Uint64(), s.OriginalAt, ref, user)
	}
	if r.IntN(2) == 0 {
		s.SegmentID = randomConfigID(r)
	}
	if r.IntN(2) == 0 {
		s.LandingPageID = randomConfigID(r)
	}
	for range r.IntN(4) {
		s.Assignments = append(s.Assignments, Assignment{randomConfigID(r), randomConfigID(r)})
	}
	s.Attribution = FirstTouch(randomTouch(r))
	switch r.IntN(3) {
	case 0:
		s.Attribution = s.Attribution.Return(randomTouch(r))
	case 1:
		s.Attribution.Source = AttributionClient
	}
	return s
}
