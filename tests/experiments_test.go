package tests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// experimentSite is a site beside files; body stands in the directive.
func experimentSite(body string) string {
	return globals("") + `
SITE {
	root DIR/www
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		rate_limit 100000 100000
		# All visitors here have one address and one user agent.
		before_consent random
		` + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n\t\t") + `
	}
	@bold vars session.ab.hero bold
	header >X-Hero "<{session.ab.hero}>"
	handle @bold {
		rewrite * /bold{uri}
		file_server
	}
	handle {
		file_server
	}
}
`
}

func startExperiment(t *testing.T, body string) *caddy {
	t.Helper()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	writePage(t, c, "bold/index.html", strings.Replace(plainPage, "Hello", "Bold", 1))
	c.write(experimentSite(body))
	c.start()
	return c
}

// variant is that of a test, "" if the visitor takes no part.
func (c *sessionContext) variant(test string) string {
	for _, a := range c.ABTests {
		if a.TestID == test {
			return a.VariantID
		}
	}
	return ""
}

// Segments see the request as it is when it reaches the directive: after
// rewrite, uri and try_files, and inside handle_path without its prefix.
func TestSegmentsMatchTheRewrittenRequest(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	for _, name := range []string{"index.html", "item.html", "help.html"} {
		writePage(t, c, name, plainPage)
	}
	c.write(globals("") + `
(campaign) {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		identity cookieless
		segment original @original
		segment spring @spring {
			landing_page lp_spring
		}
		segment shop @item
		segment tried @tried
		segment pro @pro
		segment phone_ad {
			match {
				vars session.device.type mobile
				query utm_source=*
			}
			landing_page lp_ad
		}
		segment help_or_english /help* @english
		segment firefox_or_beta {
			match @firefox
			match header X-Beta *
			match {
				path /index.html
				not header Accept-Language *
			}
		}
	}
	file_server
}

SITE {
	root DIR/www
	@original path /sale /shop/* /tried/*
	@spring query season=spring
	@item path /item*
	@tried {
		path /index.html
		header X-Tried yes
	}
	@pro expression {query.plan} == "pro" && {path} != "/help.html"
	@english not header Accept-Language de*
	@firefox vars session.browser Firefox
	rewrite /sale /index.html?season=spring&{query}
	handle_path /shop/* {
		import campaign
	}
	handle /tried/* {
		try_files {path} /index.html
		import campaign
	}
	handle {
		import campaign
	}
}
`)
	c.start()
	for _, tt := range []struct {
		name, path, agent string
		header            []string
		segment, page     string
	}{
		{"none matches", "/", desktop, nil, "", "lp_1"},
		{"a query that a rewrite added", "/sale", desktop, nil, "spring", "lp_spring"},
		{"the first of two that match", "/sale?plan=pro", desktop, nil, "spring", "lp_spring"},
		{"a path without the prefix of handle_path", "/shop/item.html", desktop, nil, "shop", "lp_1"},
		{"a path that try_files gave, and a header", "/tried/page", desktop, []string{"X-Tried", "yes"}, "tried", "lp_1"},
		{"the same without the header", "/tried/page", desktop, nil, "", "lp_1"},
		{"an expression", "/?plan=pro", desktop, nil, "pro", "lp_1"},
		{"an expression that is false for the path", "/help.html?plan=pro", desktop, nil, "help_or_english", "lp_1"},
		{"both of a block", "/?utm_source=x", iPhone, nil, "phone_ad", "lp_ad"},
		{"one of a block", "/", iPhone, nil, "", "lp_1"},
		{"the other of a block", "/?utm_source=x", desktop, nil, "", "lp_1"},
		{"the first of several matchers", "/help.html", desktop, nil, "help_or_english", "lp_1"},
		{"the second, which is negated", "/", desktop, []string{"Accept-Language", "en"}, "help_or_english", "lp_1"},
		{"a variable of the module", "/", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", nil, "firefox_or_beta", "lp_1"},
		{"a matcher of one line", "/", desktop, []string{"X-Beta", "1"}, "firefox_or_beta", "lp_1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newVisitor(t, c.site, tt.agent, false).visit(tt.path, tt.header...)
			segment := ""
			if got.SegmentID != nil {
				segment = *got.SegmentID
			}
			if segment != tt.segment || got.LandingPageID != tt.page || (got.SegmentID == nil) != (tt.segment == "") {
				t.Errorf("segment %q on %s, want %q on %s", segment, got.LandingPageID, tt.segment, tt.page)
			}
		})
	}
}

func TestVariantsAreRoutedAndNamed(t *testing.T) {
	t.Parallel()
	c := startExperiment(t, `
identity cookieless
segment phones {
	match vars session.device.type mobile
	landing_page lp_phone
}
segment everyone
ab_test hero {
	segment everyone
	variant control 50
	variant bold 50 {
		landing_page lp_bold
	}
}
ab_test footer {
	variant short 1
	variant long 1
}`)
	seen := map[string]int{}
	for range 60 {
		v := newVisitor(t, c.site, desktop, false)
		res, body := v.page("/")
		got := parseContext(t, body)
		hero := got.variant("hero")
		seen[hero+" "+got.variant("footer")]++
		wantPage := map[string]string{"control": "lp_1", "bold": "lp_bold"}[hero]
		if bold := strings.Contains(body, "<h1>Bold"); bold != (hero == "bold") || got.LandingPageID != wantPage || res.Header.Get("X-Hero") != "<"+hero+">" {
			t.Fatalf("variant %q: bold page %v, landing page %s, header %s", hero, bold, got.LandingPageID, res.Header.Get("X-Hero"))
		}
		if got.ABTestID == nil || *got.ABTestID != "hero" || *got.ABTestVariantID != hero {
			t.Fatalf("the first test is %v", got.ABTestID)
		}
	}
	if want := []string{"bold long", "bold short", "control long", "control short"}; !slices.Equal(slices.Sorted(maps.Keys(seen)), want) {
		t.Errorf("60 visitors got %v, want all of %v", seen, want)
	}
	res, body := newVisitor(t, c.site, iPhone, false).page("/")
	if got := parseContext(t, body); got.variant("hero") != "" || got.variant("footer") == "" || got.LandingPageID != "lp_phone" ||
		*got.ABTestID != "footer" || res.Header.Get("X-Hero") != "<>" || strings.Contains(body, "Bold") {
		t.Errorf("a phone got %v on %s, header %s", got.ABTests, got.LandingPageID, res.Header.Get("X-Hero"))
	}
}

// later is the visitor's next session, when the cookie of the last one is over.
func (v *visitor) later(last *sessionContext) *sessionContext {
	v.t.Helper()
	var next *sessionContext
	eventually(v.t, 10*time.Second, "a later session", func() error {
		if next = v.visit("/"); next.Session.OriginalSessionID == last.Session.OriginalSessionID {
			return fmt.Errorf("session %s goes on", next.Session.SessionID)
		}
		return nil
	})
	if next.UserID != last.UserID {
		v.t.Fatalf("user %s became %s", last.UserID, next.UserID)
	}
	return next
}

func TestVariantsStickOverReloads(t *testing.T) {
	t.Parallel()
	const short = "session_duration 1s\n"
	hero := func(lines string) string { return short + "ab_test hero {\n" + lines + "\n}" }
	c := startExperiment(t, hero("variant control 50\nvariant bold 50"))
	const n = 8
	var vs [n]*visitor
	var first, last [n]*sessionContext
	drawn := map[string]bool{}
	for i := range vs {
		vs[i] = newVisitor(t, c.site, desktop, true)
		first[i] = vs[i].visit("/")
		last[i] = first[i]
		drawn[first[i].variant("hero")] = true
	}
	if !drawn["control"] || !drawn["bold"] {
		t.Logf("all of %d visitors got the same: half of what follows says nothing", n)
	}
	all := func(what, config string, want func(i int, got *sessionContext) bool) {
		t.Helper()
		c.reload(experimentSite(config))
		for i, v := range vs {
			last[i] = v.later(last[i])
			if !want(i, last[i]) {
				t.Errorf("%s: visitor %d has %v, had %v", what, i, last[i].ABTests, first[i].ABTests)
			}
		}
	}
	same := func(i int, got *sessionContext) bool { return got.variant("hero") == first[i].variant("hero") }
	all("other weights", hero("variant control 1\nvariant bold 1000000000"), same)
	for i, v := range vs { // and through renewals
		a := v.post("events/session/renew", map[string]any{"token": first[i].Session.Token}, "Cookie", "").ok(t)
		if a.Data["session_id"] == first[i].Session.SessionID || a.Data["ab_test_variant_id"] != first[i].variant("hero") {
			t.Errorf("visitor %d renewed to %v, had %v", i, a.Data, first[i].ABTests)
		}
	}
	fresh := func(what, want string) {
		t.Helper()
		for range 5 {
			if got := newVisitor(t, c.site, desktop, true).visit("/"); got.variant("hero") != want {
				t.Errorf("%s: a new visitor got %v, want %q", what, got.ABTests, want)
			}
		}
	}
	fresh("other weights", "bold")
	all("no traffic", hero("variant control 50\nvariant bold 50\ntraffic 0%"), same)
	fresh("no traffic", "")
	all("paused", hero("variant control 50\nvariant bold 50\nstatus paused"), same)
	fresh("paused", "")
	all("over", hero("variant control 50\nvariant bold 50\nuntil 2020-01-01"), same)
	fresh("over", "")
	all("a winner", hero("variant control 50\nvariant bold 50\nwinner control\nstatus completed"),
		func(_ int, got *sessionContext) bool { return got.variant("hero") == "control" })
	fresh("a winner", "control")
	all("the winner withdrawn", hero("variant control 50\nvariant bold 50\ntraffic 0%"), same)
	all("renamed", short+"ab_test header {\nvariant control 1\nvariant bold 1000000000\n}",
		func(_ int, got *sessionContext) bool {
			return got.variant("hero") == "" && got.variant("header") == "bold"
		})
	all("a variant gone", hero("variant control 1\nvariant plain 1000000000"), func(i int, got *sessionContext) bool {
		if first[i].variant("hero") == "bold" {
			return got.variant("hero") == "plain"
		}
		return got.variant("hero") == "control"
	})
}

// A session that goes on over a reload keeps its variant, unless that is gone.
func TestASessionOverAReload(t *testing.T) {
	t.Parallel()
	c := startExperiment(t, "ab_test hero {\nvariant control 1\nvariant bold 1000000000\n}")
	v := newVisitor(t, c.site, desktop, true)
	first := v.visit("/")
	for _, tt := range []struct{ config, want string }{
		{"ab_test hero {\nvariant control 1000000000\nvariant bold 1\n}", "bold"},
		{"ab_test hero {\nvariant control 1\nvariant bold 1\nwinner control\n}", "bold"},
		{"ab_test hero {\nvariant control 1\nvariant plain 1\n}", ""},
	} {
		c.reload(experimentSite(tt.config))
		_, body := v.page("/")
		got := parseContext(t, body)
		if got.Session.SessionID != first.Session.SessionID {
			t.Fatal("the session did not go on")
		}
		if got.variant("hero") != tt.want || strings.Contains(body, "<h1>Bold") != (tt.want == "bold") {
			t.Errorf("%s: got %v", tt.config, got.ABTests)
		}
	}
}

func TestAVisitorWhoseSegmentChanges(t *testing.T) {
	t.Parallel()
	site := func(traffic string) string {
		return `
session_duration 1s
segment phones {
	match vars session.device.type mobile
}
segment everyone
ab_test hero {
	segment phones
	variant control 50
	variant bold 50
	traffic ` + traffic + `
}`
	}
	c := startExperiment(t, site("100%"))
	v := newVisitor(t, c.site, iPhone, true)
	phone := v.visit("/")
	had := phone.variant("hero")
	if *phone.SegmentID != "phones" || had == "" {
		t.Fatalf("a phone is in %s with %v", *phone.SegmentID, phone.ABTests)
	}
	c.reload(experimentSite(site("0%"))) // so that nothing is drawn anew
	v.agent = desktop
	desk := v.later(phone)
	if *desk.SegmentID != "everyone" || len(desk.ABTests) != 0 {
		t.Errorf("at the desk the visitor is in %s with %v", *desk.SegmentID, desk.ABTests)
	}
	v.agent = iPhone
	if again := v.later(desk); *again.SegmentID != "phones" || again.variant("hero") != had {
		t.Errorf("back on the phone he is in %s with %v, had %s", *again.SegmentID, again.ABTests, had)
	}
}

// Pages of one variant never show a sign of life. Neither half of the visitors
// would be enough for the alarm: the counts outlive the reload between them.
func TestALossOfOneVariantIsWarnedOf(t *testing.T) {
	t.Parallel()
	test := func(weights string) string {
		return "identity cookieless\nab_test hero {\nvariant control " + weights[:1] + "\nvariant bold " + weights[2:] + "\n}"
	}
	c := startExperiment(t, test("1 1"))
	series := func(name, label, value string) float64 {
		return c.metric(fmt.Sprintf(`caddy_session_context_%s{campaign="cmp_1",test="hero",variant="%s"}`, name, value))
	}
	p := func(at string) float64 {
		return c.metric(`caddy_session_context_ab_sample_ratio_p{at="` + at + `",campaign="cmp_1",test="hero"}`)
	}
	v := newVisitor(t, c.site, desktop, false)
	made := map[string]int{}
	alive := func(n int) {
		t.Helper()
		for end := made["control"] + n; made["control"] < end; {
			s := v.visit("/")
			made[s.variant("hero")]++
			if s.variant("hero") == "control" {
				v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t)
				v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t)
			}
		}
	}
	const warning = "sample ratio mismatch"
	alive(75)
	if strings.Contains(c.log.String(), warning) {
		t.Fatal("warned already")
	}
	c.reload(experimentSite(test("1 1")))
	alive(75)
	eventually(t, 10*time.Second, "the warning", func() error {
		if !strings.Contains(c.log.String(), warning) {
			return fmt.Errorf("not in the log")
		}
		return nil
	})
	for variant, want := range map[string]int{"control": 150, "bold": 0} {
		if got := series("ab_sessions_total", "variant", variant); got != float64(want) {
			t.Errorf("%v sessions of %s, want %d", got, variant, want)
		}
		if got := series("ab_pages_total", "variant", variant); got != float64(made[variant]) {
			t.Errorf("%v pages of %s, want %d", got, variant, made[variant])
		}
	}
	if got := p("script"); got <= 0 || got > 0.001 {
		t.Errorf("p at the script is %v", got)
	}
	if got := p("page"); got < 0.01 {
		t.Errorf("p at the page is %v", got)
	}
	// Other weights: counts begin anew.
	c.reload(experimentSite(test("2 1")))
	alive(20)
	if got := p("script"); got < 0.01 {
		t.Errorf("with other weights p is %v", got)
	}
	if n := strings.Count(c.log.String(), warning); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
}
