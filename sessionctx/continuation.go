package sessionctx

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

// PageID stands for the address of a page: a hash of its origin, path and
// query. The store holds no URL.
type PageID [16]byte

// pageID takes what comes after the origin.
func pageID(origin, rest string) PageID {
	rest, _, _ = strings.Cut(rest, "#")
	rest = strings.TrimSuffix(rest, "?")
	var buf [512]byte
	b := append(buf[:0], origin...)
	b = append(b, 0)
	b = append(b, rest...)
	sum := sha256.Sum256(b)
	return PageID(sum[:len(PageID{})])
}

// Referring is the page of this site that a Referer names. False: it names
// none, or one of another site.
func Referring(f *Facts, referer string) (PageID, bool) {
	origin := f.Origin()
	rest, ok := strings.CutPrefix(referer, origin)
	if !ok || !strings.HasPrefix(rest, "/") {
		return PageID{}, false
	}
	return pageID(origin, rest), true
}

// Arrival is what a page's request tells about where it comes from.
type Arrival struct {
	// Page is the page that is asked for.
	Page PageID

	from           PageID
	within, reload bool
	clickIDs       []ClickID
}

// NewArrival reads a request for the page at target (path and query, as the
// browser asked for them). referer and cacheControl are its headers.
func NewArrival(f *Facts, target, referer, cacheControl string) Arrival {
	a := Arrival{Page: pageID(f.Origin(), target), clickIDs: f.Touch.ClickIDs}
	// A page that is prerendered is asked for by the browser, not by a page of
	// the site; older browsers tell nothing.
	if site := f.Fetch.Site; site == "same-origin" || site == "" || f.Purpose == PurposePrerender {
		a.from, a.within = Referring(f, referer)
	}
	a.reload = cacheControl == "max-age=0"
	return a
}

// MayContinue reports whether the page may go on with any session at all, so
// that it is worth a look into the store.
func (a *Arrival) MayContinue(carried *Carried) bool {
	return (a.within || a.reload || len(a.clickIDs) > 0) && !carried.identifies()
}

// follows reports whether the request comes from what was shown last, or asks
// for it again.
func (a *Arrival) follows(s *Shown) bool {
	if a.within && a.from == s.Page {
		return true
	}
	if a.Page != s.Page {
		return false
	}
	return a.reload || slices.ContainsFunc(a.clickIDs, func(c ClickID) bool {
		t := &s.Session.Attribution
		return slices.Contains(t.Original.ClickIDs, c) || slices.Contains(t.Current.ClickIDs, c)
	})
}

// Shown is a session of a visitor without cookies, and the page that it was
// given to last.
type Shown struct {
	Page    PageID
	Session Session
}

// CountsFor is how long after now (Unix ms) a session counts as one of its
// visitor key, after a page was shown with it: twice as long as sessions last,
// however much of this one is over. Its visitor may sit before the page, and
// must not look like the one whose session is the only one then.
func CountsFor(c *Campaign, s *Session, now int64) time.Duration {
	left := time.Duration(s.ExpiresAt-now) * time.Millisecond
	return max(left, c.SessionDuration) + c.SessionDuration
}

// Continuation is what became of the question which session a page goes on
// with.
type Continuation string

const (
	// Continued: with the one that the visitor key has.
	Continued Continuation = "continued"
	// ContinuedNone: the visitor key has no session.
	ContinuedNone Continuation = "none"
	// ContinuedSeveral: it has more than one, which may be several visitors'.
	ContinuedSeveral Continuation = "several"
	// ContinuedMismatch: the only one showed another page last.
	ContinuedMismatch Continuation = "mismatch"
	// ContinuedEnded: the only one has ended.
	ContinuedEnded Continuation = "ended"
)

// Continue decides whether the page goes on with the only session that the
// visitor key has. A session that ended a short time ago still counts as one:
// its visitor may sit before the page, and must not get another's.
func Continue(c *Campaign, a *Arrival, s *Shown, now int64) Continuation {
	switch {
	case s.Session.Campaign != c.CampaignRef || !a.follows(s):
		return ContinuedMismatch
	case s.Session.Expired(now):
		return ContinuedEnded
	}
	return Continued
}

// SealShown gives what the store keeps under the visitor key. It is bound to
// the key, so that it can't be moved to another's.
func (r *Ring) SealShown(k *VisitorKey, s *Shown, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.b = append(w.b, k[16:]...)
	w.b = append(w.b, s.Page[:]...)
	w.session(&s.Session, true)
	return w.stored(r, sealShown, now)
}

// OpenShown is SealShown's inverse. ErrInvalidSession if it isn't ours, or is
// of another visitor key than these.
func (r *Ring) OpenShown(sealed []byte, keys ...VisitorKey) (*Shown, error) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.openStored(r, sealShown, sealed)
	const head = 16 + len(PageID{})
	if err != nil || len(plain) < head {
		return nil, ErrInvalidSession
	}
	if !slices.ContainsFunc(keys, func(k VisitorKey) bool { return bytes.Equal(k[16:], plain[:16]) }) {
		return nil, ErrInvalidSession
	}
	s, err := decodeSession(plain[head:])
	if err != nil {
		return nil, ErrInvalidSession
	}
	return &Shown{PageID(plain[16:head]), *s}, nil
}
