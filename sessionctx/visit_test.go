package sessionctx

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestWhoTheVisitorOfAPageIs(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	names := c.CookieNames(true)
	jar, known := fullJar(t, ring, c, 2, true, noon)
	tooOld := *c
	tooOld.AttributionWindow = 20 * time.Minute
	for _, tt := range []struct {
		name                                     string
		jar                                      []Cookie
		campaign                                 *Campaign
		after                                    time.Duration
		sameUser, sameSession, renewed, returned bool
	}{
		{"a browser without cookies is a new user with a new session", nil, c, time.Minute, false, false, false, false},
		{"a valid session cookie is the same session", jar, c, time.Minute, true, true, false, false},
		{"1 ms before its expiry it still is", jar, c, 30*time.Minute - time.Millisecond, true, true, false, false},
		{"at its expiry it is renewed on the spot", jar, c, 30 * time.Minute, true, false, true, false},
		{"hours later it still is", jar, c, 10 * time.Hour, true, false, true, false},
		{"a session cookie alone proves session and user", without(without(jar, names.User), names.Attribution), c, time.Minute, true, true, false, false},
		{"a user cookie alone is the same user with a new session", without(jar, names.Session), c, time.Minute, true, false, false, true},
		{"a line older than the attribution window begins a new session", jar, &tooOld, time.Hour, true, false, false, true},
		{"an attribution cookie alone is nobody", without(without(jar, names.Session), names.User), c, time.Minute, false, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(ring, tt.campaign, 3)
			in.Now = noon.Add(tt.after)
			in.Carried = ring.OpenCookies(tt.jar, tt.campaign, true, in.Now.UnixMilli())
			v := newVisit(t, in)
			s := v.Session
			if got := s.UserID == known.UserID; got != tt.sameUser {
				t.Errorf("same user: %v", got)
			}
			if got := s.ID == known.ID; got != tt.sameSession {
				t.Errorf("same session: %v", got)
			}
			if v.Renewed != tt.renewed || v.New != (!tt.sameSession && !tt.renewed) {
				t.Errorf("renewed: %v, new: %v", v.Renewed, v.New)
			}
			if s.Returning != tt.returned {
				t.Errorf("returning: %v", s.Returning)
			}
			now := in.Now.UnixMilli()
			if s.Expired(now) || s.CreatedAt > now || s.ExpiresAt-s.CreatedAt != c.SessionDuration.Milliseconds() {
				t.Errorf("lives from %d to %d, now is %d", s.CreatedAt, s.ExpiresAt, now)
			}
			if _, ok := ring.VerifySessionID(s.ID, c.CampaignRef, s.UserID, now); !ok || !ring.VerifyUserID(s.UserID, c.WorkspaceID) {
				t.Error("its ids don't prove themselves")
			}
			if tt.renewed {
				if s.RenewalCount != 1 || s.OriginalID != known.ID || s.OriginalAt != known.CreatedAt {
					t.Errorf("renewal %d of %s", s.RenewalCount, s.OriginalID)
				}
				if s.SegmentID != known.SegmentID || !reflect.DeepEqual(s.Assignments, known.Assignments) || s.LandingPageID != known.LandingPageID {
					t.Error("segment, variant or page changed with the renewal")
				}
			}
			if v.New && (s.OriginalID != s.ID || s.OriginalAt != s.CreatedAt || s.RenewalCount != 0) {
				t.Error("a new session has a history")
			}
		})
	}
}

func TestSegmentAndVariantStayWithTheSession(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, known := fullJar(t, ring, c, 2, true, noon)
	in := testInput(ring, c, 3)
	in.Now = noon.Add(time.Minute)
	in.Carried = ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	v, err := Identify(in)
	if err != nil {
		t.Fatal(err)
	}
	v.Assign("mobile", in.Now)
	if !reflect.DeepEqual(v.Session, known) {
		t.Errorf("got  %+v\nwant %+v", v.Session, known)
	}
}

// A page that is fetched ahead is the page that a click would get: who follows it
// is the same visitor, with the same variants. It changes nothing until then.
func TestASpeculativePageBelongsToItsVisitorAndTouchesNoCookie(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, _ := fullJar(t, ring, c, 2, true, noon)
	names := c.CookieNames(true)
	for _, p := range []Purpose{PurposePrefetch, PurposePrerender} {
		for _, tt := range []struct {
			name  string
			jar   []Cookie
			after time.Duration
			state bool // calls by ids alone need the session's state
		}{
			{"a living session", jar, time.Minute, false},
			{"one that has ended", jar, time.Hour, true},
			{"a known user", without(jar, names.Session), time.Minute, true},
			{"nobody known", nil, time.Minute, true},
		} {
			in := testInput(ring, c, 3)
			in.Now = noon.Add(tt.after)
			in.Carried = ring.OpenCookies(tt.jar, c, true, in.Now.UnixMilli())
			asked := newVisit(t, in)
			in = testInput(ring, c, 3)
			in.Now = noon.Add(tt.after)
			in.Facts.Purpose = p
			in.Carried = ring.OpenCookies(tt.jar, c, true, in.Now.UnixMilli())
			ahead := newVisit(t, in)
			if !reflect.DeepEqual(ahead.Session, asked.Session) || ahead.New != asked.New || ahead.Renewed != asked.Renewed {
				t.Errorf("%s, %s: it is\n%+v, a click would get\n%+v", p, tt.name, ahead.Session, asked.Session)
			}
			if set := cookiesOf(t, ring, ahead, true, in.Now); len(set) != 0 || ahead.CookiesAllowed {
				t.Errorf("%s, %s: %v", p, tt.name, namesOf(set))
			}
			if ahead.NeedsState() != tt.state {
				t.Errorf("%s, %s: its state is kept: %v", p, tt.name, ahead.NeedsState())
			}
		}
	}
}

// A session that begins in another site's frame is a visit only from the page on
// that its visitor went to.
func TestASessionOfAFrame(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	begin := func(f Fetch, p Purpose) *Visit {
		in := testInput(ring, c, 3)
		in.Facts.Purpose, in.Facts.Fetch = p, f
		return newVisit(t, in)
	}
	for _, tt := range []struct {
		name string
		f    Fetch
		p    Purpose
		want bool
	}{
		{"another site's frame", Fetch{}, PurposeIframe, true},
		{"a script in it", Fetch{ThirdParty: true}, PurposeSubresource, true},
		{"a worker in it", Fetch{ThirdParty: true}, PurposeServiceWorker, true},
		{"where the visitor went on in it", Fetch{ThirdParty: true, User: true}, PurposeNavigate, false},
		{"a page", Fetch{}, PurposeNavigate, false},
	} {
		v := begin(tt.f, tt.p)
		if v.Session.Framed != tt.want {
			t.Errorf("%s: framed: %v", tt.name, v.Session.Framed)
		}
		s, err := ring.OpenToken(ring.SealToken(&v.Session, noonMS))
		if err != nil || s.Framed != tt.want {
			t.Errorf("%s: its token says otherwise: %v", tt.name, err)
		}
	}
	framed := begin(Fetch{}, PurposeIframe)
	for _, tt := range []struct {
		p    Purpose
		want bool
	}{{PurposeIframe, true}, {PurposeServiceWorker, true}, {PurposeNavigate, false}} {
		in := testInput(ring, c, 4)
		in.Facts.Purpose, in.Continued = tt.p, &framed.Session
		v := newVisit(t, in)
		if v.Session.ID != framed.Session.ID || v.Session.Framed != tt.want || v.NeedsState() == tt.want {
			t.Errorf("%s after it: framed: %v, kept: %v", tt.p, v.Session.Framed, v.NeedsState())
		}
		in.Continued, in.Carried = nil, Carried{Session: &framed.Session, Attribution: &framed.Session.Attribution}
		if v := newVisit(t, in); v.Session.Framed != tt.want {
			t.Errorf("%s after it, by cookie: framed: %v", tt.p, v.Session.Framed)
		}
	}
}

func TestAPageOfAnotherOriginNeitherReadsNorSetsNorRemovesCookies(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, known := fullJar(t, ring, c, 2, true, noon)
	for name, consent := range map[string]Consent{"consent given": granted, "refused": {Source: ConsentChoice}} {
		in := testInput(ring, c, 3)
		in.NoCookies, in.Consent = true, consent
		in.Carried = ring.OpenCookies(jar, c, true, noonMS)
		v := newVisit(t, in)
		if v.Session.UserID == known.UserID || len(cookiesOf(t, ring, v, true, noon)) != 0 {
			t.Errorf("%s: it did", name)
		}
	}
}

func TestWhenTheStoreHasToKnowTheSession(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, _ := fullJar(t, ring, c, 2, true, noon)
	names := c.CookieNames(true)
	refused := Consent{Required: true, Source: ConsentPending}
	for _, tt := range []struct {
		name    string
		jar     []Cookie
		consent Consent
		after   time.Duration
		want    bool
	}{
		{"a first visit: nobody knows whether the browser keeps cookies", nil, granted, 0, true},
		{"a session without cookies", nil, refused, 0, true},
		{"a session that its cookie carries", jar, granted, time.Minute, false},
		{"a renewed session that its cookie carries", jar, granted, time.Hour, false},
		{"a return of a browser that keeps cookies", without(jar, names.Session), granted, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(ring, c, 3)
			in.Now, in.Consent = noon.Add(tt.after), tt.consent
			in.Carried = ring.OpenCookies(tt.jar, c, true, in.Now.UnixMilli())
			if got := newVisit(t, in).NeedsState(); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestAnAPICallSetsTheCookiesThatAreAllowedAndMissing(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, s := fullJar(t, ring, c, 2, true, noon)
	names := c.CookieNames(true)
	all := sorted(names.User, names.Session, names.Attribution)
	for _, tt := range []struct {
		name string
		jar  []Cookie
		want int
	}{
		{"all to a browser that has none", nil, 3},
		{"none to one that has all", jar, 0},
		{"the one that is missing", without(jar, names.User), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Resume(c, s, granted, ring.OpenCookies(tt.jar, c, true, noonMS))
			set := cookiesOf(t, ring, v, true, noon)
			if len(set) != tt.want {
				t.Errorf("got %v of %v", namesOf(set), all)
			}
		})
	}
}

func TestIdentifyFailsOnlyWithoutRandomness(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for n := range 14 {
		in := testInput(ring, c, 1)
		in.Random = bytes.NewReader(make([]byte, n))
		if _, err := Identify(in); err == nil {
			t.Fatalf("a session was made of %d random bytes", n)
		}
	}
}
