package sessionctx

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// fills are what grows most on its way into cookies, rows and scripts.
var fills = []string{"a", "<", ">", "&", "'", `"`, `\`, "\u00e4", "\u20ac", "\U0001f600", "\uffff", "\u00a0"}

// hostileTouches are the longest that a client can send: every value at its
// cap, and as much of it as can be such that each byte grows most.
func hostileTouches(fill string) (first, current Touch) {
	return longestTouch(fill, noonMS).Clean(), longestTouch(fill+"b", noonMS+1).Clean()
}

func TestTheFirstTouchIsCarriedWholeWhateverTheCurrent(t *testing.T) {
	ring := testRing(t, 1)
	for _, fill := range fills {
		first, current := hostileTouches(fill)
		s := testSession(t, ring, testCampaign(), 3)
		s.Attribution = FirstTouch(first).Return(current)
		s.Campaign.ID = strings.Repeat("c", 64)
		got, err := ring.OpenToken(ring.SealToken(&s, noonMS))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Attribution.Original.SameSource(&first) || got.Attribution.Original.LandingPage != first.LandingPage {
			t.Errorf("%q: the token holds %+v", fill, got.Attribution.Original)
		}
		if cookie := ring.sealAttribution(nil, &s, noonMS, maxSealed); len(cookie) > maxAttributionCookie {
			t.Errorf("%q: a cookie of %d bytes", fill, len(cookie))
		}
	}
}

func TestWhatIsLeftOutOfACurrentTouch(t *testing.T) {
	long := paidTouch("spring")
	long.ClickIDs = []ClickID{{"gclid", strings.Repeat("g", 250)}, {"fbclid", strings.Repeat("f", 250)}}
	a := FirstTouch(longestTouch("a", noonMS)).Return(long)
	if len(a.Current.ClickIDs) != 0 || a.Current.UTM.Source != "google" {
		t.Errorf("a long first touch leaves %+v", a.Current)
	}
	again := long
	again.Time++
	if b := a.Then(again); b.Current.Time != a.Current.Time {
		t.Error("a reload of what did not fit is a new touch each time")
	}
	a = FirstTouch(paidTouch("spring")).Return(paidTouch("autumn"))
	if !a.Current.SameSource(new(paidTouch("autumn"))) {
		t.Errorf("ordinary touches lose %+v", a.Current)
	}
}

// maxContext is what README.md promises for ordinary settings, in bytes.
const maxContext = 8 << 10

func TestNoClientMakesAContextLongerThanPromised(t *testing.T) {
	ring, longest := testRing(t, 1), 0
	for _, fill := range fills {
		first, current := hostileTouches(fill)
		for name, a := range map[string]Attribution{
			"two touches": FirstTouch(first).Return(current),
			"one touch":   FirstTouch(first),
			"short first": FirstTouch(Touch{Time: noonMS}).Return(current),
			"short now":   FirstTouch(first).Return(Touch{Time: noonMS + 1}),
		} {
			d := testDocument(t)
			d.Visit.Session.Attribution = a
			d.Facts.Language = strings.Repeat("a", 35)
			d.APIBaseURL = "https://" + strings.Repeat("h", 259)
			d.Token = ring.SealToken(&d.Visit.Session, noonMS)
			script := d.AppendScript(nil, DefaultVariable, "r4nd0m+/AAAAAAAAAAAAAAA==")
			longest = max(longest, len(script))
			if len(script) > maxContext {
				t.Errorf("%s of %q: %d bytes, promised are %d", name, fill, len(script), maxContext)
			}
			doc := decoded(t, d.Append(nil))
			if _, ok := at(doc, "attribution.original.timestamp"); !ok {
				t.Errorf("%s of %q: no first touch at all", name, fill)
			}
		}
	}
	if longest < maxContext*3/4 {
		t.Errorf("the longest has %d bytes: the promise of %d is loose, or the test is", longest, maxContext)
	}
	t.Logf("the longest has %d bytes", longest)
}

func TestAnOrdinaryVisitsContextSaysAll(t *testing.T) {
	d := testDocument(t)
	ad := paidTouch("spring")
	ad.ClickIDs = []ClickID{{"gclid", strings.Repeat("g", 120)}, {"fbclid", strings.Repeat("f", 180)}}
	later := paidTouch("autumn")
	later.UTM.Campaign = "\u0440\u0430\u0441\u043f\u0440\u043e\u0434\u0430\u0436\u0430"
	d.Visit.Session.Attribution = FirstTouch(ad).Return(later)
	doc := decoded(t, d.Append(nil))
	for path, want := range map[string]string{
		"attribution.original.fbclid": ad.ClickIDs[1].Value, "attribution.original.landingPage": ad.LandingPage,
		"attribution.current.utm_campaign": later.UTM.Campaign, "attribution.current.gclid": later.ClickIDs[0].Value,
	} {
		if got, _ := at(doc, path); got != want {
			t.Errorf("%s is %v", path, got)
		}
	}
	if _, ok := at(doc, "attribution.source"); ok {
		t.Error("the server's own word is marked")
	}
}

func TestALostFirstTouchIsMarkedEverywhere(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, s := fullJar(t, ring, c, 2, true, noon)
	in := testInput(ring, c, 3)
	in.Now = noon.Add(time.Minute)
	in.Facts.Touch = paidTouch("autumn")
	in.Carried = ring.OpenCookies(without(jar, c.CookieNames(true).Attribution), c, true, in.Now.UnixMilli())
	v := newVisit(t, in)
	a := v.Session.Attribution
	if v.Session.ID != s.ID || a.Source != AttributionLost || !a.Original.Empty() || a.Original.Time != noonMS || a.Current.UTM.Campaign != "autumn" {
		t.Fatalf("got %+v", a)
	}
	row := AppendSessionRow(nil, c, &v.Session, in.Facts)
	if err := rowChecker(t, SessionDatasource)(row); err != nil {
		t.Error(err)
	}
	if got := columns(t, row); got["attribution_source"] != "lost" || got["original_utm_source"] != nil || got["utm_campaign"] != "autumn" {
		t.Errorf("row %v", got)
	}
	d := testDocument(t)
	d.Visit = v
	if got, _ := at(decoded(t, d.Append(nil)), "attribution.source"); got != "lost" {
		t.Errorf("the context says %v", got)
	}

	// It stays so through the next visit, until somebody knows better.
	jar = keep(without(jar, c.CookieNames(true).Attribution), v.Cookies(ring, true, in.Now))
	in.Now = noon.Add(48 * time.Hour)
	in.Facts.Touch = paidTouch("summer")
	in.Carried = ring.OpenCookies(without(jar, c.CookieNames(true).Session), c, true, in.Now.UnixMilli())
	later := newVisit(t, in)
	if a := later.Session.Attribution; a.Source != AttributionLost || !a.Original.Empty() || a.Current.UTM.Campaign != "summer" {
		t.Errorf("two days later: %+v", a)
	}
	found := later.Session
	found.Attribution = found.Attribution.Recovered(FirstTouch(paidTouch("spring")))
	set := Resume(c, found, granted, in.Carried).Cookies(ring, true, in.Now)
	got := ring.OpenCookies(keep(jar, set), c, true, in.Now.UnixMilli()).Attribution
	if got == nil || got.Source != AttributionServer || got.Original.UTM.Campaign != "spring" || got.Original.Time != noonMS {
		t.Errorf("what was found again is kept as %+v", got)
	}
}

// An older tab goes on by its token, and leaves the browser's cookies alone.
func TestATabOfAnOlderTouchBringsNothingBack(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	names := c.CookieNames(true)
	jar, old := fullJar(t, ring, c, 2, true, noon)
	in := testInput(ring, c, 3)
	in.Now, in.Facts.Touch = noon.Add(time.Minute), paidTouch("autumn")
	in.Carried = ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	jar = keep(jar, newVisit(t, in).Cookies(ring, true, in.Now))
	carried := ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	if set := Resume(c, old, granted, carried).Cookies(ring, true, in.Now); len(set) != 0 {
		t.Errorf("a tab that knows no autumn sets %v", namesOf(set))
	}

	// The line of a first touch that is over, beside the user's new one.
	after := noon.Add(c.AttributionWindow + time.Minute)
	in.Now = after
	in.Carried = ring.OpenCookies(without(without(jar, names.Session), names.Attribution), c, true, after.UnixMilli())
	jar = keep(jar, newVisit(t, in).Cookies(ring, true, after))
	carried = ring.OpenCookies(jar, c, true, after.UnixMilli())
	next, err := old.Renew(ring, c, noonMS+c.AttributionWindow.Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	for _, ck := range Resume(c, next, granted, carried).Cookies(ring, true, after) {
		t.Errorf("a tab of the line before sets %s", ck.Name)
	}
}

func TestAReturnFromWithinIsNoDirectVisit(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for within, want := range map[bool]string{true: "google", false: ""} {
		t.Run(fmt.Sprint(within), func(t *testing.T) {
			jar, first := fullJar(t, ring, c, 2, true, noon)
			in := testInput(ring, c, 3)
			in.Now = noon.Add(2 * time.Hour)
			in.Facts.Touch, in.Facts.FromWithin = Touch{LandingPage: "/thanks"}, within
			in.Carried = ring.OpenCookies(without(jar, c.CookieNames(true).Session), c, true, in.Now.UnixMilli())
			s := newVisit(t, in).Session
			if s.ID == first.ID || s.Attribution.Current.UTM.Source != want || s.Attribution.Original.UTM.Source != "google" {
				t.Errorf("got %+v", s.Attribution)
			}
		})
	}
}

func TestClickIDsWithoutAColumnShareOne(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	check := rowChecker(t, SessionDatasource)
	for _, tt := range []struct {
		ids  []ClickID
		want any
	}{
		{nil, nil},
		{[]ClickID{{"gclid", "g"}}, nil},
		{[]ClickID{{"gclid", "g"}, {"rdt_cid", "r"}}, `{"rdt_cid":"r"}`},
		{[]ClickID{{"rdt_cid", `"<\`}, {"my-id", "\u00e4"}}, "{\"rdt_cid\":\"\\\"<\\\\\",\"my-id\":\"\u00e4\"}"},
	} {
		s := testSession(t, ring, c, 2)
		s.Attribution.Current.ClickIDs = tt.ids
		row := AppendSessionRow(nil, c, &s, humanFacts())
		if err := check(row); err != nil {
			t.Error(err)
		}
		if got := columns(t, row)["other_click_ids"]; got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.ids, got, tt.want)
		}
	}
}
