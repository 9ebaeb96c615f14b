package sessionctx

import (
	"slices"
	"strings"
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
		campaign += ".preview"
	}
	return CookieNames{
		User:        prefix + "fb_user_" + c.WorkspaceID,
		Session:     prefix + "fb_session_" + campaign,
		Attribution: prefix + "fb_attribution_" + campaign,
		Choice:      prefix + "fb_choice_" + c.WorkspaceID,
	}
}

// ReferenceCookies are the names of the cookies that the reference client
// sets for the campaign; they go when consent is withdrawn.
func (c *Campaign) ReferenceCookies() []string {
	return []string{"frbzz_uid", "frbzz_uid_" + c.ID, "frbzz_session_" + c.ID, "frbzz_attr_" + c.ID}
}

// maxCookie is the longest value that is set, in bytes: browsers refuse
// cookies beyond 4,096 with name and attributes.
const maxCookie = 3800

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
	// Names of all cookies that would have to go on withdrawal and are there.
	Present []string
}

// OpenCookies reads a request's cookies. Where a name occurs more than once,
// the first that verifies counts. The session's attribution is that of the
// attribution cookie, if it belongs to the same user.
func (r *Ring) OpenCookies(cookies []Cookie, c *Campaign, secure bool, now int64) Carried {
	var got Carried
	if len(cookies) == 0 {
		return got
	}
	names := c.CookieNames(secure)
	var reference []string
	present := func(name string) {
		if !slices.Contains(got.Present, name) {
			got.Present = append(got.Present, name)
		}
	}
	for _, ck := range cookies {
		switch ck.Name {
		case names.User:
			present(ck.Name)
			if got.User == nil {
				got.User = r.openUser(ck.Value, c, now)
			}
		case names.Session:
			present(ck.Name)
			if got.Session == nil {
				if s, err := r.openSession(sealSession, ck.Value); err == nil && s.Campaign == c.CampaignRef {
					got.Session = s
				}
			}
		case names.Attribution:
			present(ck.Name)
			if got.Attribution == nil {
				got.attributionOf, got.Attribution = r.openAttribution(ck.Value, c)
			}
		case names.Choice:
			if got.Choice == nil {
				got.Choice = r.openChoice(ck.Value, c)
			}
		case ReferenceConsentCookie:
			reference = append(reference, ck.Value)
		default:
			if strings.HasPrefix(ck.Name, "frbzz_") && slices.Contains(c.ReferenceCookies(), ck.Name) {
				present(ck.Name)
			}
		}
	}
	got.Reference = ParseReferenceConsent(reference)
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
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealUser, v)
	if err != nil {
		return nil
	}
	d := newDecoder(plain)
	if d.byte() != stateVersion {
		return nil
	}
	u := &UserCookie{}
	workspace := d.text()
	u.UserID = d.id()
	u.FirstAt = d.int()
	u.RefreshedAt = d.int()
	u.Assignments = d.assignments()
	if d.err != nil || workspace != c.WorkspaceID || !r.VerifyUserID(u.UserID, workspace) {
		return nil
	}
	// The browser's Max-Age is its own word; a copy of a cookie outlives it.
	lifetime, fixed := c.userCookie()
	since := u.RefreshedAt
	if fixed {
		since = u.FirstAt
	}
	if now-since > (lifetime + refreshUser).Milliseconds() {
		return nil
	}
	return u
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
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealAttribution, v)
	if err != nil {
		return "", nil
	}
	d := newDecoder(plain)
	if d.byte() != stateVersion {
		return "", nil
	}
	campaign := d.text()
	environment := Environment(d.text())
	user = d.id()
	got := d.attribution()
	if d.err != nil || (CampaignRef{campaign, environment}) != c.CampaignRef {
		return "", nil
	}
	return user, &got
}

func (r *Ring) sealAttribution(dst []byte, s *Session, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.byte(stateVersion)
	w.text(s.Campaign.ID)
	w.text(string(s.Campaign.Environment))
	w.id(s.UserID)
	w.attribution(&s.Attribution)
	return w.seal(dst, r, sealAttribution, now)
}

func (r *Ring) openChoice(v string, c *Campaign) *Choice {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealChoice, v)
	if err != nil {
		// A choice that can't be read means no: better to ask again than
		// to take a refusal for a yes.
		return &Choice{}
	}
	d := newDecoder(plain)
	if d.byte() != stateVersion {
		return &Choice{}
	}
	workspace := d.text()
	flags := d.bools()
	at := d.int()
	if d.err != nil || workspace != c.WorkspaceID {
		return &Choice{}
	}
	return &Choice{
		Purposes: Purposes{Analytics: flags&1 != 0, Marketing: flags&2 != 0, Functional: flags&4 != 0},
		At:       at,
	}
}

// refreshUser is how often the user cookie is set again to prolong it.
const refreshUser = 24 * time.Hour

// Cookies are those that the answer sets or removes: the allowed ones that are
// missing or whose content changed. Where cookies are not allowed, those that
// the browser brought are removed.
func (v *Visit) Cookies(r *Ring, secure bool, at time.Time) []Cookie {
	now := at.UnixMilli()
	if !v.CookiesAllowed {
		return v.removals()
	}
	c, s := v.Campaign, &v.Session
	names := c.CookieNames(secure)
	var out []Cookie
	add := func(name string, value []byte, age time.Duration) {
		if age > 0 && len(value) <= maxCookie {
			out = append(out, Cookie{Name: name, Value: string(value), MaxAge: age})
		}
	}
	var buf [1024]byte

	lifetime, fixed := c.userCookie()
	user := UserCookie{UserID: s.UserID, FirstAt: now, RefreshedAt: now}
	had := v.carried.User
	if had != nil && had.UserID == s.UserID {
		user.FirstAt = had.FirstAt
		user.Assignments = had.Assignments
	} else {
		had = nil
	}
	user.Assignments = mergeAssignments(user.Assignments, s.Assignments)
	stale := had != nil && !fixed && now-had.RefreshedAt > refreshUser.Milliseconds()
	if had == nil || stale || !sameAssignments(had.Assignments, user.Assignments) {
		age := lifetime
		if fixed {
			age -= time.Duration(now-user.FirstAt) * time.Millisecond
		}
		add(names.User, r.sealUser(buf[:0], &user, c, now), age)
	}

	v.lineCookies(r, names, now, add)
	return out
}

// lineCookies sets session and attribution, which are always of one line. A
// tab of a line that the browser's has replaced goes on by its token alone.
func (v *Visit) lineCookies(r *Ring, names CookieNames, now int64, add func(name string, value []byte, age time.Duration)) {
	c, s := v.Campaign, &v.Session
	touches, held := &s.Attribution, v.carried.Attribution
	if v.carried.attributionOf != s.UserID {
		held = nil
	}
	sameLine := held != nil && held.Original.Time == touches.Original.Time
	if held != nil && !sameLine && (held.Original.Time < touches.Original.Time || touches.over(c, now)) {
		return
	}
	var buf [1024]byte
	newSession := v.carried.Session == nil || v.carried.Session.ID != s.ID
	if newSession {
		age := time.Duration(s.ExpiresAt-now) * time.Millisecond
		add(names.Session, r.sealSession(buf[:0], sealSession, s, false, maxCookie, now), age)
	}
	// It lasts as long as the window, and at least as long as the session.
	ends := touches.Original.Time + c.AttributionWindow.Milliseconds()
	if !sameLine || touches.supersedes(held) || newSession && ends < s.ExpiresAt {
		age := time.Duration(max(ends, s.ExpiresAt)-now) * time.Millisecond
		add(names.Attribution, r.sealAttribution(buf[:0], s, now), age)
	}
}

// removals are the cookies that go, now that none may be set.
func (v *Visit) removals() []Cookie {
	if v.keepCookies || len(v.carried.Present) == 0 {
		return nil
	}
	out := make([]Cookie, 0, len(v.carried.Present))
	for _, n := range v.carried.Present {
		// A campaign that never sets cookies leaves alone what the
		// visitor let the reference client set.
		if v.Consent.Analytics && strings.HasPrefix(n, "frbzz_") {
			continue
		}
		out = append(out, Cookie{Name: n})
	}
	return out
}

// Bounds on the variants that a user cookie carries, in number and in bytes of
// their ids: tests of several campaigns of a workspace share the cookie, and
// one that is too long would not be set at all.
const (
	maxSticky      = 16
	maxStickyBytes = 1800
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
