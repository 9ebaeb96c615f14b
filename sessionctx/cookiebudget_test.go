package sessionctx

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// browser keeps cookies as browsers do: one a name, gone when they expire,
// sent in the order in which they were made.
type browser struct {
	cookies []Cookie
	until   map[string]time.Time
}

func (b *browser) take(answer []Cookie, now time.Time) {
	for _, ck := range answer {
		at := slices.IndexFunc(b.cookies, func(c Cookie) bool { return c.Name == ck.Name })
		switch {
		case ck.MaxAge <= 0:
			if at >= 0 {
				b.cookies = slices.Delete(b.cookies, at, at+1)
			}
		case at >= 0:
			b.cookies[at].Value = ck.Value
		default:
			b.cookies = append(b.cookies, Cookie{Name: ck.Name, Value: ck.Value})
		}
		b.until[ck.Name] = now.Add(ck.MaxAge)
	}
}

func (b *browser) sent(now time.Time) []Cookie {
	var out []Cookie
	for _, ck := range b.cookies {
		if until, limited := b.until[ck.Name]; !limited || until.After(now) {
			out = append(out, ck)
		}
	}
	return out
}

func newBrowser() *browser { return &browser{until: map[string]time.Time{}} }

// oursIn is how many bytes our cookies take, counted by their names alone.
func oursIn(cookies []Cookie, prefix string) (n int) {
	for _, ck := range cookies {
		if strings.HasPrefix(ck.Name, prefix) {
			n += len(ck.Name) + len(ck.Value)
		}
	}
	return n
}

// TestAllCookiesTogetherStayUnderSixKiB walks visitors through many campaigns
// of many workspaces on one host, over both kinds of origin, with choices,
// foreign and damaged cookies in their jars and touches of every length. The
// request after each answer is within the bound, the campaign that was just
// visited is whole, and what was visited later outlives what was visited
// earlier.
func TestAllCookiesTogetherStayUnderSixKiB(t *testing.T) {
	ring := testRing(t, 1)
	foreignRing := testRing(t, 7)
	for seed := range uint64(40) {
		r := rand.New(seeded(seed))
		secure := seed%2 == 0
		prefix := map[bool]string{true: "__Host-fb_", false: "fb_"}[secure]
		idLen := 4 + r.IntN(61)
		campaigns := make([]*Campaign, 6+r.IntN(20))
		workspaces := 1 + r.IntN(5)
		for i := range campaigns {
			c := testCampaign()
			c.ID = fmt.Sprint(strings.Repeat("x", max(0, idLen-3)), "c", i)
			c.WorkspaceID = fmt.Sprint(strings.Repeat("w", min(idLen, 60)), i%workspaces)
			if i%7 == 6 {
				c.CampaignRef = CampaignRef{campaigns[i-1].ID, Preview}
				c.WorkspaceID = campaigns[i-1].WorkspaceID
			}
			c.Tests = nil
			for n := range r.IntN(13) {
				c.Tests = append(c.Tests, Test{ID: fmt.Sprint(strings.Repeat("t", idLen-4), i%10, n), Traffic: 10000, Status: TestRunning,
					Variants: []Variant{{ID: strings.Repeat("v", idLen), Weight: 1}}})
			}
			campaigns[i] = c
		}
		b := newBrowser()
		now := noon
		b.take([]Cookie{{Name: "other", Value: strings.Repeat("o", 3000), MaxAge: 1e6 * time.Hour}, {Name: "fb_access", Value: "theirs", MaxAge: 1e6 * time.Hour}}, now)
		lastVisit := map[string]time.Time{} // by name of attribution cookie
		for step := range 80 {
			now = now.Add(time.Duration(1+r.IntN(40)) * time.Minute)
			ms := now.UnixMilli()
			c := campaigns[r.IntN(len(campaigns))]
			names := c.CookieNames(secure)
			if step%20 == 19 { // another server's cookie, or one from a ring that is lost
				s := testSession(t, foreignRing, c, uint64(step))
				b.take([]Cookie{{Name: prefix + fmt.Sprint("session_gone", step), Value: string(foreignRing.sealSession(nil, sealSession, &s, false, 9999, ms)), MaxAge: time.Hour}}, now)
			}
			if choice := names.Choice; r.IntN(3) == 0 && !slices.ContainsFunc(b.cookies, func(ck Cookie) bool { return ck.Name == choice }) {
				b.take([]Cookie{{Name: choice, Value: choiceCookie(t, ring, c.WorkspaceID, Purposes{true, true, true}, ms), MaxAge: 1000 * time.Hour}}, now)
			}
			in := testInput(ring, c, seed<<20|uint64(step))
			in.Now = now
			in.Facts.Touch = randomTouch(r).Clean()
			before := b.sent(now)
			in.Carried = ring.OpenCookies(before, c, secure, ms)
			v := newVisit(t, in)
			answer := v.Cookies(ring, secure, now)
			b.take(answer, now)
			after := b.sent(now)

			if n := oursIn(after, prefix+"user_") + oursIn(after, prefix+"session_") + oursIn(after, prefix+"attribution_") + oursIn(after, prefix+"choice_"); n > 6<<10 && len(answer) > 0 {
				t.Fatalf("seed %d, step %d: our cookies have %d bytes:\n%v", seed, step, n, namesOf(after))
			}
			got := ring.OpenCookies(after, c, secure, ms)
			if got.User == nil || got.Session == nil || got.Attribution == nil || got.Session.ID != v.Session.ID {
				t.Fatalf("seed %d, step %d: the campaign that was visited is not whole: %v", seed, step, namesOf(after))
			}
			if oursIn(after, "other") < 3000 || oursIn(after, "fb_access") == 0 {
				t.Fatalf("seed %d, step %d: another program's cookie is gone", seed, step)
			}
			for _, ck := range answer {
				if ck.MaxAge > 0 {
					continue
				}
				if strings.Contains(ck.Name, "_attribution_") {
					for name, at := range lastVisit {
						here := slices.ContainsFunc(after, func(c Cookie) bool { return c.Name == name })
						if here && name != names.Attribution && at.Before(lastVisit[ck.Name]) {
							t.Fatalf("seed %d, step %d: %s of %s went before %s of %s", seed, step, ck.Name, lastVisit[ck.Name], name, at)
						}
					}
				}
			}
			// What the attribution cookie tells is the latest new session or touch.
			if slices.ContainsFunc(answer, func(ck Cookie) bool { return ck.Name == names.Attribution || ck.Name == names.Session }) {
				lastVisit[names.Attribution] = now
			}
		}
	}
}

// crowded is a browser of one who has visited n campaigns of workspaces of
// their own, an hour apart, and the campaigns.
func crowded(tb testing.TB, ring *Ring, n int, first time.Time) (*browser, []*Campaign) {
	b := newBrowser()
	var campaigns []*Campaign
	for i := range n {
		c := testCampaign()
		c.ID, c.WorkspaceID = fmt.Sprint("cmp_", i), fmt.Sprint("ws_", i)
		campaigns = append(campaigns, c)
		jar, _ := fullJar(tb, ring, c, uint64(50+i), true, first.Add(time.Duration(i)*time.Hour))
		b.cookies = append(b.cookies, jar...)
	}
	return b, campaigns
}

func TestWhatMakesRoomFirst(t *testing.T) {
	ring := testRing(t, 1)
	now := noon.Add(48 * time.Hour)
	b, campaigns := crowded(t, ring, 9, noon)
	here := testCampaign()
	here.ID, here.WorkspaceID = "cmp_here", "ws_here"
	visit := func(jar []Cookie) []Cookie {
		in := testInput(ring, here, 99)
		in.Now = now
		in.Carried = ring.OpenCookies(jar, here, true, now.UnixMilli())
		return cookiesOf(t, ring, newVisit(t, in), true, now)
	}
	removed := func(set []Cookie) (out []string) {
		for _, ck := range set {
			if ck.MaxAge == 0 {
				out = append(out, strings.TrimPrefix(ck.Name, "__Host-fb_"))
			}
		}
		return out
	}
	r := rand.New(seeded(3))
	filler := func(name string, n int) Cookie {
		return Cookie{Name: "__Host-fb_choice_" + name, Value: strings.Repeat("n", n)}
	}

	t.Run("the campaign visited longest ago, its session and attribution", func(t *testing.T) {
		jar := slices.Clone(b.cookies)
		r.Shuffle(len(jar), func(i, j int) { jar[i], jar[j] = jar[j], jar[i] })
		got := removed(visit(jar))
		slices.Sort(got)
		if len(got) < 2 || len(got)%2 != 0 || !slices.Equal(got[:2], []string{"attribution_cmp_0", "attribution_cmp_1"}) && !slices.Equal(got, []string{"attribution_cmp_0", "session_cmp_0"}) {
			t.Errorf("removed %v", got)
		}
	})
	t.Run("nothing while there is room", func(t *testing.T) {
		if got := removed(visit(b.cookies[len(b.cookies)-9:])); len(got) != 0 {
			t.Errorf("removed %v", got)
		}
	})
	t.Run("one that can't be opened before all others", func(t *testing.T) {
		_, lost := fullJar(t, testRing(t, 8), campaigns[3], 4, true, now)
		value := testRing(t, 8).sealSession(nil, sealSession, &lost, false, 9999, now.UnixMilli())
		got := removed(visit(append(slices.Clone(b.cookies), Cookie{Name: "__Host-fb_session_lost", Value: string(value)})))
		if len(got) == 0 || got[0] != "session_lost" {
			t.Errorf("removed %v", got)
		}
	})
	t.Run("then users, the one seen longest ago first", func(t *testing.T) {
		// The first workspace's user cookie is the oldest, but its campaign
		// was visited just now.
		again := testCampaign()
		again.ID, again.WorkspaceID = "cmp_0", "ws_0"
		again.Consent.UserCookie, again.Consent.UserCookieFixed = 100*24*time.Hour, true // not set again
		in := testInput(ring, again, 1)
		in.Now = now
		in.Carried = ring.OpenCookies(b.cookies, again, true, now.UnixMilli())
		in.Carried.Session = nil
		in.Carried.all = nil
		jar := slices.Clone(b.cookies)
		for _, ck := range cookiesOf(t, ring, newVisit(t, in), true, now) {
			at := slices.IndexFunc(jar, func(c Cookie) bool { return c.Name == ck.Name })
			jar[at] = ck
		}
		got := removed(visit(append(jar, filler("no", 4000))))
		at := func(name string) int { return slices.Index(got, name) }
		if at("user_ws_1") < 0 || at("user_ws_1") < at("attribution_cmp_8") || at("attribution_cmp_8") < 0 || at("user_ws_0") >= 0 && at("user_ws_0") < at("user_ws_8") {
			t.Errorf("removed %v", got)
		}
	})
	t.Run("choices last, and never a refusal", func(t *testing.T) {
		yes := Cookie{Name: "__Host-fb_choice_yes", Value: choiceCookie(t, ring, "yes", Purposes{Analytics: true}, noonMS)}
		no := Cookie{Name: "__Host-fb_choice_no", Value: choiceCookie(t, ring, "no", Purposes{}, noonMS)}
		got := removed(visit(append(slices.Clone(b.cookies), yes, no, filler("unreadable", 5600))))
		if len(got) < 9*3+1 || got[len(got)-1] != "choice_yes" || slices.Contains(got, "choice_no") || slices.Contains(got, "choice_unreadable") {
			t.Errorf("removed %v", got)
		}
	})
	t.Run("never what is this campaign's", func(t *testing.T) {
		own, _ := fullJar(t, ring, here, 5, true, noon.Add(-time.Hour))
		jar := append(own[:1:1], b.cookies...) // its user, the oldest of all
		jar = append(jar, Cookie{Name: "__Host-fb_choice_ws_here", Value: choiceCookie(t, ring, "ws_here", Purposes{Analytics: true}, noonMS)}, filler("no", 6000))
		for _, name := range removed(visit(jar)) {
			if strings.HasSuffix(name, "here") {
				t.Errorf("%s was removed", name)
			}
		}
	})
	t.Run("an answer that sets nothing removes nothing", func(t *testing.T) {
		own, _ := fullJar(t, ring, here, 5, true, now)
		if got := visit(append(own, b.cookies...)); len(got) != 0 {
			t.Errorf("got %v", namesOf(got))
		}
	})
	t.Run("an answer's header has a bound too", func(t *testing.T) {
		var jar []Cookie
		for i := range 2000 {
			jar = append(jar, Cookie{Name: fmt.Sprint("__Host-fb_session_", i), Value: "x"})
		}
		if n := len(visit(jar)); n > 35 {
			t.Errorf("%d cookies are set or removed", n)
		}
	})
}

// TestWhatPlainHTTPLeftBehindGoes: a host that moved to HTTPS knows nobody by
// cookies from before, and does not keep them.
func TestWhatPlainHTTPLeftBehindGoes(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	jar, before := fullJar(t, ring, c, 2, false, noon)
	neighbour := testCampaign()
	neighbour.ID = "cmp_2"
	more, _ := fullJar(t, ring, neighbour, 3, false, noon)
	jar = append(jar, more[1:]...)
	jar = append(jar, Cookie{Name: "fb_user_theirs", Value: "another program's", MaxAge: time.Hour}, Cookie{Name: "fb_choice_ws_1", Value: "x", MaxAge: time.Hour})
	in := testInput(ring, c, 4)
	in.Carried = ring.OpenCookies(jar, c, true, noonMS)
	v := newVisit(t, in)
	if v.Session.UserID == before.UserID {
		t.Error("the visitor is known by a cookie that anybody may have planted")
	}
	b := newBrowser()
	b.take(jar, noon)
	set := cookiesOf(t, ring, v, true, noon)
	for i := range set {
		if set[i].MaxAge == 0 && set[i].Value != "" {
			t.Errorf("%s is removed with a value", set[i].Name)
		}
	}
	b.take(set, noon)
	names := c.CookieNames(true)
	want := sorted(names.User, names.Session, names.Attribution, "fb_user_theirs", "fb_choice_ws_1")
	if got := namesOf(b.sent(noon)); !slices.Equal(got, want) {
		t.Errorf("left are\n     %v\nwant %v", got, want)
	}
	t.Run("and by a refusal", func(t *testing.T) {
		refused := Resume(c, v.Session, Consent{Source: ConsentChoice}, ring.OpenCookies(jar, c, true, noonMS))
		want := sorted("fb_user_ws_1", "fb_session_cmp_1", "fb_attribution_cmp_1", "fb_session_cmp_2", "fb_attribution_cmp_2")
		if got := namesOf(cookiesOf(t, ring, refused, true, noon)); !slices.Equal(got, want) {
			t.Errorf("removed\n     %v\nwant %v", got, want)
		}
	})
}
