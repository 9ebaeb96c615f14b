package tests

import (
	"strings"
	"testing"
)

// consentSite asks visitors from the EU, and those under /ask, for consent.
const consentSite = `
SITE {
	@eu vars session.geo.is_eu true
	@ask path /ask/*
	@unknown vars session.geo.country ""
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		consent {
			require @eu @ask @unknown
		}
	}
	root DIR/www
	file_server
}
`

// TestNoCookiesBeforeConsent: a visitor who has to be asked gets no cookie,
// from no page and from no call of the API, whatever the rule hangs on; a yes
// in the reference manager's cookie brings them, its withdrawal takes them.
func TestNoCookiesBeforeConsent(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	writePage(t, c, "ask/index.html", plainPage)
	config := strings.Replace(globals("\t\tgeo headers cloudflare"), "\tadmin ADMIN\n", "\tadmin ADMIN\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n", 1)
	c.write(config + consentSite)
	c.start()
	for _, tt := range []struct {
		name, path string
		from       []string
	}{
		{"by place", "/", []string{"CF-IPCountry", "DE"}},
		{"by a place that is not known", "/", nil},
		{"by the page's path", "/ask/", []string{"CF-IPCountry", "US"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVisitor(t, c.site, desktop, true)
			s := v.visit(tt.path, tt.from...)
			if s.Consent["required"] != true || s.Consent["source"] != "pending" || s.GDPRSettings["isRequiredConsent"] != true {
				t.Errorf("consent %v", s.Consent)
			}
			token := map[string]any{"token": s.Session.Token}
			event := with(token, "event_id", "a", "event_type", "system")
			for route, body := range map[string]any{
				"events/session/init": token, "events/session/track": token, "events/session/renew": token, "events/track": event,
				"events/batch-track": with(token, "events", []any{event}),
			} {
				if a := v.post(route, body, tt.from...).ok(t); len(a.header.Values("Set-Cookie")) > 0 {
					t.Errorf("%s sets %q", route, a.header.Values("Set-Cookie"))
				}
			}

			yes := `frbzz_consent=%7B%22preferences%22%3A%7B%22analytics%22%3Atrue%7D%2C%22hasUserInteracted%22%3Atrue%2C%22timestamp%22%3A1%2C%22version%22%3A1%7D`
			a := v.post("events/session/init", token, append(tt.from, "Cookie", yes)...).ok(t)
			if len(a.header.Values("Set-Cookie")) != 3 {
				t.Errorf("a yes sets %q", a.header.Values("Set-Cookie"))
			}
			no := strings.Replace(yes, "true%7D%2C%22has", "false%7D%2C%22has", 1)
			res, _ := v.page(tt.path, append(tt.from, "Cookie", no+"; frbzz_uid=1")...)
			gone := 0
			for _, sc := range res.Header.Values("Set-Cookie") {
				if !strings.Contains(sc, "Max-Age=0") {
					t.Errorf("a no sets %q", sc)
				}
				gone++
			}
			if gone != 4 {
				t.Errorf("a no removes %d cookies, want ours and the reference client's", gone)
			}
		})
	}
	t.Run("others are not asked", func(t *testing.T) {
		v := newVisitor(t, c.site, desktop, true)
		if s := v.visit("/", "CF-IPCountry", "US"); s.Consent["required"] != false || len(v.cookieNames()) != 3 {
			t.Errorf("consent %v, cookies %v", s.Consent, v.cookieNames())
		}
	})
}
