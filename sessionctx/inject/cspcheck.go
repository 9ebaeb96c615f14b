package inject

import (
	"net/url"
	"slices"
	"strings"
)

// BlocksScript returns the first policy that keeps the page's inline script
// with that nonce from running, "" if none does. values are those of the header
// Content-Security-Policy, or of such `<meta>` elements; nonce may be empty.
func BlocksScript(values []string, nonce string) string {
	return firstPolicy(values, func(p policy) bool {
		return p.sandboxed() || p.rules() && !p.sources.inlineAllowed() && !p.sources.admits(nonce)
	})
}

// BlocksOwnScript is BlocksScript for a script that is loaded from page's own
// host.
func BlocksOwnScript(values []string, page *url.URL, nonce string) string {
	return firstPolicy(values, func(p policy) bool {
		return p.sandboxed() || p.rules() && !p.sources.ownHostAllowed(page.Host, page.Scheme == "https") && !p.sources.admits(nonce)
	})
}

// BlocksConnection returns the first policy that keeps scripts of the page from
// calling target, "" if none does. Of sources with a path only the host is
// looked at.
func BlocksConnection(values []string, page, target *url.URL) string {
	return firstPolicy(values, func(p policy) bool {
		sources, ruled := p.directive("connect-src")
		if !ruled {
			sources, ruled = p.directive("default-src")
		}
		return p.sandboxed() || ruled && !sources.connects(page, target)
	})
}

func firstPolicy(values []string, blocks func(policy) bool) string {
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			if p := parsePolicy(text); blocks(p) {
				return strings.Trim(text, cspSpace)
			}
		}
	}
	return ""
}

// directive is the value of the first directive of that name.
func (p policy) directive(name string) (sources sourceList, ok bool) {
	for text := range strings.SplitSeq(p.text, ";") {
		if words := strings.Fields(text); len(words) > 0 && strings.EqualFold(words[0], name) {
			return words[1:], true
		}
	}
	return nil, false
}

// admits reports whether a script with that nonce may run for it.
func (s sourceList) admits(nonce string) bool { return nonce != "" && s.hasNonce(nonce) }

// connects reports whether a connection to target is allowed
// (CSP3 §6.7.2.7).
func (s sourceList) connects(page, target *url.URL) bool {
	secure := target.Scheme == "https"
	return slices.ContainsFunc(s, func(source string) bool {
		switch {
		case source == "*", strings.EqualFold(source, target.Scheme+":"), secure && strings.EqualFold(source, "http:"):
			return true
		case strings.EqualFold(source, "'self'"):
			return target.Host == page.Host && (target.Scheme == page.Scheme || secure)
		case strings.HasPrefix(source, "'"):
			return false
		}
		scheme, rest, found := strings.Cut(source, "://")
		if !found {
			scheme, rest = "", source
		}
		host, _, _ := strings.Cut(rest, "/")
		host = strings.TrimSuffix(host, map[bool]string{true: ":443", false: ":80"}[secure])
		if scheme != "" {
			host = scheme + "://" + host
		}
		return hostMatches(strings.TrimSuffix(host, ":*"), target.Host, secure)
	})
}
