package sessionctx

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// choiceCookie seals a consent choice for the workspace.
func choiceCookie(tb testing.TB, r *Ring, workspace string, p Purposes, at int64) string {
	tb.Helper()
	var e encoder
	e.byte(stateVersion)
	e.text(workspace)
	var flags uint64
	for i, granted := range []bool{p.Analytics, p.Marketing, p.Functional} {
		if granted {
			flags |= 1 << i
		}
	}
	e.bools(flags)
	e.int(at)
	return sealed(tb, r, sealChoice, string(e.b), at)
}

// cookiesOf is what the answer to a page view sets.
func cookiesOf(tb testing.TB, r *Ring, v *Visit, secure bool, now time.Time) []Cookie {
	tb.Helper()
	set := v.Cookies(r, secure, now)
	return set
}

// fullJar is a browser that has visited once, at now, with cookies allowed,
// and the session that it was given.
func fullJar(tb testing.TB, r *Ring, c *Campaign, seed uint64, secure bool, now time.Time) ([]Cookie, Session) {
	tb.Helper()
	in := testInput(r, c, seed)
	in.Now = now
	v := newVisit(tb, in)
	jar := cookiesOf(tb, r, v, secure, now)
	if len(jar) != 3 {
		tb.Fatalf("the first visit sets %d cookies", len(jar))
	}
	return jar, v.Session
}

func namesOf(cookies []Cookie) []string {
	out := []string{}
	for _, c := range cookies {
		out = append(out, c.Name)
	}
	slices.Sort(out)
	return out
}

func sorted(names ...string) []string {
	slices.Sort(names)
	return names
}

func TestCookieNames(t *testing.T) {
	c := testCampaign()
	preview := testCampaign()
	preview.Environment = Preview
	for _, tt := range []struct {
		name     string
		campaign *Campaign
		secure   bool
		want     CookieNames
	}{
		{"over HTTPS they have the __Host- prefix", c, true, CookieNames{
			"__Host-fb_user_ws_1", "__Host-fb_session_cmp_1", "__Host-fb_attribution_cmp_1", "__Host-fb_choice_ws_1"}},
		{"over plain HTTP they have none", c, false, CookieNames{
			"fb_user_ws_1", "fb_session_cmp_1", "fb_attribution_cmp_1", "fb_choice_ws_1"}},
		{"a preview has a session of its own, but the same user and choice", preview, true, CookieNames{
			"__Host-fb_user_ws_1", "__Host-fb_session_cmp_1.preview", "__Host-fb_attribution_cmp_1.preview", "__Host-fb_choice_ws_1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.campaign.CookieNames(tt.secure); got != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
	t.Run("no campaign's id can end in .preview", func(t *testing.T) {
		if CheckID("cmp_1.preview") == nil {
			t.Error("it can")
		}
	})
}

// Every combination of what decides about cookies, with an empty browser and
// with one that has all cookies.
func TestWhichCookiesAreSetAndRemoved(t *testing.T) {
	ring := testRing(t, 1)
	yes := reference(true, true, true, true, fmt.Sprint(noonMS))
	no := reference(false, false, false, true, fmt.Sprint(noonMS))
	references := map[string]struct {
		values  []string
		says    bool
		present bool
	}{
		"no frbzz_consent":             {nil, false, false},
		"frbzz_consent yes":            {[]string{yes}, true, true},
		"frbzz_consent no":             {[]string{no}, false, true},
		"frbzz_consent yes and no":     {[]string{yes, no}, false, true},
		"frbzz_consent yes and broken": {[]string{yes, "%7Bx"}, false, true},
		"frbzz_consent unanswered":     {[]string{reference(true, true, true, false, "1")}, false, false},
	}
	choices := map[string]*Choice{
		"no choice": nil,
		"chose yes": {Purposes{true, true, true}, noonMS - 1},
		"chose no":  {Purposes{}, noonMS - 1},
	}
	bools := []bool{false, true}
	cases := 0
	for _, rule := range []string{"no consent block", "not required", "required"} {
		for choiceName, choice := range choices {
			for refName, ref := range references {
				for bits := range 64 {
					gpc, dnt, cookieless, speculative, secure, full := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0, bits&16 != 0, bits&32 != 0
					c := testCampaign()
					c.Cookies = !cookieless
					c.Consent = &ConsentRules{RespectGPC: true, RespectDNT: true}
					if rule == "no consent block" {
						c.Consent = nil
					}

					// What the design says, in its own words.
					signal := gpc || dnt
					allowed := rule == "not required"
					switch {
					case choice != nil && !choice.Analytics: // never over a refusal of ours
						allowed = false
					case rule == "no consent block":
						allowed = true
					case ref.present && !ref.says: // here always the newer one
						allowed = false
					case choice != nil:
						allowed = true
					case signal:
						allowed = false
					case ref.present:
						allowed = true
					}
					agreed := allowed
					allowed = allowed && !cookieless
					known := allowed && full
					allowed = allowed && !speculative

					jar := []Cookie{{Name: "theirs", Value: "x"}}
					var ours []string
					if full {
						set, _ := fullJar(t, ring, testCampaign(), 2, secure, noon.Add(-time.Minute))
						ours = append(namesOf(set), "frbzz_uid", "frbzz_session_cmp_1")
						jar = append(jar, set...)
						jar = append(jar, Cookie{Name: "frbzz_uid", Value: "1"}, Cookie{Name: "frbzz_session_cmp_1", Value: "{}"}, Cookie{Name: "frbzz_uid_cmp_2", Value: "1"})
					}
					for _, v := range ref.values {
						jar = append(jar, Cookie{Name: ReferenceConsentCookie, Value: v})
					}
					names := c.CookieNames(secure)
					if choice != nil {
						jar = append(jar, Cookie{Name: names.Choice, Value: choiceCookie(t, ring, c.WorkspaceID, choice.Purposes, choice.At)})
					}

					carried := ring.OpenCookies(jar, c, secure, noonMS)
					in := testInput(ring, c, 3)
					in.Carried = carried
					in.Facts.GPC, in.Facts.DNT = gpc, dnt
					if speculative {
						in.Facts.Purpose = PurposePrerender
					}
					in.Consent = DecideConsent(c.Consent, rule == "required", in.Facts, carried.Choice, carried.Reference)
					v := newVisit(t, in)
					set := cookiesOf(t, ring, v, secure, noon)
					want := []string{}
					switch {
					case speculative, allowed && full:
					case allowed:
						want = sorted(names.User, names.Session, names.Attribution)
					default:
						want = append(want, ours...)
						if pending := rule == "required" && choice == nil && !ref.present && !signal; full && !pending {
							want = append(want, "frbzz_uid_cmp_2") // a refusal is one for every campaign
						}
						if agreed { // cookieless: ours go, what the visitor let others set stays
							want = slices.DeleteFunc(want, func(n string) bool { return strings.HasPrefix(n, "frbzz_") })
						}
						slices.Sort(want)
					}
					label := fmt.Sprintf("%s, %s, %s, GPC %v, DNT %v, cookieless %v, speculative %v, secure %v, has cookies %v",
						rule, choiceName, refName, gpc, dnt, cookieless, speculative, secure, full)
					if got := namesOf(set); !slices.Equal(got, want) {
						t.Fatalf("%s:\ngot  %v\nwant %v", label, got, want)
					}
					for _, ck := range set {
						if (ck.MaxAge > 0) != allowed || (ck.Value != "") != allowed {
							t.Fatalf("%s: %s for %s", label, ck.Name, ck.MaxAge)
						}
					}
					if v.New == known {
						t.Fatalf("%s: new session: %v", label, v.New)
					}
					cases++
				}
			}
		}
	}
	if want := 3 * 3 * 6 * len(bools) * 32; cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
}

func TestCookiesOfTheOtherKindOfOriginAreNotRead(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, _ := fullJar(t, ring, c, 2, false, noon)
	if got := ring.OpenCookies(jar, c, true, noonMS); got.User != nil || got.Session != nil || got.Attribution != nil {
		t.Error("over HTTPS, cookies without the prefix were taken: a sibling domain may have set them")
	}
}

func TestCookiesLiveAsLongAsTheDesignSays(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, s := fullJar(t, ring, c, 2, true, noon)
	names := c.CookieNames(true)
	want := map[string]time.Duration{names.User: DefaultUserCookie, names.Session: 30 * time.Minute, names.Attribution: 30 * 24 * time.Hour}
	for _, ck := range jar {
		if ck.MaxAge != want[ck.Name] {
			t.Errorf("%s lives %s, want %s", ck.Name, ck.MaxAge, want[ck.Name])
		}
	}
	t.Run("an attribution cookie set late ends with the window", func(t *testing.T) {
		later := noon.Add(10 * time.Minute)
		set := cookiesOf(t, ring, Resume(c, s, granted, Carried{}), true, later)
		for _, ck := range set {
			if ck.Name == names.Attribution && ck.MaxAge != 30*24*time.Hour-10*time.Minute ||
				ck.Name == names.Session && ck.MaxAge != 20*time.Minute {
				t.Errorf("%s lives %s", ck.Name, ck.MaxAge)
			}
		}
	})
	t.Run("no cookie is set for a session that has ended", func(t *testing.T) {
		set := cookiesOf(t, ring, Resume(c, s, granted, Carried{}), true, noon.Add(time.Hour))
		if slices.Contains(namesOf(set), names.Session) {
			t.Error("it was")
		}
	})
}

func TestCookiesAreSentOnlyWhenTheyChange(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	names := c.CookieNames(true)
	for _, tt := range []struct {
		name   string
		after  time.Duration
		change func(*Input)
		drop   string
		want   []string
	}{
		{"nothing on a reload", time.Minute, func(*Input) {}, "", nil},
		{"nothing on a click inside the site", time.Minute, func(in *Input) { in.Facts.Touch = Touch{LandingPage: "/b"} }, "", nil},
		{"the attribution on another campaign", time.Minute, func(in *Input) { in.Facts.Touch = paidTouch("autumn") }, "", []string{names.Attribution}},
		{"the session when it is renewed", 31 * time.Minute, func(*Input) {}, "", []string{names.Session}},
		{"session and attribution on a return", 2 * time.Hour, func(*Input) {}, names.Session, []string{names.Attribution, names.Session}},
		{"nothing of the user's within a day", 24 * time.Hour, func(*Input) {}, names.Session, []string{names.Attribution, names.Session}},
		{"all after a day: the user's is prolonged", 24*time.Hour + time.Millisecond, func(*Input) {}, names.Session, []string{names.Attribution, names.Session, names.User}},
		{"the user's when it is missing", time.Minute, func(*Input) {}, names.User, []string{names.User}},
		{"the session's and attribution's when it is missing", time.Minute, func(*Input) {}, names.Session, []string{names.Attribution, names.Session}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			jar, _ := fullJar(t, ring, c, 2, true, noon)
			in := testInput(ring, c, 3)
			in.Now = noon.Add(tt.after)
			in.Carried = ring.OpenCookies(without(jar, tt.drop), c, true, in.Now.UnixMilli())
			tt.change(&in)
			got := namesOf(cookiesOf(t, ring, newVisit(t, in), true, in.Now))
			if !slices.Equal(got, append([]string{}, tt.want...)) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A tab that was left open until its session ended, and the browser had begun
// another, renews by its token; the browser's session stays the later one.
func TestATabOfAnOlderLineLeavesTheSessionCookie(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	in := testInput(ring, c, 1)
	first := newVisit(t, in)
	jar := first.Cookies(ring, true, in.Now)

	in.Now = in.Now.Add(2 * c.SessionDuration)
	in.Random = seeded(2)
	names := c.CookieNames(true)
	// Browsers drop the session cookie when it is over.
	jar = without(jar, names.Session)
	in.Carried = ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	second := newVisit(t, in)
	if !second.New || second.Session.UserID != first.Session.UserID {
		t.Fatal("no second line of one user: the test shows nothing")
	}
	jar = keep(jar, second.Cookies(ring, true, in.Now))

	renewed, err := first.Session.Renew(ring, c, in.Now.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	carried := ring.OpenCookies(jar, c, true, in.Now.UnixMilli())
	if set := Resume(c, renewed, granted, carried).Cookies(ring, true, in.Now); len(set) != 0 {
		t.Errorf("the older tab sets %d cookies: %s", len(set), set[0].Name)
	}
	// When the later session has ended too, the one that lives takes over.
	later := in.Now.Add(c.SessionDuration)
	if renewed, err = first.Session.Renew(ring, c, later.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	set := Resume(c, renewed, granted, ring.OpenCookies(jar, c, true, later.UnixMilli())).Cookies(ring, true, later)
	if len(set) != 1 || set[0].Name != names.Session {
		t.Errorf("after the later session's end %d cookies are set", len(set))
	}
}

func TestAFixedUserCookieIsNotProlonged(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	c.Consent.UserCookie, c.Consent.UserCookieFixed = 100*24*time.Hour, true
	names := c.CookieNames(true)
	jar, s := fullJar(t, ring, c, 2, true, noon)
	for _, tt := range []struct {
		name   string
		day    int
		tests  func(*Campaign)
		wantIn time.Duration
	}{
		{"a visit of the next month sets none", 31, func(*Campaign) {}, 0},
		{"a new variant is kept until the same end", 40, func(c *Campaign) {
			c.Tests = append(c.Tests, Test{ID: "footer", Traffic: 10000, Status: TestRunning, Variants: []Variant{{ID: "x", Weight: 1}}})
		}, 60 * 24 * time.Hour},
		{"after that end none is set", 101, func(c *Campaign) {
			c.Tests = append(c.Tests, Test{ID: "footer", Traffic: 10000, Status: TestRunning, Variants: []Variant{{ID: "x", Weight: 1}}})
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := *c
			tt.tests(&c)
			in := testInput(ring, &c, 3)
			in.Now = noon.Add(time.Duration(tt.day) * 24 * time.Hour)
			in.Carried = ring.OpenCookies(without(jar, names.Session), &c, true, in.Now.UnixMilli())
			v := newVisit(t, in)
			if v.Session.UserID != s.UserID {
				t.Fatal("another user")
			}
			got := time.Duration(0)
			for _, ck := range cookiesOf(t, ring, v, true, in.Now) {
				if ck.Name == names.User {
					got = ck.MaxAge
				}
			}
			if got != tt.wantIn {
				t.Errorf("lives %s, want %s", got, tt.wantIn)
			}
		})
	}
}

func TestATornSetOfCookiesNeverMixesTwoUsers(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	names := c.CookieNames(true)
	ann, annSession := fullJar(t, ring, c, 2, true, noon)
	bob, bobSession := fullJar(t, ring, c, 3, true, noon)
	part := func(jar []Cookie, name string) Cookie {
		for _, ck := range jar {
			if ck.Name == name {
				return ck
			}
		}
		t.Fatalf("no %s", name)
		return Cookie{}
	}
	for _, tt := range []struct {
		name                       string
		jar                        []Cookie
		user, session, attribution string
	}{
		{"all of one user", ann, annSession.UserID, annSession.ID, "same"},
		{"another user's session goes", []Cookie{part(ann, names.User), part(bob, names.Session), part(ann, names.Attribution)},
			annSession.UserID, "", "same"},
		{"another user's attribution goes", []Cookie{part(ann, names.User), part(ann, names.Session), part(bob, names.Attribution)},
			annSession.UserID, annSession.ID, ""},
		{"both go", []Cookie{part(ann, names.User), part(bob, names.Session), part(bob, names.Attribution)},
			annSession.UserID, "", ""},
		{"without a user cookie the session's user counts", []Cookie{part(bob, names.Session), part(ann, names.Attribution)},
			"", bobSession.ID, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 4 {
				r := rand.New(seeded(uint64(len(tt.name))))
				r.Shuffle(len(tt.jar), func(i, j int) { tt.jar[i], tt.jar[j] = tt.jar[j], tt.jar[i] })
				got := ring.OpenCookies(tt.jar, c, true, noonMS)
				var user, session, attribution string
				if got.User != nil {
					user = got.User.UserID
				}
				if got.Session != nil {
					session = got.Session.ID
				}
				if got.Attribution != nil {
					attribution = "same"
				}
				if user != tt.user || session != tt.session || attribution != tt.attribution {
					t.Errorf("user %q, session %q, attribution %q", user, session, attribution)
				}
			}
		})
	}
}

func TestACookieThatDoesNotVerifyCountsAsAbsent(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, s := fullJar(t, ring, c, 2, true, noon)
	names := c.CookieNames(true)
	neighbour := testCampaign()
	neighbour.ID = "cmp_2"
	preview := testCampaign()
	preview.Environment = Preview
	elsewhere := testCampaign()
	elsewhere.WorkspaceID = "ws_2"
	rename := func(jar []Cookie, from, to *Campaign) []Cookie {
		f, t := from.CookieNames(true), to.CookieNames(true)
		out := slices.Clone(jar)
		for i := range out {
			out[i].Name = map[string]string{f.User: t.User, f.Session: t.Session, f.Attribution: t.Attribution}[out[i].Name]
		}
		return out
	}
	swapped := slices.Clone(jar)
	swapped[0].Value, swapped[1].Value, swapped[2].Value = jar[1].Value, jar[2].Value, jar[0].Value
	foreign, _ := fullJar(t, testRing(t, 9), c, 2, true, noon)
	for _, tt := range []struct {
		name                       string
		jar                        []Cookie
		read                       *Campaign
		user, session, attribution bool
	}{
		{"its own are read", jar, c, true, true, true},
		{"cookies of another ring", foreign, c, false, false, false},
		{"one cookie's value in another", swapped, c, false, false, false},
		{"another campaign's session and attribution", rename(jar, c, neighbour), neighbour, true, false, false},
		{"production's session and attribution in preview", rename(jar, c, preview), preview, true, false, false},
		{"another workspace's user, and his session", rename(jar, c, elsewhere), elsewhere, false, false, true},
		{"attribution beyond the window", without(jar, names.Session), func() *Campaign { c := *c; c.AttributionWindow = -1 * time.Hour; return &c }(), true, false, false},
		{"attribution beyond the window, in mid-session", jar, func() *Campaign { c := *c; c.AttributionWindow = -1 * time.Hour; return &c }(), true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ring.OpenCookies(tt.jar, tt.read, true, noonMS)
			if (got.User != nil) != tt.user || (got.Session != nil) != tt.session || (got.Attribution != nil) != tt.attribution {
				t.Errorf("user %v, session %v, attribution %v", got.User, got.Session, got.Attribution)
			}
		})
	}
	t.Run("of two of one name the one that verifies counts", func(t *testing.T) {
		planted := append([]Cookie{{Name: names.Session, Value: "x"}, {Name: names.User, Value: ""}}, jar...)
		got := ring.OpenCookies(planted, c, true, noonMS)
		if got.Session == nil || got.Session.ID != s.ID || got.User == nil {
			t.Error("a planted cookie hid it")
		}
	})
}

func TestTheChoiceCookie(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	name := c.CookieNames(true).Choice
	good := choiceCookie(t, ring, c.WorkspaceID, Purposes{true, false, true}, noonMS)
	no := &Choice{}
	for _, tt := range []struct {
		name, value string
		want        *Choice
	}{
		{"is read as it was made", good, &Choice{Purposes{true, false, true}, noonMS}},
		{"means no if it can't be read", "x" + good[1:], no},
		{"means no if it is of another workspace", choiceCookie(t, ring, "ws_2", Purposes{true, true, true}, noonMS), no},
		{"means no if it is empty", "", no},
		{"means no if it is of another version", sealed(t, ring, sealChoice, "\x09", noonMS), no},
		{"means no if it is cut", sealed(t, ring, sealChoice, "\x01\x04ws_1", noonMS), no},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ring.OpenCookies([]Cookie{{Name: name, Value: tt.value}}, c, true, noonMS)
			if got.Choice == nil || *got.Choice != *tt.want {
				t.Errorf("got %+v, want %+v", got.Choice, tt.want)
			}
			refused := Resume(c, testSession(t, ring, c, 2), Consent{Source: ConsentChoice}, got)
			if set := cookiesOf(t, ring, refused, true, noon); len(set) != 0 {
				t.Errorf("withdrawal removes the choice itself: %v", namesOf(set))
			}
		})
	}
	t.Run("absent is no choice", func(t *testing.T) {
		if got := ring.OpenCookies(nil, c, true, noonMS); got.Choice != nil || got.Reference != nil {
			t.Error("somebody chose")
		}
	})
}

func TestNoCookieIsLongerThanBrowsersKeep(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	id := strings.Repeat("i", 64)
	c.ID, c.WorkspaceID = id, id
	c.Tests = nil
	for i := range 40 {
		c.Tests = append(c.Tests, Test{ID: fmt.Sprintf("%064d", i), Traffic: 10000, Status: TestRunning, Variants: []Variant{{ID: id, Weight: 1, LandingPageID: id}}})
	}
	c.Segments = []Segment{{ID: id}}
	first, latest := longestTouch("ü", noonMS).Clean(), longestTouch("&", noonMS+1)
	for name, touches := range map[string][2]Touch{
		"two touches of the greatest length":         {first, latest},
		"the longest first, then an organic one":     {first, {Time: noonMS + 1, LandingPage: "/"}},
		"an organic one, then the longest":           {{Time: noonMS, LandingPage: "/"}, latest},
		"the longest twice":                          {first, first},
		"the longest again at another time":          {first, longestTouch("é", noonMS+1).Clean()},
		"ordinary ones":                              {paidTouch("spring"), paidTouch("autumn")},
		"an ordinary one with a click id, then long": {paidTouch("spring"), latest},
	} {
		t.Run(name, func(t *testing.T) {
			in := testInput(ring, c, 3)
			in.Facts.Touch = touches[0]
			v, err := Identify(in)
			if err != nil {
				t.Fatal(err)
			}
			v.Assign(id, noon)
			v.Session.Attribution = FirstTouch(touches[0]).Return(touches[1])
			set := cookiesOf(t, ring, v, true, noon)
			sum := len(c.CookieNames(true).Choice) + len(choiceCookie(t, ring, c.WorkspaceID, Purposes{true, true, true}, noonMS))
			if len(set) != 3 {
				t.Fatalf("only %v are set: one was too long", namesOf(set))
			}
			for _, ck := range set {
				sum += len(ck.Name) + len(ck.Value)
			}
			if sum > 6<<10 {
				t.Errorf("together they have %d bytes", sum)
			}
			got := ring.OpenCookies(set, c, true, noonMS+1)
			if got.User == nil || got.Session == nil || got.Attribution == nil {
				t.Fatal("they don't all come back")
			}
			orig, kept := touches[0], got.Attribution.Original
			if kept.UTM != orig.UTM || kept.LandingPage != orig.LandingPage || kept.Referrer != orig.Referrer || kept.Ref != orig.Ref {
				t.Errorf("the first touch lost more than click ids:\n%+v\n%+v", kept, orig)
			}
			if fits := len(orig.ClickIDs) <= 1; fits && !reflect.DeepEqual(kept, orig) {
				t.Errorf("the first touch was cut for a later one's sake:\n%+v\n%+v", kept, orig)
			}
			if len(v.Session.Attribution.Original.ClickIDs) != len(orig.ClickIDs) || len(v.Session.Assignments) != 40 {
				t.Error("cutting the cookie cut the session")
			}
			if got.Session.Test() != v.Session.Test() {
				t.Error("the session cookie lost the first test")
			}
			in.Carried = got
			in.Now = noon.Add(time.Minute)
			in.Facts.Touch = Touch{LandingPage: "/next"}
			again := newVisit(t, in)
			if again.New {
				t.Error("the session does not go on")
			}
			if set := cookiesOf(t, ring, again, true, in.Now); len(set) != 0 {
				t.Errorf("%v are set again though nothing changed", namesOf(set))
			}
			// Nor by a call whose token has all that the cookies left out.
			if set := cookiesOf(t, ring, Resume(c, v.Session, granted, got), true, in.Now); len(set) != 0 {
				t.Errorf("%v are set again by a call", namesOf(set))
			}
		})
	}
}

func TestVariantsOfOtherCampaignsStayInTheUserCookie(t *testing.T) {
	a, b := Assignment{"a", "1"}, Assignment{"b", "1"}
	many := make([]Assignment, 20)
	for i := range many {
		many[i] = Assignment{fmt.Sprint("t", i), "v"}
	}
	for _, tt := range []struct {
		name               string
		older, newer, want []Assignment
	}{
		{"nothing", nil, nil, nil},
		{"older ones stay", []Assignment{a}, []Assignment{b}, []Assignment{a, b}},
		{"a newer variant of the same test replaces the older", []Assignment{a, b}, []Assignment{{"a", "2"}}, []Assignment{b, {"a", "2"}}},
		{"beyond 16 the oldest go", many[:15], many[15:], many[4:]},
		{"of more than 16 newer ones the first stay", []Assignment{a}, many, many[:16]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mergeAssignments(tt.older, tt.newer); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzOpenCookies(f *testing.F) {
	ring, c := testRing(f, 1), testCampaign()
	names := c.CookieNames(true)
	jar, _ := fullJar(f, ring, c, 2, true, noon)
	for _, ck := range jar {
		f.Add(ck.Name, ck.Value)
	}
	f.Add(names.Choice, choiceCookie(f, ring, c.WorkspaceID, Purposes{true, true, true}, noonMS))
	f.Add(ReferenceConsentCookie, reference(true, true, true, true, "1"))
	f.Add("frbzz_uid", "\x00")
	f.Fuzz(func(t *testing.T, name, value string) {
		ring.OpenCookies([]Cookie{{Name: name, Value: value}, {Name: name, Value: value}}, c, true, noonMS)
		// The same inside a seal: what a damaged or newer node may have made.
		for p, n := range map[purpose]string{sealUser: names.User, sealSession: names.Session, sealAttribution: names.Attribution, sealChoice: names.Choice} {
			inside := sealed(t, ring, p, value, noonMS)
			in := testInput(ring, c, 3)
			in.Carried = ring.OpenCookies([]Cookie{{Name: n, Value: inside}}, c, true, noonMS)
			if u := in.Carried.User; u != nil && !ring.VerifyUserID(u.UserID, c.WorkspaceID) {
				t.Fatalf("user %s is not ours", u.UserID)
			}
			newVisit(t, in).Cookies(ring, true, noon)
		}
	})
}
