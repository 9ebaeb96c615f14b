package filters

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/client"
)

// request is one that a page makes.
type request struct {
	URL  string `json:"url"`
	Type string `json:"type"` // as blockers name it
	Page string `json:"page"`
}

// blockedBy gives for each request the rule that blocks it, or "".
func blockedBy(t *testing.T, rules string, requests []request) []string {
	t.Helper()
	input, err := json.Marshal(map[string]any{"rules": rules, "requests": requests})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "judge.mjs")
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node judge.mjs: %v (make setup installs what it needs)", err)
	}
	var verdicts []string
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(requests) {
		t.Fatalf("node judge.mjs: %v: %s", err, out)
	}
	return verdicts
}

func rules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOurURLsPass: what pages request from the module is blocked by no generic
// rule, on their own site nor on another one.
func TestOurURLsPass(t *testing.T) {
	t.Parallel()
	const api = "/client-api/v1/"
	paths := map[string]string{
		api + client.Runtime.File():                             "script",
		api + client.Runtime.File() + "#other,x":                "script",
		api + client.RuntimeIdle.File():                         "script",
		api + client.RuntimeLinks.File() + "#,,*":               "script",
		api + "runtime.js":                                      "script",
		api + "session/context.js":                              "script",
		api + "session/context.js?campaign_id=cmp_1":            "script",
		api + "session/context":                                 "xmlhttprequest",
		api + "events/session/init":                             "xmlhttprequest",
		api + "events/session/renew":                            "xmlhttprequest",
		api + "events/session/track":                            "xmlhttprequest",
		api + "events/session/validate":                         "xmlhttprequest",
		api + "events/track":                                    "xmlhttprequest",
		api + "events/batch-track":                              "xmlhttprequest",
		api + "events/external-track":                           "xmlhttprequest",
		api + "consent/record":                                  "xmlhttprequest",
		api + "consent/record?subject_id=u_1&campaign_id=cmp_1": "xmlhttprequest",
		"/track.js": "script",
	}
	var requests []request
	for path, kind := range paths {
		kinds := []string{kind}
		if strings.HasSuffix(path, "/events/batch-track") {
			kinds = append(kinds, "ping") // a beacon
		}
		for _, kind := range kinds {
			for _, page := range []string{"https://lp.example.com/offer/", "https://www.example.org/"} {
				requests = append(requests, request{"https://lp.example.com" + path, kind, page})
			}
		}
	}
	for i, rule := range blockedBy(t, rules(t), requests) {
		if rule != "" {
			t.Errorf("%s of %s is blocked by %s", requests[i].URL, requests[i].Page, rule)
		}
	}
}

// TestTheRulesBlock: the engine and the rules do block what they are for.
func TestTheRulesBlock(t *testing.T) {
	t.Parallel()
	const page = "https://lp.example.com/"
	requests := []request{
		{"https://lp.example.com/v1/analytics.js", "script", page},
		{"https://lp.example.com/api/v1/track/page", "xmlhttprequest", page},
		{"https://lp.example.com/assets/web-vitals.0123456789abcdef.js", "script", page},
		{"https://lp.example.com/client-api/v1/events/track/1", "xmlhttprequest", page},
		{"https://d.example.com/track.js", "script", page},
	}
	for i, rule := range blockedBy(t, rules(t), requests) {
		if rule == "" {
			t.Errorf("%s is not blocked", requests[i].URL)
		}
	}
}
