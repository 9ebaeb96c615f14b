package inject

import (
	"net/url"
	"testing"
)

func TestWhatPoliciesBlock(t *testing.T) {
	mustURL := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	page, api := mustURL("https://lp.example.com/a"), mustURL("https://api.example.com")
	for _, tt := range []struct {
		policies                 []string
		nonce                    string
		script, own, connect, to string // the policy that blocks; to is of another host's API
	}{
		{nil, "", "", "", "", ""},
		{[]string{"img-src 'none'"}, "", "", "", "", ""},
		{[]string{"script-src 'nonce-YWJj'"}, "YWJj", "", "", "", ""},
		{[]string{"script-src 'nonce-YWJj'"}, "ZGVm", "script-src 'nonce-YWJj'", "script-src 'nonce-YWJj'", "", ""},
		{[]string{"script-src 'unsafe-inline'"}, "", "", "script-src 'unsafe-inline'", "", ""},
		{[]string{"script-src 'unsafe-inline' 'self'"}, "", "", "", "", ""},
		{[]string{"script-src 'self'"}, "", "script-src 'self'", "", "", ""},
		{[]string{"script-src 'none'; script-src-elem https://LP.example.com 'nonce-YWJj'"}, "YWJj", "", "", "", ""},
		{[]string{"script-src 'strict-dynamic' 'self' 'nonce-YWJj'"}, "", "script-src 'strict-dynamic' 'self' 'nonce-YWJj'", "script-src 'strict-dynamic' 'self' 'nonce-YWJj'", "", ""},
		{[]string{"img-src *, script-src 'none'"}, "YWJj", "script-src 'none'", "script-src 'none'", "", ""},
		{[]string{"img-src *", " default-src 'self' 'nonce-YWJj' "}, "YWJj", "", "", "", "default-src 'self' 'nonce-YWJj'"},
		{[]string{"sandbox allow-forms"}, "", "sandbox allow-forms", "sandbox allow-forms", "", ""},
		{[]string{"sandbox allow-scripts"}, "", "", "", "", ""},
		{[]string{"connect-src 'none'; default-src *"}, "YWJj", "connect-src 'none'; default-src *", "", "connect-src 'none'; default-src *", "connect-src 'none'; default-src *"},
		{[]string{"default-src 'none'; connect-src"}, "", "x", "x", "x", "x"},
		{[]string{"connect-src 'self'; connect-src *"}, "", "", "", "", "connect-src 'self'; connect-src *"},
		{[]string{"CONNECT-SRC https:"}, "", "", "", "", ""},
		{[]string{"connect-src http:"}, "", "", "", "", ""}, // CSP3 §6.7.2.9: it matches the secure scheme too
		{[]string{"connect-src wss:"}, "", "", "", "connect-src wss:", "connect-src wss:"},
		{[]string{"connect-src *.example.com"}, "", "", "", "", ""},
		{[]string{"connect-src *:*"}, "", "", "", "", ""},
		{[]string{"connect-src https://*"}, "", "", "", "", ""},
		{[]string{"connect-src *:443"}, "", "", "", "", ""},
		{[]string{"connect-src *:80"}, "", "", "", "", ""}, // §6.7.2.11: upgraded
		{[]string{"connect-src *:8443"}, "", "", "", "connect-src *:8443", "connect-src *:8443"},
		{[]string{"script-src https://lp.example.com:*/"}, "", "script-src https://lp.example.com:*/", "", "", ""},
		{[]string{"script-src https://lp.example.com/b"}, "", "script-src https://lp.example.com/b", "script-src https://lp.example.com/b", "", ""},
		{[]string{"connect-src https://*.example.com:443/v1/ HTTPS://LP.example.com/a"}, "", "", "", "", "connect-src https://*.example.com:443/v1/ HTTPS://LP.example.com/a"},
		{[]string{"connect-src api.example.com:*"}, "", "", "", "connect-src api.example.com:*", ""},
		{[]string{"connect-src http://api.example.com 'self'"}, "", "", "", "", ""},
		{[]string{"connect-src https://api.example.com:8443 'self'"}, "", "", "", "", "connect-src https://api.example.com:8443 'self'"},
	} {
		check := func(what, got, want string) {
			t.Helper()
			if want == "x" {
				want = tt.policies[0]
			}
			if got != want {
				t.Errorf("%q, nonce %q, %s: blocked by %q, want %q", tt.policies, tt.nonce, what, got, want)
			}
		}
		check("inline", BlocksScript(tt.policies, tt.nonce), tt.script)
		check("own host's", BlocksSource(tt.policies, page, page, tt.nonce), tt.own)
		check("call", BlocksConnection(tt.policies, page, page), tt.connect)
		check("call elsewhere", BlocksConnection(tt.policies, page, api), tt.to)
	}
	if !UpgradesRequests([]string{"img-src *", "default-src *; Upgrade-Insecure-Requests"}) || UpgradesRequests([]string{"img-src *"}) {
		t.Error("which policy upgrades requests is not seen")
	}
	for source, tt := range map[string]struct {
		page, target string
		ok           bool
	}{
		"'self'":               {"http://a.test", "https://a.test", true},
		"'SELF'":               {"http://a.test:81", "http://a.test:80", false},
		"http://localhost:*":   {"http://a.test", "http://localhost:18081/x", true},
		"localhost:*":          {"http://a.test", "https://localhost:18081/x", true},
		"http://*:18081":       {"http://a.test", "http://localhost:18081/x", true},
		"localhost":            {"http://a.test", "http://localhost:18081/x", false},
		"localhost/":           {"http://a.test", "http://localhost/x", true},
		"[::1]:80":             {"http://a.test", "http://[::1]/x", false},
		"http://a.test":        {"http://a.test", "https://a.test:80/x", false},
		"a.test/client%2Dapi/": {"http://a.test", "http://a.test/client-api/v1", true},
		"a.test/%zz":           {"http://a.test", "http://a.test/x", false},
		"https://localhost:80": {"http://a.test", "http://localhost/x", false},
		"data:":                {"http://a.test", "http://localhost/x", false},
		"*.a.test":             {"http://a.test", "http://a.test/x", false},
		"a.test/client-api/":   {"http://a.test", "http://a.test/client-api/v1", true},
		"a.test/Client-API/":   {"http://a.test", "http://a.test/client-api/v1", false},
		"a.test/other/":        {"http://a.test", "http://a.test/client-api/v1", false},
	} {
		if ok := BlocksConnection([]string{"connect-src " + source}, mustURL(tt.page), mustURL(tt.target)) == ""; ok != tt.ok {
			t.Errorf("connect-src %s on %s lets %s be called: %v", source, tt.page, tt.target, ok)
		}
	}
}
