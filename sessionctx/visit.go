package sessionctx

import (
	"io"
	"time"
)

// Visit is the decision about one page view or API call by one visitor: who,
// which session, with what consent.
type Visit struct {
	Campaign *Campaign
	Session  Session
	Consent  Consent
	// New is whether the session began with this request, Renewed whether
	// it succeeds an expired one.
	New, Renewed bool
	// CookiesAllowed is whether cookies may be set on this visitor.
	CookiesAllowed bool

	carried Carried
	// keepCookies leaves cookies in place that may not be set now, but
	// were not refused either.
	keepCookies bool
	held        []Assignment
	// changed is whether a session that a page goes on with is not as the
	// store has it any more.
	changed bool
	// bucket is what A/B tests go by instead of the user.
	bucket string
}

// Input is what a page view is decided from.
type Input struct {
	Ring     *Ring
	Campaign *Campaign
	Facts    *Facts
	Carried  Carried
	Consent  Consent
	// Now is the server's clock.
	Now time.Time
	// Random is the source for new ids.
	Random io.Reader
	// NoCookies forbids cookies for another reason than consent: the page
	// that asks is not of this origin.
	NoCookies bool
	// Visitor is the visitor's key of today; nil where KeysVisitor says no, or
	// there is none.
	Visitor *VisitorKey
	// Continued is the session that the page goes on with by that key; see
	// Ring.Continue.
	Continued *Session
}

// Identify decides who the visitor of a page is: the same session while its
// cookie holds, its successor if it just ended; without cookies the session
// that the page goes on with; else a new session of the same or of a new user. A
// page that is fetched ahead belongs to whom it would if it were asked for now,
// and changes no cookie: it may never be looked at. Segment and variants of a new
// session are still open; see Assign. The only errors are the random source's.
func Identify(in Input) (*Visit, error) {
	now := in.Now.UnixMilli()
	c := in.Campaign
	v := &Visit{Campaign: c, Consent: in.Consent, carried: in.Carried}
	speculative := in.Facts.Purpose.Speculative()
	cookies := c.Cookies && in.Consent.Analytics && !in.NoCookies
	v.CookiesAllowed = cookies && !speculative
	// A prefetch is no visit, and what is not this origin's has no say:
	// neither tells anything about consent.
	v.keepCookies = speculative || in.NoCookies
	touch := in.Facts.Touch
	touch.Time = now

	if cookies {
		if s := in.Carried.Session; s != nil {
			v.Session = *s
			c.forget(&v.Session)
			v.unframe(in.Facts)
			v.Session.ConsentRequired = in.Consent.Required
			if in.Carried.Attribution == nil {
				// The attribution cookie is gone, the session cookie
				// isn't: nothing that comes now was the first touch.
				v.Session.Attribution = s.Attribution.Return(touch)
			}
			if !s.Expired(now) {
				v.Session.Attribution = v.Session.Attribution.Then(touch)
				return v, nil
			}
			if next, err := v.Session.RenewDerived(in.Ring, c, now); err == nil && !next.Expired(now) {
				next.Attribution = next.Attribution.Then(touch)
				v.Session, v.Renewed = next, true
				return v, nil
			}
			v.Session = Session{}
		}
	}

	if in.Continued != nil && !in.Carried.identifies() {
		// Consent is never taken over: it is the browser's own.
		had := in.Continued
		v.Session = *had
		c.forget(&v.Session)
		v.Session.ConsentRequired = in.Consent.Required
		v.Session.Attribution = had.Attribution.Then(touch)
		v.changed = v.Session.ConsentRequired != had.ConsentRequired ||
			v.Session.Attribution.Current.Time != had.Attribution.Current.Time
		v.unframe(in.Facts)
		return v, nil
	}
	if in.Visitor != nil && !speculative {
		v.bucket = in.Visitor.Day()
	}

	s := Session{Campaign: c.CampaignRef, CreatedAt: now, ExpiresAt: now + c.SessionDuration.Milliseconds(), OriginalAt: now, ConsentRequired: in.Consent.Required, Framed: in.Facts.Framed()}
	s.Attribution = FirstTouch(touch)
	if cookies && in.Carried.User != nil {
		s.UserID = in.Carried.User.UserID
		s.Returning = true
		s.UserSince = in.Carried.User.FirstAt
		v.held = in.Carried.User.Assignments
		if a := in.Carried.Attribution; a != nil && in.Facts.FromWithin {
			s.Attribution = a.Then(touch)
		} else if a != nil {
			s.Attribution = a.Return(touch)
		}
	} else {
		id, err := in.Ring.NewUserID(in.Random, now, c.WorkspaceID)
		if err != nil {
			return nil, err
		}
		s.UserID = id
	}
	id, err := in.Ring.NewSessionID(in.Random, now, c.CampaignRef, s.UserID)
	if err != nil {
		return nil, err
	}
	s.ID, s.OriginalID = id, id
	v.Session, v.New = s, true
	return v, nil
}

// unframe makes a visit of what began in another site's frame, at the first page
// that the visitor went on to.
func (v *Visit) unframe(f *Facts) {
	if v.Session.Framed && f.Purpose == PurposeNavigate {
		v.Session.Framed = false
		v.changed = true
	}
}

// Assign gives a new session its segment (empty: none matched), its variants
// and its landing page. Sessions that go on keep what they have, as far as the
// campaign still knows it.
func (v *Visit) Assign(segment string, now time.Time) {
	if !v.New {
		return
	}
	s := &v.Session
	s.SegmentID = segment
	s.Assignments = v.Campaign.assign(v.Bucket(), segment, v.held, now)
	s.LandingPageID = v.Campaign.landingPage(segment, s.Assignments)
}

// Bucket is what the visitor's A/B tests go by: the user, or the visitor key's
// day value before consent.
func (v *Visit) Bucket() string {
	if v.bucket != "" {
		return v.bucket
	}
	return v.Session.UserID
}

// NeedsState reports whether the session's state has to be kept for calls
// that prove themselves by ids alone: no cookie carries it, or none has come
// back yet, so that nobody knows whether this browser keeps any.
func (v *Visit) NeedsState() bool {
	if !v.CookiesAllowed {
		return v.New || v.Renewed || v.changed
	}
	return v.New && v.carried.User == nil || v.changed
}

// Resume is the visit of an API call that has proved its session: the same
// rules say which cookies its answer sets.
func Resume(c *Campaign, s Session, consent Consent, carried Carried) *Visit {
	v := &Visit{Campaign: c, Session: s, Consent: consent, carried: carried}
	v.CookiesAllowed = c.Cookies && consent.Analytics
	return v
}
