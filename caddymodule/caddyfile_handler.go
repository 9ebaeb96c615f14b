package caddymodule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func init() {
	httpcaddyfile.RegisterDirective("session_context", parseDirective)
	// It wraps what makes the page, and `encode` compresses what it made.
	httpcaddyfile.RegisterDirectiveOrder("session_context", httpcaddyfile.After, "encode")
}

// parseDirective sets up the handler from Caddyfile tokens:
//
//	session_context [<matcher>] {
//		workspace            <id>
//		project              <id>
//		campaign             <id>
//		landing_page         <id>
//		campaign_environment production|preview
//		environment          dev|preview|production
//		session_duration     <duration>
//		attribution_window   <duration>
//		legacy_ids           <duration>|off
//		api_path             <path>
//		api_base_url         <origin>
//		allow_origin         <origin...>
//		rate_limit           <per minute> <burst>
//		own_hosts            <host...>
//		identity             cookie|cookieless
//		before_consent       daily_hash|random
//		consent {
//			require          always|<matcher...>
//			respect          gpc|dnt|none...
//			privacy_policy   <url>
//			terms            <url>
//			localization     on|off
//			user_cookie      <duration> [fixed]
//			google_consent_mode
//			store_ip
//		}
//		segment <id> [<matcher...>] {
//			match            <matcher...>
//			landing_page     <id>
//		}
//		ab_test <id> {
//			segment          <id...>
//			variant          <id> <weight> {
//				landing_page <id>
//			}
//			traffic          <percent>
//			status           running|draft|paused|completed
//			until            <date>
//			winner           <variant id>
//		}
//		inject               inline|loader|off
//		client               on|off
//		web_vitals           on|off
//		decorate_links       on|off|<host...>
//		track_js             <path>|off
//		variable             <name>
//		visit                script|page
//		client_hints         on|off
//		log_ids
//		debug
//	}
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name; a matcher comes right after it
	matcherSet, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler, err := parseHandler(h)
	if err != nil {
		return nil, err
	}
	return h.NewRoute(matcherSet, handler), nil
}

func parseHandler(h httpcaddyfile.Helper) (*Handler, error) {
	h.Next() // the directive's name
	start := *h.Dispenser
	if h.NextArg() {
		return nil, h.Errf("session_context takes no argument but a matcher, and '%s' is none: options go into its block", h.Val())
	}
	hd := &Handler{}
	c := &hd.Campaign
	at := places{}
	b := newBlock(h.Dispenser, "session_context")
	err := b.read(map[string]option{
		"workspace":            b.id("workspace", &c.Workspace),
		"project":              b.id("project", &c.Project),
		"campaign":             b.id("campaign", &c.Campaign),
		"landing_page":         at.option(h.Dispenser, c, b.text(&c.LandingPage)),
		"campaign_environment": b.choice("campaign_environment", &c.CampaignEnvironment, "production", "preview"),
		"environment":          b.choice("environment", &c.Environment, "production", "preview", "dev"),
		"session_duration":     at.option(h.Dispenser, c, b.duration(&c.SessionDuration)),
		"attribution_window":   at.option(h.Dispenser, c, b.duration(&c.AttributionWindow)),
		"legacy_ids":           at.option(h.Dispenser, c, b.legacyIDs(&c.LegacyIDs)),
		"api_path":             b.checked(&c.APIPath, checkAPIPath),
		"api_base_url":         b.checked(&c.APIBaseURL, func(s string) error { return checkOrigin("api_base_url", s) }),
		"allow_origin":         b.origins(&c.AllowOrigin),
		"rate_limit":           b.rateLimit(&c.RateLimit),
		"own_hosts":            b.ownHosts(&c.OwnHosts),
		"identity":             b.choice("identity", &c.Identity, "cookie", "cookieless"),
		"before_consent":       b.choice("before_consent", &c.BeforeConsent, "daily_hash", "random"),
		"consent":              func() error { return parseConsent(h, c, at) },
		"segment":              func() error { return parseSegment(h, c, at) },
		"ab_test":              func() error { return parseABTest(h.Dispenser, c, at) },
		"inject":               b.choice("inject", &c.Inject, "inline", "loader", "off"),
		"client":               b.onOff(&hd.Client),
		"web_vitals":           at.option(h.Dispenser, hd, b.onOff(&hd.WebVitals)),
		"decorate_links":       at.option(h.Dispenser, hd, b.decorateLinks(&hd.DecorateLinks)),
		"track_js":             b.checked(&hd.TrackJS, checkTrackJS),
		"variable":             at.option(h.Dispenser, c, b.text(&c.Variable)),
		"visit":                b.choice("visit", &c.Visit, "script", "page"),
		"client_hints":         b.choice("client_hints", &c.ClientHints, "on", "off"),
		"log_ids":              b.flag(&c.LogIDs),
		"debug":                b.flag(&c.Debug),
	}, "allow_origin", "own_hosts", "decorate_links", "segment", "ab_test")
	if err != nil {
		return nil, err
	}
	if _, err := c.values(); err != nil {
		return nil, at.wrap(err, start)
	}
	if err := hd.checkClient(); err != nil {
		return nil, at.wrap(err, start)
	}
	return hd, nil
}

// place names a line of the Caddyfile: that of a part of the campaign, or that
// of one of its options.
type place struct {
	in     any
	option string
}

// places are the lines that errors may be in which show only when the whole
// block was read: a test may stand before the segment that it names.
type places map[place]caddyfile.Dispenser

// option reads one and remembers its line.
func (p places) option(d *caddyfile.Dispenser, in any, read option) option {
	return func() error {
		p[place{in, d.Val()}] = *d
		return read()
	}
}

// wrap gives the error its file and line: otherwise those of the directive.
func (p places) wrap(err error, otherwise caddyfile.Dispenser) error {
	var e *placedError
	if errors.As(err, &e) {
		for _, option := range []string{e.option, ""} {
			if d, ok := p[place{e.in, option}]; ok {
				return d.WrapErr(err)
			}
		}
	}
	return otherwise.WrapErr(err)
}

func (b *block) legacyIDs(to **caddy.Duration) option {
	return func() error {
		var v caddy.Duration
		var s string
		if err := b.text(&s)(); err != nil {
			return err
		}
		if s != "off" {
			d, err := caddy.ParseDuration(s)
			if err != nil || d <= 0 {
				return b.d.Errf("legacy_ids '%s' is neither off nor a positive duration like 24h", s)
			}
			v = caddy.Duration(d)
		}
		*to = &v
		return nil
	}
}

func (b *block) origins(to *[]string) option {
	return func() error {
		args := b.d.RemainingArgs()
		if len(args) == 0 {
			return b.d.Err("allow_origin wants at least one origin like https://www.example.com")
		}
		for _, a := range args {
			if err := checkOrigin("allow_origin", a); err != nil {
				return b.d.WrapErr(err)
			}
		}
		*to = append(*to, args...)
		return nil
	}
}

func (b *block) rateLimit(to **RateLimit) option {
	return func() error {
		args := b.d.RemainingArgs()
		if len(args) != 2 {
			return b.d.Errf("rate_limit wants requests a minute and a burst, like 600 120, and has %d values", len(args))
		}
		l := &RateLimit{}
		for i, n := range []*int{&l.PerMinute, &l.Burst} {
			v, err := strconv.Atoi(args[i])
			if err != nil || v < 1 {
				return b.d.Errf("rate_limit has '%s', which is not a whole number of at least 1: requests a minute and a burst, like 600 120", args[i])
			}
			*n = v
		}
		*to = l
		return nil
	}
}

func parseConsent(h httpcaddyfile.Helper, c *Campaign, at places) error {
	if h.NextArg() {
		return h.Errf("consent takes no argument, '%s' was given: its rules go into its block", h.Val())
	}
	cs := &Consent{}
	b := newBlock(h.Dispenser, "consent")
	err := b.read(map[string]option{
		"require": func() error {
			found := 0
			for ; hasArg(h); found++ {
				set, isMatcher, err := h.MatcherToken()
				switch {
				case err != nil:
					return h.Errf("require: %w: define it in this site", err)
				case !isMatcher && h.Val() == "always":
					cs.RequireAlways = true
				case !isMatcher || set == nil:
					return h.Errf("require '%s' is neither `always` nor a matcher like @eu", h.Val())
				default:
					cs.RequireRaw = append(cs.RequireRaw, set)
				}
			}
			if found == 0 {
				return h.Err("require wants `always` or matchers: name who must be asked for consent")
			}
			if cs.RequireAlways && len(cs.RequireRaw) > 0 {
				return h.Err("require has `always` and matchers too: keep one")
			}
			return nil
		},
		"respect": func() error {
			signals := h.RemainingArgs()
			if len(signals) == 0 {
				return h.Err("respect wants gpc, dnt or both, or none alone")
			}
			if len(signals) == 1 && signals[0] == "none" {
				signals = []string{}
			}
			for _, s := range signals {
				if s != "gpc" && s != "dnt" {
					return h.Errf("respect '%s' is unknown: known are gpc and dnt, or none alone", s)
				}
			}
			cs.Respect = &signals
			return nil
		},
		"privacy_policy": at.option(h.Dispenser, cs, b.text(&cs.PrivacyPolicy)),
		"terms":          at.option(h.Dispenser, cs, b.text(&cs.Terms)),
		"localization":   b.onOff(&cs.Localization),
		"user_cookie": at.option(h.Dispenser, cs, func() error {
			if !h.NextArg() {
				return h.Err("user_cookie wants a duration like 395d")
			}
			d, err := caddy.ParseDuration(h.Val())
			if err != nil || d <= 0 {
				return h.Errf("user_cookie '%s' is not a positive duration like 395d", h.Val())
			}
			cs.UserCookie = caddy.Duration(d)
			if h.NextArg() {
				if h.Val() != "fixed" {
					return h.Errf("user_cookie has '%s' behind its duration: only `fixed` may stand there", h.Val())
				}
				cs.UserCookieFixed = true
			}
			return b.end("user_cookie")
		}),
		"google_consent_mode": b.flag(&cs.GoogleConsentMode),
		"store_ip":            b.flag(&cs.StoreIP),
	})
	if err != nil {
		return err
	}
	c.Consent = cs
	return nil
}

// hasArg reports whether the line goes on. MatcherToken itself takes the next
// argument.
func hasArg(h httpcaddyfile.Helper) bool {
	ahead := *h.Dispenser
	return ahead.NextArg()
}

func parseABTest(d *caddyfile.Dispenser, c *Campaign, at places) error {
	t := &ABTest{}
	at[place{t, ""}] = *d
	if !d.NextArg() {
		return d.Err("ab_test wants an id: ab_test <id> { … }")
	}
	t.ID = d.Val()
	if err := checkID("ab_test", t.ID); err != nil {
		return d.WrapErr(err)
	}
	b := newBlock(d, "ab_test "+t.ID)
	if err := b.end("ab_test"); err != nil {
		return err
	}
	err := b.read(map[string]option{
		"segment": at.option(d, t, func() error {
			t.Segments = d.RemainingArgs()
			if len(t.Segments) == 0 {
				return d.Errf("segment of ab_test %s names none: name segments, or leave the line out for all", t.ID)
			}
			return nil
		}),
		"variant": func() error { return parseVariant(d, t, at) },
		"traffic": func() error {
			var s string
			if err := b.text(&s)(); err != nil {
				return err
			}
			p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
			if err != nil || !strings.HasSuffix(s, "%") || !(p >= 0 && p <= 100) { // NaN is neither
				return d.Errf("traffic '%s' is not a share between 0%% and 100%%, like 50%%", s)
			}
			if _, err := hundredths(p); err != nil {
				return d.WrapErr(fmt.Errorf("traffic %w", err))
			}
			t.Traffic = &p
			return nil
		},
		"status": b.choice("status", &t.Status, "running", "draft", "paused", "completed"),
		"until": b.checked(&t.Until, func(s string) error {
			if _, err := parseUntil(s); err != nil {
				return fmt.Errorf("until %w", err)
			}
			return nil
		}),
		"winner": at.option(d, t, b.id("winner", &t.Winner)),
	}, "variant")
	c.ABTests = append(c.ABTests, t)
	return err
}

func parseVariant(d *caddyfile.Dispenser, t *ABTest, at places) error {
	v := &Variant{}
	at[place{v, ""}] = *d
	if !d.NextArg() {
		return d.Err("variant wants an id and a weight: variant <id> <weight>")
	}
	v.ID = d.Val()
	if err := checkID("variant", v.ID); err != nil {
		return d.WrapErr(err)
	}
	if !d.NextArg() {
		return d.Errf("variant %s has no weight: variant <id> <weight>", v.ID)
	}
	weight, err := strconv.Atoi(d.Val())
	if err != nil || weight < 1 || weight > sessionctx.MaxWeight {
		return d.Errf("weight '%s' of variant %s is not a whole number between 1 and %d: leave a variant out that nobody should get", d.Val(), v.ID, sessionctx.MaxWeight)
	}
	v.Weight = weight
	b := newBlock(d, "variant "+v.ID)
	if err := b.end("variant"); err != nil {
		return err
	}
	err = b.read(map[string]option{
		"landing_page": b.id("landing_page", &v.LandingPage),
	})
	t.Variants = append(t.Variants, v)
	return err
}
