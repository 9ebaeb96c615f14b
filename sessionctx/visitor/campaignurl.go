package visitor

import (
	"strings"
	"sync"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// maxRowURL caps the URLs in rows.
const maxRowURL = 1024

// defaultParams is the set of a CampaignURL that keeps nothing more.
var defaultParams = sync.OnceValue(func() *paramSet { return newParamSet(defaultClickIDs, nil) })

// CampaignURL reduces a URL to its origin, path and campaign parameters (the
// default click ids among them) and those named in keep, in a fixed order. User
// name, password, fragment and all other parameters go. Of a URL without an
// authority (mailto:, tel:, data:) only the scheme stays, since the rest may
// name a person. A path alone stays a path. The result has at most 1,024 bytes.
// With a keep list it works the list out anew at each call; on a hot path use
// Reader.CampaignURL.
func CampaignURL(rawURL string, keep []string) string {
	s := defaultParams()
	if len(keep) > 0 {
		s = newParamSet(defaultClickIDs, keep)
	}
	return s.reduce(rawURL)
}

func (s *paramSet) reduce(rawURL string) string {
	p := splitURL(rawURL)
	if p.opaque {
		return sessionctx.CleanText(p.scheme, maxRowURL)
	}
	var f found
	if p.query != "" {
		s.scan(p.query, &f)
	}
	if f.n == 0 && len(p.scheme)+len(p.authority)+len(p.path) <= maxRowURL && p.contiguous {
		// The front of the URL as it is, which is the common case.
		return cutURL(rawURL[p.start:p.start+len(p.scheme)+len(p.authority)+len(p.path)], maxRowURL)
	}
	var b strings.Builder
	b.WriteString(cutURL(p.scheme+p.authority+p.path, maxRowURL))
	s.appendQuery(&b, &f, maxRowURL)
	return b.String()
}

// urlParts are the pieces of a URL as they stand in it.
type urlParts struct {
	// scheme includes "://", or ":" if the URL is opaque.
	scheme, authority, path, query string
	opaque                         bool
	// start is where the scheme begins; contiguous says that scheme,
	// authority and path follow each other from there.
	start      int
	contiguous bool
}

// splitURL cuts a URL at its delimiters. It never fails: whatever a client
// wrote has a front part that is kept and a rest that is not.
func splitURL(raw string) urlParts {
	p := urlParts{contiguous: true}
	for p.start < len(raw) && raw[p.start] <= ' ' {
		p.start++
	}
	s := raw[p.start:]
	if i := strings.IndexByte(s, '#'); i >= 0 {
		s = s[:i]
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		s, p.query = s[:i], s[i+1:]
	}
	if n := schemeLen(s); n > 0 {
		rest := s[n+1:]
		if !strings.HasPrefix(rest, "//") {
			return urlParts{scheme: s[:n+1], opaque: true}
		}
		p.scheme, s = s[:n+3], rest[2:]
	} else if strings.HasPrefix(s, "//") {
		p.scheme, s = s[:2], s[2:]
	}
	if p.scheme != "" {
		end := strings.IndexAny(s, `/\`)
		if end < 0 {
			end = len(s)
		}
		p.authority, s = s[:end], s[end:]
		if i := strings.LastIndexByte(p.authority, '@'); i >= 0 {
			p.authority, p.contiguous = p.authority[i+1:], false
		}
	}
	p.path = s
	return p
}

// schemeLen is the length of the scheme that s begins with, 0 without one.
func schemeLen(s string) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ':':
			return i
		case isLetter(c):
		case i > 0 && (isAlnum(c) || c == '+' || c == '-' || c == '.'):
		default:
			return 0
		}
	}
	return 0
}

// cutURL cleans a URL (without query) and cuts it to max bytes, not in the
// middle of a percent escape.
func cutURL(s string, max int) string {
	if len(s) <= max {
		return sessionctx.CleanText(s, max)
	}
	s = sessionctx.CleanText(s, max)
	if i := strings.LastIndexByte(s, '%'); i >= 0 && i > len(s)-3 {
		s = s[:i]
	}
	return s
}
