package sessionctx

import (
	"errors"
	"time"
)

// A line is a session with all that succeed it. Its time since the original
// session's beginning is cut into slots of one session duration, and a renewal
// makes the session of the slot that it falls into: its id is derived from the
// line and the slot alone. So whoever renews any session of a line within one
// slot finds the same id, whether they can ask each other or not. A renewed
// session lives for a whole duration, which ends in the next slot; a renewal
// after that is a later slot's, so no id comes twice.

// Renew gives the successor of an expired session, beginning now: the same
// user, segment, variants and first touch. It is a pure function of its
// arguments; that a line is renewed once is for Settle to see to.
func (s *Session) Renew(r *Ring, c *Campaign, now int64) (Session, error) {
	next, err := s.RenewDerived(r, c, now)
	if err != nil {
		return Session{}, err
	}
	next.CreatedAt = now
	next.ExpiresAt = now + c.SessionDuration.Milliseconds()
	return next, nil
}

// RenewDerived is Renew for who can't ask whether another tab or node has
// renewed already: a page, or a node whose store is down. Its times are the
// slot's, so that all who ask within it get the very same session, which may
// not have long to live.
func (s *Session) RenewDerived(r *Ring, c *Campaign, now int64) (Session, error) {
	if now-s.OriginalAt > c.AttributionWindow.Milliseconds() {
		return Session{}, ErrSessionTooOld
	}
	d := c.SessionDuration.Milliseconds()
	next := *s
	next.CreatedAt = slotAt(s.OriginalAt, d, now)
	next.ExpiresAt = next.CreatedAt + d
	next.ID = r.DeriveSessionID(s.OriginalID, next.CreatedAt, d, s.Campaign, s.UserID)
	next.RenewalCount++
	return next, nil
}

// slotAt is the beginning of the slot that now is in: the line's own plus as
// many whole durations d as fit.
func slotAt(original, d, now int64) int64 {
	if now <= original {
		return original
	}
	return original + (now-original)/d*d
}

// derived reports whether the session was made by RenewDerived.
func (s *Session) derived() bool {
	u, ok := parseID(s.ID)
	return ok && s.RenewalCount > 0 && s.CreatedAt == u.ms()
}

// Renewals is where the renewals of lines are settled between all tabs and
// nodes.
type Renewals interface {
	// Claim puts s under the key for ttl unless a session stands there. It
	// returns the one that stands, and whether that is s, put there now.
	Claim(key string, s *Session, ttl time.Duration) (standing *Session, won bool, err error)
	// Note puts s under the key in place of what stands there. It may take
	// effect late, or never.
	Note(key string, s *Session, ttl time.Duration)
}

var errForeignRenewal = errors.New("the renewal that stands is none of this line's")

// Settle gives the one living session of the line that s belongs to: that
// which stands in renewals, else s itself if it lives, else its successor. won
// is whether this call put it there. Errors other than ErrSessionTooOld are
// those of renewals: RenewDerived is left then.
//
// The walk begins at the line's first session, whichever of the line's
// sessions s is, so that all claim the same keys: under the first one's id
// stands the newest that is known, under the id of each later one its
// successor. What s knows is used where renewals has lost it.
func (s *Session) Settle(r *Ring, c *Campaign, renewals Renewals, now int64) (settled Session, won bool, err error) {
	newest := *s
	// As long as any session of the line could be renewed, it has to be
	// renewed to the same one.
	ttl := max(c.AttributionWindow-time.Duration(now-s.OriginalAt)*time.Millisecond, 0) + c.SessionDuration
	for key := s.OriginalID; ; {
		next := newest
		if newest.Expired(now) {
			if next, err = newest.Renew(r, c, now); err != nil {
				return Session{}, false, err
			}
		} else if newest.derived() {
			// Now that it is heard of it gets the whole duration.
			next.ExpiresAt = max(next.ExpiresAt, now+c.SessionDuration.Milliseconds())
		}
		standing, won, err := renewals.Claim(key, &next, ttl)
		if err != nil {
			return Session{}, false, err
		}
		if won {
			if key != s.OriginalID {
				renewals.Note(s.OriginalID, &next, ttl)
			}
			return next, true, nil
		}
		if standing.UserID != s.UserID || standing.Campaign != s.Campaign || standing.ID == key {
			return Session{}, false, errForeignRenewal
		}
		if !standing.Expired(now) {
			return *standing, false, nil
		}
		if standing.ID == newest.ID && !newest.Expired(now) {
			return newest, false, nil
		}
		if newest.Expired(now) && standing.RenewalCount >= newest.RenewalCount {
			newest = *standing
		}
		key = standing.ID
	}
}
