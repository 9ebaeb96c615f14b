package sessionctx

import (
	"net/url"
	"time"
	"unicode/utf8"
)

// ConsentRules are the campaign's `consent` block without its matchers.
type ConsentRules struct {
	// RespectGPC and RespectDNT make the signal a refusal.
	RespectGPC, RespectDNT bool
	PrivacyPolicyURL       string
	TermsOfServiceURL      string
	Localization           bool
	// UserCookie is the lifetime of the user cookie; UserCookieFixed counts
	// it from the first visit instead of the latest.
	UserCookie      time.Duration
	UserCookieFixed bool
	// GoogleConsentMode sets Consent Mode v2 defaults before any tag.
	GoogleConsentMode bool
	// StoreIP keeps the network that a decision came from (TruncateIP) with
	// its record.
	StoreIP bool
}

// DefaultUserCookie is the user cookie's lifetime where nothing else is said:
// browsers cut cookies at 400 days.
const DefaultUserCookie = 395 * 24 * time.Hour

// Purposes are what a visitor agreed to.
type Purposes struct {
	Analytics, Marketing, Functional bool
}

// Choice is an explicit decision of the visitor.
type Choice struct {
	Purposes
	// At is when it was made, in Unix ms.
	At int64
}

// ConsentSource says what a consent state rests on.
type ConsentSource string

const (
	ConsentNotRequired ConsentSource = "not_required"
	ConsentPending     ConsentSource = "pending" // required, and nothing said yet
	ConsentChoice      ConsentSource = "choice"
	ConsentReference   ConsentSource = "frbzz_consent"
	ConsentGPC         ConsentSource = "gpc"
	ConsentDNT         ConsentSource = "dnt"
)

// Consent is what the server knows about a visitor's consent.
type Consent struct {
	Purposes
	// Required is whether this visitor has to be asked.
	Required bool
	Source   ConsentSource
}

// Refused reports whether the visitor, or a signal of the browser, said no;
// one who hasn't been asked yet didn't.
func (c *Consent) Refused() bool { return !c.Analytics && c.Source != ConsentPending }

// DecideConsent weighs what the browser itself carries: the newest explicit
// choice, but nothing over a refusal that we recorded; the signals that the
// campaign respects, unless the visitor told us yes in spite of them; then the
// reference manager's choice, then the rule. A refusal that we recorded counts
// even where the campaign asks nobody (rules is nil).
func DecideConsent(rules *ConsentRules, required bool, f *Facts, ours, reference *Choice) Consent {
	if rules == nil {
		if ours != nil {
			return Consent{Purposes: ours.Purposes, Source: ConsentChoice}
		}
		return Consent{Purposes: Purposes{true, true, true}, Source: ConsentNotRequired}
	}
	switch {
	case ours != nil && (reference == nil || !ours.Analytics || ours.At >= reference.At):
		return Consent{Purposes: ours.Purposes, Required: required, Source: ConsentChoice}
	case ours == nil && rules.RespectGPC && f.GPC:
		return Consent{Required: required, Source: ConsentGPC}
	case ours == nil && rules.RespectDNT && f.DNT:
		return Consent{Required: required, Source: ConsentDNT}
	case reference != nil:
		return Consent{Purposes: reference.Purposes, Required: required, Source: ConsentReference}
	case required:
		return Consent{Required: true, Source: ConsentPending}
	}
	return Consent{Purposes: Purposes{true, true, true}, Source: ConsentNotRequired}
}

// ReferenceConsentCookie is the cookie of the reference consent manager.
const ReferenceConsentCookie = "frbzz_consent"

// ParseReferenceConsent reads the values of all frbzz_consent cookies that a
// request carries. Of several the strictest counts; one that can't be read, or
// is of another version, means no. nil is a visitor who hasn't chosen.
func ParseReferenceConsent(values []string) *Choice {
	var strictest *Choice
	for _, v := range values {
		c, chosen := parseReferenceConsent(v)
		if !chosen {
			continue
		}
		if strictest == nil {
			strictest = &c
			continue
		}
		strictest.Analytics = strictest.Analytics && c.Analytics
		strictest.Marketing = strictest.Marketing && c.Marketing
		strictest.Functional = strictest.Functional && c.Functional
		strictest.At = max(strictest.At, c.At)
	}
	return strictest
}

// parseReferenceConsent reads one value. What a browser script could not have
// written so (names twice, other types, other bytes than UTF-8) can't be read.
func parseReferenceConsent(v string) (c Choice, chosen bool) {
	const maxLen = 2048
	if len(v) > maxLen {
		return Choice{}, true
	}
	if text, err := url.PathUnescape(v); err == nil {
		v = text
	}
	doc, err := ParseBody([]byte(v))
	preferences := doc.Object("preferences")
	if err != nil || !utf8.ValidString(v) || string(doc.Raw("version")) != "1" || preferences == nil {
		return Choice{}, true
	}
	interacted, readable := doc.yes("hasUserInteracted")
	for name, granted := range map[string]*bool{"analytics": &c.Analytics, "marketing": &c.Marketing, "functional": &c.Functional} {
		var ok bool
		*granted, ok = preferences.yes(name)
		readable = readable && ok
	}
	at, ok := 0.0, true
	if doc.Has("timestamp") {
		at, ok = doc.Number("timestamp")
		ok = ok && doc.Raw("timestamp")[0] != '"'
	}
	if !readable || !ok {
		return Choice{}, true
	}
	if !interacted {
		return Choice{}, false
	}
	const year9999 = 253402300799999
	if at > 0 && at < year9999 {
		c.At = int64(at)
	}
	return c, true
}

// yes is the field as a boolean, false where it is missing. ok is false for
// any other type.
func (b Body) yes(name string) (yes, ok bool) {
	switch string(b.Raw(name)) {
	case "true":
		return true, true
	case "", "null", "false":
		return false, true
	}
	return false, false
}
