package sessionctx

import "testing"

// asked is a page request and the one session that its visitor key has, as far
// as going on with it depends on them.
type asked struct {
	ring                          *Ring
	campaign                      *Campaign
	facts                         *Facts
	target, referer, cacheControl string
	carried                       Carried
	shown                         Shown
	session                       *Session // that was shown
	now                           int64
}

const noLook = Continuation("not worth a look into the store")

func (q *asked) outcome() Continuation {
	a := NewArrival(q.facts, q.target, q.referer, q.cacheControl)
	if !a.MayContinue(&q.carried) {
		return noLook
	}
	if !a.Follows(&q.shown) {
		return ContinuedMismatch
	}
	return q.ring.Continue(q.campaign, q.session, q.now)
}

// TestWhatGoesOnWithASession has one request for each way in which a page may
// go on with the session of the page before it, and for each condition one that
// differs from it in nothing else.
func TestWhatGoesOnWithASession(t *testing.T) {
	const site, before = "https://lp.example.com", "/ad?gclid=1"
	ring := testRing(t, 1)
	basis := func(target string) *asked {
		f := factsOf("203.0.113.7", "agent")
		f.Touch = Touch{}
		q := &asked{ring: ring, campaign: testCampaign(), facts: f, target: target, now: noonMS}
		q.session = new(testSession(t, ring, q.campaign, 1))
		q.shown = Shown{pageID(site, before), q.session.ID, q.session.OriginalID}
		return q
	}
	// A click on a link of the page that was shown last.
	link := func() *asked {
		q := basis("/a")
		q.referer, q.facts.Fetch.Site = site+before, "same-origin"
		return q
	}
	// The browser's reload of it, which was come to from another site.
	reload := func() *asked {
		q := basis(before)
		q.cacheControl, q.referer, q.facts.Fetch.Site = "max-age=0", "https://www.google.com/", "cross-site"
		return q
	}
	// The address that it was come to by, again.
	again := func() *asked {
		q := basis(before)
		q.facts.Touch.ClickIDs, q.facts.Fetch.Site = []ClickID{{"gclid", "1"}}, "none"
		return q
	}
	refer := func(referer string) func(*asked) { return func(q *asked) { q.referer = referer } }
	fetched := func(site string) func(*asked) { return func(q *asked) { q.facts.Fetch.Site = site } }
	clicked := func(ids ...ClickID) func(*asked) { return func(q *asked) { q.facts.Touch.ClickIDs = ids } }
	shows := func(target string) func(*asked) { return func(q *asked) { q.target = target } }
	prerendered := func(q *asked) { q.facts.Purpose, q.facts.Fetch.Site = PurposePrerender, "none" }

	for _, tt := range []struct {
		name string
		of   func() *asked
		edit func(*asked)
		want Continuation
	}{
		{"a link", link, nil, Continued},
		{"a link, whatever it goes to", link, shows(before), Continued},
		{"a link, with a fragment in the referrer", link, refer(site + before + "#top"), Continued},
		{"a link of another page", link, refer(site + "/b"), ContinuedMismatch},
		{"a link of the page with another query", link, refer(site + "/ad?gclid=2"), ContinuedMismatch},
		{"a link of the page without its query", link, refer(site + "/ad"), ContinuedMismatch},
		{"a referrer cut to the origin", link, refer(site + "/"), ContinuedMismatch},
		{"where the same path of another site was shown", link, func(q *asked) { q.shown.Page = pageID("https://b.example.com", before) }, ContinuedMismatch},
		{"no referrer", link, refer(""), noLook},
		{"the referrer of another site", link, refer("https://www.example.com" + before), noLook},
		{"of a site whose name begins alike", link, refer(site + ".evil.example" + before), noLook},
		{"of a host that is a user's name", link, refer(site + "@evil.example" + before), noLook},
		{"of another port", link, refer(site + ":8443" + before), noLook},
		{"of another scheme", link, refer("http://lp.example.com" + before), noLook},
		{"a link by way of another site", link, fetched("cross-site"), noLook},
		{"by way of a sibling", link, fetched("same-site"), noLook},
		{"typed, with a referrer", link, fetched("none"), noLook},
		{"a browser without Fetch Metadata", link, fetched(""), Continued},
		{"without Fetch Metadata, from another site", link, func(q *asked) { q.facts.Fetch.Site, q.referer = "", "https://www.example.com/" }, noLook},
		{"prerendered", link, prerendered, Continued},
		{"prerendered from another page", link, func(q *asked) { prerendered(q); q.referer = site + "/b" }, ContinuedMismatch},
		{"prerendered without a referrer", link, func(q *asked) { prerendered(q); q.referer = "" }, noLook},
		{"prefetched", link, func(q *asked) { q.facts.Purpose, q.facts.Fetch.Site = PurposePrefetch, "none" }, Continued},
		{"prefetched from another page", link, func(q *asked) {
			q.facts.Purpose, q.facts.Fetch.Site, q.referer = PurposePrefetch, "none", site+"/b"
		}, ContinuedMismatch},

		{"a reload", reload, nil, Continued},
		{"a reload of what has a bare question mark", reload, func(q *asked) { q.shown.Page, q.target = pageID(site, "/a"), "/a?" }, Continued},
		{"of another page", reload, shows("/a"), ContinuedMismatch},
		{"of the page with another query", reload, shows("/ad?gclid=2"), ContinuedMismatch},
		{"no reload", reload, func(q *asked) { q.cacheControl = "" }, noLook},
		{"past the caches", reload, func(q *asked) { q.cacheControl = "no-cache" }, noLook},

		{"the ad's address again", again, nil, Continued},
		{"another click", again, func(q *asked) { q.target, q.facts.Touch.ClickIDs = "/ad?gclid=3", []ClickID{{"gclid", "3"}} }, ContinuedMismatch},
		{"the click id at another page", again, shows("/a?gclid=1"), ContinuedMismatch},
		{"the address without a click id", again, clicked(), noLook},

		{"a link, when the session ends", link, func(q *asked) { q.now = q.session.ExpiresAt - 1 }, Continued},
		{"when it has ended", link, func(q *asked) { q.now = q.session.ExpiresAt }, ContinuedEnded},
		{"a link of another campaign's page", link, func(q *asked) { q.campaign.ID = "cmp_2" }, ContinuedMismatch},
		{"of its preview", link, func(q *asked) { q.campaign.Environment = Preview }, ContinuedMismatch},
		{"of a session that the store has no more", link, func(q *asked) { q.session = nil }, ContinuedEnded},
		{"of a user whose key was revoked", link, func(q *asked) { q.ring = testRing(t, 2) }, ContinuedEnded},
		{"another page, of one that has ended", link, func(q *asked) { q.referer, q.now = site+"/b", q.session.ExpiresAt }, ContinuedMismatch},
		{"a cookie names the user", link, func(q *asked) { q.carried.User = &UserCookie{} }, noLook},
		{"a cookie names the session", link, func(q *asked) { q.carried.Session = &Session{} }, noLook},
	} {
		q := tt.of()
		if tt.edit != nil {
			tt.edit(q)
		}
		if got := q.outcome(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
