package tests

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var loaderSource = regexp.MustCompile(`<script data-session-context=""[^>]* src="([^"]*)"></script>`)

// load fetches the page and what its loader names, as a browser does.
func (v *visitor) load(path string) (source string, s *sessionContext) {
	v.t.Helper()
	_, body := v.page(path)
	m := loaderSource.FindStringSubmatch(body)
	if m == nil {
		v.t.Fatalf("%s has no loader:\n%s", path, body)
	}
	source = strings.ReplaceAll(m[1], "&amp;", "&")
	_, s = v.script(source, v.site+path)
	return source, s
}

// script fetches the loader's script for the page that the Referer names.
func (v *visitor) script(source, referer string) (*http.Response, *sessionContext) {
	v.t.Helper()
	header := []string{"Accept", "*/*", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "same-origin"}
	if referer != "" {
		header = append(header, "Referer", referer)
	}
	res, body := v.page(source, header...)
	if res.StatusCode != 200 {
		v.t.Fatalf("%s: %d %s", source, res.StatusCode, body)
	}
	return res, parseContext(v.t, "<script data-session-context=\"\">"+body+"</script>")
}

// TestTheLoaderDecidesAboutThePage: matchers of segments and consent, and
// placeholders, see the page that the loader stands in, not the API's path.
func TestTheLoaderDecidesAboutThePage(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	for _, name := range []string{"index.html", "spring/index.html", "eu/index.html"} {
		writePage(t, c, name, plainPage)
	}
	c.write(globals("") + `
SITE {
	root DIR/www
	@api path /client-api/*
	@spring path /spring/*
	@pro expression {query.plan} == "pro"
	@eu path /eu/*
	header >X-Uri "<{uri}>"
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_{query.page}
		inject loader
		consent {
			require @eu
		}
		segment api @api
		segment ad {
			match query utm_source=*
		}
		segment spring @spring
		segment pro @pro
	}
	file_server
}
`)
	c.start()
	const js = "/client-api/v1/session/context.js"
	for _, tt := range []struct {
		name, referer, segment, page string
		required                     bool
	}{
		{"a path", c.site + "/spring/", "spring", "lp_", false},
		{"a query", c.site + "/?utm_source=x", "ad", "lp_", false},
		{"the first of two", c.site + "/spring/?utm_source=x&page=7", "ad", "lp_7", false},
		{"an expression and a placeholder", c.site + "/?plan=pro&page=8", "pro", "lp_8", false},
		{"none", c.site + "/", "", "lp_", false},
		{"a path that is escaped", c.site + "/%73pring/x", "spring", "lp_", false},
		{"a rule of consent", c.site + "/eu/?plan=pro", "pro", "lp_", true},
		{"a page with the API's name in its query", c.site + "/?x=/client-api/v1", "", "lp_", false},
		// The page is not known: what is left is the request itself.
		{"no Referer", "", "api", "lp_", false},
		{"another site's", "http://evil.test/spring/", "api", "lp_", false},
		{"one whose name begins like ours", c.site + ".evil.test/spring/", "api", "lp_", false},
		{"an origin alone", c.site, "api", "lp_", false},
		{"one that can't be read", c.site + "/%zz", "api", "lp_", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVisitor(t, c.site, desktop, true)
			res, s := v.script(js, tt.referer)
			segment := ""
			if s.SegmentID != nil {
				segment = *s.SegmentID
			}
			if segment != tt.segment || s.LandingPageID != tt.page || s.Consent["required"] != tt.required {
				t.Errorf("segment %q on %s, consent required: %v; want %q on %s, %v", segment, s.LandingPageID, s.Consent["required"], tt.segment, tt.page, tt.required)
			}
			if set := len(res.Header["Set-Cookie"]) > 0; set == tt.required {
				t.Errorf("sets cookies: %v", set)
			}
			if got := res.Header.Get("X-Uri"); got != "<"+js+">" {
				t.Errorf("afterwards the request is for %s", got)
			}
		})
	}
}

// TestTheLoaderKnowsWhereThePageIs: whether a policy allows the loader hangs on
// scheme and host as the browser has them, by the word of trusted proxies only.
func TestTheLoaderKnowsWhereThePageIs(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	config := func(trusted string) string {
		return strings.Replace(globals(""), "\tadmin ADMIN\n", "\tadmin ADMIN\n\tservers {\n\t\ttrusted_proxies static "+trusted+"\n\t}\n", 1) +
			"SITE {\n\t" + campaignLines("cmp_1", "inject loader") + "\n\theader Content-Security-Policy \"script-src {query.allow}\"\n\troot DIR/www\n\tfile_server\n}\n"
	}
	c.write(config("10.0.0.0/8"))
	c.start()
	for _, peer := range []struct {
		name, trusted string
		believed      bool
	}{{"a stranger", "10.0.0.0/8", false}, {"a trusted proxy", "127.0.0.1/32", true}} {
		c.reload(config(peer.trusted))
		for allow, want := range map[string]bool{
			"http:": true, "https:": peer.believed, "https://lp.example.com": peer.believed, "https://other.example.com": false,
		} {
			_, body := newVisitor(t, c.site, desktop, false).page("/?allow="+allow, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "lp.example.com")
			if got := loaderSource.MatchString(body); got != want {
				t.Errorf("%s, a policy that allows %s: the page has a loader: %v", peer.name, allow, got)
			}
		}
	}
}

// TestConsentRulesOnPathsHoldForCalls: a rule that matches paths says the same
// of a page and of the calls that its script makes.
func TestConsentRulesOnPathsHoldForCalls(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "us/index.html", plainPage)
	writePage(t, c, "eu/index.html", plainPage)
	c.write(globals("") + `
SITE {
	root DIR/www
	@eu not path /us/*
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		consent {
			require @eu
		}
	}
	file_server
}
`)
	c.start()
	for path, cookies := range map[string]int{"/us/": 3, "/eu/": 0} {
		v := newVisitor(t, c.site, desktop, true)
		s := v.visit(path)
		a := v.post("events/session/init", map[string]any{"token": s.Session.Token}, "Referer", c.site+path).ok(t)
		if n := len(v.cookieNames()); n != cookies || len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("%s: %d cookies, want %d; the call answers with %q", path, n, cookies, a.header["Set-Cookie"])
		}
	}
}

// TestLoadersOfCampaignsUnderPaths: each page's loader names its campaign, as
// the API's requests pass by no handler under a path.
func TestLoadersOfCampaignsUnderPaths(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	site := func(campaign, more string) string {
		return campaignLines(campaign, "inject loader", more)
	}
	for _, dir := range []string{"a", "b", "preview"} {
		writePage(t, c, dir+"/index.html", plainPage)
	}
	config := func(paths ...string) string {
		out := globals("") + "SITE {\n\troot DIR/www\n"
		for _, p := range paths {
			name, lines, _ := strings.Cut(p, " ")
			out += "\thandle /" + name + "/* {\n\t" + lines + "\n\tfile_server\n\t}\n"
		}
		return out + "\tsession_context_api\n}\n"
	}
	a, b, preview := "a "+site("cmp_a", "segment a"), "b "+site("cmp_b", "segment b"), "preview "+site("cmp_a", "campaign_environment preview")
	c.write(config(a))
	c.start()
	v := newVisitor(t, c.site, desktop, true)
	const js = "/client-api/v1/session/context.js"
	if source, s := v.load("/a/"); source != js || s.CampaignID != "cmp_a" {
		t.Errorf("alone, %s gives %s", source, s.CampaignID)
	}
	c.reload(config(a, b, preview))
	for path, want := range map[string]struct{ source, campaign, environment string }{
		"/a/":       {js + "?campaign_id=cmp_a", "cmp_a", "production"},
		"/b/":       {js + "?campaign_id=cmp_b", "cmp_b", "production"},
		"/preview/": {js + "?campaign_id=cmp_a&campaign_environment=preview", "cmp_a", "preview"},
	} {
		source, s := v.load(path)
		if source != want.source || s.CampaignID != want.campaign || s.CampaignEnvironment != want.environment {
			t.Errorf("%s: %s gives %s of %s", path, source, s.CampaignID, s.CampaignEnvironment)
		}
		if _, again := v.load(path); again.Session.SessionID != s.Session.SessionID {
			t.Errorf("%s: the session did not go on", path)
		}
	}
	res, body := v.page(js, "Accept", "*/*", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "same-origin")
	if res.StatusCode != 400 || !strings.Contains(body, "unknown_campaign") {
		t.Errorf("a script of no campaign: %d %s", res.StatusCode, body)
	}
}
