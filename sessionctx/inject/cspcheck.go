package inject

import (
	"net/url"
	"slices"
	"strings"
)

// BlocksScript returns the first policy that keeps the page's inline script
// with that nonce from running, "" if none does. values are those of the header
// Content-Security-Policy; nonce may be empty.
func BlocksScript(values []string, nonce string) string {
	return firstPolicy(values, func(p policy) bool {
		return p.sandboxed() || p.rules() && !p.sources.inlineAllowed() && !p.sources.admits(nonce)
	})
}

// BlocksSource is BlocksScript for a script that the page loads from src.
func BlocksSource(values []string, page, src *url.URL, nonce string) string {
	return firstPolicy(values, func(p policy) bool {
		if p.sandboxed() {
			return true
		}
		strict := slices.ContainsFunc(p.sources, func(s string) bool { return strings.EqualFold(s, "'strict-dynamic'") })
		return p.rules() && !p.sources.admits(nonce) && (strict || !p.sources.match(page, src))
	})
}

// BlocksConnection returns the first policy that keeps scripts of the page from
// calling target, "" if none does. values may be those of `<meta>` elements too.
func BlocksConnection(values []string, page, target *url.URL) string {
	return firstPolicy(values, func(p policy) bool {
		sources, ruled := p.directive("connect-src")
		if !ruled {
			sources, ruled = p.directive("default-src")
		}
		return ruled && !sources.match(page, target)
	})
}

// UpgradesRequests reports whether a policy makes browsers ask by HTTPS what the
// page names by HTTP (upgrade-insecure-requests).
func UpgradesRequests(values []string) bool {
	return firstPolicy(values, func(p policy) bool {
		_, upgrades := p.directive("upgrade-insecure-requests")
		return upgrades
	}) != ""
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

// match reports whether a URL matches the list, as browsers do it (CSP3
// §6.7.2.7). Unlike ownHostAllowed it says what they allow, not what is
// sure to be allowed.
func (s sourceList) match(page, target *url.URL) bool {
	return slices.ContainsFunc(s, func(source string) bool { return sourceMatches(source, page, target) })
}

func sourceMatches(source string, page, target *url.URL) bool {
	scheme, rest, found := strings.Cut(source, "://")
	if !found {
		scheme, rest = page.Scheme, source
	}
	host, path, slash := strings.Cut(rest, "/")
	if slash {
		path = "/" + path
	}
	source, scheme, host = strings.ToLower(source), strings.ToLower(scheme), strings.ToLower(host)
	switch {
	case source == "*":
		return target.Scheme == "http" || target.Scheme == "https" || target.Scheme == page.Scheme
	case source == "'self'":
		return target.Hostname() == page.Hostname() && schemeMatches(page.Scheme, target.Scheme) &&
			(portOf(target) == portOf(page) || page.Port() == "" && target.Port() == "")
	case strings.HasPrefix(source, "'"):
		return false
	case strings.HasSuffix(source, ":"): // a scheme alone
		return schemeMatches(strings.TrimSuffix(source, ":"), target.Scheme)
	}
	host, port := cutPort(host)
	return schemeMatches(scheme, target.Scheme) && wildHostMatches(host, target.Hostname()) &&
		portMatches(port, target) && pathMatches(path, target)
}

// schemeMatches is §6.7.2.9: a source of HTTP is one of HTTPS too.
func schemeMatches(source, target string) bool {
	return source == target || source == "http" && target == "https"
}

func wildHostMatches(source, host string) bool {
	host = strings.ToLower(host)
	if tail, wild := strings.CutPrefix(source, "*."); wild {
		return strings.HasSuffix(host, "."+tail)
	}
	return source == "*" || source == host // addresses of IPv6 are no sources
}

// portMatches is §6.7.2.11. A source without a port means that of the target's
// scheme; port 80 means that of HTTPS too.
func portMatches(source string, target *url.URL) bool {
	port := portOf(target)
	switch source {
	case "*", port:
		return true
	case "":
		return port == defaultPorts[target.Scheme]
	case "80":
		return port == "443" && target.Scheme == "https"
	}
	return false
}

// pathMatches is §6.7.2.12: one that ends with a slash stands for all below.
func pathMatches(source string, target *url.URL) bool {
	path := target.Path
	if plain, err := url.PathUnescape(source); err == nil {
		source = plain
	}
	switch {
	case source == "" || source == "/" && path == "":
		return true
	case strings.HasSuffix(source, "/"):
		return strings.HasPrefix(path, source)
	}
	return path == source
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return defaultPorts[u.Scheme]
}

// cutPort takes the port off a host; an IPv6 address has colons of its own.
func cutPort(host string) (name, port string) {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i], host[i+1:]
	}
	return host, ""
}
