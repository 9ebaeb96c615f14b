package sessionctx

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// claimBody is what the reference manager posts, changed by kv; a nil value
// leaves the field out.
func claimBody(tb testing.TB, kv ...any) Body {
	tb.Helper()
	m := map[string]any{
		"workspace_id": "ws_1", "project_id": "pr_1", "campaign_id": "cmp_1", "subject_id": "s", "domain": "lp.example.com",
		"purposes":        map[string]any{"essential": true, "analytics": true, "marketing": false, "functional": true},
		"expires_in_days": 365,
	}
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == nil {
			delete(m, kv[i].(string))
		} else {
			m[kv[i].(string)] = kv[i+1]
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := ParseBody(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestTheReferenceManagersClaimIsRead(t *testing.T) {
	c, err := ParseConsentClaim(claimBody(t), "other.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	want := ConsentClaim{
		WorkspaceID: "ws_1", ProjectID: "pr_1", CampaignID: "cmp_1", SubjectID: "s", Domain: "lp.example.com",
		Essential: true, Purposes: Purposes{Analytics: true, Functional: true}, Days: 365, Source: "unspecified",
	}
	if *c != want {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
}

func TestWhatAClaimMaySay(t *testing.T) {
	purposes := func(kv ...any) map[string]any {
		m := map[string]any{"analytics": true, "marketing": true, "functional": true}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		kv    []any
		check func(c *ConsentClaim) bool
	}{
		{"essential is granted where nothing is said", []any{"purposes", purposes()}, func(c *ConsentClaim) bool { return c.Essential }},
		{"necessary is essential", []any{"purposes", purposes("necessary", false)}, func(c *ConsentClaim) bool { return !c.Essential }},
		{"other purposes are left out", []any{"purposes", purposes("profiling", "yes")}, func(c *ConsentClaim) bool { return c.Purposes == Purposes{true, true, true} }},
		{"a refusal is a claim", []any{"purposes", purposes("analytics", false, "marketing", false, "functional", false)}, func(c *ConsentClaim) bool { return c.Purposes == Purposes{} }},
		{"days have a default", []any{"expires_in_days", nil}, func(c *ConsentClaim) bool { return c.Days == DefaultConsentDays }},
		{"one day is enough", []any{"expires_in_days", 1}, func(c *ConsentClaim) bool { return c.Days == 1 }},
		{"five years are the most", []any{"expires_in_days", MaxConsentDays}, func(c *ConsentClaim) bool { return c.Days == MaxConsentDays }},
		{"a whole number may be spelled as a fraction", []any{"expires_in_days", json.Number("30.0")}, func(c *ConsentClaim) bool { return c.Days == 30 }},
		{"the domain is in lower case, without its last dot", []any{"domain", "LP.Example.com."}, func(c *ConsentClaim) bool { return c.Domain == "lp.example.com" }},
		{"the domain may be an address", []any{"domain", "127.0.0.1"}, func(c *ConsentClaim) bool { return c.Domain == "127.0.0.1" }},
		{"or one of IPv6", []any{"domain", "[::1]"}, func(c *ConsentClaim) bool { return c.Domain == "[::1]" }},
		{"with a token the page's host is the domain", []any{"domain", nil, "token", "t", "subject_id", nil, "campaign_id", nil, "workspace_id", nil, "project_id", nil},
			func(c *ConsentClaim) bool { return c.Domain == "page.example.com" && c.Token == "t" && c.Tokened }},
		{"a token of another type is one", []any{"token", map[string]any{}}, func(c *ConsentClaim) bool { return c.Tokened && c.Token == "" }},
		{"an empty token is none", []any{"token", ""}, func(c *ConsentClaim) bool { return !c.Tokened }},
		{"source is a word", []any{"source", "banner"}, func(c *ConsentClaim) bool { return c.Source == "banner" }},
		{"and nothing else", []any{"source", "The Banner"}, func(c *ConsentClaim) bool { return c.Source == "unspecified" }},
		{"policy_version is cut", []any{"policy_version", strings.Repeat("v", 100)}, func(c *ConsentClaim) bool { return len(c.PolicyVersion) == 64 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConsentClaim(claimBody(t, tt.kv...), "page.example.com:8443")
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(c) {
				t.Errorf("got %+v", *c)
			}
		})
	}
}

func TestWhatAClaimMayNotSay(t *testing.T) {
	with := func(name string, v any) map[string]any {
		return map[string]any{"analytics": true, "marketing": true, "functional": true, name: v}
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, tt := range []struct {
		name    string
		kv      []any
		text    string
		missing bool
	}{
		{"no subject", []any{"subject_id", nil}, "subject_id", true},
		{"an empty subject", []any{"subject_id", ""}, "subject_id", true},
		{"a subject that is an object", []any{"subject_id", map[string]any{}}, "subject_id", true},
		{"no workspace", []any{"workspace_id", nil}, "workspace_id", true},
		{"no project", []any{"project_id", nil}, "project_id", true},
		{"no campaign", []any{"campaign_id", nil}, "campaign_id", true},
		{"no domain", []any{"domain", nil}, "domain", true},
		{"a domain of control characters", []any{"domain", "\x01\x02"}, "domain", true},
		{"a domain with a scheme", []any{"domain", "https://a.example"}, "domain", false},
		{"a domain with a port", []any{"domain", "a.example:80"}, "domain", false},
		{"a domain that is a dot", []any{"domain", "."}, "domain", false},
		{"a domain that is too long", []any{"domain", strings.Repeat("a", 254)}, "domain", false},
		{"an address without its end", []any{"domain", "[::1"}, "domain", false},
		{"an address of IPv4 in brackets", []any{"domain", "[127.0.0.1]"}, "domain", false},
		{"no purposes", []any{"purposes", nil}, "purposes is missing", false},
		{"purposes that are null", []any{"purposes", raw("null")}, "purposes is missing", false},
		{"purposes that are a list", []any{"purposes", []string{"analytics"}}, "purposes is not an object", false},
		{"a purpose that occurs twice", []any{"purposes", raw(`{"analytics":false,"analytics":true,"marketing":true,"functional":true}`)}, "names one twice", false},
		{"a missing purpose", []any{"purposes", map[string]any{"analytics": true, "marketing": true}}, "purposes.functional is missing", false},
		{"a yes as text", []any{"purposes", with("analytics", "true")}, "purposes.analytics is neither", false},
		{"a yes as a number", []any{"purposes", with("marketing", 1)}, "purposes.marketing is neither", false},
		{"a purpose that is null", []any{"purposes", with("functional", nil)}, "purposes.functional is neither", false},
		{"essential as text", []any{"purposes", with("essential", "yes")}, "purposes.essential is neither", false},
		{"no day at all", []any{"expires_in_days", 0}, "expires_in_days", false},
		{"days below zero", []any{"expires_in_days", -1}, "expires_in_days", false},
		{"half a day", []any{"expires_in_days", 0.5}, "expires_in_days", false},
		{"too many days", []any{"expires_in_days", MaxConsentDays + 1}, "expires_in_days", false},
		{"more days than a number holds", []any{"expires_in_days", raw("1e999")}, "expires_in_days", false},
		{"days as text", []any{"expires_in_days", "365"}, "expires_in_days", false},
		{"days as a yes", []any{"expires_in_days", true}, "expires_in_days", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConsentClaim(claimBody(t, tt.kv...), "page.example.com")
			if err == nil {
				t.Fatalf("taken as %+v", *c)
			}
			if !strings.Contains(err.Error(), tt.text) || errors.Is(err, ErrMissingField) != tt.missing {
				t.Errorf("%v; a missing field: %v", err, errors.Is(err, ErrMissingField))
			}
		})
	}
}

func FuzzParseConsentClaim(f *testing.F) {
	f.Add(`{"token":"t","purposes":{"analytics":true,"marketing":false,"functional":true},"expires_in_days":1}`, "h")
	f.Add(`{"workspace_id":"w","project_id":"p","campaign_id":"c","subject_id":"s","domain":"[::1]","purposes":{"analytics":true,"marketing":false,"functional":true,"necessary":true}}`, "h")
	check := rowChecker(f, ConsentDatasource)
	ring, c := testRing(f, 1), testCampaign()
	f.Fuzz(func(t *testing.T, body, host string) {
		b, err := ParseBody([]byte(body))
		if err != nil {
			return
		}
		claim, err := ParseConsentClaim(b, host)
		if err != nil {
			return
		}
		if claim.SubjectID == "" {
			claim.SubjectID = "s" // the token's
		}
		rec, err := NewConsentRecord(claim, ConsentBySubject, c, nil, humanFacts(), noonMS, seeded(3))
		if err != nil {
			t.Fatal(err)
		}
		rec.Follow(nil, 1)
		if err := check(rec.AppendRow(nil, c, ConsentActive, noonMS)); err != nil {
			t.Fatal(err)
		}
		if got, ok := ring.OpenConsent(ring.SealConsent(rec, noonMS)); !ok || *got != *rec {
			t.Fatalf("sealed %+v, opened %+v", rec, got)
		}
	})
}
