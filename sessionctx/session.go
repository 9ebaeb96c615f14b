package sessionctx

import "errors"

// Session is one visit of one user to one campaign, and all that goes with it.
// Times are Unix ms by the server's clock.
type Session struct {
	ID, UserID string
	Campaign   CampaignRef
	CreatedAt  int64
	ExpiresAt  int64

	// RenewalCount is how many sessions of the same line came before; the
	// line began as OriginalID at OriginalAt.
	RenewalCount int
	OriginalID   string
	OriginalAt   int64

	SegmentID     string // empty if none matched
	LandingPageID string // empty if unset
	Assignments   []Assignment
	Attribution   Attribution
	// Returning is whether the user was known before this session.
	Returning bool
	// UserSince is when the user was made, 0 if with this line of sessions.
	UserSince int64
	// ConsentRequired is whether the visitor has to be asked, as the page's
	// request told: a rule may hang on a URL that later calls don't have.
	ConsentRequired bool
	// Framed is whether all of its pages were in a frame of another site, where
	// nobody did anything: no visit yet.
	Framed bool
}

// Expired reports whether the session has ended by now (Unix ms).
func (s *Session) Expired(now int64) bool { return now >= s.ExpiresAt }

// userSince is when the session's user was made, as far as is known.
func (s *Session) userSince() int64 {
	if s.UserSince != 0 {
		return s.UserSince
	}
	return s.OriginalAt
}

// Test returns the session's first assignment: where there are several tests,
// the one that single-valued fields and columns name.
func (s *Session) Test() Assignment {
	if len(s.Assignments) == 0 {
		return Assignment{}
	}
	return s.Assignments[0]
}

// Refusals of a proof or a renewal.
var (
	// ErrInvalidSession is a token or id that this ring did not make.
	ErrInvalidSession = errors.New("session, token or ids do not verify")
	// ErrSessionTooOld is a line of sessions that began before the
	// attribution window.
	ErrSessionTooOld = errors.New("session's line is older than the attribution window")
	// ErrCampaignMismatch is a session of another campaign.
	ErrCampaignMismatch = errors.New("session belongs to another campaign")
	// ErrUserMismatch is a session of another user.
	ErrUserMismatch = errors.New("session belongs to another user")
)

const stateVersion = 1

// session writes the session in its compact form; attribution is left out of
// the session cookie, which has a cookie of its own for it.
func (e *encoder) session(s *Session, withAttribution bool) {
	e.byte(stateVersion)
	var flags uint64
	if s.Campaign.Environment == Preview {
		flags |= 1
	}
	if s.Returning {
		flags |= 2
	}
	if withAttribution {
		flags |= 4
	}
	if s.ConsentRequired {
		flags |= 8
	}
	first := s.OriginalID == s.ID
	if first {
		flags |= 16
	}
	if s.Framed {
		flags |= 32
	}
	if s.UserSince != 0 {
		flags |= 64
	}
	e.bools(flags)
	e.id(s.ID)
	e.id(s.UserID)
	e.text(s.Campaign.ID)
	e.int(s.CreatedAt)
	e.int(s.ExpiresAt - s.CreatedAt)
	if !first {
		e.count(s.RenewalCount)
		e.id(s.OriginalID)
		e.int(s.OriginalAt)
	}
	e.text(s.SegmentID)
	e.text(s.LandingPageID)
	e.assignments(s.Assignments)
	if withAttribution {
		e.attribution(&s.Attribution)
	} else {
		// When the first touch was, for the case that its own cookie is lost.
		e.int(s.Attribution.Original.Time)
	}
	if s.UserSince != 0 {
		e.int(s.UserSince)
	}
}

func decodeSession(b []byte) (*Session, error) {
	var d decoder
	d.read(b)
	s := d.session()
	if d.err != nil {
		return nil, d.err
	}
	return s, nil
}

// session is the encoder's inverse.
func (d *decoder) session() *Session {
	s := &Session{}
	if d.byte() != stateVersion {
		d.fail()
		return s
	}
	flags := d.bools()
	s.Campaign.Environment = Production
	if flags&1 != 0 {
		s.Campaign.Environment = Preview
	}
	s.Returning = flags&2 != 0
	s.ConsentRequired = flags&8 != 0
	s.Framed = flags&32 != 0
	s.ID = d.id()
	s.UserID = d.id()
	s.Campaign.ID = d.text()
	s.CreatedAt = d.int()
	s.ExpiresAt = s.CreatedAt + d.int()
	s.OriginalID, s.OriginalAt = s.ID, s.CreatedAt
	if flags&16 == 0 {
		s.RenewalCount = int(d.bools())
		s.OriginalID = d.id()
		s.OriginalAt = d.int()
	}
	s.SegmentID = d.text()
	s.LandingPageID = d.text()
	s.Assignments = d.assignments()
	if flags&4 != 0 {
		s.Attribution = d.attribution()
	} else {
		s.Attribution = LostTouch(d.int(), Touch{})
	}
	if flags&64 != 0 {
		s.UserSince = d.int()
	}
	return s
}

// SealToken gives the token that proves the session to the API with no
// cookie. It holds the session's whole state.
func (r *Ring) SealToken(s *Session, now int64) string {
	var buf [1024]byte
	return string(r.sealSession(buf[:0], sealToken, s, true, maxSealed, now))
}

// OpenToken is SealToken's inverse; an expired session opens too.
// ErrInvalidSession if the token isn't one of ours.
func (r *Ring) OpenToken(token string) (*Session, error) {
	return r.openSession(sealToken, token)
}

func (r *Ring) openSession(p purpose, sealed string) (*Session, error) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, p, sealed)
	if err != nil {
		return nil, ErrInvalidSession
	}
	s, err := decodeSession(plain)
	if err != nil {
		return nil, ErrInvalidSession
	}
	return s, nil
}

// sealSession appends the sealed session. It leaves out what would make that
// longer than max.
func (r *Ring) sealSession(dst []byte, p purpose, s *Session, withAttribution bool, max int, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.session(s, withAttribution)
	if sealedLen(len(w.b)) > max {
		short := *s
		for sealedLen(len(w.b)) > max && short.shorten() {
			w.b = w.b[:0]
			w.session(&short, withAttribution)
		}
	}
	return w.seal(dst, r, p, now)
}

// shorten leaves out the assignment that is missed least, and reports whether
// there was one.
func (s *Session) shorten() bool {
	n := len(s.Assignments)
	if n < 2 {
		return false // the first is the one that columns name
	}
	s.Assignments = s.Assignments[:n-1]
	return true
}
