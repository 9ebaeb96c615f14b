package visitor

import (
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSchemeAndHost(t *testing.T) {
	for _, c := range []struct {
		name, host, proto, fwdHost string
		tls, trusted               bool
		want                       string
	}{
		{"plain HTTP", "lp.example.com", "", "", false, false, "http://lp.example.com"},
		{"TLS", "lp.example.com", "", "", true, false, "https://lp.example.com"},
		{"a trusted proxy's https", "10.0.0.5:8080", "https", "lp.example.com", false, true, "https://lp.example.com"},
		{"a list: the first word", "a.example", "HTTPS, http", "lp.example.com, b.example", false, true, "https://lp.example.com"},
		{"anybody's https", "lp.example.com", "https", "evil.example", false, false, "http://lp.example.com"},
		{"a proxy's http does not undo TLS", "lp.example.com", "http", "", true, true, "https://lp.example.com"},
		{"nonsense of a proxy", "lp.example.com", "https://", "<b>", false, true, "http://lp.example.com"},
		{"a port", "lp.example.com:8443", "", "", true, false, "https://lp.example.com:8443"},
		{"the default port goes", "LP.Example.com:443", "", "", true, false, "https://lp.example.com"},
		{"the other scheme's stays", "lp.example.com:80", "", "", true, false, "https://lp.example.com:80"},
		{"IPv6", "[2001:DB8::1]:8080", "", "", false, false, "http://[2001:db8::1]:8080"},
		{"IPv6 without port", "[::1]", "", "", false, false, "http://[::1]"},
		{"IPv6 without brackets", "2001:db8::1", "", "", false, false, "http://localhost"},
		{"IPv6 zone", "[fe80::1%25eth0]", "", "", false, false, "http://localhost"},
		{"script", `a"><script>`, "", "", false, false, "http://localhost"},
		{"user info", "user@lp.example.com", "", "", false, false, "http://localhost"},
		{"a path", "lp.example.com/x", "", "", false, false, "http://localhost"},
		{"an empty port", "lp.example.com:", "", "", false, false, "http://localhost"},
		{"no port", "lp.example.com:8x", "", "", false, false, "http://localhost"},
		{"empty", "", "", "", false, false, "http://localhost"},
		{"absurd", strings.Repeat("a", 1e6), "", "", false, false, "http://localhost"},
		{"not UTF-8", "l\xffp", "", "", false, false, "http://localhost"},
		{"a dot first", ".example.com", "", "", false, false, "http://localhost"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		r.Header.Set("X-Forwarded-Proto", c.proto)
		r.Header.Set("X-Forwarded-Host", c.fwdHost)
		var rd Reader
		f := rd.Read(Request{HTTP: r, TrustedProxy: c.trusted})
		if f.Origin() != c.want {
			t.Errorf("%s: %s, want %s", c.name, f.Origin(), c.want)
		}
	}
}
