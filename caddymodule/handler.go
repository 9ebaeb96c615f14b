package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler stands in front of the landing pages of one campaign. It decides who
// each visitor is, gives the page its session context, and answers the API
// that the page's script calls.
//
// It sets the variables `session.*` for the `vars` matcher and the
// placeholders `{session.*}`: `id`, `user_id`, `created_at`, `expires_at`,
// `is_new`, `is_returning`, `segment_id`, `ab.<test>`, `campaign_id`,
// `landing_page_id`, `language`, `browser`, `os`, `device.type`,
// `geo.country`, `geo.region`, `geo.region_code`, `geo.continent`, `geo.city`,
// `geo.timezone`, `geo.is_eu`, `local.hour`, `local.weekday`, `utm.source` …
// `utm.content`, `bot.score`, `bot.verified`, `consent.required`,
// `consent.analytics`, `csp_nonce`. Those that are unset are empty.
type Handler struct {
	Campaign
	// Also add the browser runtime's script to pages, which reports what they
	// do. Default: off, the page brings its own client.
	Client bool `json:"client,omitempty"`
	// With Client: also report web vitals, by a second script that pages load
	// when they are idle. Default: off.
	WebVitals bool `json:"web_vitals,omitempty"`
	// With Client: decorate links to these hosts of other sites,
	// `shop.example.com`, `*.example.com` for all below, or `*` for all, with the
	// page's campaign parameters and, while consent allows it, with the click id
	// by which conversions there count for the session. Default: none.
	DecorateLinks []string `json:"decorate_links,omitempty"`
	// Path of the script that other sites include to report conversions, or
	// `off`. Default: `/track.js`.
	TrackJS string `json:"track_js,omitempty"`

	app      *App
	campaign *sessionctx.Campaign
	settings []byte // the configuration as JSON, to tell equal handlers
	apiPath  string
	variable string
	trackJS  string // path, "" for none
	runtime  string // runtimeURL, made once
	log      *zap.Logger
	life     *life // the campaign's, over reloads
	ownHosts *atomic.Pointer[visitor.Hosts]
	owns     func(host string) bool // isOwnHost, made once
	// testVariables are the names of the tests' variables, by test.
	testVariables map[string]string
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session_context",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision checks the campaign and registers it with the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	campaign, err := h.values()
	if err != nil {
		return fmt.Errorf("campaign %s: %w", h.Campaign.Campaign, err)
	}
	h.campaign = campaign
	longestSession.raise(int64(campaign.SessionDuration))
	h.life = lifeOf(campaign.CampaignRef)
	h.ownHosts = new(atomic.Pointer[visitor.Hosts])
	h.ownHosts.Store(visitor.NewHosts(h.OwnHosts))
	h.owns = h.isOwnHost
	h.testVariables = make(map[string]string, len(h.ABTests))
	for _, t := range h.ABTests {
		h.testVariables[t.ID] = testVariable(t.ID)
	}
	if d := campaign.SessionDuration; d < shortSessionDuration {
		h.log.Warn("sessions are very short: visitors who read for a while are renewed again and again",
			zap.String("campaign", campaign.ID), zap.Duration("session_duration", d))
	}
	if err := h.checkClient(); err != nil {
		return fmt.Errorf("campaign %s: %w", h.Campaign.Campaign, err)
	}
	if h.settings, err = json.Marshal(h); err != nil {
		return err
	}
	h.apiPath = h.APIPath
	if h.apiPath == "" {
		h.apiPath = defaultAPIPath
	}
	h.variable = h.Variable
	if h.variable == "" {
		h.variable = sessionctx.DefaultVariable
	}
	if h.trackJS, err = trackPath(h.TrackJS); err != nil {
		return fmt.Errorf("campaign %s: %w", h.Campaign.Campaign, err)
	}
	h.runtime = h.runtimeURL()
	if err := h.loadMatchers(ctx); err != nil {
		return err
	}
	app, err := ctx.App(appName)
	if err != nil {
		return err
	}
	h.app = app.(*App)
	return h.app.register(h)
}

func (h *Handler) loadMatchers(ctx caddy.Context) error {
	if h.Consent != nil && len(h.Consent.RequireRaw) > 0 {
		mods, err := ctx.LoadModule(h.Consent, "RequireRaw")
		if err != nil {
			return fmt.Errorf("loading matchers of consent: %w", err)
		}
		if err := h.Consent.require.FromInterface(mods); err != nil {
			return fmt.Errorf("matchers of consent: %w", err)
		}
	}
	for _, s := range h.Segments {
		if len(s.MatcherSetsRaw) == 0 {
			continue
		}
		mods, err := ctx.LoadModule(s, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("loading matchers of segment %s: %w", s.ID, err)
		}
		if err := s.matchers.FromInterface(mods); err != nil {
			return fmt.Errorf("matchers of segment %s: %w", s.ID, err)
		}
	}
	return nil
}

// ServeHTTP answers the API and gives pages their context; all else goes on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	addPlaceholders(r)
	original := originalURL(r)
	if route, ok := apiRoute(h.apiPath, r.URL.Path, original.Path); ok {
		return h.app.serveAPI(w, r, route, h)
	}
	if asksForTrack(r, original, h.trackJS) {
		serveTrack(w, r)
		return nil
	}
	return h.servePage(w, r, original, next)
}

// originalURL is what the client asked for, before any rewrite.
func originalURL(r *http.Request) *url.URL {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.URL
	}
	return r.URL
}

// apiRoute returns the route of the API that one of the paths names: the path
// as rewritten (handle_path strips what stands before it) or the original
// (try_files would hide it).
func apiRoute(apiPath string, paths ...string) (route string, ok bool) {
	for _, p := range paths {
		for _, base := range [2]string{apiPath, defaultAPIPath} {
			if rest, found := strings.CutPrefix(p, base+"/"); found {
				return rest, isRoute(rest)
			}
		}
	}
	return "", false
}

// facts reads what the request tells. own reports which hosts are no referrers;
// it may be nil.
func (a *App) facts(r *http.Request, original *url.URL, own func(host string) bool, now time.Time) sessionctx.Facts {
	vars := varsOf(r)
	ip, _ := vars[caddyhttp.ClientIPVarKey].(string)
	addr, _ := netip.ParseAddr(ip)
	return a.reader.Read(visitor.Request{
		HTTP:         r,
		OriginalURL:  original,
		ClientIP:     addr,
		TrustedProxy: byTrustedProxy(vars),
		OwnHosts:     own,
		Now:          now,
	})
}

// byTrustedProxy reports whether the request's peer is a proxy that the server
// trusts.
func byTrustedProxy(vars map[string]any) bool {
	trusted, _ := vars[caddyhttp.TrustedProxyVarKey].(bool)
	return trusted
}

// carried reads the cookies that the request brought.
func (h *Handler) carried(r *http.Request, ring *sessionctx.Ring, f *sessionctx.Facts, now time.Time) sessionctx.Carried {
	return ring.OpenCookies(requestCookies(r), h.campaign, f.Scheme == "https", now.UnixMilli())
}

// consent decides what the visitor agreed to. required is whether it is known
// already that the visitor has to be asked. A matcher that fails makes consent
// required too: that errs on the visitor's side.
func (h *Handler) consent(r *http.Request, f *sessionctx.Facts, carried *sessionctx.Carried, required bool) sessionctx.Consent {
	if c := h.Consent; c != nil && !required {
		required = c.RequireAlways
		if len(c.require) > 0 {
			match, err := c.require.AnyMatchWithError(r)
			if err != nil {
				h.log.Error("matcher of consent failed: the visitor is asked", zap.Error(err))
			}
			required = match || err != nil
		}
	}
	return sessionctx.DecideConsent(h.campaign.Consent, required, f, carried.Choice, carried.Reference)
}

// segment is the first that matches.
func (h *Handler) segment(r *http.Request) string {
	for _, s := range h.Segments {
		if len(s.matchers) == 0 {
			return s.ID
		}
		match, err := s.matchers.AnyMatchWithError(r)
		if err != nil {
			h.log.Error("matcher of segment failed: taken as no match", zap.String("segment", s.ID), zap.Error(err))
		}
		if match {
			return s.ID
		}
	}
	return ""
}

// setCookies puts those that the visit's answer sets or removes into its header.
func setCookies(header http.Header, v *sessionctx.Visit, ring *sessionctx.Ring, f *sessionctx.Facts, now time.Time) {
	secure := f.Scheme == "https"
	writeCookies(header, secure, v.Cookies(ring, secure, now)...)
}

// writeCookies puts cookies into an answer's header.
func writeCookies(header http.Header, secure bool, cookies ...sessionctx.Cookie) {
	var buf [1024]byte
	for _, c := range cookies {
		seconds := int64(c.MaxAge / time.Second)
		if c.MaxAge > 0 && seconds == 0 {
			continue // over before it arrives
		}
		// Names and values are ours: nothing in them needs quotes.
		b := append(buf[:0], c.Name...)
		b = append(b, '=')
		b = append(b, c.Value...)
		b = append(b, "; Path=/; Max-Age="...)
		b = strconv.AppendInt(b, seconds, 10)
		b = append(b, "; HttpOnly"...)
		if secure {
			b = append(b, "; Secure"...)
		}
		b = append(b, "; SameSite=Lax"...)
		header["Set-Cookie"] = append(header["Set-Cookie"], string(b))
	}
}

// sameCampaign reports whether both handlers are one campaign's, as two that an
// imported snippet makes.
func (h *Handler) sameCampaign(o *Handler) bool {
	return h.campaign.CampaignRef == o.campaign.CampaignRef
}

// baseURL is what clients append /client-api/v1/… to.
func (h *Handler) baseURL(f *sessionctx.Facts) string {
	if h.APIBaseURL != "" {
		return h.APIBaseURL
	}
	return f.Origin()
}

// errKeys is why a page goes out untouched, or the API answers 503.
var errKeys = errors.New("key ring is not available yet")

func (a *App) keys(ctx context.Context) (*sessionctx.Ring, error) {
	if r := a.ring.current(ctx, ringPatience); r != nil {
		return r, nil
	}
	return nil, errKeys
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
