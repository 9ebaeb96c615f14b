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

// referenceChoices are the reference manager's cookies as they came. The
// standard library leaves out cookies whose bytes it doesn't like, JSON that is
// not percent-encoded among them; but one that can't be read means no, and must
// not look like none. Nor do those count that are one too many: the last of the
// list can't be read then.
func referenceChoices(r *http.Request) (out []sessionctx.Cookie) {
	for _, header := range r.Header["Cookie"] {
		if !strings.Contains(header, sessionctx.ReferenceConsentCookie) {
			continue
		}
		for part := range strings.SplitSeq(header, ";") {
			name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
			if ok && name == sessionctx.ReferenceConsentCookie {
				if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
					value = value[1 : n-1] // RFC 6265 §4.1.1
				}
				if len(out) == maxReferenceChoices {
					return append(out, sessionctx.Cookie{Name: name})
				}
				out = append(out, sessionctx.Cookie{Name: name, Value: value})
			}
		}
	}
	return out
}
