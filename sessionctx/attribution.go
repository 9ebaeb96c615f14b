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
)

// Attribution is the first touch, frozen at the first visit even when it is
// empty, and the current touch beside it.
type Attribution struct {
	Original Touch
	Current  Touch
	Source   AttributionSource
}

// FirstTouch starts the attribution of a visitor who was not known before.
func FirstTouch(t Touch) Attribution {
	return Attribution{Original: t, Current: t, Source: AttributionServer}
}

// Return returns the attribution of a new session by a known visitor: what
// led to this one is the current touch, even when it is nothing.
func (a Attribution) Return(t Touch) Attribution {
	a.Current = t
	return a
}

// Then returns the attribution after a later touch within a line of sessions.
// The original never changes; the current one does when the new touch names a
// campaign at all (a click from one page of the site to the next doesn't).
func (a Attribution) Then(t Touch) Attribution {
	if !t.Empty() && !t.SameSource(&a.Current) {
		a.Current = t
	}
	return a
}

// shorten leaves out what matters least of an attribution that is too long to
// carry: the frozen touch matters more than the latest, campaign parameters
// more than click ids. It reports whether there was anything to leave out.
func (a *Attribution) shorten() bool {
	same := a.Current.Time == a.Original.Time && a.Current.SameSource(&a.Original)
	switch {
	case !same && len(a.Current.ClickIDs) > 0:
		a.Current.ClickIDs = nil
	case !same:
		a.Current = a.Original
	case len(a.Original.ClickIDs) > 0:
		a.Original.ClickIDs = a.Original.ClickIDs[:len(a.Original.ClickIDs)-1]
		a.Current = a.Original
	default:
		return false
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
