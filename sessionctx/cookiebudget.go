package sessionctx

import (
	"cmp"
	"slices"
	"strings"
)

// maxCookies is how many bytes all of our cookies on a host take at most,
// names and values, over all campaigns and workspaces. They come with every
// request, for images too, and servers behind us refuse requests whose headers
// outgrow 8 KiB.
const maxCookies = 6 << 10

// The longest values that are set, in bytes: browsers refuse cookies beyond
// 4,096 with name and attributes. An attribution that is longer than the other
// cookies leave room for is cut, so that a campaign's own stay below maxCookies
// by themselves: it never has to give up one of them for another.
const (
	maxUserCookie        = 1700
	maxSessionCookie     = 1500
	maxAttributionCookie = 3800
	maxChoiceCookie      = 160
)

// attributionRoom is how long the value of the attribution cookie may be,
// beside the campaign's others that the answer sets or the browser has.
func (s *cookieSet) attributionRoom() int {
	names := s.names()
	room := maxCookies - len(names.Choice) - maxChoiceCookie - len(names.Attribution)
	for _, name := range [...]string{names.User, names.Session} {
		named := func(c Cookie) bool { return c.Name == name }
		if i := slices.IndexFunc(s.out, named); i >= 0 {
			room -= s.out[i].size()
		} else if i := slices.IndexFunc(s.carried, named); i >= 0 {
			room -= s.carried[i].size()
		}
	}
	return min(room, maxAttributionCookie)
}

func (ck *Cookie) size() int { return len(ck.Name) + len(ck.Value) }

// owner says whose a cookie of ours is, by its name.
type owner struct {
	kind purpose // sealUser, sealSession, sealAttribution or sealChoice
	// id is a workspace's, or a campaign's with .preview behind it in preview.
	id string
}

var cookieKinds = [...]struct {
	prefix string
	kind   purpose
}{
	{"fb_user_", sealUser},
	{"fb_session_", sealSession},
	{"fb_attribution_", sealAttribution},
	{"fb_choice_", sealChoice},
}

// ownerOf reads the name of a cookie of ours, as they are named over HTTPS
// (secure) or over plain HTTP. ok is false for all other cookies.
func ownerOf(name string, secure bool) (o owner, ok bool) {
	if secure {
		if name, ok = strings.CutPrefix(name, hostPrefix); !ok {
			return owner{}, false
		}
	}
	if !strings.HasPrefix(name, "fb_") {
		return owner{}, false
	}
	for _, k := range cookieKinds {
		if id, found := strings.CutPrefix(name, k.prefix); found {
			return owner{k.kind, id}, true
		}
	}
	return owner{}, false
}

// referencePrefix is what the names of the reference client's cookies begin
// with.
const referencePrefix = "frbzz_"

// IsCookieName reports whether a cookie of that name is ours, of any campaign,
// over HTTPS or plain HTTP, or the reference client's.
func IsCookieName(name string) bool {
	if strings.HasPrefix(name, referencePrefix) {
		return true
	}
	_, ours := ownerOf(strings.TrimPrefix(name, hostPrefix), false)
	return ours
}

// owns reports whether a cookie of ours is one of the campaign's.
func (c *Campaign) owns(o owner) bool {
	switch {
	case o.kind == sealUser || o.kind == sealChoice:
		return o.id == c.WorkspaceID
	case c.Environment == Preview:
		id, preview := strings.CutSuffix(o.id, previewSuffix)
		return preview && id == c.ID
	}
	return o.id == c.ID
}

// bearer opens a user, session or attribution cookie of any campaign or
// workspace: its user, and when the visit was that it tells of, in Unix ms.
// Both are empty for what this ring did not make.
func (r *Ring) bearer(kind purpose, value string) (user string, at int64) {
	switch kind {
	case sealUser:
		if _, u := r.decodeUser(value); u != nil {
			return u.UserID, u.RefreshedAt
		}
	case sealSession:
		if s, err := r.openSession(sealSession, value); err == nil {
			return s.UserID, s.CreatedAt
		}
	case sealAttribution:
		if _, user, a := r.decodeAttribution(value); a != nil {
			return user, max(a.Current.Time, a.Original.Time)
		}
	}
	return "", 0
}

// evictee is what goes at once when room is needed: a campaign's session and
// attribution, a workspace's user, or the choice of one who agreed.
type evictee struct {
	rank  int // campaigns go first, then users, then choices
	id    string
	user  string
	last  int64 // the latest visit that it tells of, in Unix ms
	bytes int
	names []string
}

// makeRoom adds to the cookies that an answer sets the removals that keep all
// of ours together within maxCookies: of other campaigns and workspaces, those
// of the longest time ago first. What this ring can't open is of no use to
// anyone who shares it, and counts as the oldest. A refusal stays, and so does
// a choice that can't be read, which means no.
//
// Over HTTPS the cookies that plain HTTP left behind go too: nothing reads
// them there.
func (v *Visit) makeRoom(set []Cookie, r *Ring, secure bool, now int64) []Cookie {
	names := v.Campaign.CookieNames(secure)
	total := len(names.Choice) + maxChoiceCookie // whether the visitor has chosen or will
	for i := range set {
		total += set[i].size()
	}
	out := set
	var others []Cookie
	for _, ck := range v.carried.all {
		switch {
		case ck.Name == names.Choice:
		case ck.Name == names.User, ck.Name == names.Session, ck.Name == names.Attribution:
			if !slices.ContainsFunc(set, func(s Cookie) bool { return s.Name == ck.Name }) {
				total += ck.size()
			}
		case r.leftBehind(ck, secure):
			out = appendRemoval(out, ck.Name)
		default:
			if _, ours := ownerOf(ck.Name, secure); ours {
				others = append(others, ck)
				total += ck.size()
			}
		}
	}
	if total <= maxCookies {
		return out
	}
	for _, e := range r.evictees(others, secure, now) {
		for _, name := range e.names {
			out = appendRemoval(out, name)
		}
		if total -= e.bytes; total <= maxCookies {
			break
		}
	}
	return out
}

// evictees groups cookies of ours, in the order in which they go.
func (r *Ring) evictees(cookies []Cookie, secure bool, now int64) []*evictee {
	var out []*evictee
	lastOfUser := map[string]int64{}
	for _, ck := range cookies {
		o, _ := ownerOf(ck.Name, secure)
		rank := 0
		switch o.kind {
		case sealUser:
			rank = 1
		case sealChoice:
			rank = 2
			// Who agreed will be asked again.
			if c := r.openChoice(ck.Value, &Campaign{WorkspaceID: o.id}, now); c != nil && !c.Analytics {
				continue
			}
		}
		at := slices.IndexFunc(out, func(e *evictee) bool { return e.rank == rank && e.id == o.id })
		if at < 0 {
			at = len(out)
			out = append(out, &evictee{rank: rank, id: o.id})
		}
		e := out[at]
		e.bytes += ck.size()
		e.names = append(e.names, ck.Name)
		if user, visited := r.bearer(o.kind, ck.Value); user != "" {
			e.user = user
			e.last = max(e.last, visited)
			lastOfUser[user] = max(lastOfUser[user], visited)
		}
	}
	for _, e := range out {
		if e.rank == 1 {
			// A user is as recent as the latest visit to any campaign.
			e.last = lastOfUser[e.user]
		}
	}
	// Browsers send the cookies that they have had longest first.
	slices.SortStableFunc(out, func(a, b *evictee) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.last, b.last))
	})
	return out
}

// leftBehind reports whether a cookie that came over HTTPS is one of ours from
// plain HTTP. Its name alone may be another program's, so it has to open.
func (r *Ring) leftBehind(ck Cookie, secure bool) bool {
	if !secure {
		return false
	}
	o, ours := ownerOf(ck.Name, false)
	if !ours || o.kind == sealChoice {
		return false
	}
	user, _ := r.bearer(o.kind, ck.Value)
	return user != ""
}
