package sessionctx

import "time"

// DefaultVariable is the global that pages read the context from.
const DefaultVariable = "__FIREBUZZ_SESSION_CONTEXT__"

// Document is all that the injected context says. Its JSON form is a contract
// with the pages and with clients that exist.
type Document struct {
	Visit *Visit
	Facts *Facts
	// Token proves the session to the API.
	Token string
	// APIBaseURL is scheme://host[:port]; clients append /client-api/v1/….
	APIBaseURL string
	Now        time.Time
	// Runtime is the browser runtime's URL, to stand in an attribute as it is;
	// "" leaves it out.
	Runtime string
}

// Append appends the document as JSON: pure ASCII and safe inside a script
// element of HTML and XHTML.
func (d *Document) Append(dst []byte) []byte {
	v, f := d.Visit, d.Facts
	c, s := v.Campaign, &v.Session
	o := object{b: dst, script: true}
	o.open()
	o.str("userId", s.UserID)
	o.str("workspaceId", c.WorkspaceID)
	o.str("projectId", c.ProjectID)
	o.str("campaignId", c.ID)
	o.opt("landingPageId", s.LandingPageID)
	o.orNull("segmentId", s.SegmentID)
	test := s.Test()
	o.orNull("abTestId", test.TestID)
	o.orNull("abTestVariantId", test.VariantID)
	o.key("abTests")
	o.b = append(o.b, '[')
	for i, a := range s.Assignments {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.assignment(a)
	}
	o.b = append(o.b, ']')

	o.key("session")
	o.open()
	o.str("sessionId", s.ID)
	o.int("createdAt", s.CreatedAt)
	o.int("expiresAt", s.ExpiresAt)
	if test.TestID != "" {
		o.key("abTest")
		o.assignment(test)
	}
	o.str("token", d.Token)
	o.int("renewalCount", int64(s.RenewalCount))
	o.str("originalSessionId", s.OriginalID)
	o.int("originalTimestamp", s.OriginalAt)
	o.close()

	o.int("serverTime", d.Now.UnixMilli())
	o.gdprSettings(c.Consent, &v.Consent, f)
	o.key("consent")
	o.open()
	o.bool("required", v.Consent.Required)
	o.bool("analytics", v.Consent.Analytics)
	o.bool("marketing", v.Consent.Marketing)
	o.bool("functional", v.Consent.Functional)
	o.str("source", string(v.Consent.Source))
	o.close()

	o.attribution(s.Attribution)

	o.str("campaignEnvironment", string(c.Environment))
	o.str("apiBaseUrl", d.APIBaseURL)
	o.key("botDetection")
	o.open()
	o.int("score", int64(f.Bot.Score))
	o.bool("corporateProxy", f.Bot.CorporateProxy)
	o.bool("verifiedBot", f.Bot.Verified)
	o.close()
	o.close()
	return o.b
}

func (o *object) assignment(a Assignment) {
	o.open()
	o.str("testId", a.TestID)
	o.str("variantId", a.VariantID)
	o.close()
}

func (o *object) gdprSettings(rules *ConsentRules, consent *Consent, f *Facts) {
	o.key("gdprSettings")
	o.open()
	o.bool("isEnabled", rules != nil)
	o.bool("isRequiredConsent", rules != nil && consent.Required)
	o.bool("isEU", f.Geo.IsEU)
	o.bool("isCalifornian", f.Geo.IsCalifornian())
	o.bool("isIncludedCountry", rules != nil && consent.Required && !f.Geo.IsEU && !f.Geo.IsCalifornian() && f.Geo.Known())
	o.bool("isRespectDNTEnabled", rules != nil && rules.RespectDNT)
	o.bool("isLocalizationEnabled", rules != nil && rules.Localization)
	o.str("language", f.Language)
	country := f.Geo.Country
	if country == "" {
		country = "US" // the reference's default, which its clients rely on
	}
	o.str("countryCode", country)
	if rules != nil {
		o.opt("privacyPolicyUrl", rules.PrivacyPolicyURL)
		o.opt("termsOfServiceUrl", rules.TermsOfServiceURL)
	}
	o.close()
}

// maxShownAttribution bounds the attribution in the document, in bytes of JSON:
// a byte of a client's text may take six there.
const maxShownAttribution = 2048

// attribution writes both touches, `current` only where it differs. What does
// not fit is left out of the current touch first; token and rows have all.
func (o *object) attribution(a Attribution) {
	start := len(o.b)
	for {
		same := a.Current.SameSource(&a.Original)
		o.key("attribution")
		o.open()
		if a.Source != AttributionServer {
			o.str("source", string(a.Source))
		}
		o.key("original")
		o.touch(&a.Original)
		if !same {
			o.key("current")
			o.touch(&a.Current)
		}
		o.close()
		if len(o.b)-start <= maxShownAttribution {
			return
		}
		if same {
			a.Original.shed()
			a.Current = a.Original
		} else if !a.Current.shed() {
			a.Current = a.Original
		}
		o.b = o.b[:start]
	}
}

// touch writes a touch in the shape of the reference client's attribution
// cookie; empty fields are left out.
func (o *object) touch(t *Touch) {
	o.open()
	o.int("timestamp", t.Time)
	o.opt("utm_source", t.UTM.Source)
	o.opt("utm_medium", t.UTM.Medium)
	o.opt("utm_campaign", t.UTM.Campaign)
	o.opt("utm_term", t.UTM.Term)
	o.opt("utm_content", t.UTM.Content)
	o.opt("ref", t.Ref)
	o.opt("source", t.Source)
	o.opt("referrer", t.Referrer)
	o.opt("landingPage", t.LandingPage)
	for _, c := range t.ClickIDs {
		o.opt(c.Name, c.Value)
	}
	o.close()
}

// AppendScript appends the script element that gives the page its context, and
// before it the runtime's. They are well-formed XML too. variable names the global; nonce may be empty.
func (d *Document) AppendScript(dst []byte, variable, nonce string) []byte {
	dst = AppendRuntime(dst, d.Runtime, nonce)
	dst = append(dst, `<script data-session-context=""`...)
	dst = AppendNonce(dst, nonce)
	dst = append(dst, '>')
	if nonce != "" {
		// A page that copies the first nonce it finds has to find its own. That
		// of the runtime has been looked at when its script began to load.
		dst = append(dst, `document.currentScript.removeAttribute("nonce");`...)
		if d.Runtime != "" {
			dst = append(dst, `document.currentScript.previousSibling.removeAttribute("nonce");`...)
		}
	}
	dst = d.AppendStatement(dst, variable)
	return append(dst, "</script>"...)
}

// AppendNonce appends a nonce's attribute, if there is one.
func AppendNonce(dst []byte, nonce string) []byte {
	if nonce == "" {
		return dst
	}
	dst = append(dst, ` nonce="`...)
	dst = append(dst, nonce...)
	return append(dst, '"')
}

// AppendRuntime appends the script element of the browser runtime, if there is
// a URL. It waits for nothing and nothing waits for it; browsers without modules
// don't look at it. It stands before the context's, which takes its nonce away.
func AppendRuntime(dst []byte, url, nonce string) []byte {
	if url == "" {
		return dst
	}
	dst = append(dst, `<script data-session-context="" type="module" async=""`...)
	dst = AppendNonce(dst, nonce)
	dst = append(dst, ` src="`...)
	dst = append(dst, url...)
	return append(dst, `"></script>`...)
}

// AppendStatement appends the JavaScript that sets the global and says so.
func (d *Document) AppendStatement(dst []byte, variable string) []byte {
	if r := d.Visit.Campaign.Consent; r != nil && r.GoogleConsentMode {
		dst = appendConsentMode(dst, &d.Visit.Consent)
	}
	dst = append(dst, "window."...)
	dst = append(dst, variable...)
	dst = append(dst, '=')
	dst = d.Append(dst)
	return append(dst, `;window.dispatchEvent(new Event("firebuzz-session-ready"));`...)
}

// appendConsentMode appends Google Consent Mode v2 defaults, which have to be
// set before any tag runs. Later changes are the page's consent manager's.
func appendConsentMode(dst []byte, c *Consent) []byte {
	state := func(granted bool) string {
		if granted {
			return `"granted"`
		}
		return `"denied"`
	}
	o := object{b: append(dst, `window.dataLayer=window.dataLayer||[];window.gtag=window.gtag||function(){window.dataLayer.push(arguments)};window.gtag("consent","default",`...)}
	o.open()
	for _, p := range [...]struct {
		name    string
		granted bool
	}{
		{"ad_storage", c.Marketing}, {"ad_user_data", c.Marketing}, {"ad_personalization", c.Marketing},
		{"analytics_storage", c.Analytics},
		{"functionality_storage", c.Functional}, {"personalization_storage", c.Functional},
		{"security_storage", true},
	} {
		o.key(p.name)
		o.b = append(o.b, state(p.granted)...)
	}
	o.int("wait_for_update", 500)
	o.close()
	return append(o.b, ");"...)
}
