package tests

import (
	"fmt"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

const (
	consentAsked = "consent {\n\t\t\trequire always\n\t\t\tgoogle_consent_mode\n\t\t}"
	// managerSays is the reference consent manager's yes, told while the page is open.
	managerSays = `document.cookie = "frbzz_consent=" + encodeURIComponent(JSON.stringify({hasUserInteracted: true, preferences: {analytics: %v, marketing: false, functional: true}})) + "; path=/"`
	// looked brings the tab to front, as after the manager's own dialog.
	looked = `document.dispatchEvent(new Event("visibilitychange"))`
)

// TestClientConsentMode: Google's tags find a default before they run, whatever
// stands first in the page, and hear of each change after it.
func TestClientConsentMode(t *testing.T) {
	t.Parallel()
	s := startClient(t, consentAsked)
	writePage(t, s.caddy, "tagged/index.html", `<!doctype html><html><head><script>window.dataLayer = window.dataLayer || []; function gtag() { dataLayer.push(arguments) } gtag("js", 1); gtag("config", "G-1")</script></head><body></body></html>`)
	p := s.open("/tagged/")
	await(t, p, `window.firebuzzSession`)
	if !browser.Eval[bool](p, `firebuzzSession.onConsentChange({analytics: true})`) {
		t.Fatal("the yes was not recorded")
	}
	if !browser.Eval[bool](p, `firebuzzSession.onConsentChange({analytics: false})`) {
		t.Fatal("the no was not recorded")
	}
	got := browser.Eval[string](p, `dataLayer.map(a => [a[0], a[1], a[2]?.analytics_storage].filter(Boolean).join(" ")).join(", ")`)
	if want := "consent default denied, js 1, config G-1, consent update granted, consent update denied"; got != want {
		t.Errorf("tags see %s, want %s", got, want)
	}
	p.Open(s.site + "/tagged/")
	await(t, p, `window.firebuzzSession`)
	if got := browser.Eval[string](p, `dataLayer[0][1] + " " + dataLayer[0][2].analytics_storage`); got != "default denied" {
		t.Errorf("the next page begins with %s", got)
	}
}

// TestClientFollowsTheReferenceManager: what its cookie says is followed when the
// tab is looked at, and not recorded a second time; with a privacy signal nothing
// of it is kept in the browser.
func TestClientFollowsTheReferenceManager(t *testing.T) {
	t.Parallel()
	s := startClient(t, consentAsked)
	const stored = `sessionStorage.getItem("frbzz_cmp_1")?.includes("kept")`
	for _, tt := range []struct {
		name, script string
		keeps        bool
	}{
		{"no signal", ``, true},
		{"a privacy signal", `Object.defineProperty(Navigator.prototype, "globalPrivacyControl", {value: true})`, false},
		{"a full storage", `for (let n = 20; n >= 0; n--) try { for (let i = 0; ; i++) sessionStorage.setItem("filler" + n + "-" + i, "x".repeat(2 ** n)) } catch {}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := s.open("/", tt.script)
			await(t, p, `window.firebuzzSession && __calls.length == 1`)
			browser.Eval[bool](p, fmt.Sprintf(`(`+managerSays+`, `+looked+`, true)`, true))
			if got := browser.Eval[string](p, `firebuzzSession.shouldSetCookies() + " " + firebuzzSession.getContext().consent.source + " " + __calls.filter(c => c[0] == "consent/record").length`); got != "true frbzz_consent 0" {
				t.Errorf("after the manager's yes: %s", got)
			}
			browser.Eval[bool](p, `(window.__fetch = () => Promise.reject(new TypeError("offline")), firebuzzSession.trackEvent("kept", {type: "conversion"}), true)`)
			await(t, p, `__calls.at(-1)[1].includes("kept")`)
			if tt.keeps {
				await(t, p, stored)
			} else if browser.Eval[bool](p, `!!(`+stored+`)`) {
				t.Error("an event is kept in the browser")
			}
			browser.Eval[bool](p, fmt.Sprintf(`(`+managerSays+`, `+looked+`, true)`, false))
			if browser.Eval[bool](p, `firebuzzSession.shouldSetCookies() || !!(`+stored+`)`) {
				t.Error("after the manager's no cookies are allowed, or an event is kept")
			}
			if errors := browser.Eval[string](p, `__errors.join()`); errors != "" {
				t.Errorf("the page sees %s", errors)
			}
		})
	}
}
