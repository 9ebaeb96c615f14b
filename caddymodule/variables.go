package caddymodule

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // for machines without a database of time zones, as containers from scratch

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

const variablePrefix = "session."

// stateVar is where a request's state is kept.
const stateVar = "session_context"

// requestState is what stays with a request on its way through Caddy.
type requestState struct {
	// view is what was decided about the page, so that error routes use the
	// first decision; nil as long as nothing was.
	view *view
	// call is the API call that has proved whom it speaks for. What its request
	// tells is published when it is asked for: of few calls it is.
	call *call
}

// varsOf are the request's variables.
func varsOf(r *http.Request) map[string]any {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

func stateOf(vars map[string]any) *requestState {
	s, _ := vars[stateVar].(*requestState)
	return s
}

// addPlaceholders makes every placeholder {session.*} known to the request:
// those that are unset are empty, never literal text. Values come from the
// variables, which are set as soon as they are known, and are not expanded
// again.
func addPlaceholders(r *http.Request) {
	vars := varsOf(r)
	if vars == nil || stateOf(vars) != nil {
		return
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	state := &requestState{}
	vars[stateVar] = state
	repl.Map(func(key string) (any, bool) {
		if !strings.HasPrefix(key, variablePrefix) {
			return nil, false
		}
		if state.call != nil {
			state.call.publish(state.call.handler)
		}
		if key == "session.csp_nonce" {
			if state.view != nil {
				return state.view.cspNonce(), true
			}
		}
		if value, ok := vars[key]; ok {
			return value, true
		}
		return "", true
	})
}

// view is what was decided about one page request.
type view struct {
	handler *Handler
	visit   *sessionctx.Visit
	ring    *sessionctx.Ring // that the visit was decided with
	facts   sessionctx.Facts
	now     time.Time
	// vars are the request's variables; nil outside Caddy's server.
	vars  map[string]any
	nonce string
	// trail is how a visitor without cookies is found again; nil for others.
	trail *trail
	// told is whether the view's traffic row was made.
	told bool
}

// cspNonce is the nonce of the page, made when it is first asked for.
func (v *view) cspNonce() string {
	if v.nonce == "" {
		v.nonce = newNonce()
	}
	return v.nonce
}

// newView begins a view, and sets what is known before anything is decided:
// consent rules may match on it.
func newView(h *Handler, r *http.Request, f sessionctx.Facts, now time.Time) *view {
	v := &view{handler: h, facts: f, now: now, vars: varsOf(r)}
	if state := stateOf(v.vars); state != nil {
		state.view = v
	}
	publishFacts(v.vars, h, &v.facts, now)
	return v
}

// publishFacts sets what a request for h tells.
func publishFacts(vars map[string]any, h *Handler, f *sessionctx.Facts, now time.Time) {
	if vars == nil {
		return
	}
	set := func(key, value string) {
		if value != "" {
			vars[key] = value
		}
	}
	set("session.campaign_id", h.campaign.ID)
	set("session.language", f.Language)
	set("session.browser", f.Device.Browser)
	set("session.os", f.Device.OS)
	set("session.device.type", f.Device.Type)
	set("session.geo.country", f.Geo.Country)
	set("session.geo.region", f.Geo.Region)
	set("session.geo.region_code", f.Geo.RegionCode)
	set("session.geo.continent", f.Geo.Continent)
	set("session.geo.city", f.Geo.City)
	set("session.geo.timezone", f.Geo.Timezone)
	vars["session.geo.is_eu"] = f.Geo.IsEU
	if l := location(f.Geo.Timezone); l != nil {
		local := now.In(l)
		vars["session.local.hour"] = numerals[local.Hour()]
		vars["session.local.weekday"] = weekdays[local.Weekday()]
	}
	set("session.utm.source", f.Touch.UTM.Source)
	set("session.utm.medium", f.Touch.UTM.Medium)
	set("session.utm.campaign", f.Touch.UTM.Campaign)
	set("session.utm.term", f.Touch.UTM.Term)
	set("session.utm.content", f.Touch.UTM.Content)
	vars["session.bot.score"] = numerals[f.Bot.Score]
	if f.Bot.Verified || f.Bot.Refuted {
		vars["session.bot.verified"] = f.Bot.Verified
	}
}

// numerals are the numbers of hours and scores as values of variables, made
// once: each page sets them.
var numerals = func() (list [101]any) {
	for n := range list {
		list[n] = strconv.Itoa(n)
	}
	return list
}()

var weekdays = func() (list [7]any) {
	for d := range list {
		list[d] = strings.ToLower(time.Weekday(d).String())
	}
	return list
}()

// publishVisit sets what was decided about who the visitor is.
func (v *view) publishVisit() {
	vars := v.vars
	if vars == nil {
		return
	}
	s := &v.visit.Session
	vars["session.id"] = s.ID
	vars["session.user_id"] = s.UserID
	vars["session.created_at"] = strconv.FormatInt(s.CreatedAt, 10)
	vars["session.expires_at"] = strconv.FormatInt(s.ExpiresAt, 10)
	vars["session.is_new"] = v.visit.New
	vars["session.is_returning"] = s.Returning
	vars["session.consent.required"] = v.visit.Consent.Required
	vars["session.consent.analytics"] = v.visit.Consent.Analytics
}

// publishAssignment sets segment, variants and landing page.
func (v *view) publishAssignment() {
	vars := v.vars
	if vars == nil {
		return
	}
	s := &v.visit.Session
	if s.SegmentID != "" {
		vars["session.segment_id"] = s.SegmentID
	}
	for i := range s.Assignments {
		a := &s.Assignments[i]
		name, known := v.handler.testVariables[a.TestID]
		if !known { // a test that the campaign no longer has
			name = testVariable(a.TestID)
		}
		vars[name] = a.VariantID
	}
	if s.LandingPageID != "" {
		vars["session.landing_page_id"] = s.LandingPageID
	}
}

func testVariable(test string) string { return variablePrefix + "ab." + test }

// locations remembers time zones: reading one is file I/O. Names that are
// none are not remembered, so that nothing from outside can fill it.
var locations sync.Map // IANA name → *time.Location

func location(name string) *time.Location {
	if name == "" || name == "Local" { // which would be this machine's
		return nil
	}
	if l, ok := locations.Load(name); ok {
		return l.(*time.Location)
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	locations.Store(name, l)
	return l
}
