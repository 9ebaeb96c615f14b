package sessionctx

import (
	"slices"
	"time"
)

// Cookie is a cookie that a request carried or an answer sets.
type Cookie struct {
	Name, Value string
	// MaxAge is the lifetime; 0 removes the cookie.
	MaxAge time.Duration
}

// hostPrefix makes a browser refuse a cookie that a sibling domain or a plain
// HTTP page tries to set (RFC 6265bis §4.1.3.2). Over plain HTTP, in
// development, it can't be used.
const hostPrefix = "__Host-"

// previewSuffix tells the cookies of a campaign in preview from those of the
// same in production.
const previewSuffix = ".preview"

// CookieNames are the names of a campaign's cookies on one kind of origin.
type CookieNames struct {
	User, Session, Attribution, Choice string
}

// CookieNames returns the names as they are over HTTPS (secure), or without
// prefix over plain HTTP.
func (c *Campaign) CookieNames(secure bool) CookieNames {
	prefix := ""
	if secure {
		prefix = hostPrefix
	}
	campaign := c.ID
	if c.Environment == Preview {
		campaign += previewSuffix
	}
	return CookieNames{
		User:        prefix + "fb_user_" + c.WorkspaceID,
		Session:     prefix + "fb_session_" + campaign,
		Attribution: prefix + "fb_attribution_" + campaign,
		Choice:      prefix + "fb_choice_" + c.WorkspaceID,
	}
}

// ReferenceCookies are the names of the cookies that the reference client
// sets for the campaign.
func (c *Campaign) ReferenceCookies() []string {
	return []string{"frbzz_uid", "frbzz_uid_" + c.ID, "frbzz_session_" + c.ID, "frbzz_attr_" + c.ID}
}

// UserCookie is what the user cookie holds: an id and the variants that
// stay with it.
type UserCookie struct {
	UserID string
	// FirstAt is when the user was made, RefreshedAt when the cookie was
	// last set, both Unix ms.
	FirstAt, RefreshedAt int64
	Assignments          []Assignment
}

// Carried is what the browser brought, as far as it verifies. nil fields were
// absent, foreign, forged or damaged: all the same.
type Carried struct {
	User        *UserCookie
	Session     *Session
	Attribution *Attribution
	// attributionOf is the user whose attribution it is.
	attributionOf string
	Choice        *Choice
	Reference     *Choice

	all []Cookie // as they came, other campaigns' and the reference client's too
}

// UserID is whose cookies they are, "" if nothing tells.
func (c *Carried) UserID() string {
	switch {
	case c.User != nil:
		return c.User.UserID
	case c.Session != nil:
		return c.Session.UserID
	}
	return ""
}

// OpenCookies reads a request's cookies, as far as IsCookieName, which have to stay as they are. Where
// a name occurs more than once, the first that verifies counts. The session's
// attribution is that of the attribution cookie, if it belongs to the same
// user.
func (r *Ring) OpenCookies(cookies []Cookie, c *Campaign, secure bool, now int64) Carried {
	got := Carried{all: cookies}
	if len(cookies) == 0 {
		return got
	}
	var reference []string
	for _, ck := range cookies {
		if ck.Name == ReferenceConsentCookie {
			reference = append(reference, ck.Value)
			continue
		}
		o, ours := ownerOf(ck.Name, secure)
		if !ours || !c.owns(o) {
			continue
		}
		switch o.kind {
		case sealUser:
			if got.User == nil {
				got.User = r.openUser(ck.Value, c, now)
			}
		case sealSession:
			if got.Session == nil {
				if s, err := r.openSession(sealSession, ck.Value); err == nil && s.Campaign == c.CampaignRef {
					got.Session = s
				}
			}
		case sealAttribution:
			if got.Attribution == nil {
				got.attributionOf, got.Attribution = r.openAttribution(ck.Value, c)
			}
		case sealChoice:
			if got.Choice == nil {
				got.Choice = r.openChoice(ck.Value, c, now)
			}
		}
	}
	got.Reference = ParseReferenceConsent(reference)
	// A session of a user id whose key was revoked is none. Where a user
	// cookie is there, its own id has been verified.
	if got.User == nil && got.Session != nil && !r.VerifyUserID(got.Session.UserID, c.WorkspaceID) {
		got.Session = nil
	}
	// Cookies of different users are a torn set; the user cookie is the one
	// that lasts.
	if got.User != nil {
		if got.Session != nil && got.Session.UserID != got.User.UserID {
			got.Session = nil
		}
		if got.Attribution != nil && got.attributionOf != got.User.UserID {
			got.Attribution = nil
		}
	} else if got.Session != nil && got.Attribution != nil && got.attributionOf != got.Session.UserID {
		got.Attribution = nil
	}
	if a := got.Attribution; a != nil {
		over := a.over(c, now)
		if s := got.Session; s != nil && (s.Attribution.Original.Time != a.Original.Time || over && s.Expired(now)) {
			got.Session = nil // of another line, or at its end
		}
		switch {
		case got.Session != nil:
			// The window ends for the user, but not in mid-session.
			got.Session.Attribution = *a
		case over:
			got.Attribution = nil
		}
	}
	return got
}

func (r *Ring) openUser(v string, c *Campaign, now int64) *UserCookie {
	workspace, u := r.decodeUser(v)
	if u == nil || workspace != c.WorkspaceID || !r.VerifyUserID(u.UserID, workspace) {
		return nil
	}
	// The browser's Max-Age is its own word; a copy of a cookie outlives it.
	lifetime, fixed := c.userCookie()
	since := u.RefreshedAt
	if fixed {
		since = u.FirstAt
	}
	if now-since > (lifetime + refreshAfter(lifetime)).Milliseconds() {
		return nil
	}
	return u
}

// decodeUser opens the user cookie of any workspace.
func (r *Ring) decodeUser(v string) (workspace string, u *UserCookie) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealUser, v)
	if err != nil {
		return "", nil
	}
	var d decoder
	d.read(plain)
	if d.byte() != stateVersion {
		return "", nil
	}
	u = &UserCookie{}
	workspace = d.text()
	u.UserID = d.id()
	u.FirstAt = d.int()
	u.RefreshedAt = d.int()
	u.Assignments = d.assignments()
	if d.err != nil {
		return "", nil
	}
	return workspace, u
}

// userCookie is how long the user cookie lasts, and whether from the first
// visit on.
func (c *Campaign) userCookie() (lifetime time.Duration, fixed bool) {
	if c.Consent != nil && c.Consent.UserCookie > 0 {
		return c.Consent.UserCookie, c.Consent.UserCookieFixed
	}
	return DefaultUserCookie, false
}

func (r *Ring) sealUser(dst []byte, u *UserCookie, c *Campaign, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.byte(stateVersion)
	w.text(c.WorkspaceID)
	w.id(u.UserID)
	w.int(u.FirstAt)
	w.int(u.RefreshedAt)
	w.assignments(u.Assignments)
	return w.seal(dst, r, sealUser, now)
}

func (r *Ring) openAttribution(v string, c *Campaign) (user string, a *Attribution) {
	ref, user, a := r.decodeAttribution(v)
	if a == nil || ref != c.CampaignRef {
		return "", nil
	}
	return user, a
}

// decodeAttribution opens the attribution cookie of any campaign.
func (r *Ring) decodeAttribution(v string) (ref CampaignRef, user string, a *Attribution) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealAttribution, v)
	if err != nil {
		return ref, "", nil
	}
	var d decoder
	d.read(plain)
	if d.byte() != stateVersion {
		return ref, "", nil
	}
	ref.ID = d.text()
	ref.Environment = Environment(d.text())
	user = d.id()
	got := d.attribution()
	if d.err != nil {
		return CampaignRef{}, "", nil
	}
	return ref, user, &got
}

// sealAttribution leaves out what makes the value longer than longest.
func (r *Ring) sealAttribution(dst []byte, s *Session, now int64, longest int) []byte {
	a := s.Attribution
	w := takeBench()
	defer putBench(w)
	for {
		w.b = w.b[:0]
		w.byte(stateVersion)
		w.text(s.Campaign.ID)
		w.text(string(s.Campaign.Environment))
		w.id(s.UserID)
		w.attribution(&a)
		if sealedLen(len(w.b)) <= longest || !a.shed() {
			return w.seal(dst, r, sealAttribution, now)
		}
	}
}

// refreshAfter is how old a user cookie is when it is set again to prolong it:
// a day, or half a lifetime that is shorter than two.
func refreshAfter(lifetime time.Duration) time.Duration { return min(24*time.Hour, lifetime/2) }

// Cookies are those that the answer sets or removes: the allowed ones that are
// missing or whose content changed, and what has to make room for them. Where
// cookies are not allowed, those that the browser brought are removed.
func (v *Visit) Cookies(r *Ring, secure bool, at time.Time) []Cookie {
	if !v.CookiesAllowed {
		return v.removals(r, secure)
	}
	now := at.UnixMilli()
	set := cookieSet{campaign: v.Campaign, secure: secure, carried: v.carried.all}
	if user, age, ok := v.userCookie(now); ok {
		set.add(set.names().User, r.sealUser(set.buf[:0], &user, v.Campaign, now), age, maxUserCookie)
	}
	v.lineCookies(r, &set, now)
	if len(set.out) == 0 {
		return nil
	}
	return v.makeRoom(set.out, r, secure, now)
}

// cookieSet gathers what an answer sets.
type cookieSet struct {
	campaign *Campaign
	secure   bool
	named    CookieNames // once one is set
	carried  []Cookie    // that the browser has
	out      []Cookie
	buf      [1024]byte
}

func (s *cookieSet) names() *CookieNames {
	if s.named.User == "" {
		s.named = s.campaign.CookieNames(s.secure)
	}
	return &s.named
}

func (s *cookieSet) add(name string, value []byte, age time.Duration, longest int) {
	if age > 0 && len(value) <= longest {
		s.out = append(s.out, Cookie{Name: name, Value: string(value), MaxAge: age})
	}
}

// lineCookies sets session and attribution, which are always of one line. A
// tab of a line that the browser's has replaced goes on by its token alone.
func (v *Visit) lineCookies(r *Ring, set *cookieSet, now int64) {
	c, s := v.Campaign, &v.Session
	touches, held := &s.Attribution, v.carried.Attribution
	if v.carried.attributionOf != s.UserID {
		held = nil
	}
	sameLine := held != nil && held.Original.Time == touches.Original.Time
	if held != nil && !sameLine && (held.Original.Time < touches.Original.Time || touches.over(c, now)) {
		return
	}
	had := v.carried.Session
	// Of two lines of one user the one that began later keeps the cookie: else
	// two tabs would take it from each other with every call.
	replaced := had != nil && had.OriginalID != s.OriginalID && had.OriginalAt > s.OriginalAt && !had.Expired(now)
	newSession := !replaced && (had == nil || had.ID != s.ID)
	if newSession || !replaced && had.ExpiresAt != s.ExpiresAt {
		age := time.Duration(s.ExpiresAt-now) * time.Millisecond
		set.add(set.names().Session, r.sealSession(set.buf[:0], sealSession, s, false, maxSessionCookie, now), age, maxSessionCookie)
	}
	// It lasts as long as the window, and at least as long as the session.
	ends := touches.Original.Time + c.AttributionWindow.Milliseconds()
	if !sameLine || touches.supersedes(held) || newSession && ends < s.ExpiresAt {
		age := time.Duration(max(ends, s.ExpiresAt)-now) * time.Millisecond
		longest := set.attributionRoom()
		set.add(set.names().Attribution, r.sealAttribution(set.buf[:0], s, now, longest), age, longest)
	}
}

// userCookie is the user cookie that the answer sets and how long it lives. ok
// is false where the browser's is as it should be.
func (v *Visit) userCookie(now int64) (user UserCookie, lifetime time.Duration, ok bool) {
	c, s := v.Campaign, &v.Session
	lifetime, fixed := c.userCookie()
	user = UserCookie{UserID: s.UserID, FirstAt: s.userSince(), RefreshedAt: now}
	had := v.carried.User
	if had != nil && had.UserID == s.UserID {
		user.FirstAt = had.FirstAt
		user.Assignments = had.Assignments
	} else {
		had = nil
	}
	drawn := false
	if !c.holds(user.Assignments, s.Assignments) {
		user.Assignments = mergeAssignments(user.Assignments, c.sticky(s.Assignments))
		drawn = had != nil && !sameAssignments(had.Assignments, user.Assignments)
	}
	stale := had != nil && !fixed && now-had.RefreshedAt > refreshAfter(lifetime).Milliseconds()
	if had != nil && !stale && !drawn {
		return user, 0, false
	}
	if fixed {
		lifetime -= time.Duration(now-user.FirstAt) * time.Millisecond
	}
	return user, lifetime, true
}

// Bounds on the variants that a user cookie carries, in number and in bytes of
// their ids: tests of several campaigns of a workspace share the cookie, and
// one that is too long would not be set at all.
const (
	maxSticky      = 16
	maxStickyBytes = 1100
)

// mergeAssignments puts newer assignments over older ones; beyond the bounds
// the oldest go first, then the last of the newer.
func mergeAssignments(older, newer []Assignment) []Assignment {
	size := 0
	fits := func(a Assignment, n int) bool {
		size += len(a.TestID) + len(a.VariantID)
		return n < maxSticky && size <= maxStickyBytes
	}
	for i, a := range newer {
		if !fits(a, i) {
			newer, older = newer[:i], nil
			break
		}
	}
	out := make([]Assignment, 0, len(older)+len(newer))
	for _, a := range slices.Backward(older) {
		if slices.ContainsFunc(newer, func(n Assignment) bool { return n.TestID == a.TestID }) {
			continue
		}
		if !fits(a, len(newer)+len(out)) {
			break
		}
		out = append(out, a)
	}
	slices.Reverse(out)
	return append(out, newer...)
}

// sameAssignments reports whether both name the same variants, in any order.
func sameAssignments(a, b []Assignment) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		found := false
		for _, y := range b {
			found = found || x == y
		}
		if !found {
			return false
		}
	}
	return true
}
