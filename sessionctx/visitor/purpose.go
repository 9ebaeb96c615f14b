package visitor

import (
	"net/http"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// maxFetchWord is longer than every word of Fetch Metadata.
const maxFetchWord = 32

// fetchMetadata reads the Sec-Fetch-* headers, which scripts cannot set.
func fetchMetadata(h http.Header) sessionctx.Fetch {
	return sessionctx.Fetch{
		Site: sessionctx.CleanText(field(h, "Sec-Fetch-Site"), maxFetchWord),
		Mode: sessionctx.CleanText(field(h, "Sec-Fetch-Mode"), maxFetchWord),
		Dest: sessionctx.CleanText(field(h, "Sec-Fetch-Dest"), maxFetchWord),
		User: field(h, "Sec-Fetch-User") == "?1",

		ThirdParty:  len(h["Sec-Fetch-Storage-Access"]) > 0,
		AnonymousIP: anonymousIP(h),
	}
}

// purpose is why the browser asked. What is surely not a look at a page comes
// first; a request that tells nothing is a navigation, so that old browsers
// are counted.
func purpose(r *http.Request, fetch *sessionctx.Fetch) sessionctx.Purpose {
	h := r.Header
	if r.Method == http.MethodHead {
		return sessionctx.PurposeHead
	}
	if p := ahead(h); p != "" {
		return p
	}
	switch {
	case fetch.Dest == "serviceworker",
		len(h["Service-Worker"]) > 0,
		len(h["Service-Worker-Navigation-Preload"]) > 0,
		// No page's script can make a request of that mode.
		fetch.Dest == "empty" && fetch.Mode == "navigate":
		return sessionctx.PurposeServiceWorker
	case len(h["Range"]) > 0:
		return sessionctx.PurposeRange
	}
	switch fetch.Dest {
	case "iframe", "frame", "fencedframe", "embed", "object":
		// A frame of one's own site is a page like any other. Within another
		// site's, it is one that the visitor went on to.
		own := fetch.Site == "same-origin" || fetch.Site == "same-site"
		if own && (!fetch.ThirdParty || fetch.User) {
			return sessionctx.PurposeNavigate
		}
		return sessionctx.PurposeIframe
	case "document":
		return sessionctx.PurposeNavigate
	case "":
		if fetch.Mode == "navigate" || fetch.Mode == "" && !byScript(h) {
			return sessionctx.PurposeNavigate
		}
	}
	return sessionctx.PurposeSubresource
}

// ProbeAgent is the User-Agent of an operator's tools, which look at pages and
// call their API without being visitors. It is known by this name because some
// proxies pass on no header that tells what a request is for.
const ProbeAgent = "Mozilla/5.0 (compatible; caddy-session-context-doctor)"

// ahead tells whether the page is fetched before anybody asked for it, in the
// words of today's browsers (Sec-Purpose) and of older ones. A probe never
// becomes a visit either.
func ahead(h http.Header) sessionctx.Purpose {
	if field(h, "User-Agent") == ProbeAgent {
		return sessionctx.PurposePrefetch
	}
	if v := field(h, "Sec-Purpose"); v != "" {
		word, params, _ := strings.Cut(v, ";")
		switch {
		case !strings.EqualFold(strings.TrimSpace(word), "prefetch"):
			return ""
		case hasParam(params, "prerender"):
			return sessionctx.PurposePrerender
		}
		return sessionctx.PurposePrefetch
	}
	for _, name := range [...]string{"Purpose", "X-Purpose", "X-Moz"} {
		switch v := strings.TrimSpace(field(h, name)); {
		case v == "":
		case strings.EqualFold(v, "prefetch"), strings.EqualFold(v, "preview"):
			return sessionctx.PurposePrefetch
		case strings.EqualFold(v, "prerender"):
			return sessionctx.PurposePrerender
		}
	}
	return ""
}

// anonymousIP reports whether the request comes through a proxy that hides the
// visitor's address: Chromium's, for pages that another site has fetched ahead.
func anonymousIP(h http.Header) bool {
	_, params, _ := strings.Cut(field(h, "Sec-Purpose"), ";")
	return hasParam(params, "anonymous-client-ip")
}

// hasParam reports whether the name stands among parameters that have no
// values, as those of Sec-Purpose.
func hasParam(params, name string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if strings.EqualFold(strings.TrimSpace(p), name) {
			return true
		}
	}
	return false
}

// byScript guesses, for browsers without Fetch Metadata, whether a script
// asked. An Android app's web view sends its package's name in
// X-Requested-With, for pages too: only the one word counts.
func byScript(h http.Header) bool {
	if strings.EqualFold(field(h, "X-Requested-With"), "XMLHttpRequest") || len(h["Upgrade"]) > 0 {
		return true
	}
	accept := field(h, "Accept")
	return accept != "" && !strings.Contains(accept, "text/html") &&
		!strings.Contains(accept, "application/xhtml+xml") && !strings.Contains(accept, "*/*")
}
