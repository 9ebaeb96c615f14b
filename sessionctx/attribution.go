package sessionctx

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Caps on what a client may say about where it comes from, in bytes. They
// keep cookies, rows and pages small.
const (
	MaxParam    = 128 // of each UTM parameter, ref, source
	MaxClickID  = 256 // of a click id's value
	MaxClickIDs = 3   // this many click ids of one touch
	MaxURL      = 256 // of a referrer (origin and path), landing page (path and campaign parameters)
)

// UTM holds the five campaign parameters of a URL.
type UTM struct {
	Source, Medium, Campaign, Term, Content string
}

// ClickID is an advertising network's id of a click: its parameter's name
// (gclid, fbclid, …) and value.
type ClickID struct {
	Name, Value string
}

// Touch is one arrival at a campaign: what the URL and the referrer said.
type Touch struct {
	// Time is when it was, in Unix ms by the server's clock.
	Time int64
	UTM  UTM
	// Ref and Source are the parameters ?ref= and ?source=.
	Ref, Source string
	// Referrer is origin and path of the page that led here, if that was
	// another site's.
	Referrer string
	// LandingPage is the path with its campaign parameters.
	LandingPage string
	// ClickIDs are in the order of the URL.
	ClickIDs []ClickID
}

// Clean returns t with every value cut to its cap and freed of control
// characters, so that nothing a client wrote can outgrow a cookie or break a
// log line.
func (t Touch) Clean() Touch {
	for _, p := range []*string{
		&t.UTM.Source, &t.UTM.Medium, &t.UTM.Campaign, &t.UTM.Term, &t.UTM.Content,
		&t.Ref, &t.Source,
	} {
		*p = CleanText(*p, MaxParam)
	}
	t.Referrer = CleanText(t.Referrer, MaxURL)
	t.LandingPage = CleanText(t.LandingPage, MaxURL)
	if len(t.ClickIDs) > MaxClickIDs {
		t.ClickIDs = t.ClickIDs[:MaxClickIDs]
	}
	for i, c := range t.ClickIDs {
		if v := CleanText(c.Value, MaxClickID); v != c.Value {
			t.ClickIDs = slices.Clone(t.ClickIDs)
			t.ClickIDs[i].Value = v
		}
	}
	return t
}

// Empty reports whether the touch says nothing about a campaign: an organic
// or direct visit.
func (t *Touch) Empty() bool {
	return t.UTM == UTM{} && t.Ref == "" && t.Source == "" && t.Referrer == "" && len(t.ClickIDs) == 0
}

// SameSource reports whether two touches name the same campaign, whenever and
// wherever they landed.
func (t *Touch) SameSource(u *Touch) bool {
	return t.UTM == u.UTM && t.Ref == u.Ref && t.Source == u.Source &&
		t.Referrer == u.Referrer && slices.Equal(t.ClickIDs, u.ClickIDs)
}

// repeats reports whether t says nothing that u doesn't. That is so for a click
// inside the site, for links that carry the landing page's parameters along or
// part of them, and for the same link opened again without its referrer.
func (t *Touch) repeats(u *Touch) bool {
	for _, v := range [...][2]string{
		{t.UTM.Source, u.UTM.Source}, {t.UTM.Medium, u.UTM.Medium}, {t.UTM.Campaign, u.UTM.Campaign},
		{t.UTM.Term, u.UTM.Term}, {t.UTM.Content, u.UTM.Content},
		{t.Ref, u.Ref}, {t.Source, u.Source}, {t.Referrer, u.Referrer},
	} {
		if v[0] != "" && v[0] != v[1] {
			return false
		}
	}
	for _, c := range t.ClickIDs {
		if !slices.Contains(u.ClickIDs, c) {
			return false
		}
	}
	return true
}

// ClickID returns the touch's click id of that name, or "".
func (t *Touch) ClickID(name string) string {
	for _, c := range t.ClickIDs {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// AttributionSource says whose word the first touch is.
type AttributionSource string

const (
	// AttributionServer is what the server itself saw at the first visit.
	AttributionServer AttributionSource = "server"
	// AttributionClient is what the client had preserved, taken because the
	// server's entry was lost.
	AttributionClient AttributionSource = "client"
	// AttributionLost is a first touch that nobody knows any more: the cookie
	// or the state that held it is gone. It is empty but for its time, and
	// stays so: a later ad is never taken for the first touch.
	AttributionLost AttributionSource = "lost"
)

// Attribution is the first touch, frozen at the first visit even when it is
// empty, and the current touch beside it.
type Attribution struct {
	Original Touch
	Current  Touch
	Source   AttributionSource
}

// maxAttribution bounds both touches together, in bytes as they are sealed.
// The longest first touch fits; a cookie with it stays below 3,800 bytes.
const maxAttribution = 2560

// FirstTouch starts the attribution of a visitor who was not known before.
func FirstTouch(t Touch) Attribution {
	return Attribution{Original: t, Current: t, Source: AttributionServer}
}

// LostTouch is the attribution of a visitor whose first touch was at that time
// (Unix ms) and is no longer known. t led to this visit.
func LostTouch(at int64, t Touch) Attribution {
	return Attribution{Original: Touch{Time: at}, Source: AttributionLost}.Return(t)
}

// Return returns the attribution of a new session by a known visitor: what
// led to this one is the current touch, even when it is nothing.
func (a Attribution) Return(t Touch) Attribution {
	a.Current = t
	// What is frozen matters more than what is current.
	for a.Original.size()+a.Current.size() > maxAttribution && a.Current.shed() {
	}
	return a
}

// Then returns the attribution after a later touch within a line of sessions.
// The original never changes; the current one does when the new touch says
// anything of a campaign that the current doesn't. A click inside the site
// doesn't, nor a visit by typing the address.
func (a Attribution) Then(t Touch) Attribution {
	if t.Empty() {
		return a
	}
	next := a.Return(t)
	if next.Current.repeats(&a.Current) {
		return a
	}
	return next
}

// Recovered returns a lost attribution with the first touch that is known
// elsewhere. When that was is what the server knows.
func (a Attribution) Recovered(known Attribution) Attribution {
	if known.Current.Time == known.Original.Time {
		known.Current.Time = a.Original.Time // it still is the first
	}
	known.Original.Time = a.Original.Time
	return known.Then(a.Current)
}

// over reports whether the first touch is older than the window.
func (a *Attribution) over(c *Campaign, now int64) bool {
	return now-a.Original.Time > c.AttributionWindow.Milliseconds()
}

// supersedes reports whether a is to replace what the browser's attribution
// cookie holds of the same first touch. A tab with an older token doesn't bring
// an older current touch back.
func (a *Attribution) supersedes(had *Attribution) bool {
	if had.Source != a.Source {
		return had.Source == AttributionLost
	}
	return a.Current.Time > had.Current.Time
}

// size is at least the touch's length when it is sealed, in bytes.
func (t *Touch) size() int {
	n := 32 + len(t.UTM.Source) + len(t.UTM.Medium) + len(t.UTM.Campaign) + len(t.UTM.Term) + len(t.UTM.Content) +
		len(t.Ref) + len(t.Source) + len(t.Referrer) + len(t.LandingPage)
	for _, c := range t.ClickIDs {
		n += 4 + len(c.Name) + len(c.Value)
	}
	return n
}

// shed leaves out the touch's least important value, and reports whether there
// was one: campaign parameters matter more than click ids, which are longer.
func (t *Touch) shed() bool {
	if n := len(t.ClickIDs); n > 0 {
		if t.ClickIDs = t.ClickIDs[:n-1]; n == 1 {
			t.ClickIDs = nil // as it is when it was carried
		}
		return true
	}
	for _, p := range [...]*string{
		&t.Referrer, &t.LandingPage, &t.Source, &t.Ref,
		&t.UTM.Content, &t.UTM.Term, &t.UTM.Medium, &t.UTM.Campaign, &t.UTM.Source,
	} {
		if *p != "" {
			*p = ""
			return true
		}
	}
	return false
}

// shed leaves out what matters least of both touches, where a cookie has no
// room for them, and reports whether there was anything: the frozen touch
// matters more than the current one, campaign parameters more than click ids.
func (a *Attribution) shed() bool {
	same := a.Current.Time == a.Original.Time && a.Current.LandingPage == a.Original.LandingPage && a.Current.SameSource(&a.Original)
	if !same && a.Current.shed() {
		return true
	}
	n := len(a.Original.ClickIDs)
	if n == 0 {
		return false
	}
	a.Original.ClickIDs = a.Original.ClickIDs[: n-1 : n-1]
	if same {
		a.Current = a.Original
	}
	return true
}

// CleanText returns s as valid UTF-8 without control characters, at most max
// bytes long, cut between characters.
func CleanText(s string, max int) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		if len(s) > max {
			s = s[:max]
		}
		return s
	}
	var b strings.Builder
	for _, r := range s {
		// Line and paragraph separators break log lines and scripts like
		// control characters do; noncharacters and lone surrogates decode
		// to RuneError and are dropped with it.
		if r == utf8.RuneError || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > max {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
