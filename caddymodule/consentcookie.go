package caddymodule

import (
	"net/http"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// maxReferenceChoices is how many cookies of the reference manager are read: a
// browser has one, or a few of different paths. Reading costs a thousand times
// what sending them does.
const maxReferenceChoices = 16

// usualCookies is how many of those that we know a request carries at most, but
// for sites of many campaigns.
const usualCookies = 6

// requestCookies are the cookies of a request that we know by their names: ours,
// of all campaigns, and the reference client's. All others are none of our
// business.
//
// They are read as they came. The standard library leaves out cookies whose
// bytes it doesn't like, JSON that is not percent-encoded among them; but a
// choice that can't be read means no, and must not look like none. Nor do those
// count that are one too many: the last of the list can't be read then.
func requestCookies(r *http.Request) (out []sessionctx.Cookie) {
	choices := 0
	for _, header := range r.Header["Cookie"] {
		for part := range strings.SplitSeq(header, ";") {
			name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
			if !ok || !sessionctx.IsCookieName(name) {
				continue
			}
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1] // RFC 6265 §4.1.1
			}
			if name == sessionctx.ReferenceConsentCookie {
				if choices++; choices > maxReferenceChoices+1 {
					continue
				} else if choices > maxReferenceChoices {
					value = ""
				}
			}
			if out == nil {
				out = make([]sessionctx.Cookie, 0, usualCookies)
			}
			out = append(out, sessionctx.Cookie{Name: name, Value: value})
		}
	}
	return out
}
