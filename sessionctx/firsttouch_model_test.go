package sessionctx

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestTheFirstTouchOfAnyBrowser takes browsers through random days: visits with
// any touch, clicks, renewals by page and API, tabs, consent given and
// withdrawn, lost cookies, store outages, retries. Whatever happens, a session
// has the first touch that its line or its user began with, or says that it is
// lost; and it says that only where the cookie was really taken away.
func TestTheFirstTouchOfAnyBrowser(t *testing.T) {
	ring := testRing(t, 1)
	seen := map[string]int{}
	for seed := range uint64(300) {
		r := rand.New(seeded(seed))
		b := &modelBrowser{
			t: t, r: r, seed: seed, ring: ring, c: testCampaign(), now: noon, storeUp: true, seen: seen,
			jar: map[string]modelCookie{}, store: map[string]Session{}, renewed: map[string]Session{},
			lines: map[string]Touch{}, firsts: map[string][]Touch{}, taken: map[string]bool{},
		}
		b.c.Cookies = seed%5 != 0
		b.c.AttributionWindow = 24 * time.Hour
		if seed%7 == 0 {
			b.late = 24 * time.Hour
		}
		b.consent = Consent{Required: true, Source: ConsentPending}
		if seed%2 == 0 {
			b.consent = granted
		}
		for range 60 {
			b.step()
		}
	}
	// The walk has to come by everything that it is about.
	for _, what := range []string{
		"visit", "returning", "renewed by page", "renewed by API", "standing", "derived", "yes by API", "withdrawn",
		"attribution taken", "lost", "found again", "window over", "over in mid-session", "returning when lost",
	} {
		if seen[what] == 0 {
			t.Errorf("never happened: %s; happened: %v", what, seen)
		}
	}
}

type modelCookie struct {
	value string
	until time.Time
}

type modelBrowser struct {
	t    *testing.T
	r    *rand.Rand
	seed uint64
	ring *Ring
	c    *Campaign
	now  time.Time
	seen map[string]int

	jar     map[string]modelCookie
	late    time.Duration // its clock is slow: it keeps cookies for longer
	tabs    []string      // tokens
	consent Consent

	storeUp        bool
	store, renewed map[string]Session

	// What the test itself knows: with which touch each line began, which
	// first touches each user had, and whose attribution cookie was taken.
	lines  map[string]Touch
	firsts map[string][]Touch
	taken  map[string]bool
}

func (b *modelBrowser) step() {
	names := b.c.CookieNames(true)
	switch b.r.IntN(14) {
	case 0, 1, 2:
		b.page(randomTouch(b.r), false)
	case 3, 4:
		b.page(Touch{LandingPage: "/two"}, true)
	case 5, 6, 7:
		b.call(false)
	case 8:
		b.call(true) // and its retry
	case 9:
		switch {
		case b.consent.Analytics:
			b.consent = Consent{Required: true, Source: ConsentChoice}
			b.seen["withdrawn"]++
		default:
			b.consent = Consent{Purposes: Purposes{Analytics: true}, Required: true, Source: ConsentChoice}
		}
	case 10:
		lost := [][]string{{names.Attribution}, {names.Attribution}, {names.Session}, {names.User}, {names.User, names.Session, names.Attribution}}[b.r.IntN(5)]
		for _, n := range lost {
			if c, there := b.jar[n]; there && n == names.Attribution {
				if user, a := b.ring.openAttribution(c.value, b.c); a != nil {
					b.taken[user] = true
					b.seen["attribution taken"]++
				}
			}
			delete(b.jar, n)
		}
	case 11:
		b.storeUp = !b.storeUp
		if b.r.IntN(3) == 0 {
			clear(b.store) // its entries have expired
		}
	default:
		b.now = b.now.Add([]time.Duration{time.Second, b.c.SessionDuration / 4, b.c.SessionDuration * 3 / 2, 20 * time.Hour}[b.r.IntN(4)])
	}
}

func (b *modelBrowser) cookies() []Cookie {
	var out []Cookie
	for name, c := range b.jar {
		if b.now.Before(c.until.Add(b.late)) {
			out = append(out, Cookie{Name: name, Value: c.value})
		} else {
			delete(b.jar, name)
		}
	}
	slices.SortFunc(out, func(x, y Cookie) int { return int(x.Name[len(x.Name)-9]) - int(y.Name[len(y.Name)-9]) })
	return out
}

func (b *modelBrowser) keep(set []Cookie) {
	for _, c := range set {
		b.jar[c.Name] = modelCookie{c.Value, b.now.Add(c.MaxAge)}
	}
}

// page is a page view in a tab of its own.
func (b *modelBrowser) page(touch Touch, within bool) {
	in := testInput(b.ring, b.c, b.r.Uint64())
	in.Now, in.Consent = b.now, b.consent
	in.Facts.Touch, in.Facts.FromWithin = touch, within
	in.Carried = b.ring.OpenCookies(b.cookies(), b.c, true, b.now.UnixMilli())
	_, held := b.jar[b.c.CookieNames(true).Attribution]
	v := newVisit(b.t, in)
	touch.Time = b.now.UnixMilli()
	s := &v.Session
	if v.New {
		b.began(s, touch, held)
	}
	if v.Renewed {
		b.seen["renewed by page"]++
	}
	b.seen["visit"]++
	b.check(s)
	b.keep(v.Cookies(b.ring, true, b.now))
	if v.NeedsState() && b.storeUp {
		b.store[s.ID] = *s
	}
	b.tabs = append(b.tabs, b.ring.SealToken(s, b.now.UnixMilli()))
}

// began records the first touch of a line that begins now: the user's, as
// long as the cookie with it is there and the window has not ended.
func (b *modelBrowser) began(s *Session, touch Touch, held bool) {
	now := b.now.UnixMilli()
	got := s.Attribution.Original
	standing := slices.DeleteFunc(slices.Clone(b.firsts[s.UserID]), func(f Touch) bool {
		return now-f.Time > b.c.AttributionWindow.Milliseconds()
	})
	if s.Returning {
		b.seen["returning"]++
		if held && len(standing) == 0 {
			b.seen["window over"]++
		}
	}
	if !s.Returning || !held || len(standing) == 0 {
		b.lines[s.ID] = touch
		b.firsts[s.UserID] = append(b.firsts[s.UserID], touch)
		return
	}
	for _, f := range standing {
		if reflect.DeepEqual(got, f) || s.Attribution.Source == AttributionLost && got.Time == f.Time {
			b.lines[s.ID] = f
			if s.Attribution.Source == AttributionLost {
				b.seen["returning when lost"]++
			}
			return
		}
	}
	b.t.Fatalf("seed %d: a returning user's first touch is %+v, known are %+v", b.seed, got, standing)
}

// call is an API call by a tab: it renews if it has to, and brings the cookies.
func (b *modelBrowser) call(twice bool) {
	if len(b.tabs) == 0 {
		return
	}
	tab := b.r.IntN(len(b.tabs))
	now := b.now.UnixMilli()
	opened, err := b.ring.OpenToken(b.tabs[tab])
	if err != nil {
		b.t.Fatal(err)
	}
	s := *opened
	b.find(&s)
	for s.Expired(now) {
		standing, known := b.renewed[s.ID]
		next, err := s.Renew(b.ring, b.c, now)
		if !b.storeUp {
			next, err = s.RenewDerived(b.ring, b.c, now)
		}
		switch {
		case err != nil: // the line is too old
			b.tabs = slices.Delete(b.tabs, tab, tab+1)
			return
		case !b.storeUp:
			s = next
			b.seen["derived"]++
			if s.Expired(now) {
				b.tabs[tab] = b.ring.SealToken(&s, now)
				return
			}
		case known:
			ours := s.Attribution
			s = standing
			if s.Attribution.Source == AttributionLost && ours.Source != AttributionLost {
				s.Attribution = s.Attribution.Recovered(ours)
			}
			b.seen["standing"]++
		default:
			b.renewed[s.ID] = next
			s = next
			b.store[s.ID] = s
			b.seen["renewed by API"]++
		}
	}
	b.check(&s)
	if now-s.Attribution.Original.Time > b.c.AttributionWindow.Milliseconds() {
		b.seen["over in mid-session"]++
	}
	b.tabs[tab] = b.ring.SealToken(&s, now)
	carried := b.ring.OpenCookies(b.cookies(), b.c, true, now)
	if carried.User == nil || carried.User.UserID == s.UserID {
		set := Resume(b.c, s, b.consent, carried).Cookies(b.ring, true, b.now)
		if carried.User == nil && len(set) > 0 && b.consent.Analytics {
			b.seen["yes by API"]++
		}
		b.keep(set)
	}
	if twice {
		again, err := b.ring.OpenToken(b.tabs[tab])
		if err != nil || again.ID != s.ID || !reflect.DeepEqual(again.Attribution, s.Attribution) {
			b.t.Fatalf("seed %d: a retry got %+v, %v after %+v", b.seed, again, err, s)
		}
	}
}

// find looks for a lost first touch in the store.
func (b *modelBrowser) find(s *Session) {
	if s.Attribution.Source != AttributionLost || !b.storeUp {
		return
	}
	for _, id := range []string{s.ID, s.OriginalID} {
		if state, ok := b.store[id]; ok && state.Attribution.Source != AttributionLost {
			s.Attribution = s.Attribution.Recovered(state.Attribution)
			b.seen["found again"]++
			return
		}
	}
}

// check holds a session and its row against what the line began with.
func (b *modelBrowser) check(s *Session) {
	b.t.Helper()
	want, known := b.lines[s.OriginalID]
	if !known {
		b.t.Fatalf("seed %d: session %s is of no line that began", b.seed, s.ID)
	}
	a := &s.Attribution
	switch {
	case a.Source == AttributionServer && reflect.DeepEqual(a.Original, want):
	case a.Source == AttributionLost && b.taken[s.UserID] && reflect.DeepEqual(a.Original, Touch{Time: want.Time}):
		b.seen["lost"]++
		want = Touch{}
	default:
		b.t.Fatalf("seed %d: first touch %+v of source %q, it was %+v; attribution cookie taken: %v", b.seed, a.Original, a.Source, want, b.taken[s.UserID])
	}
	row := columns(b.t, AppendSessionRow(nil, b.c, s, humanFacts()))
	for column, v := range map[string]string{
		"original_utm_source": want.UTM.Source, "original_utm_medium": want.UTM.Medium, "original_utm_campaign": want.UTM.Campaign,
		"original_utm_term": want.UTM.Term, "original_utm_content": want.UTM.Content, "original_ref": want.Ref,
		"original_source": want.Source, "original_referrer": want.Referrer, "original_landing_page": want.LandingPage,
		"attribution_source": string(a.Source),
	} {
		if got, _ := row[column].(string); got != v {
			b.t.Fatalf("seed %d: row says %s %q, want %q", b.seed, column, got, v)
		}
	}
}
