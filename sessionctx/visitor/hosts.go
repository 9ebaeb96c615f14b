package visitor

import (
	"fmt"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Hosts is a set of host names, and of all that are below some domains.
type Hosts struct {
	exact, below map[string]struct{}
}

// NewHosts makes the set of hosts like www.example.com, and *.example.com for
// all that end in .example.com. What CheckHost refuses is left out.
func NewHosts(hosts []string) *Hosts {
	h := &Hosts{exact: map[string]struct{}{}, below: map[string]struct{}{}}
	for _, host := range hosts {
		host = strings.ToLower(host)
		if CheckHost(host) != nil {
			continue
		}
		if domain, ok := strings.CutPrefix(host, "*."); ok {
			h.below[domain] = struct{}{}
		} else {
			h.exact[host] = struct{}{}
		}
	}
	return h
}

// Contain reports whether host (lower case, no port) belongs to the set.
func (h *Hosts) Contain(host string) bool {
	if _, ok := h.exact[host]; ok {
		return true
	}
	_, parent, _ := strings.Cut(host, ".")
	return under(h.below, parent)
}

// under reports whether host is one of the domains or below one.
func under(domains map[string]struct{}, host string) bool {
	for host != "" {
		if _, ok := domains[host]; ok {
			return true
		}
		_, host, _ = strings.Cut(host, ".")
	}
	return false
}

// CheckHost returns an error unless s is a host name or, after *., a domain:
// lower case, no scheme, port or path.
func CheckHost(s string) error {
	name := strings.TrimPrefix(s, "*.")
	clean, ok := cleanHost(name, "")
	if !ok || clean != name || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || hostname(name) != name {
		return fmt.Errorf("%q is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path", sessionctx.CleanText(s, 80))
	}
	return nil
}
