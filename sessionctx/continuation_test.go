package sessionctx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// crowd is visitors behind one address with one user agent, and the store that
// their sessions are kept in.
type crowd struct {
	t    testing.TB
	ring *Ring
	keys *DayKeys
	c    *Campaign
	r    *rand.Rand
	now  int64
	// store goes by clock, which is set to now before each of its calls.
	store  store.Store
	clock  *atomic.Int64
	states map[string]*Session
	owner  map[string]int
	found  int
}

type visitorModel struct {
	n   int
	at  string // path and query of the page they sit before
	saw int64
}

// page is one page request, decided and written down as a page is.
func (w *crowd) page(v *visitorModel, target, referer, site, cacheControl string) *Visit {
	w.t.Helper()
	f := factsOf("203.0.113.7", "agent")
	f.Fetch.Site = site
	f.Touch = Touch{}
	if _, id, ok := strings.Cut(target, "?gclid="); ok {
		f.Touch.ClickIDs = []ClickID{{"gclid", id}}
	}
	in := Input{Ring: w.ring, Campaign: w.c, Facts: f, Consent: Consent{Required: true, Source: ConsentPending},
		Now: time.UnixMilli(w.now), Random: seeded(w.r.Uint64())}
	k, err := w.keys.Tend(seeded(w.r.Uint64()), w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.keys = k
	today := visitorKey(w.t, k, w.now, w.c.WorkspaceID, f)
	keys, groups := []VisitorKey{today}, []string{today.Index()}
	if y, ok := k.VisitorKey(w.now-dayMS, w.c.WorkspaceID, f); ok {
		keys, groups = append(keys, y), append(groups, y.Index())
	}
	in.Visitor = &today
	a := NewArrival(f, target, referer, cacheControl)
	name := ""
	w.clock.Store(w.now)
	sole, err := w.store.Sole(w.t.Context(), groups...)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrSeveral) {
		w.t.Fatal(err)
	}
	if err == nil && a.MayContinue(&in.Carried) {
		shown, err := w.ring.OpenShown(sole.Value, keys...)
		if err != nil {
			w.t.Fatal(err)
		}
		if a.Follows(shown) {
			switch s := w.states[shown.SessionID]; w.ring.Continue(w.c, s, w.now) {
			case Continued:
				in.Continued, name = s, sole.Name
			case ContinuedEnded:
				name = sole.Name
			}
		}
	}
	visit := newVisit(w.t, in)
	s := &visit.Session
	if name == "" {
		name = s.OriginalID
	}
	w.store.Join(today.Index(), name, w.ring.SealShown(&today, &Shown{a.Page, s.ID, s.OriginalID}, w.now), CountsFor(w.c, s, w.now))
	w.states[s.ID] = s
	for _, id := range []string{s.ID, s.UserID} {
		if who, ok := w.owner[id]; ok && who != v.n {
			w.t.Fatalf("person %d is given what is person %d's", v.n, who)
		}
		w.owner[id] = v.n
	}
	if got := s.Attribution.Original.ClickID("gclid"); got != "" && got != fmt.Sprint("person", v.n) {
		w.t.Fatalf("person %d has the first touch of %s", v.n, got)
	}
	if !visit.New {
		w.found++
	}
	v.at, v.saw = target, w.now
	return visit
}

// crowds gives crowds that share a store, but no visitor key.
func crowds(t testing.TB) func(seed uint64) *crowd {
	clock := &atomic.Int64{}
	st, err := store.OpenEmbedded(filepath.Join(t.TempDir(), "store.db"), store.Options{Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	ring := testRing(t, 1)
	return func(seed uint64) *crowd {
		return newCrowd(t, ring, st, clock, seed)
	}
}

func newCrowd(t testing.TB, ring *Ring, st store.Store, clock *atomic.Int64, seed uint64) *crowd {
	c := testCampaign()
	c.VisitorKeys = true
	return &crowd{t: t, ring: ring, c: c, r: rand.New(rand.NewPCG(seed, 7)), now: noonMS,
		store: st, clock: clock, states: map[string]*Session{}, owner: map[string]int{}}
}

const crowdSite = "https://lp.example.com"

// However two or three visitors' pages, reloads and forged requests follow each
// other, over midnight too, nobody is given what is another's, as long as none
// sits idle before a page for twice as long as a session lasts.
func TestVisitorsBehindOneAddressNeverMeet(t *testing.T) {
	found, idle := 0, 0
	crowd := crowds(t)
	for seed := range uint64(600) {
		w := crowd(seed)
		if seed%2 == 0 {
			w.now = (noonMS/dayMS+1)*dayMS - w.r.Int64N(60*minuteMS) // around midnight
		}
		counts := 2 * w.c.SessionDuration.Milliseconds()
		people := make([]*visitorModel, 2+w.r.IntN(2))
		for i := range people {
			people[i] = &visitorModel{n: i, at: fmt.Sprint("/?gclid=person", i)}
		}
		for range 25 {
			w.now += w.r.Int64N(int64(1) << w.r.IntN(22)) // ms up to more than an hour
			v := people[w.r.IntN(len(people))]
			if v.saw == 0 || w.now-v.saw >= counts {
				// New here, or idle for so long that a new arrival stands for it.
				w.page(v, fmt.Sprint("/?gclid=person", v.n), "", "cross-site", "")
				continue
			}
			if w.now-v.saw > counts/2 {
				idle++
			}
			to := []string{"/", "/a", "/b"}[w.r.IntN(3)]
			switch w.r.IntN(5) {
			case 0:
				w.page(v, v.at, "", "cross-site", "max-age=0")
			case 1: // forged, from the page of somebody who is there too
				o := people[w.r.IntN(len(people))]
				if o.saw != 0 && w.now-o.saw < counts {
					w.page(v, to, crowdSite+o.at, "same-origin", "")
				}
			default:
				w.page(v, to, crowdSite+v.at, "same-origin", "")
			}
		}
		found += w.found
	}
	if found < 200 || idle < 200 {
		t.Errorf("%d pages went on with a session, %d came from an idle visitor: the test shows nothing", found, idle)
	}
}

// A visitor who came late in a session and then sits idle still counts, however
// long ago that session began.
func TestAnIdleVisitorIsNotTakenForWhoCameMeanwhile(t *testing.T) {
	w := crowds(t)(1)
	idle, other := &visitorModel{n: 0}, &visitorModel{n: 1}
	w.page(idle, "/", "", "none", "")
	w.now += 29 * minuteMS
	w.page(idle, "/a", crowdSite+"/", "same-origin", "")
	w.now += 59 * minuteMS
	w.page(other, "/", "", "none", "")
	w.page(other, "/a", crowdSite+"/", "same-origin", "")
	w.page(idle, "/b", crowdSite+"/a", "same-origin", "") // fails if it is the other's
}

func TestASessionGoesOnOverMidnight(t *testing.T) {
	w := crowds(t)(1)
	w.now = (noonMS/dayMS+1)*dayMS - 5*minuteMS
	v := &visitorModel{at: "/"}
	first := w.page(v, "/", "", "none", "")
	w.now += 6 * minuteMS
	second := w.page(v, "/a", crowdSite+"/", "same-origin", "")
	w.now += 6 * minuteMS
	third := w.page(v, "/b", crowdSite+"/a", "same-origin", "")
	for _, next := range []*Visit{second, third} {
		if next.Session.ID != first.Session.ID || next.New {
			t.Error("a new session after midnight")
		}
		if next.Session.Test() != first.Session.Test() {
			t.Error("what was assigned changed")
		}
	}
	// The next session is bucketed by the new day's key: by nothing of the old.
	w.now += 40 * minuteMS
	if late := w.page(v, "/", crowdSite+"/b", "same-origin", ""); late.Session.ID == first.Session.ID || late.Session.UserID == first.Session.UserID {
		t.Error("a session that ended goes on")
	}
	// The visitor's later pages go on with the one that took its place.
	w.now += minuteMS
	if again := w.page(v, "/a", crowdSite+"/", "same-origin", ""); again.New {
		t.Error("the session that took the place of the ended one is not found")
	}
}

// A session whose user id is of a revoked key is refused by every call: pages
// that went on with it would have a context that is of no use.
func TestARevokedUserIsNotGoneOnWith(t *testing.T) {
	w := crowds(t)(1)
	v := &visitorModel{at: "/"}
	first := w.page(v, "/", "", "none", "")
	var err error
	if w.ring, err = w.ring.Revoke(seeded(9), UserKeys, "", w.now); err != nil {
		t.Fatal(err)
	}
	w.now += minuteMS
	second := w.page(v, "/a", crowdSite+"/", "same-origin", "")
	if second.Session.UserID == first.Session.UserID || !w.ring.VerifyUserID(second.Session.UserID, w.c.WorkspaceID) {
		t.Error("the page has the user id that was revoked")
	}
	w.now += minuteMS
	if third := w.page(v, "/b", crowdSite+"/a", "same-origin", ""); third.Session.ID != second.Session.ID {
		t.Error("the session that took the place of the revoked one is not found")
	}
}

func TestASessionGoesOnWithoutAVariantThatIsGone(t *testing.T) {
	w := crowds(t)(1)
	v := &visitorModel{at: "/"}
	first := w.page(v, "/", "", "none", "")
	if len(first.Session.Assignments) == 0 {
		t.Fatal("no variant: the test shows nothing")
	}
	without := *w.c
	without.Tests = nil
	w.c = &without
	w.now += minuteMS
	second := w.page(v, "/a", crowdSite+"/", "same-origin", "")
	if second.New || len(second.Session.Assignments) != 0 || second.Session.LandingPageID != w.c.landingPage(second.Session.SegmentID, nil) {
		t.Errorf("new %v, variants %v, landing page %s", second.New, second.Session.Assignments, second.Session.LandingPageID)
	}
}

func TestBucketsOfVisitorsWithoutCookies(t *testing.T) {
	c := testCampaign()
	c.VisitorKeys = true
	in := testInput(testRing(t, 1), c, 1)
	in.Consent = Consent{Required: true, Source: ConsentPending}
	keys := dayKeysAt(t, 1, noonMS)
	variants := map[string]int{}
	for i := range 400 {
		f := factsOf("203.0.113.7", fmt.Sprint("agent ", i))
		key := visitorKey(t, keys, noonMS, c.WorkspaceID, f)
		in.Facts, in.Visitor = f, &key
		in.Random = seeded(uint64(i))
		first := newVisit(t, in).Session
		in.Random = seeded(uint64(i) + 1e6)
		second := newVisit(t, in).Session
		if first.UserID == second.UserID || first.Test() != second.Test() {
			t.Fatalf("visitor %d: users %s and %s, variants %v and %v", i, first.UserID, second.UserID, first.Test(), second.Test())
		}
		variants[first.Test().VariantID]++
	}
	if variants["control"] < 150 || variants["bold"] < 150 {
		t.Errorf("split %v", variants)
	}
	// A yes later: the cookies hold what was assigned before.
	key := *in.Visitor
	in.Visitor, in.Consent = &key, Consent{Purposes: Purposes{Analytics: true}, Source: ConsentReference}
	s := newVisit(t, in).Session
	in.Continued = &s
	v := newVisit(t, in)
	if v.New || !v.CookiesAllowed || len(v.Cookies(in.Ring, true, noon)) != 3 || v.Session.Test() != s.Test() {
		t.Errorf("after a yes: new %v, %v, then %v", v.New, s.Test(), v.Session.Test())
	}
	// A prerendered page is bucketed by its own random user.
	in.Continued, in.Facts.Purpose = nil, PurposePrerender
	if v := newVisit(t, in); v.bucket != "" {
		t.Error("a prerendered page is bucketed by the visitor key")
	}
}

func TestShownIsBoundToItsVisitorKey(t *testing.T) {
	ring := testRing(t, 1)
	s := testSession(t, ring, testCampaign(), 2)
	keys := dayKeysAt(t, 1, noonMS)
	mine := visitorKey(t, keys, noonMS, "ws_1", factsOf("203.0.113.7", "a"))
	other := visitorKey(t, keys, noonMS, "ws_1", factsOf("203.0.113.8", "a"))
	page := pageID(crowdSite, "/")
	sealed := ring.SealShown(&mine, &Shown{page, s.ID, s.OriginalID}, noonMS)
	if got, err := ring.OpenShown(sealed, other, mine); err != nil || got.SessionID != s.ID || got.OriginalID != s.OriginalID || got.Page != page {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ring.OpenShown(sealed, other); err == nil {
		t.Error("it opens under another key")
	}
	if _, err := ring.OpenState(sealed); err == nil {
		t.Error("it opens as a state")
	}
	if _, err := ring.OpenShown(ring.SealState(&s, noonMS), mine); err == nil {
		t.Error("a state opens as shown")
	}
	for i := range sealed {
		sealed[i] ^= 1
		if _, err := ring.OpenShown(sealed, mine); err == nil {
			t.Fatalf("it opens with byte %d changed", i)
		}
		sealed[i] ^= 1
	}
	for n := range len(sealed) {
		if _, err := ring.OpenShown(sealed[:n], mine); err == nil {
			t.Fatalf("it opens cut to %d bytes", n)
		}
	}
}

func FuzzReferring(f *testing.F) {
	f.Add("https://lp.example.com/a?b=c#d")
	f.Add("https://lp.example.com")
	f.Add("https://lp.example.com.evil.example/")
	f.Fuzz(func(t *testing.T, referer string) {
		facts := humanFacts()
		page, ok := Referring(facts, referer)
		if !ok {
			return
		}
		const origin = "https://lp.example.com/"
		if len(referer) < len(origin) || referer[:len(origin)] != origin {
			t.Errorf("%q is taken for a page of this site", referer)
		}
		if a := NewArrival(facts, referer[len(origin)-1:], "", ""); a.Page != page {
			t.Errorf("%q is another page when it is asked for", referer)
		}
	})
}
