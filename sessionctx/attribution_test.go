package sessionctx

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// Whatever comes after the first visit, and in whatever order: the first touch
// is what it was.
func TestTheFirstTouchIsFrozen(t *testing.T) {
	ring := testRing(t, 1)
	for name, first := range map[string]Touch{
		"an organic visitor is never relabelled": {Time: noonMS, LandingPage: "/"},
		"a paid one keeps the first campaign":    paidTouch("spring"),
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(200) {
				frozenThrough(t, ring, first, rand.New(seeded(seed)))
			}
		})
	}
}

// frozenThrough takes a browser with cookies through random page views, API
// calls, renewals and returns of later days.
func frozenThrough(t *testing.T, ring *Ring, first Touch, r *rand.Rand) {
	t.Helper()
	c := testCampaign()
	in := testInput(ring, c, r.Uint64())
	in.Random = seeded(r.Uint64())
	now := noon
	var jar []Cookie
	want := first
	var user string
	for step := range 30 {
		in.Now = now
		in.Facts = humanFacts()
		in.Facts.Touch = randomTouch(r)
		if step == 0 {
			in.Facts.Touch = first
			want.Time = now.UnixMilli()
		}
		in.Carried = ring.OpenCookies(jar, c, true, now.UnixMilli())
		v := newVisit(t, in)
		if step == 0 {
			user = v.Session.UserID
		}
		if got := v.Session.Attribution.Original; !reflect.DeepEqual(got, want) {
			t.Fatalf("step %d: the first touch became %+v, it was %+v", step, got, want)
		}
		if v.Session.UserID != user {
			t.Fatalf("step %d: another user", step)
		}
		token := ring.SealToken(&v.Session, now.UnixMilli())
		back, err := ring.OpenToken(token)
		if err != nil || !reflect.DeepEqual(back.Attribution.Original, want) {
			t.Fatalf("step %d: the token says %+v, %v", step, back.Attribution.Original, err)
		}
		set := v.Cookies(ring, true, now)
		jar = keep(jar, set)
		// Minutes or hours on: the same session, a renewal, a return.
		switch r.IntN(3) {
		case 0:
			now = now.Add(c.SessionDuration / 4)
		case 1:
			now = now.Add(c.SessionDuration * 3 / 2)
		case 2:
			now = now.Add(c.SessionDuration * 7)
			jar = without(jar, c.CookieNames(true).Session)
		}
	}
}

// keep is what a browser's jar holds after an answer, whose cookies it keeps
// for longer than the test goes on.
func keep(jar, set []Cookie) []Cookie {
	for _, c := range set {
		jar = without(jar, c.Name)
		if c.MaxAge > 0 {
			jar = append(jar, c)
		}
	}
	return jar
}

func without(jar []Cookie, name string) []Cookie {
	var out []Cookie
	for _, c := range jar {
		if c.Name != name {
			out = append(out, c)
		}
	}
	return out
}

func TestTheFirstTouchIsKeptThroughALaterYesToCookies(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	in := testInput(ring, c, 2)
	in.Consent = Consent{Required: true, Source: ConsentPending}
	page := newVisit(t, in)
	if set := page.Cookies(ring, true, noon); len(set) != 0 {
		t.Fatalf("cookies before consent: %v", set)
	}
	token := ring.SealToken(&page.Session, noonMS)
	s, err := ring.OpenToken(token)
	if err != nil {
		t.Fatal(err)
	}
	yes := Resume(c, *s, Consent{Purposes: Purposes{Analytics: true}, Required: true, Source: ConsentChoice}, Carried{})
	jar := yes.Cookies(ring, true, noon)
	in.Consent, in.Now = granted, noon.Add(c.SessionDuration*9/10)
	in.Facts.Touch = Touch{LandingPage: "/two"}
	in.Carried = ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	v := newVisit(t, in)
	if v.New || v.Session.ID != page.Session.ID {
		t.Error("toggling consent made a second session")
	}
	if !reflect.DeepEqual(v.Session.Attribution, page.Session.Attribution) {
		t.Errorf("got  %+v\nwant %+v", v.Session.Attribution, page.Session.Attribution)
	}
}

func TestTheCurrentTouchIsWhatLedHereLast(t *testing.T) {
	organic := Touch{Time: noonMS, LandingPage: "/"}
	spring, autumn := paidTouch("spring"), paidTouch("autumn")
	again := spring
	again.Time += 5
	again.LandingPage = "/elsewhere"
	bare := spring // the link opened anew, from no page
	bare.Referrer = ""
	carriedAlong := Touch{Time: noonMS + 9, UTM: UTM{Source: "google", Campaign: "spring"}, LandingPage: "/two?utm_source=google&utm_campaign=spring"}
	bareAd := Touch{Time: noonMS + 9, UTM: UTM{Source: "mail"}, LandingPage: "/"}
	link := Touch{Time: noonMS + 9, Referrer: "https://news.example/", LandingPage: "/"}
	secondClick := spring
	secondClick.ClickIDs = []ClickID{{"gclid", "another"}}
	for _, tt := range []struct {
		name string
		got  Attribution
		want Touch
	}{
		{"on the first visit the first touch", FirstTouch(spring), spring},
		{"within a session a click inside the site changes nothing", FirstTouch(spring).Then(organic), spring},
		{"within a session another campaign counts", FirstTouch(spring).Then(autumn), autumn},
		{"a reload of the same campaign's page does not", FirstTouch(spring).Then(again), spring},
		{"nor does the same link without its referrer", FirstTouch(spring).Then(bare), spring},
		{"nor do parameters that the site's links carry along", FirstTouch(spring).Then(carriedAlong), spring},
		{"a campaign without a referrer counts", FirstTouch(spring).Then(bareAd), bareAd},
		{"another site's link counts", FirstTouch(spring).Then(link), link},
		{"another click on the same ad counts", FirstTouch(spring).Then(secondClick), secondClick},
		{"what has been found again keeps the latest", LostTouch(noonMS, autumn).Recovered(FirstTouch(spring)), autumn},
		{"what has been found again is current where nothing came since", LostTouch(noonMS, organic).Recovered(FirstTouch(spring)), spring},
		{"an organic visitor's later ad is the current touch only", FirstTouch(organic).Then(autumn), autumn},
		{"a return without a campaign is one without", FirstTouch(spring).Return(organic), organic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !reflect.DeepEqual(tt.got.Current, tt.want) {
				t.Errorf("got %+v", tt.got.Current)
			}
		})
	}
}

func TestATouchIsEmptyIfItNamesNoCampaign(t *testing.T) {
	if bare := (Touch{Time: 1, LandingPage: "/x"}); !bare.Empty() {
		t.Error("time and landing page name a campaign")
	}
	for name, u := range map[string]Touch{
		"utm_source": {UTM: UTM{Source: "x"}}, "utm_medium": {UTM: UTM{Medium: "x"}},
		"utm_campaign": {UTM: UTM{Campaign: "x"}}, "utm_term": {UTM: UTM{Term: "x"}},
		"utm_content": {UTM: UTM{Content: "x"}}, "ref": {Ref: "x"}, "source": {Source: "x"},
		"referrer": {Referrer: "x"}, "a click id": {ClickIDs: []ClickID{{"gclid", "x"}}},
	} {
		if u.Empty() {
			t.Errorf("%s names none", name)
		}
		if u.SameSource(&Touch{}) {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestCleanCutsEveryValueToItsCap(t *testing.T) {
	long := strings.Repeat("ü\x00", 2000)
	dirty := Touch{
		UTM: UTM{long, long, long, long, long}, Ref: long, Source: long, Referrer: long, LandingPage: long,
		ClickIDs: []ClickID{{"gclid", long}, {"fbclid", "ok"}, {"msclkid", long}, {"ttclid", "one too many"}},
	}
	got := dirty.Clean()
	for name, v := range map[string]string{
		"utm_source": got.UTM.Source, "utm_medium": got.UTM.Medium, "utm_campaign": got.UTM.Campaign,
		"utm_term": got.UTM.Term, "utm_content": got.UTM.Content, "ref": got.Ref, "source": got.Source,
	} {
		if v != strings.Repeat("ü", 64) {
			t.Errorf("%s has %d bytes", name, len(v))
		}
	}
	for name, v := range map[string]string{
		"referrer": got.Referrer, "landing page": got.LandingPage, "click id": got.ClickIDs[0].Value,
	} {
		if v != strings.Repeat("ü", 128) {
			t.Errorf("%s has %d bytes", name, len(v))
		}
	}
	if len(got.ClickIDs) != 3 || got.ClickIDs[1].Value != "ok" {
		t.Errorf("click ids: %v", got.ClickIDs)
	}
	if dirty.ClickIDs[0].Value != long {
		t.Error("cleaning changed the touch that was given")
	}
}

func TestAClickIDIsFoundByName(t *testing.T) {
	touch := paidTouch("x")
	if got := touch.ClickID("gclid"); got != "Cj0KCQ-x" {
		t.Errorf("got %q", got)
	}
	if got := touch.ClickID("fbclid"); got != "" {
		t.Errorf("got %q", got)
	}
}
