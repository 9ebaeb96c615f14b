package tests

import (
	"fmt"
	"slices"
	"strings"
)

// cell is one combination of all that decides about cookies.
type cell struct {
	rule       string // no consent block, never, always, eu
	respect    string // what `respect` names: none, gpc, dnt, gpc dnt
	gpc, dnt   bool
	country    string // DE or US
	ours       string // the choice cookie: none, yes, no, unreadable
	reference  string // frbzz_consent: none, older or newer than ours, yes or no, unreadable
	cookieless bool
	before     string // before_consent
	// full is a browser that has our cookies and the reference client's, of
	// this campaign and others.
	full bool
}

var (
	cellRules      = []string{"no block", "never", "always", "eu"}
	cellRespects   = []string{"none", "gpc", "dnt", "gpc dnt"}
	cellOurs       = []string{"none", "yes", "no", "unreadable"}
	cellReferences = []string{"none", "older yes", "newer yes", "older no", "newer no", "unreadable"}
	cellBefore     = []string{"daily_hash", "random"}
	cellBools      = []bool{false, true}
)

// everyCell calls f with each, but for before_consent, which is before's.
func everyCell(before []string, f func(cell)) {
	for _, rule := range cellRules {
		for _, respect := range cellRespects {
			for signals := range 4 {
				for _, country := range []string{"DE", "US"} {
					for _, ours := range cellOurs {
						for _, reference := range cellReferences {
							for _, cookieless := range cellBools {
								for _, full := range cellBools {
									for _, b := range before {
										f(cell{rule, respect, signals&1 != 0, signals&2 != 0, country, ours, reference, cookieless, b, full})
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func (c cell) String() string {
	return fmt.Sprintf("rule %s, respect %s, GPC %v, DNT %v, %s, choice %s, frbzz_consent %s, cookieless %v, before_consent %s, full jar %v",
		c.rule, c.respect, c.gpc, c.dnt, c.country, c.ours, c.reference, c.cookieless, c.before, c.full)
}

// outcome is what has to come of a cell, as the design says it.
type outcome struct {
	enabled, required, eu, respectDNT bool
	analytics                         bool
	source                            string
	// sets is whether the three cookies have to be in the browser afterwards,
	// removes what has to be gone of those that may be there.
	sets    bool
	removes []string
	// keyed is whether a visitor key may be computed where no cookie says who
	// it is, visitorDay whether rows have the column of it.
	keyed, visitorDay bool
}

// The cookies of a full jar, besides those of other programs.
const (
	ownReference   = "frbzz_uid frbzz_session_CAMPAIGN"
	otherReference = "frbzz_uid_x frbzz_session_x frbzz_attr_x"
	ownCookies     = "fb_user fb_session fb_attribution"
)

// model is the design's §6 in a page, and calls nothing of what it judges.
func (c cell) model() outcome {
	o := outcome{
		enabled:    c.rule != "no block",
		required:   c.rule == "always" || c.rule == "eu" && c.country == "DE",
		eu:         c.country == "DE",
		respectDNT: c.rule != "no block" && strings.Contains(c.respect, "dnt"),
	}
	gpc := c.gpc && strings.Contains(c.respect, "gpc")
	dnt := c.dnt && strings.Contains(c.respect, "dnt")
	// What can't be read means no. A frbzz_consent that can't be read has no
	// time, so nothing readable is older.
	no := map[string]bool{"no": true, "unreadable": true, "older no": true, "newer no": true}
	switch {
	case no[c.ours]: // nothing over a refusal of ours, even where nobody is asked
		o.source = "choice"
	case !o.enabled && c.ours == "yes":
		o.analytics, o.source = true, "choice"
	case !o.enabled: // never asked for
		o.analytics, o.source = true, "not_required"
	case c.ours == "yes" && strings.HasPrefix(c.reference, "newer"): // the newest wins
		o.analytics, o.source = !no[c.reference], "frbzz_consent"
	case c.ours == "yes": // told us in spite of a signal
		o.analytics, o.source = true, "choice"
	case gpc:
		o.source = "gpc"
	case dnt:
		o.source = "dnt"
	case c.reference != "none":
		o.analytics, o.source = !no[c.reference], "frbzz_consent"
	case o.required:
		o.source = "pending"
	default:
		o.analytics, o.source = true, "not_required"
	}
	o.sets = o.analytics && !c.cookieless
	if c.full && !o.sets {
		o.removes = strings.Fields(ownCookies)
		if !o.analytics {
			o.removes = append(o.removes, strings.Fields(ownReference)...)
			if o.source != "pending" {
				o.removes = append(o.removes, strings.Fields(otherReference)...)
			}
		}
		slices.Sort(o.removes)
	}
	// `random` computes none; refusal, GPC or DNT end it for that browser,
	// whatever the campaign respects. Who has agreed counts by his cookie.
	o.visitorDay = c.before == "daily_hash" && !c.gpc && !c.dnt && (o.source == "pending" || o.analytics && c.cookieless)
	agreed := o.analytics && o.source != "not_required" && !c.full // and his cookies are still to come
	o.keyed = o.visitorDay || c.before == "daily_hash" && !c.gpc && !c.dnt && agreed
	return o
}

// shortNames are names of cookies without what is the campaign's or the origin's.
func shortNames(names []string, campaign, workspace string) []string {
	out := []string{}
	for _, n := range names {
		n = strings.TrimPrefix(n, "__Host-")
		n = strings.ReplaceAll(n, "frbzz_session_"+campaign, "frbzz_session_CAMPAIGN")
		if rest, ours := strings.CutPrefix(n, "fb_"); ours {
			rest = strings.TrimSuffix(strings.TrimSuffix(rest, "_"+campaign), "_"+workspace)
			n = "fb_" + rest
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// check compares an answer's cookies with the model. had is whether the
// browser had the three already.
func (o *outcome) checkCookies(set, removed []string, had bool) error {
	want := []string{}
	if o.sets && !had {
		want = strings.Fields(ownCookies)
		slices.Sort(want)
	}
	if !slices.Equal(set, want) {
		return fmt.Errorf("sets %v, want %v", set, want)
	}
	if !slices.Equal(removed, append([]string{}, o.removes...)) {
		return fmt.Errorf("removes %v, want %v", removed, o.removes)
	}
	return nil
}

// checkContext compares the injected document with the model.
func (o *outcome) checkContext(s *sessionContext) error {
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"gdprSettings.isEnabled", s.GDPRSettings["isEnabled"], o.enabled},
		{"gdprSettings.isRequiredConsent", s.GDPRSettings["isRequiredConsent"], o.required},
		{"gdprSettings.isEU", s.GDPRSettings["isEU"], o.eu},
		{"gdprSettings.isRespectDNTEnabled", s.GDPRSettings["isRespectDNTEnabled"], o.respectDNT},
		{"consent.required", s.Consent["required"], o.required},
		{"consent.analytics", s.Consent["analytics"], o.analytics},
		{"consent.marketing", s.Consent["marketing"], o.analytics},
		{"consent.functional", s.Consent["functional"], o.analytics},
		{"consent.source", s.Consent["source"], o.source},
	} {
		if f.got != f.want {
			return fmt.Errorf("%s is %v, want %v", f.name, f.got, f.want)
		}
	}
	return nil
}
