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

// scheme is https for TLS or on a trusted proxy's word. A proxy's "http" does
// not undo TLS: it would tell of a hop, not of the visitor.
func scheme(r *http.Request, trusted bool) string {
	if r.TLS != nil {
		return "https"
	}
	if trusted && strings.EqualFold(firstOfList(field(r.Header, "X-Forwarded-Proto")), "https") {
		return "https"
	}
	return "http"
}

// host is host[:port] as the browser sees it, without the scheme's default
// port, so that scheme://host equals what the browser calls its origin.
func host(r *http.Request, trusted bool, scheme string) string {
	if trusted {
		if h, ok := cleanHost(firstOfList(field(r.Header, "X-Forwarded-Host")), scheme); ok {
			return h
		}
	}
	if h, ok := cleanHost(r.Host, scheme); ok {
		return h
	}
	return fallbackHost
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

// firstOfList is the first member of a comma-separated header: the one that
// the proxy nearest to the visitor wrote.
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
