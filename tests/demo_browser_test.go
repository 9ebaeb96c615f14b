package tests

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// consoleErrors collects what the browser reports of the tab as errors: what
// could not be loaded, or a policy forbade.
func consoleErrors(t *testing.T, p *browser.Page) func() []string {
	t.Helper()
	var mu sync.Mutex
	var got []string
	err := chromedp.Listen(p.Context(), func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok && e.Entry.Level == log.EntryLevelError {
			mu.Lock()
			got = append(got, e.Entry.Text+" "+e.Entry.URL)
			mu.Unlock()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	protocol(p, log.Enable, cdp.Empty{})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

// ourCookies are the names of the tab's cookies for the site.
func ourCookies(p *browser.Page, site string) string {
	var names []string
	for _, c := range protocol(p, network.GetCookies, network.GetCookiesParams{URLs: []string{site}}).Cookies {
		if !c.HTTPOnly {
			names = append(names, "readable:")
		}
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// shown is the element of the demo page with that test id, as an expression.
func shown(testID string) string { return `document.querySelector("[data-testid='` + testID + `']")` }

// TestDemoInBrowser walks through the demo of `make run`: each part of the panel
// fills, live, with what the server decided, the page reported, and the sink
// stored; nothing is moved, no error shows, and the policy is kept.
func TestDemoInBrowser(t *testing.T) {
	t.Parallel()
	s := &clientSite{caddy: startExample(t, [2]string{"session_duration 5m", "session_duration 45s"}), t: t, b: browser.Start(t)}
	p := s.b.Page(t)
	errors := consoleErrors(t, p)
	s.watch(p)
	p.Open(s.site + "/?utm_source=newsletter&utm_campaign=spring")
	click := func(testID string) { browser.Eval[bool](p, shown(testID)+`.click() || true`) }
	text := func(testID string) string { return browser.Eval[string](p, shown(testID)+`.textContent`) }
	row := func(datasource, event string) string {
		return `document.querySelector("[data-testid=row][data-datasource=` + datasource + `][data-event='` + event + `']")`
	}

	// What was injected.
	await(t, p, shown("server-panel")+`.dataset.sessionId`)
	variant := text("ctx-ab")
	if hero := browser.Eval[string](p, shown("hero")+`.dataset.hero`); variant != "hero "+hero {
		t.Errorf("variant %q, shown %q", variant, hero)
	}
	for id, want := range map[string]string{
		"segment": "everyone", "landing-page": "lp_", "campaign": "cmp_demo", "consent": "pending", "user-id": "", "session-id": "", "created": "20", "expires": "20", "countdown": ":",
		"renewals": "0", "locale": "en", "attribution-original": "newsletter", "attribution-current": "first touch", "json": `"sessionId"`,
	} {
		if got := text("ctx-" + id); got == "" || !strings.Contains(got, want) {
			t.Errorf("%s shows %q, want %q in it", id, got, want)
		}
	}
	if tokens := browser.Eval[int](p, shown("ctx-json")+`.textContent.split(firebuzzSession.getCurrentSession().token).length - 1`); tokens != 0 {
		t.Error("the token is on show")
	}

	session := text("ctx-session-id")

	// What was stored, before any consent.
	await(t, p, row("session_v1", "")+` && `+row("events_v1", "page-view"))
	if shift := browser.Eval[float64](p, `__shift`); shift != 0 {
		t.Errorf("the page moved by %v as it loaded", shift)
	}
	await(t, p, shown("cookies")+`.dataset.state == "none"`)
	if got := ourCookies(p, s.site); got != "" {
		t.Errorf("cookies before consent: %s", got)
	}

	// The banner, also where the page's script comes after the runtime: the
	// second time it surely does.
	again := s.b.Page(t)
	again.Open(s.site + "/")
	await(t, again, `firebuzzSession.getContext`)
	browser.Eval[bool](again, `(`+shown("consent-banner")+`.hidden = true)`)
	if hidden := browser.Eval[bool](again, `import("/assets/demo.js?again").then(() => `+shown("consent-banner")+`.hidden)`); hidden {
		t.Error("no banner where the page's script comes after the runtime")
	}

	// A yes, from the banner.
	await(t, p, `!`+shown("consent-banner")+`.hidden`)
	click("consent-accept")
	await(t, p, shown("cookies")+`.dataset.state == "there" && `+shown("consent-banner")+`.hidden`)
	if got := ourCookies(p, s.site); strings.Count(got, "fb_") < 3 || strings.Contains(got, "readable") {
		t.Errorf("cookies after a yes: %s", got)
	}
	await(t, p, row("consents_v1", ""))
	if got := text("ctx-consent"); !strings.Contains(got, "analytics yes") || !strings.Contains(got, "choice") {
		t.Errorf("consent shows %q", got)
	}

	// Events of the page's own, another view, and the form.
	user := text("ctx-user-id")
	click("send-test-event")
	click("send-sale")
	click("navigate")
	await(t, p, row("events_v1", "demo-click")+` && `+row("events_v1", "sale"))
	await(t, p, `document.querySelectorAll("[data-testid=row][data-event=page-view]").length == 2`)
	await(t, p, `document.querySelector("[data-testid=event-row][data-event=sale]").dataset.outcome == "ok"`)
	browser.Eval[bool](p, `(() => {
		const form = document.getElementById("signup-form");
		form.elements.name.value = "Ada"; form.elements.email.value = "ada@example.com"; form.elements.company_size.value = "1-10";
		form.requestSubmit();
		return true;
	})()`)
	if got := text("passed"); !strings.Contains(got, "utm_sourcenewsletter") || !strings.Contains(got, "session_id") {
		t.Errorf("the form passes on %q", got)
	}
	if got := browser.Eval[string](p, `document.getElementById("thanks-title").textContent`); got != "Thank you, Ada." {
		t.Errorf("thanks: %q", got)
	}
	await(t, p, row("events_v1", "form-submission"))

	// The session ends while somebody looks, and its successor is shown.
	await(t, p, shown("ctx-renewals")+`.textContent >= 1`)
	if got := text("ctx-user-id"); got != user {
		t.Errorf("user %s after the renewal, %s before", got, user)
	}
	click("send-test-event")
	await(t, p, `document.querySelectorAll("[data-testid=row][data-datasource=session_v1]").length >= 2`)

	// A no, from the panel.
	for _, purpose := range []string{"analytics", "marketing", "functional"} {
		click("consent-" + purpose)
	}
	click("consent-save")
	await(t, p, shown("cookies")+`.dataset.state == "none"`)
	// The refusal, and the end of the yes.
	await(t, p, `document.querySelectorAll("[data-datasource=consents_v1]").length == 3`)
	if got := ourCookies(p, s.site); strings.Contains(got, "user") || strings.Contains(got, "session") {
		t.Errorf("cookies after a no: %s", got)
	}

	// A phone.
	browser.Run(p, chromedp.EmulateViewport(360, 740))
	browser.Eval[bool](p, `(`+shown("server-panel")+`.open = true)`)
	if over := browser.Eval[int](p, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		t.Errorf("the page is %d px too wide for a phone", over)
	}
	if touched := browser.Eval[string](p, `__errors.concat(__touched.filter(what => what != "getRandomValues")).join()`); touched != "" {
		t.Errorf("errors, or what must not be used: %s", touched)
	}
	if got := errors(); len(got) > 0 {
		t.Errorf("errors in the console: %q", got)
	}
	demoRows(t, s.path(".cache/demo/rows"), session, strings.TrimPrefix(variant, "hero "))
}

// demoRows holds the demo's rows against what its page showed: the first of
// each datasource is the visitor's first session, page, view and decision.
func demoRows(t *testing.T, dir, session, variant string) {
	t.Helper()
	for datasource, want := range map[string]map[string]any{
		"session_v1":  {"original_utm_source": "newsletter", "utm_campaign": "spring", "browser": "Chrome", "segment_id": "everyone", "ab_test_variant_id": variant},
		"events_v1":   {"event_id": "page-view", "segment_id": "everyone", "landing_page_id": "lp_" + variant},
		"traffic_v1":  {"status": 200, "counted": 1, "purpose": "navigate"},
		"consents_v1": {"campaign_id": "cmp_demo", "status": "active"},
	} {
		rows, err := fileRows(dir, datasource)
		first := slices.IndexFunc(rows, func(row map[string]any) bool { return row["event_id"] == want["event_id"] })
		if err != nil || first < 0 {
			t.Errorf("%s: none of %d rows: %v", datasource, len(rows), err)
			continue
		}
		if datasource != "consents_v1" {
			want["session_id"] = session
		}
		expect(t, datasource, rows[first], want)
	}
}

// TestDemoPolicy: the demo's policy allows no inline script, and the context's
// gets in by a nonce that is new for each page. Rows are not listed, and come
// from nowhere but their directory.
func TestDemoPolicy(t *testing.T) {
	t.Parallel()
	c := startExample(t)
	v := newVisitor(t, c.site, desktop, true)
	seen := map[string]bool{}
	for range 2 {
		res, body := v.page("/")
		policy := res.Header.Get("Content-Security-Policy")
		_, after, ok := strings.Cut(policy, "'nonce-")
		nonce, _, _ := strings.Cut(after, "'")
		if !ok || seen[nonce] || strings.Contains(policy, "unsafe") || !strings.Contains(body, `nonce="`+nonce+`"`) {
			t.Errorf("policy %q", policy)
		}
		seen[nonce] = true
	}
	for path, want := range map[string]int{"/demo/rows/none.ndjson": 204, "/demo/rows/": 204, "/demo/rows/..%2f..%2f..%2fCaddyfile": 404} {
		res, err := http.Get(c.site + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != want || len(body) > 0 {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
}
