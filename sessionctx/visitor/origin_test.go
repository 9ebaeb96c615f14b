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
		{"a chain's list: the first scheme", "lp.example.com", "HTTPS, http", "", false, true, "https://lp.example.com"},
		{"a list of one host", "a.example", "https", "lp.example.com, lp.example.com,lp.example.com", false, true, "https://lp.example.com"},
		{"a host that was added to another", "lp.example.com", "https", "evil.example, lp.example.com", false, true, "https://lp.example.com"},
		{"a host behind which nothing was added", "lp.example.com", "https", "evil.example,", false, true, "https://lp.example.com"},
		{"a line that was added to another", "lp.example.com", "http\nhttps", "evil.example\nwww.example.com", false, true, "https://www.example.com"},
		{"a line of several", "lp.example.com", "", "www.example.com\nevil.example, www.example.com", false, true, "http://lp.example.com"},
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
		r.Header["X-Forwarded-Proto"] = strings.Split(c.proto, "\n")
		r.Header["X-Forwarded-Host"] = strings.Split(c.fwdHost, "\n")
		var rd Reader
		f := rd.Read(Request{HTTP: r, TrustedProxy: c.trusted})
		if f.Origin() != c.want {
			t.Errorf("%s: %s, want %s", c.name, f.Origin(), c.want)
		}
	}
}
