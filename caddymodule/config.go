package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Defaults of a campaign; also what the fields' comments say.
const (
	defaultAPIPath           = "/client-api/v1"
	defaultSessionDuration   = 30 * time.Minute
	minSessionDuration       = time.Second
	maxSessionDuration       = 24 * time.Hour
	shortSessionDuration     = 5 * time.Minute
	defaultAttributionWindow = 30 * 24 * time.Hour
	defaultLegacyIDs         = 24 * time.Hour
	defaultRequestsPerMinute = 600
	defaultBurst             = 120
	maxTests                 = 12
)

// Campaign is one campaign as an operator writes it.
type Campaign struct {
	// The workspace that the campaign belongs to. Visitors are recognised
	// within a workspace. Required; like all ids 1 to 64 letters, digits,
	// `_` and `-`.
	Workspace string `json:"workspace,omitempty"`
	// The project that the campaign belongs to. Required.
	Project string `json:"project,omitempty"`
	// The campaign's id. Required.
	Campaign string `json:"campaign,omitempty"`
	// The id of the landing page for visitors whom no segment or variant
	// sends elsewhere. Placeholders are allowed; they are resolved when
	// segment and variants are known.
	LandingPage string `json:"landing_page,omitempty"`
	// `production` (default), or `preview` for a campaign under
	// construction; preview pages write no traffic rows.
	CampaignEnvironment string `json:"campaign_environment,omitempty"`
	// This deployment: `dev`, `preview` or `production` (default).
	Environment string `json:"environment,omitempty"`

	// How long a session lasts, 1s to 24h. Default: 30m.
	SessionDuration caddy.Duration `json:"session_duration,omitempty"`
	// How long a visitor's first touch is kept, and how old a line of
	// renewed sessions may grow. Default: 30d.
	AttributionWindow caddy.Duration `json:"attribution_window,omitempty"`
	// How long after a session was made its ids alone prove it to the API,
	// for pages with an older client. 0 switches that off. Default: 24h.
	LegacyIDs *caddy.Duration `json:"legacy_ids,omitempty"`

	// Path of the API. Pages always reach it under `/client-api/v1` too.
	// Default: `/client-api/v1`.
	APIPath string `json:"api_path,omitempty"`
	// Scheme and host that pages reach the API at, without trailing slash.
	// Default: those of the page's own request.
	APIBaseURL string `json:"api_base_url,omitempty"`
	// Origins of other sites that may call the API, for example
	// `https://www.example.com`. The site's own origin always may.
	AllowOrigin []string `json:"allow_origin,omitempty"`
	// Further hosts of the same operator, `www.example.com` or
	// `*.example.com` for all below: who comes from one has no referrer. The
	// hosts of the sites that have the campaign are known anyway.
	OwnHosts []string `json:"own_hosts,omitempty"`
	// Bounds on API requests of one client.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`

	// `cookie` (default), or `cookieless` to never set one.
	Identity string `json:"identity,omitempty"`
	// What is computed about visitors without cookies: `daily_hash`
	// (default), a key of address and user agent that lasts a day and is
	// destroyed after two, or `random`, which is nothing.
	BeforeConsent string `json:"before_consent,omitempty"`
	// Consent rules. Left out: consent is not asked for.
	Consent *Consent `json:"consent,omitempty"`

	// Segments in order; a visitor belongs to the first that matches.
	Segments []*Segment `json:"segments,omitempty"`
	// A/B tests in order.
	ABTests []*ABTest `json:"ab_tests,omitempty"`

	// How pages get their context: `inline` (default), `loader` for pages
	// that a shared cache keeps, or `off`.
	Inject string `json:"inject,omitempty"`
	// The global variable that holds the context. Default:
	// `__FIREBUZZ_SESSION_CONTEXT__`, which existing clients read.
	Variable string `json:"variable,omitempty"`
	// When a visit counts: at the first sign of life of the page's script
	// (`script`, default), or with the page (`page`).
	Visit string `json:"visit,omitempty"`
	// Whether injected pages ask Chromium, by Accept-CH, for its full version
	// and the speed of its network (`on`, default): only where consent is not
	// required or was given. `off` asks for nothing.
	ClientHints string `json:"client_hints,omitempty"`
	// Also put session, user and campaign id into the access log of pages.
	LogIDs bool `json:"log_ids,omitempty"`
	// Say in a response header why a page was or wasn't injected.
	Debug bool `json:"debug,omitempty"`
}

// RateLimit bounds the API requests of one client (an IPv4 address, or an
// IPv6 /64).
type RateLimit struct {
	// Requests a minute, in the long run. Default: 600.
	PerMinute int `json:"per_minute,omitempty"`
	// Requests at once. Default: 120.
	Burst int `json:"burst,omitempty"`
}

// Consent says whom to ask for consent, and what counts as an answer.
type Consent struct {
	// Visitors who must be asked: any of these matcher sets.
	RequireRaw caddyhttp.RawMatcherSets `json:"require,omitempty" caddy:"namespace=http.matchers"`
	// Every visitor must be asked.
	RequireAlways bool `json:"require_always,omitempty"`
	// Browser signals that count as a refusal: `gpc` (default), `dnt`;
	// an empty list means none.
	Respect *[]string `json:"respect,omitempty"`
	// URL of the privacy policy, told to the page.
	PrivacyPolicy string `json:"privacy_policy,omitempty"`
	// URL of the terms of service, told to the page.
	Terms string `json:"terms,omitempty"`
	// Whether the consent manager speaks the visitor's language.
	Localization bool `json:"localization,omitempty"`
	// Lifetime of the user cookie. Default: 395d.
	UserCookie caddy.Duration `json:"user_cookie,omitempty"`
	// Count the lifetime from the first visit; later visits don't prolong it.
	UserCookieFixed bool `json:"user_cookie_fixed,omitempty"`
	// Set Google Consent Mode v2 defaults before any tag.
	GoogleConsentMode bool `json:"google_consent_mode,omitempty"`
	// Keep the network that a decision came from (the /24 of an IPv4 address,
	// the /48 of an IPv6 one) with its record. Default: no part of it.
	StoreIP bool `json:"store_ip,omitempty"`

	require caddyhttp.MatcherSets
}

// Segment is a named part of the visitors.
type Segment struct {
	ID string `json:"id,omitempty"`
	// Who belongs to it: any of these matcher sets; empty means everyone.
	// Path and query matchers see the request as rewritten.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`
	// Landing page of the segment's visitors, instead of the campaign's.
	LandingPage string `json:"landing_page,omitempty"`

	matchers caddyhttp.MatcherSets
	everyone bool // the Caddyfile says `*`
}

// placeholderPattern is an id with at least one placeholder in it.
var placeholderPattern = regexp.MustCompile(`^[A-Za-z0-9_-]*(\{[^{}\s]+\}[A-Za-z0-9_-]*)+$`)

var variablePattern = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]{0,63}$`)

// values checks the campaign and gives it as the domain's values. Errors name
// the option, the value and the remedy.
func (c *Campaign) values() (*sessionctx.Campaign, error) {
	for _, id := range []struct{ option, value string }{
		{"workspace", c.Workspace}, {"project", c.Project}, {"campaign", c.Campaign},
	} {
		if id.value == "" {
			return nil, fmt.Errorf("%s is missing: name it with a line `%s <id>`", id.option, id.option)
		}
		if err := checkID(id.option, id.value); err != nil {
			return nil, err
		}
	}
	if c.LandingPage != "" && !placeholderPattern.MatchString(c.LandingPage) {
		if err := checkID("landing_page", c.LandingPage); err != nil {
			return nil, wrongIn(c, "landing_page", err)
		}
	}
	out := &sessionctx.Campaign{
		CampaignRef:   sessionctx.CampaignRef{ID: c.Campaign},
		WorkspaceID:   c.Workspace,
		ProjectID:     c.Project,
		LandingPageID: c.LandingPage,
	}
	environment, err := choice("campaign_environment", c.CampaignEnvironment, "production", "preview")
	if err != nil {
		return nil, err
	}
	out.Environment = sessionctx.Environment(environment)
	if out.Deployment, err = choice("environment", c.Environment, "production", "preview", "dev"); err != nil {
		return nil, err
	}
	if out.SessionDuration, err = duration("session_duration", c.SessionDuration, defaultSessionDuration, minSessionDuration, maxSessionDuration); err != nil {
		return nil, wrongIn(c, "session_duration", err)
	}
	if out.AttributionWindow, err = duration("attribution_window", c.AttributionWindow, defaultAttributionWindow, out.SessionDuration, 400*24*time.Hour); err != nil {
		return nil, wrongIn(c, "attribution_window", err)
	}
	out.LegacyIDs = defaultLegacyIDs
	if c.LegacyIDs != nil {
		out.LegacyIDs = time.Duration(*c.LegacyIDs)
		if out.LegacyIDs < 0 || out.LegacyIDs > 30*24*time.Hour {
			return nil, wrongIn(c, "legacy_ids", fmt.Errorf("legacy_ids %s is not between 0 (off) and 30d", shortDuration(out.LegacyIDs)))
		}
	}
	identity, err := choice("identity", c.Identity, "cookie", "cookieless")
	if err != nil {
		return nil, err
	}
	out.Cookies = identity == "cookie"
	before, err := choice("before_consent", c.BeforeConsent, "daily_hash", "random")
	if err != nil {
		return nil, err
	}
	out.VisitorKeys = before == "daily_hash"
	if _, err := choice("inject", c.Inject, "inline", "loader", "off"); err != nil {
		return nil, err
	}
	if _, err := choice("visit", c.Visit, "script", "page"); err != nil {
		return nil, err
	}
	if _, err := choice("client_hints", c.ClientHints, "on", "off"); err != nil {
		return nil, err
	}
	if c.Variable != "" && !variablePattern.MatchString(c.Variable) {
		return nil, wrongIn(c, "variable", fmt.Errorf("variable %q is not a JavaScript name of at most 64 characters, like %s", c.Variable, sessionctx.DefaultVariable))
	}
	if c.APIPath != "" {
		if err := checkAPIPath(c.APIPath); err != nil {
			return nil, err
		}
	}
	if c.APIBaseURL != "" {
		if err := checkOrigin("api_base_url", c.APIBaseURL); err != nil {
			return nil, err
		}
	}
	for _, o := range c.AllowOrigin {
		if err := checkOrigin("allow_origin", o); err != nil {
			return nil, err
		}
	}
	if err := checkOwnHosts(c.OwnHosts); err != nil {
		return nil, err
	}
	if c.RateLimit != nil && (c.RateLimit.PerMinute < 1 || c.RateLimit.Burst < 1) {
		return nil, fmt.Errorf("rate_limit %d %d: requests a minute and burst are both at least 1", c.RateLimit.PerMinute, c.RateLimit.Burst)
	}
	if out.Consent, err = c.Consent.values(); err != nil {
		return nil, err
	}
	if i := slices.Index(c.Segments, nil); i >= 0 {
		return nil, fmt.Errorf("segment %d is null: give it an id, or leave it out", i+1)
	}
	for i, s := range c.Segments {
		if err := checkID("segment", s.ID); err != nil {
			return nil, wrongIn(s, "", err)
		}
		if s.LandingPage != "" {
			if err := checkID("landing_page of segment "+s.ID, s.LandingPage); err != nil {
				return nil, wrongIn(s, "", err)
			}
		}
		if out.Segment(s.ID) != nil {
			return nil, wrongIn(s, "", fmt.Errorf("segment %s is defined twice: give each segment an id of its own", s.ID))
		}
		if len(s.MatcherSetsRaw) == 0 && i < len(c.Segments)-1 {
			return nil, wrongIn(s, "", fmt.Errorf("segment %s has no matcher and takes everyone, so segment %s after it never matches: put it last", s.ID, c.Segments[i+1].ID))
		}
		out.Segments = append(out.Segments, sessionctx.Segment{ID: s.ID, LandingPageID: s.LandingPage})
	}
	if len(c.ABTests) > maxTests {
		return nil, wrongIn(c.ABTests[maxTests], "", fmt.Errorf("%d A/B tests are more than %d: assignments travel in cookies, which have no room for more", len(c.ABTests), maxTests))
	}
	for i, t := range c.ABTests {
		if t == nil {
			return nil, fmt.Errorf("ab_test %d is null: give it an id, or leave it out", i+1)
		}
		test, err := t.values(out)
		if err != nil {
			return nil, err
		}
		out.Tests = append(out.Tests, *test)
	}
	return out, nil
}

func (c *Consent) values() (*sessionctx.ConsentRules, error) {
	if c == nil {
		return nil, nil
	}
	rules := &sessionctx.ConsentRules{
		RespectGPC:        true,
		PrivacyPolicyURL:  c.PrivacyPolicy,
		TermsOfServiceURL: c.Terms,
		Localization:      c.Localization,
		UserCookieFixed:   c.UserCookieFixed,
		GoogleConsentMode: c.GoogleConsentMode,
		StoreIP:           c.StoreIP,
	}
	if c.Respect != nil {
		rules.RespectGPC = false
		for _, s := range *c.Respect {
			switch s {
			case "gpc":
				rules.RespectGPC = true
			case "dnt":
				rules.RespectDNT = true
			default:
				return nil, fmt.Errorf("respect %q: known are gpc and dnt, or none alone", s)
			}
		}
	}
	if c.RequireAlways && len(c.RequireRaw) > 0 {
		return nil, errors.New("consent requires `always` and matchers too: keep one")
	}
	for _, u := range []struct{ option, value string }{{"privacy_policy", c.PrivacyPolicy}, {"terms", c.Terms}} {
		if u.value == "" {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Scheme != "https" && p.Scheme != "http" && !strings.HasPrefix(u.value, "/") {
			return nil, wrongIn(c, u.option, fmt.Errorf("%s %q is not a URL of http or https, or a path that begins with /", u.option, u.value))
		}
	}
	var err error
	if rules.UserCookie, err = duration("user_cookie", c.UserCookie, sessionctx.DefaultUserCookie, time.Hour, 400*24*time.Hour); err != nil {
		return nil, wrongIn(c, "user_cookie", err)
	}
	return rules, nil
}

// placedError is what is wrong with a part of the campaign. The Caddyfile knows
// the line of each.
type placedError struct {
	error
	in     any    // *Handler, *Campaign, *Consent, *Segment, *ABTest or *Variant
	option string // of it; empty means its own line
}

func (e *placedError) Unwrap() error { return e.error }

func wrongIn(in any, option string, err error) error { return &placedError{err, in, option} }
