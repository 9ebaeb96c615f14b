package caddymodule_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestMistakesAboutAttributionAreExplained(t *testing.T) {
	explained(t, "{\n\tsession_context {\n", "\t}\n}\n", []mistake{ // text begins in line 3
		{"click_ids alone", "click_ids", "click_ids wants `add` or `replace` and names, or `none`, at Caddyfile:3"},
		{"click_ids without a word", "click_ids tblci", "click_ids wants `add` or `replace` and names, or `none`, at Caddyfile:3"},
		{"click_ids add nothing", "click_ids add", "click_ids add wants at least one name, at Caddyfile:3"},
		{"click_ids none and more", "click_ids none gclid", "click_ids none has 'gclid' behind it: nothing may stand there, at Caddyfile:3"},
		{"click_ids twice", "click_ids none\nclick_ids none", "click_ids stands twice in session_context, first in line 3: keep one, at Caddyfile:4"},
		{"a click id that is read anyway", "click_ids add tblci GCLID", `click_ids: "GCLID" is read already: leave it out, at Caddyfile:3`},
		{"a click id with another's column", "click_ids replace ScCid sc_cid", `click_ids: "sc_cid" is read already: leave it out, at Caddyfile:3`},
		{"a click id that is a campaign parameter", "click_ids add utm_source", `click_ids: "utm_source" is read already: leave it out, at Caddyfile:3`},
		{"a click id that is a key of the context", "click_ids add timestamp", `click_ids: "timestamp" is no click id's name: 1 to 64 letters, digits, _ and -, a letter first, and none of timestamp, referrer, landing_page, at Caddyfile:3`},
		{"a click id with quotes", "click_ids add `a\"b`", `click_ids: "a\"b" is no click id's name: 1 to 64 letters, digits, _ and -, a letter first, and none of timestamp, referrer, landing_page, at Caddyfile:3`},
		{"a click id that is too long", "click_ids add " + strings.Repeat("a", 65), `click_ids: "` + strings.Repeat("a", 65) + `" is no click id's name: 1 to 64 letters, digits, _ and -, a letter first, and none of timestamp, referrer, landing_page, at Caddyfile:3`},
		{"too many click ids", "click_ids add" + many(60), "click_ids: 75 names are more than 64: keep those that links really carry, at Caddyfile:3"},
		{"ignore_referrers with a URL", "ignore_referrers add https://pay.example", `ignore_referrers: "https://pay.example" is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path, at Caddyfile:3`},
		{"ignore_referrers with a wildcard", "ignore_referrers replace *.pay.example", `ignore_referrers: "*.pay.example": leave the *. out, what is below a domain is ignored with it, at Caddyfile:3`},
		{"ignore_referrers with a default one", "ignore_referrers add paypal.com", `ignore_referrers: "paypal.com" is ignored already: leave it out, at Caddyfile:3`},
		{"url_params alone", "url_params plan", "url_params wants `keep` and names of query parameters: url_params keep <name...>, at Caddyfile:3"},
		{"url_params keep nothing", "url_params keep", "url_params keep wants at least one name, at Caddyfile:3"},
		{"url_params keep what is kept", "url_params keep plan utm_id", `url_params keep: "utm_id" is kept already: leave it out, at Caddyfile:3`},
		{"url_params keep a click id of the next line", "url_params keep tblci\nclick_ids add tblci", `url_params keep: "tblci" is kept already: leave it out, at Caddyfile:4`},
		{"url_params keep what no URL has", "url_params keep a&b", `url_params keep: "a&b" is no parameter's name: 1 to 64 letters, digits, dots, _ and -, at Caddyfile:3`},
	})
	explained(t, ":80 {\n\tsession_context {\n\t\tworkspace ws\n\t\tproject pr\n\t\tcampaign cmp\n", "\t}\n}\n", []mistake{ // line 6
		{"own_hosts alone", "own_hosts", "own_hosts wants at least one host like www.example.com or *.example.com, at Caddyfile:6"},
		{"own_hosts with a port", "own_hosts www.example.com:443", `own_hosts: "www.example.com:443" is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path, at Caddyfile:6`},
		{"own_hosts in capitals", "own_hosts WWW.example.com", `own_hosts: "WWW.example.com" is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path, at Caddyfile:6`},
		{"own_hosts of all", "own_hosts *", `own_hosts: "*" is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path, at Caddyfile:6`},
	})
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" x")
		b.WriteString(strings.Repeat("a", i))
	}
	return b.String()
}

// What comes as JSON passes the same checks when it is loaded.
func TestMistakesAboutAttributionInJSONAreRefused(t *testing.T) {
	for name, tt := range map[string]struct{ app, want string }{
		"add and replace": {`{"click_ids":{"add":["tblci"],"replace":["gclid"]}}`, "click_ids has `add` and `replace`: keep one"},
		"a click id":      {`{"click_ids":{"replace":["<script>"]}}`, "is no click id's name"},
		"a domain":        {`{"ignore_referrers":{"add":[""]}}`, "is no host like"},
		"a parameter":     {`{"url_params":{"keep":["x","X"]}}`, `"X" is kept already`},
	} {
		t.Run(name, func(t *testing.T) {
			err := caddy.Validate(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{"session_context": json.RawMessage(tt.app)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	good := `{"click_ids":{"replace":[]},"ignore_referrers":{"replace":["pay.example"]},"url_params":{"keep":["plan"]}}`
	if err := caddy.Validate(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{"session_context": json.RawMessage(good)}}); err != nil {
		t.Error(err)
	}
}
