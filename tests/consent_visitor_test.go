package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestConsentOfTheOnlyVisitor: what the reference manager posts names no
// session. It brings cookies where the one living session of the visitor key is
// the subject's, in the answer to a page of the site itself, and nowhere else.
func TestConsentOfTheOnlyVisitor(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb), "allow_origin https://partner.example")
	granted := append([]string{choiceName}, identityNames...)
	n := 0
	arrive := func(t testing.TB) (*visitor, *sessionContext) {
		n++
		v := newVisitor(t, c.site, fmt.Sprint(desktop, " consent ", n), true)
		return v, v.visit("/?gclid=first")
	}
	record := func(t testing.TB, v *visitor, s *sessionContext, purposes map[string]any, set []string, proof string, header ...string) {
		t.Helper()
		a := v.post("consent/record", s.consents(purposes), header...).ok(t)
		wantSet(t, "the answer", a.header, slices.Clone(set), nil)
		if strings.Contains(string(a.body), "token") || strings.Contains(string(a.body), s.Session.Token) {
			t.Errorf("the answer has a token: %s", a.body)
		}
		row := consentRow(t, tb, a.Data["consent_id"].(string), "active")
		expect(t, "record", row, map[string]any{"proof": proof, "subject_id": s.UserID})
	}

	t.Run("a yes", func(t *testing.T) {
		v, s := arrive(t)
		record(t, v, s, allPurposes, granted, "visitor")
		next := v.visit("/")
		if next.Session.SessionID != s.Session.SessionID || next.UserID != s.UserID || next.Consent["analytics"] != true || next.Attribution.Original["gclid"] != "first" {
			t.Errorf("the next page: session %s, consent %v, attribution %v", next.Session.SessionID, next.Consent, next.Attribution)
		}
	})
	t.Run("a no", func(t *testing.T) {
		v, s := arrive(t)
		record(t, v, s, noPurposes, []string{choiceName}, "visitor")
		if next := v.visit("/", v.from("/?gclid=first")...); next.UserID == s.UserID || next.Consent["analytics"] != false {
			t.Errorf("a visitor who refused is found again, or is not known to have refused: %v", next.Consent)
		}
	})
	t.Run("two behind one address and agent", func(t *testing.T) {
		v, s := arrive(t)
		other := newVisitor(t, c.site, v.agent, true)
		o := other.visit("/")
		record(t, v, s, allPurposes, nil, "subject")
		record(t, other, o, allPurposes, nil, "subject")
		record(t, other, s, allPurposes, nil, "subject")
	})
	t.Run("another site", func(t *testing.T) {
		v, s := arrive(t)
		record(t, v, s, allPurposes, nil, "subject", "Origin", "https://partner.example", "Sec-Fetch-Site", "cross-site")
	})
	t.Run("another's subject", func(t *testing.T) {
		v, _ := arrive(t)
		_, other := arrive(t)
		record(t, v, other, allPurposes, nil, "subject")
	})
	t.Run("another network", func(t *testing.T) {
		_, s := arrive(t)
		stranger := newVisitor(t, c.site, iPhone, true)
		record(t, stranger, s, allPurposes, nil, "subject")
	})
	t.Run("a signal against it", func(t *testing.T) {
		v, s := arrive(t)
		record(t, v, s, allPurposes, nil, "subject", "DNT", "1")
	})
}

// TestConsentOfTheOnlyVisitorInChromium: the reference manager's request, sent
// by a page, is kept by a real browser, though its script sees no cookie.
func TestConsentOfTheOnlyVisitorInChromium(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "")
	b := browser.Start(t)
	p := b.Page(t)
	p.Open(c.site + "/?gclid=first")
	if cookies := cookiesOf(p, c.site); len(cookies) > 0 {
		t.Errorf("before a yes: %v", cookies)
	}
	const context = `JSON.stringify(__FIREBUZZ_SESSION_CONTEXT__.session.sessionId + " " + __FIREBUZZ_SESSION_CONTEXT__.userId + " " + __FIREBUZZ_SESSION_CONTEXT__.attribution.original.gclid)`
	before := browser.Eval[string](p, context)
	answer := browser.Eval[string](p, `(c => fetch("/client-api/v1/consent/record", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({
		workspace_id: c.workspaceId, project_id: c.projectId, campaign_id: c.campaignId, subject_id: c.userId, domain: location.hostname,
		purposes: {essential: true, analytics: true, marketing: false, functional: true}, expires_in_days: 365})}).then(r => r.text()))(__FIREBUZZ_SESSION_CONTEXT__)`)
	if !strings.Contains(answer, `"success":true`) || strings.Contains(answer, "token") {
		t.Fatalf("answer %s", answer)
	}
	var names []string
	for _, line := range cookiesOf(p, c.site) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	if want := append([]string{identityNames[0], choiceName}, identityNames[1:]...); !slices.Equal(names, want) {
		t.Errorf("cookies %v, want %v", names, want)
	}
	if seen := browser.Eval[string](p, "document.cookie"); seen != "" {
		t.Errorf("scripts see %q", seen)
	}
	p.Open(c.site + "/") // typed: nothing but the cookies tells who it is
	if after := browser.Eval[string](p, context); after != before {
		t.Errorf("session, user and click id %s, then %s", before, after)
	}
	if analytics := browser.Run(p, chromedp.Evaluate[bool]("__FIREBUZZ_SESSION_CONTEXT__.consent.analytics")); !analytics {
		t.Error("the next page knows of no consent")
	}
}
