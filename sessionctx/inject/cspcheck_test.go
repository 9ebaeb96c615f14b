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
		{[]string{"sandbox allow-forms"}, "", "sandbox allow-forms", "sandbox allow-forms", "sandbox allow-forms", "sandbox allow-forms"},
		{[]string{"sandbox allow-scripts"}, "", "", "", "", ""},
		{[]string{"connect-src 'none'; default-src *"}, "YWJj", "connect-src 'none'; default-src *", "", "connect-src 'none'; default-src *", "connect-src 'none'; default-src *"},
		{[]string{"default-src 'none'; connect-src"}, "", "x", "x", "x", "x"},
		{[]string{"connect-src 'self'; connect-src *"}, "", "", "", "", "connect-src 'self'; connect-src *"},
		{[]string{"CONNECT-SRC https:"}, "", "", "", "", ""},
		{[]string{"connect-src http:"}, "", "", "", "", ""}, // CSP3 §6.7.2.9: it matches the secure scheme too
		{[]string{"connect-src wss:"}, "", "", "", "connect-src wss:", "connect-src wss:"},
		{[]string{"connect-src *.example.com"}, "", "", "", "", ""},
		{[]string{"connect-src https://*.example.com:443/v1/"}, "", "", "", "", ""},
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
		check("own host's", BlocksOwnScript(tt.policies, page, tt.nonce), tt.own)
		check("call", BlocksConnection(tt.policies, page, page), tt.connect)
		check("call elsewhere", BlocksConnection(tt.policies, page, api), tt.to)
	}
	if BlocksConnection([]string{"connect-src 'self'"}, mustURL("http://a.test"), mustURL("https://a.test")) != "" {
		t.Error("'self' keeps a page from its own host's secure side")
	}
}
