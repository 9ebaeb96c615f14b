package sessionctx

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// testDocument is the context of a visit with everything in it.
func testDocument(tb testing.TB) *Document {
	tb.Helper()
	ring, c := testRing(tb, 1), testCampaign()
	c.Consent.TermsOfServiceURL = "https://example.com/terms"
	c.Consent.Localization, c.Consent.RespectDNT = true, true
	in := testInput(ring, c, 2)
	in.Consent = Consent{Purposes: Purposes{Analytics: true}, Required: true, Source: ConsentChoice}
	v := newVisit(tb, in)
	v.Session.Assignments = []Assignment{{"hero", "bold"}, {"footer", "x"}}
	v.Session.LandingPageID, v.Session.SegmentID = "lp_3", "mobile"
	v.Session.Attribution = v.Session.Attribution.Return(paidTouch("autumn"))
	token := ring.SealToken(&v.Session, noonMS)
	return &Document{Visit: v, Facts: in.Facts, Token: token, APIBaseURL: "https://lp.example.com", Now: noon}
}

func decoded(tb testing.TB, b []byte) map[string]any {
	tb.Helper()
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		tb.Fatalf("%v in %s", err, b)
	}
	return out
}

// at finds a value by its dotted path.
func at(doc map[string]any, path string) (any, bool) {
	var v any = doc
	for _, key := range strings.Split(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = o[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

func TestTheContextHasEveryFieldWithItsType(t *testing.T) {
	d := testDocument(t)
	s := &d.Visit.Session
	doc := decoded(t, d.Append(nil))
	pair := func(test, variant string) any { return map[string]any{"testId": test, "variantId": variant} }
	touch := func(campaign string) any {
		return map[string]any{
			"timestamp": float64(noonMS), "utm_source": "google", "utm_medium": "cpc", "utm_campaign": campaign, "utm_term": "shoes",
			"utm_content": "a", "ref": "partner", "source": "ads", "referrer": "https://www.google.com/search",
			"landingPage": "/spring?utm_source=google&utm_campaign=" + campaign, "gclid": "Cj0KCQ-" + campaign,
		}
	}
	want := map[string]any{
		"userId": s.UserID, "workspaceId": "ws_1", "projectId": "pr_1", "campaignId": "cmp_1", "landingPageId": "lp_3",
		"segmentId": "mobile", "abTestId": "hero", "abTestVariantId": "bold",
		"abTests":                        []any{pair("hero", "bold"), pair("footer", "x")},
		"session.sessionId":              s.ID,
		"session.createdAt":              float64(noonMS),
		"session.expiresAt":              float64(noonMS + 30*minuteMS),
		"session.abTest":                 pair("hero", "bold"),
		"session.token":                  d.Token,
		"session.renewalCount":           0.0,
		"session.originalSessionId":      s.ID,
		"session.originalTimestamp":      float64(noonMS),
		"serverTime":                     float64(noonMS),
		"gdprSettings.isEnabled":         true,
		"gdprSettings.isEU":              true,
		"gdprSettings.isCalifornian":     false,
		"gdprSettings.language":          "de-DE",
		"gdprSettings.countryCode":       "DE",
		"gdprSettings.termsOfServiceUrl": "https://example.com/terms", "gdprSettings.privacyPolicyUrl": "https://example.com/privacy",
		"gdprSettings.isRequiredConsent": true, "gdprSettings.isIncludedCountry": false,
		"gdprSettings.isRespectDNTEnabled": true, "gdprSettings.isLocalizationEnabled": true,
		"consent.required": true, "consent.analytics": true, "consent.marketing": false, "consent.functional": false, "consent.source": "choice",
		"attribution.original": touch("spring"), "attribution.current": touch("autumn"),
		"campaignEnvironment": "production", "apiBaseUrl": "https://lp.example.com",
		"botDetection.score": 99.0, "botDetection.corporateProxy": false, "botDetection.verifiedBot": false,
	}
	for path, v := range want {
		if got, ok := at(doc, path); !ok || !reflect.DeepEqual(got, v) {
			t.Errorf("%s is %v (%T), want %v", path, got, got, v)
		}
	}
	top := map[string]bool{}
	for path := range want {
		name, _, _ := strings.Cut(path, ".")
		top[name] = true
	}
	if got := slices.Sorted(maps.Keys(doc)); !slices.Equal(got, slices.Sorted(maps.Keys(top))) {
		t.Errorf("fields are %v", got)
	}
}

func TestWhatTheContextSaysOfNothing(t *testing.T) {
	d := testDocument(t)
	s := &d.Visit.Session
	s.SegmentID, s.LandingPageID, s.Assignments = "", "", nil
	s.Attribution = FirstTouch(Touch{Time: noonMS, LandingPage: "/"})
	d.Visit.Campaign.Consent = nil
	d.Visit.Consent = Consent{Purposes: Purposes{true, true, true}, Required: true, Source: ConsentNotRequired}
	d.Facts = &Facts{Language: "en-US"}
	doc := decoded(t, d.Append(nil))
	for path, want := range map[string]any{
		"segmentId": nil, "abTestId": nil, "abTestVariantId": nil, "abTests": []any{},
		"gdprSettings.isEnabled": false, "gdprSettings.isRequiredConsent": false, "gdprSettings.isRespectDNTEnabled": false,
		"gdprSettings.isLocalizationEnabled": false, "gdprSettings.isIncludedCountry": false, "gdprSettings.isEU": false,
		"gdprSettings.countryCode": "US", "gdprSettings.language": "en-US",
		"attribution.original": map[string]any{"timestamp": float64(noonMS), "landingPage": "/"},
		"botDetection.score":   0.0,
	} {
		if got, ok := at(doc, path); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, there: %v, want %v", path, got, ok, want)
		}
	}
	for _, path := range []string{
		"landingPageId", "session.abTest", "attribution.current", "gdprSettings.privacyPolicyUrl", "gdprSettings.termsOfServiceUrl",
	} {
		if got, ok := at(doc, path); ok {
			t.Errorf("%s is there: %v", path, got)
		}
	}
}

func TestWhoHasToBeAskedWhere(t *testing.T) {
	for _, tt := range []struct {
		name                      string
		geo                       Geo
		required                  bool
		eu, californian, included bool
	}{
		{"in the EU", Geo{Country: "DE", IsEU: true}, true, true, false, false},
		{"in California", Geo{Country: "US", RegionCode: "CA"}, true, false, true, false},
		{"in another country that a rule names", Geo{Country: "BR"}, true, false, false, true},
		{"in a country that no rule names", Geo{Country: "BR"}, false, false, false, false},
		{"in the US elsewhere", Geo{Country: "US", RegionCode: "NY"}, false, false, false, false},
		{"in Canada, which is no California", Geo{Country: "CA", RegionCode: "CA"}, false, false, false, false},
		{"nobody knows where", Geo{}, true, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := testDocument(t)
			d.Facts.Geo = tt.geo
			d.Visit.Consent.Required = tt.required
			doc := decoded(t, d.Append(nil))
			for path, want := range map[string]bool{
				"gdprSettings.isRequiredConsent": tt.required, "gdprSettings.isEU": tt.eu,
				"gdprSettings.isCalifornian": tt.californian, "gdprSettings.isIncludedCountry": tt.included,
			} {
				if got, _ := at(doc, path); got != want {
					t.Errorf("%s is %v", path, got)
				}
			}
		})
	}
}

// hostileTexts are what breaks out of scripts, attributes, JSON or XML.
var hostileTexts = []string{
	`</script><script>alert(1)</script>`, `<!--<script>`, `-->`, `]]>`, `<![CDATA[`, `&lt;&amp;`, `';alert(1)//`, `"\`, `\u003c/script>`,
	"\u2028\u2029", "ä€😀\U0010ffff", "\uffff\ufffe\ufdd0", "\x00\x01\x1f\x7f\u0080\u009f", "${x}`", "$&$1", "{{x}}", "{http.request.uri}", "\r\n\t", "\u202e\u200b",
}

// hostileDocument has the text in every field that holds one.
func hostileDocument(tb testing.TB, text string) *Document {
	d := testDocument(tb)
	v := d.Visit
	c, s := v.Campaign, &v.Session
	c.WorkspaceID, c.ProjectID, c.ID, c.Environment = text, text, text, Environment(text)
	c.Consent.PrivacyPolicyURL, c.Consent.TermsOfServiceURL = text, text
	s.ID, s.UserID, s.OriginalID, s.SegmentID, s.LandingPageID = text, text, text, text, text
	s.Assignments = []Assignment{{text, text}}
	touch := Touch{UTM: UTM{text, text, text, text, text}, Ref: text, Source: text, Referrer: text, LandingPage: text, ClickIDs: []ClickID{{"gclid", text}}}
	s.Attribution = FirstTouch(touch).Return(Touch{Ref: text})
	v.Consent.Source = ConsentSource(text)
	d.Facts.Language, d.Facts.Geo.Country = text, text
	d.Token, d.APIBaseURL = text, text
	return d
}

func TestHostileValuesStayValues(t *testing.T) {
	plain := stringsOf(decoded(t, hostileDocument(t, "plain").Append(nil)), "")
	if len(plain) < 25 {
		t.Fatalf("only %d texts", len(plain))
	}
	for _, text := range hostileTexts {
		b := hostileDocument(t, text).Append(nil)
		for i, c := range b {
			if c < 0x20 || c > 0x7e || strings.IndexByte("<>&'", c) >= 0 {
				t.Fatalf("%q: byte %d is %q", text, i, c)
			}
		}
		got := stringsOf(decoded(t, b), "")
		for path, want := range plain {
			if want == "plain" {
				want = text
			}
			if got[path] != want {
				t.Errorf("%s is %q, want %q", path, got[path], want)
			}
		}
	}
}

// stringsOf gives every text of a JSON value by its path.
func stringsOf(v any, path string) map[string]string {
	out := map[string]string{}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			maps.Copy(out, stringsOf(e, path+"."+k))
		}
	case []any:
		for i, e := range v {
			maps.Copy(out, stringsOf(e, fmt.Sprint(path, ".", i)))
		}
	case string:
		out[path] = v
	}
	return out
}

func TestTheScriptElementIsOneScriptInHTMLAndXML(t *testing.T) {
	for _, text := range append(hostileTexts, "plain") {
		for _, nonce := range []string{"", "r4nd0m+/A=="} {
			for _, mode := range []bool{false, true} {
				d := hostileDocument(t, text)
				d.Visit.Campaign.Consent.GoogleConsentMode = mode
				b := d.AppendScript([]byte("<head>"), DefaultVariable, nonce)
				script := string(b[len("<head>"):])
				attrs, body := onlyScript(t, "<!doctype html><html><head>"+script+"<title>t</title></head><body><p>x</p></body></html>")
				want := map[string]string{"data-session-context": ""}
				statement := string(d.AppendStatement(nil, DefaultVariable))
				if nonce != "" {
					want["nonce"] = nonce
					statement = `document.currentScript.removeAttribute("nonce");` + statement
				}
				if !maps.Equal(attrs, want) {
					t.Errorf("attributes are %v", attrs)
				}
				if body != statement {
					t.Errorf("%q: HTML reads\n%s\nwritten was\n%s", text, body, statement)
				}
				if got := xmlText(t, script); got != body {
					t.Errorf("%q: XML reads\n%s\nHTML reads\n%s", text, got, body)
				}
			}
		}
	}
}

// onlyScript parses a page that has to hold exactly one script, in its head.
func onlyScript(tb testing.TB, page string) (attrs map[string]string, text string) {
	tb.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		tb.Fatal(err)
	}
	var seen []string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		seen = append(seen, n.Data)
		if n.Data != "script" {
			continue
		}
		if n.Parent.Data != "head" {
			tb.Errorf("the script is in %s", n.Parent.Data)
		}
		attrs = map[string]string{}
		for _, a := range n.Attr {
			attrs[a.Key] = a.Val
		}
		text = n.FirstChild.Data
	}
	if got := strings.Join(seen, " "); got != "html head script title body p" {
		tb.Fatalf("the page parses as %s", got)
	}
	return attrs, text
}

// xmlText is the text of one well-formed element.
func xmlText(tb testing.TB, element string) string {
	tb.Helper()
	dec := xml.NewDecoder(strings.NewReader(element))
	var text strings.Builder
	elements := 0
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Fatalf("not well-formed: %v\n%s", err, element)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements++
		case xml.CharData:
			text.Write(token)
		}
	}
	if elements != 1 {
		tb.Errorf("%d elements", elements)
	}
	return text.String()
}

func TestTheStatementSetsTheGlobalThenSaysSo(t *testing.T) {
	d := testDocument(t)
	got := string(d.AppendStatement(nil, "__OTHER__"))
	if want := "window.__OTHER__=" + string(d.Append(nil)) + `;window.dispatchEvent(new Event("firebuzz-session-ready"));`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestConsentModeIsSetBeforeTheContextAndSaysWhatIsAllowed(t *testing.T) {
	const begin = `window.dataLayer=window.dataLayer||[];window.gtag=window.gtag||function(){window.dataLayer.push(arguments)};window.gtag("consent","default",`
	for _, tt := range []struct {
		name string
		p    Purposes
	}{
		{"nothing", Purposes{}},
		{"analytics", Purposes{Analytics: true}},
		{"marketing", Purposes{Marketing: true}},
		{"functional", Purposes{Functional: true}},
		{"all", Purposes{true, true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := testDocument(t)
			d.Visit.Campaign.Consent.GoogleConsentMode = true
			d.Visit.Consent.Purposes = tt.p
			statement := string(d.AppendStatement(nil, DefaultVariable))
			rest, ok := strings.CutPrefix(statement, begin)
			if !ok {
				t.Fatalf("begins with %.200s", statement)
			}
			state, rest, _ := strings.Cut(rest, ");")
			if !strings.HasPrefix(rest, "window."+DefaultVariable+"=") {
				t.Errorf("goes on with %.60s", rest)
			}
			word := map[bool]string{true: "granted", false: "denied"}
			want := map[string]any{
				"ad_storage": word[tt.p.Marketing], "ad_user_data": word[tt.p.Marketing], "ad_personalization": word[tt.p.Marketing],
				"analytics_storage":     word[tt.p.Analytics],
				"functionality_storage": word[tt.p.Functional], "personalization_storage": word[tt.p.Functional],
				"security_storage": "granted", "wait_for_update": 500.0,
			}
			if got := decoded(t, []byte(state)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
	t.Run("without the option there is none", func(t *testing.T) {
		d := testDocument(t)
		if s := string(d.AppendStatement(nil, DefaultVariable)); strings.Contains(s, "gtag") {
			t.Error("there is")
		}
		d.Visit.Campaign.Consent = nil
		if s := string(d.AppendStatement(nil, DefaultVariable)); strings.Contains(s, "gtag") {
			t.Error("there is one without a consent block")
		}
	})
}

func TestAContextIsAsSmallAsPromised(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for name, tt := range map[string]struct {
		touch Touch
		most  int
	}{
		"an organic visit": {Touch{LandingPage: "/spring"}, 1700},
		"a paid visit":     {paidTouch("spring"), 2600},
	} {
		in := testInput(ring, c, 2)
		in.Facts.Touch = tt.touch
		v := newVisit(t, in)
		token := ring.SealToken(&v.Session, noonMS)
		d := Document{Visit: v, Facts: in.Facts, Token: token, APIBaseURL: "https://lp.example.com", Now: noon}
		if n := len(d.AppendScript(nil, DefaultVariable, "0123456789abcdef")); n > tt.most {
			t.Errorf("%s has %d bytes, at most %d were promised", name, n, tt.most)
		}
	}
}

func TestStringsAreWrittenAsTheyAreRead(t *testing.T) {
	r := rand.New(seeded(3))
	texts := append([]string{"", `"`, `\`, "\x00", "a\x7fb"}, hostileTexts...)
	for range 2000 {
		var b strings.Builder
		for range r.IntN(20) {
			c := rune(r.IntN(0x110000))
			if c < 0xd800 || c > 0xdfff {
				b.WriteRune(c)
			}
		}
		texts = append(texts, b.String())
	}
	for _, s := range texts {
		for _, script := range []bool{false, true} {
			b := appendString(nil, s, script)
			var got string
			if err := json.Unmarshal(b, &got); err != nil || got != s {
				t.Fatalf("%q is written %s and read %q, %v", s, b, got, err)
			}
		}
	}
	t.Run("broken UTF-8 becomes the replacement character", func(t *testing.T) {
		for _, script := range []bool{false, true} {
			var got string
			if err := json.Unmarshal(appendString(nil, "a\xff\xc3(\xed\xa0\x80", script), &got); err != nil || got != "a\ufffd\ufffd(\ufffd\ufffd\ufffd" {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}

func FuzzDocument(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	d := testDocument(f)
	f.Fuzz(func(t *testing.T, text string) {
		d.Visit.Session.Attribution.Original.UTM.Source = text
		b := d.Append(nil)
		if bytes.ContainsAny(b, "<>&'") || bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Fatalf("%q is written unsafely", text)
		}
		if !json.Valid(b) {
			t.Fatalf("%q gives no JSON", text)
		}
	})
}
