package sessionctx

import (
	"slices"
	"testing"
	"time"
)

func TestARefusalRemovesWhatTellsWhoTheVisitorWas(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, s := fullJar(t, ring, c, 2, true, noon)
	sibling, stranger := testCampaign(), testCampaign()
	sibling.ID = "cmp_2"
	stranger.ID, stranger.WorkspaceID = "cmp_3", "ws_3"
	for _, other := range []*Campaign{sibling, stranger} {
		more, _ := fullJar(t, ring, other, 4, true, noon)
		for _, ck := range more {
			if ck.Name != jar[0].Name {
				jar = append(jar, ck)
			}
		}
	}
	for _, name := range []string{
		"frbzz_uid", "frbzz_uid_cmp_1", "frbzz_uid_cmp_2", "frbzz_session_cmp_1", "frbzz_session_gone.campaign", "frbzz_attr_cmp_1", "frbzz_attr_x",
		"frbzz_consent", "frbzz_", "frbzz_ci", "frbzz_sessions", "other", "__Host-fb_choice_ws_1", "__Host-fb_session_forged", "_fbp",
	} {
		jar = append(jar, Cookie{Name: name, Value: "x"})
	}
	jar = append(jar, jar...)
	names := c.CookieNames(true)
	own := []string{names.User, names.Session, names.Attribution}
	reference := []string{"frbzz_uid", "frbzz_uid_cmp_1", "frbzz_session_cmp_1", "frbzz_attr_cmp_1"}
	all := append(append([]string{"frbzz_uid_cmp_2", "frbzz_session_gone.campaign", "frbzz_attr_x",
		"__Host-fb_session_cmp_2", "__Host-fb_attribution_cmp_2"}, own...), reference...)
	cookieless := *c
	cookieless.Cookies = false
	for _, tt := range []struct {
		name     string
		campaign *Campaign
		consent  Consent
		want     []string
	}{
		{"a choice: all of the workspace, and the reference client's of every campaign", c, Consent{Required: true, Source: ConsentChoice}, all},
		{"the reference manager's no: the same", c, Consent{Source: ConsentReference}, all},
		{"GPC: the same", c, Consent{Source: ConsentGPC}, all},
		{"DNT: the same", c, Consent{Source: ConsentDNT}, all},
		{"one who hasn't been asked: the campaign's alone", c, Consent{Required: true, Source: ConsentPending}, append(slices.Clone(own), reference...)},
		{"a campaign without cookies: its own, nothing that the visitor let others set", &cookieless, granted, own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Resume(tt.campaign, s, tt.consent, ring.OpenCookies(jar, tt.campaign, true, noonMS))
			set := cookiesOf(t, ring, v, true, noon)
			slices.Sort(tt.want)
			if got := namesOf(set); !slices.Equal(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
			for _, ck := range set {
				if ck.MaxAge != 0 || ck.Value != "" {
					t.Errorf("%s is set, not removed", ck.Name)
				}
			}
		})
	}
}

func TestAVeryFullJarIsEmptiedOverSeveralAnswers(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	b := newBrowser()
	for i := range 100 {
		b.take([]Cookie{{Name: "frbzz_session_" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Value: "x", MaxAge: time.Hour}}, noon)
	}
	s := testSession(t, ring, c, 2)
	for turn := 0; len(b.cookies) > 0; turn++ {
		v := Resume(c, s, Consent{Source: ConsentChoice}, ring.OpenCookies(b.sent(noon), c, true, noonMS))
		set := cookiesOf(t, ring, v, true, noon)
		if len(set) > 32 || len(set) == 0 || turn > 3 {
			t.Fatalf("turn %d removes %d of %d cookies", turn, len(set), len(b.cookies))
		}
		b.take(set, noon)
	}
}

// TestCookiesComeAndGoWithConsent: the session of a page is one and the same,
// whatever becomes of its cookies.
func TestCookiesComeAndGoWithConsent(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for _, fixed := range []bool{false, true} {
		c.Consent.UserCookie, c.Consent.UserCookieFixed = 100*24*time.Hour, fixed
		b := newBrowser()
		jar, first := fullJar(t, ring, c, 2, true, noon)
		b.take(jar, noon)
		// The visitor comes back after ten days: a returning user's session.
		in := testInput(ring, c, 3)
		in.Now = noon.Add(10 * 24 * time.Hour)
		in.Carried = ring.OpenCookies(b.sent(in.Now), c, true, in.Now.UnixMilli())
		page := newVisit(t, in)
		b.take(cookiesOf(t, ring, page, true, in.Now), in.Now)
		token := ring.SealToken(&page.Session, in.Now.UnixMilli())
		for turn := range 3 {
			for _, consent := range []Consent{{Required: true, Source: ConsentChoice}, {Purposes: Purposes{Analytics: true}, Required: true, Source: ConsentChoice}} {
				now := in.Now.Add(time.Duration(turn+1) * time.Minute)
				s, err := ring.OpenToken(token)
				if err != nil || s.ID != page.Session.ID || s.UserID != first.UserID || s.Expired(now.UnixMilli()) {
					t.Fatalf("the token gives %+v, %v", s, err)
				}
				set := cookiesOf(t, ring, Resume(c, *s, consent, ring.OpenCookies(b.sent(now), c, true, now.UnixMilli())), true, now)
				if len(set) != 3 {
					t.Fatalf("consent %v: %v", consent.Analytics, namesOf(set))
				}
				b.take(set, now)
				if want := map[bool]int{true: 3, false: 0}[consent.Analytics]; len(b.sent(now)) != want {
					t.Fatalf("consent %v: the browser has %v", consent.Analytics, namesOf(b.sent(now)))
				}
				if !consent.Analytics {
					continue
				}
				end := b.until[c.CookieNames(true).User]
				want := now.Add(100 * 24 * time.Hour)
				if fixed {
					want = noon.Add(100 * 24 * time.Hour)
				}
				if !end.Equal(want) {
					t.Errorf("fixed %v: the user cookie that came back ends %s, want %s", fixed, end, want)
				}
				got := ring.OpenCookies(b.sent(now), c, true, now.UnixMilli())
				if got.User.UserID != first.UserID || got.Session.ID != page.Session.ID || got.Attribution.Original.Time != noonMS {
					t.Errorf("what came back is %+v", got)
				}
			}
		}
	}
}

// TestAUserCookieIsProlongedBeforeItEnds: once a day, and a shorter one at
// half its life.
func TestAUserCookieIsProlongedBeforeItEnds(t *testing.T) {
	ring := testRing(t, 1)
	for _, tt := range []struct {
		lifetime, kept, set time.Duration
		fixed               bool
	}{
		{lifetime: 395 * 24 * time.Hour, kept: 24 * time.Hour, set: 24*time.Hour + time.Millisecond},
		{lifetime: 400 * 24 * time.Hour, kept: 24 * time.Hour, set: 24*time.Hour + time.Millisecond},
		{lifetime: time.Hour, kept: 30 * time.Minute, set: 30*time.Minute + time.Millisecond},
		{lifetime: time.Hour, kept: 59 * time.Minute, fixed: true},
	} {
		c := testCampaign()
		c.Consent.UserCookie, c.Consent.UserCookieFixed = tt.lifetime, tt.fixed
		jar, s := fullJar(t, ring, c, 2, true, noon)
		name := c.CookieNames(true).User
		at := func(after time.Duration) (age time.Duration) {
			now := noon.Add(after)
			in := testInput(ring, c, 3)
			in.Now = now
			in.Carried = ring.OpenCookies(jar, c, true, now.UnixMilli())
			v := newVisit(t, in)
			if v.Session.UserID != s.UserID {
				t.Errorf("%s after %s: another user", tt.lifetime, after)
			}
			for _, ck := range cookiesOf(t, ring, v, true, now) {
				if ck.Name == name {
					age = ck.MaxAge
				}
			}
			return age
		}
		if got := at(tt.kept); got != 0 {
			t.Errorf("%s: set again after %s", tt.lifetime, tt.kept)
		}
		if got := at(tt.set); tt.set > 0 && got != tt.lifetime {
			t.Errorf("%s: after %s it is set for %s", tt.lifetime, tt.set, got)
		}
	}
}

// TestAFixedUserCookieDoesNotBeginAnewWithASession: a session may outlive the
// cookie of its user; that gives the user no second life.
func TestAFixedUserCookieDoesNotBeginAnewWithASession(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	c.Consent.UserCookie, c.Consent.UserCookieFixed = time.Hour, true
	b := newBrowser()
	jar, first := fullJar(t, ring, c, 2, true, noon)
	b.take(jar, noon)
	for minute := 25; minute < 240; minute += 25 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		in := testInput(ring, c, uint64(minute))
		in.Now = now
		in.Carried = ring.OpenCookies(b.sent(now), c, true, now.UnixMilli())
		v := newVisit(t, in)
		b.take(cookiesOf(t, ring, v, true, now), now)
		if end := b.until[c.CookieNames(true).User]; v.Session.UserID == first.UserID && end.After(noon.Add(time.Hour)) {
			t.Fatalf("after %d min the first user's cookie lives until %s", minute, end)
		}
		if minute > 100 && v.Session.UserID == first.UserID {
			t.Fatalf("after %d min it is still the first user", minute)
		}
	}
}
