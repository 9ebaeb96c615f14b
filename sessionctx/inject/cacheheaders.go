package inject

import (
	"net/http"
	"strings"
)

// validators describe the representation that the upstream had, which is not
// the one that goes out.
var validators = []string{"Etag", "Last-Modified", "Accept-Ranges"}

// digests are wrong once a byte is added, wherever they stand: header or
// trailer.
var digests = []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}

// sharedCacheRules tell particular caches to keep an answer whatever
// Cache-Control says. Those whose names end in -Cache-Control (RFC 9213, and
// older ones) go by that.
var sharedCacheRules = []string{"Expires", "Edge-Control"}

// sharedCacheBans are for caches that go by rules of their own before they
// look at Cache-Control. Where something behind us replaces that, or a cache
// is told to ignore it, these still stand: for CDNs, and for nginx.
var sharedCacheBans = [...]struct{ name, value string }{
	{"Cdn-Cache-Control", "no-store"},
	{"Surrogate-Control", "no-store"},
	{"X-Accel-Expires", "0"},
}

// keepPrivate makes an answer one visitor's own, for every cache that may see
// it, by whatever header that cache goes.
func keepPrivate(h http.Header) {
	for _, name := range validators {
		delete(h, name)
	}
	for _, name := range sharedCacheRules {
		delete(h, name)
	}
	for name := range h {
		if strings.HasSuffix(name, "-Cache-Control") {
			delete(h, name)
		}
	}
	if !strictEnough(h["Cache-Control"]) {
		h["Cache-Control"] = []string{"private, no-cache"}
	}
	values := make([]string, len(sharedCacheBans))
	for i, ban := range sharedCacheBans {
		values[i] = ban.value
		h[ban.name] = values[i : i+1 : i+1]
	}
}

// dropDigests takes digests of the original body off the header and off the
// announced trailers.
func dropDigests(h http.Header) {
	for _, name := range digests {
		delete(h, name)
	}
	announced, found := h["Trailer"]
	if !found {
		return
	}
	var kept []string
	for _, line := range announced {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if !isDigest(name) {
				kept = append(kept, name)
			}
		}
	}
	if kept == nil {
		delete(h, "Trailer")
		return
	}
	h["Trailer"] = []string{strings.Join(kept, ", ")}
}

// dropTrailerDigests takes off what was set as a trailer after the header.
func dropTrailerDigests(h http.Header) {
	for name := range h {
		if bare, trailer := strings.CutPrefix(name, http.TrailerPrefix); trailer && isDigest(http.CanonicalHeaderKey(bare)) {
			delete(h, name)
		}
	}
}

func isDigest(name string) bool {
	for _, d := range digests {
		if name == d {
			return true
		}
	}
	return false
}

// strictEnough reports whether the upstream's own rules keep the page out of
// shared caches and away from unchecked reuse.
func strictEnough(lines []string) bool {
	var noStore, mustUnderstand, private, public, noCache bool
	for d := range directives(lines) {
		switch {
		case strings.EqualFold(d, "no-store"):
			noStore = true
		case strings.EqualFold(d, "private"):
			private = true
		case strings.EqualFold(d, "no-cache"):
			noCache = true
		case strings.EqualFold(d, "public"):
			public = true
		case strings.EqualFold(d, "must-understand"):
			// It lets caches disregard no-store.
			mustUnderstand = true
		}
	}
	return noStore && !mustUnderstand || private && noCache && !public
}

// hasDirective reports whether Cache-Control has the directive name.
func hasDirective(lines []string, name string) bool {
	for d := range directives(lines) {
		if strings.EqualFold(d, name) {
			return true
		}
	}
	return false
}

// directives yields what stands between commas. A comma within quotes splits
// too, which can only make half of an argument look like a directive.
func directives(lines []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for d := range strings.SplitSeq(line, ",") {
				if !yield(strings.TrimSpace(d)) {
					return
				}
			}
		}
	}
}
