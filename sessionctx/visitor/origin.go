package visitor

import (
	"net/http"
	"net/netip"
	"strings"
)

const (
	// fallbackHost stands where a request names no host that could be
	// written into a page.
	fallbackHost = "localhost"
	// maxHost is the longest DNS name with a port.
	maxHost = 253 + len(":65535")
)

// Origin is where the browser asked: scheme ("https" for TLS or on a trusted
// proxy's word, else "http") and host[:port], without the scheme's default port,
// so that scheme://host equals what the browser calls its origin.
func Origin(r *http.Request, trusted bool) (scheme, host string) {
	scheme = "http"
	// A proxy's "http" does not undo TLS: it would tell of a hop, not of the
	// visitor. Of a list the first counts, though the visitor may have begun it:
	// who lies about that gets cookies and addresses that don't work, and a chain
	// of proxies tells what it means.
	if r.TLS != nil || trusted && strings.EqualFold(firstOfList(lastLine(r.Header["X-Forwarded-Proto"])), "https") {
		scheme = "https"
	}
	if trusted {
		if h, ok := cleanHost(soleOfList(lastLine(r.Header["X-Forwarded-Host"])), scheme); ok {
			return scheme, h
		}
	}
	if h, ok := cleanHost(r.Host, scheme); ok {
		return scheme, h
	}
	return scheme, fallbackHost
}

// lastLine is a header's last line: the one that the nearest proxy wrote, if it
// added one to the visitor's. Caddy goes by it too.
func lastLine(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// soleOfList is what all members of a comma-separated header say. Of members that
// differ one may be the visitor's, to which a proxy has added: none counts.
func soleOfList(s string) string {
	first := firstOfList(s)
	for i := strings.IndexByte(s, ','); i >= 0; i = strings.IndexByte(s, ',') {
		if s = s[i+1:]; firstOfList(s) != first {
			return ""
		}
	}
	return first
}

// cleanHost checks that s is host[:port] made of letters, digits, dots and
// hyphens, or [IPv6][:port]. Whatever passes can stand in a URL, a header or
// a page without quoting.
func cleanHost(s, scheme string) (string, bool) {
	if s == "" || len(s) > maxHost {
		return "", false
	}
	name, port := s, ""
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", false
		}
		ip, err := netip.ParseAddr(s[1:end])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", false
		}
		name = s[:end+1]
		if rest := s[end+1:]; rest != "" {
			if rest[0] != ':' {
				return "", false
			}
			port = rest[1:]
			if port == "" {
				return "", false
			}
		}
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			name, port = s[:i], s[i+1:]
			if port == "" {
				return "", false
			}
		}
		if !plainName(name) {
			return "", false
		}
	}
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
	}
	if len(port) > 5 {
		return "", false
	}
	if port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		s = name
	}
	return strings.ToLower(s), true
}

func plainName(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlnum(c) && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// hostname is a host without its port.
func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		return host[:i]
	}
	return host
}

// firstOfList is the first member of a comma-separated header.
func firstOfList(s string) string {
	if i := strings.IndexByte(s, ','); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || isLetter(c)
}

func isLetter(c byte) bool {
	c |= 0x20
	return c >= 'a' && c <= 'z'
}
