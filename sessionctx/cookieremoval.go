package sessionctx

import (
	"slices"
	"strings"
)

// maxRemovals bounds the cookies that one answer removes: proxies refuse
// answers whose header outgrows a few KiB. What is left goes with the next.
const maxRemovals = 32

// appendRemoval adds the removal of a cookie, once.
func appendRemoval(out []Cookie, name string) []Cookie {
	if len(out) >= maxRemovals || slices.ContainsFunc(out, func(c Cookie) bool { return c.Name == name }) {
		return out
	}
	return append(out, Cookie{Name: name})
}

// removals are the cookies that go, now that none may be set.
func (v *Visit) removals(r *Ring, secure bool) []Cookie {
	if v.keepCookies || len(v.carried.all) == 0 {
		return nil
	}
	names := v.Campaign.CookieNames(secure)
	var out []Cookie
	for _, ck := range v.carried.all {
		if v.goes(r, ck, &names, secure) {
			out = appendRemoval(out, ck.Name)
		}
	}
	return out
}

// goes reports whether a cookie has no place in this browser any more. What is
// the campaign's own always goes. A refusal takes with it all that tells who
// the visitor was: what other campaigns of the workspace set, whose choice it
// is too, and all that the reference client set on this host.
func (v *Visit) goes(r *Ring, ck Cookie, names *CookieNames, secure bool) bool {
	switch ck.Name {
	case names.User, names.Session, names.Attribution:
		return true
	}
	refused := v.Consent.Refused()
	if strings.HasPrefix(ck.Name, referencePrefix) {
		switch {
		case v.Consent.Analytics:
			// A campaign that never sets cookies leaves alone what the
			// visitor let the reference client set.
			return false
		case refused:
			return strings.HasPrefix(ck.Name, "frbzz_uid") || strings.HasPrefix(ck.Name, "frbzz_session_") ||
				strings.HasPrefix(ck.Name, "frbzz_attr_")
		}
		return slices.Contains(v.Campaign.ReferenceCookies(), ck.Name)
	}
	if r.leftBehind(ck, secure) {
		return true
	}
	o, ours := ownerOf(ck.Name, secure)
	if !refused || !ours || o.kind != sealSession && o.kind != sealAttribution {
		return false
	}
	user, _ := r.bearer(o.kind, ck.Value)
	return user != "" && r.VerifyUserID(user, v.Campaign.WorkspaceID)
}
