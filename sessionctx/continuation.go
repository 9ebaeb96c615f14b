package sessionctx

import (
	"crypto/hmac"
	"crypto/sha256"
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
	// A page that is fetched ahead is asked for by the browser, not by a page
	// of the site; older browsers tell nothing.
	if site := f.Fetch.Site; site == "same-origin" || site == "" || f.Purpose.Speculative() {
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

// Follows reports whether the request comes from what was shown last, or asks
// for it again: a reload, or the same click on an ad.
func (a *Arrival) Follows(s *Shown) bool {
	if a.within && a.from == s.Page {
		return true
	}
	return a.Page == s.Page && (a.reload || len(a.clickIDs) > 0)
}

// MayOnlyReload reports whether the page can go on with nothing but a session
// that was given to it before.
func (a *Arrival) MayOnlyReload() bool { return !a.within && !a.reload }

// Shown is what the store keeps under the visitor key of a visitor without
// cookies: a session, the one that its line began with, and the page that it
// was given to last.
type Shown struct {
	Page                  PageID
	SessionID, OriginalID string
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
	// ContinuedEnded: the only one has ended, by time or with a revoked key.
	ContinuedEnded Continuation = "ended"
)

// Continue decides whether a page that follows what was shown goes on with its
// session; nil is one that has gone from the store. A session that ended a
// short time ago still counts as one of the visitor key: its visitor may sit
// before the page, and must not get another's. Where the user's key was revoked
// it has ended too.
func (r *Ring) Continue(c *Campaign, s *Session, now int64) Continuation {
	switch {
	case s == nil:
		return ContinuedEnded
	case s.Campaign != c.CampaignRef:
		return ContinuedMismatch
	case s.Expired(now), !r.VerifyUserID(s.UserID, c.WorkspaceID):
		return ContinuedEnded
	}
	return Continued
}

// A Shown in the store is the id of a key of the ring, the page, both sessions'
// ids and a MAC over these and the visitor key's index: it can't be made up, nor
// moved to another visitor. Nothing in it is secret.
const (
	shownMACLen = 16
	shownLen    = keyIDTextLen + len(PageID{}) + 2*idLen + shownMACLen
	macShown    = "shown"
)

func (k *key) shownMAC(v *VisitorKey, body []byte) [shownMACLen]byte {
	var head [16 + len(PageID{}) + 2*idLen]byte
	copy(head[:], v[16:])
	copy(head[16:], body)
	sum := k.ids.sum(head[:], macShown)
	return [shownMACLen]byte(sum[:])
}

// SealShown gives what the store keeps under the visitor key.
func (r *Ring) SealShown(v *VisitorKey, s *Shown, now int64) []byte {
	k := r.keyAt(now)
	e := encoder{make([]byte, 0, shownLen)}
	e.b = append(e.b, k.secret.ID...)
	e.b = append(e.b, s.Page[:]...)
	e.id(s.SessionID)
	e.id(s.OriginalID)
	b := e.b
	mac := k.shownMAC(v, b[keyIDTextLen:])
	return append(b, mac[:]...)
}

// OpenShown is SealShown's inverse. ErrInvalidSession if it isn't ours, or is
// of another visitor key than these.
func (r *Ring) OpenShown(sealed []byte, keys ...VisitorKey) (*Shown, error) {
	if len(sealed) != shownLen {
		return nil, ErrInvalidSession
	}
	k := r.keyByID(string(sealed[:keyIDTextLen]))
	if k == nil {
		return nil, ErrInvalidSession
	}
	body, mac := sealed[keyIDTextLen:shownLen-shownMACLen], sealed[shownLen-shownMACLen:]
	for i := range keys {
		if want := k.shownMAC(&keys[i], body); hmac.Equal(mac, want[:]) {
			ids := body[len(PageID{}):]
			return &Shown{PageID(body), id(ids).String(), id(ids[idLen:]).String()}, nil
		}
	}
	return nil, ErrInvalidSession
}
