package caddymodule

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// callingPage is the URL of the page of this site that makes a call, as its
// Referer tells: path and query, read as the page's own request was. nil if it
// names none.
func callingPage(f *sessionctx.Facts, referer string) *url.URL {
	rest, ok := strings.CutPrefix(referer, f.Origin())
	if !ok || !strings.HasPrefix(rest, "/") {
		return nil
	}
	u, err := url.ParseRequestURI(rest)
	if err != nil {
		return nil
	}
	return u
}

// asPage makes the call's request one for the page that makes it, until the
// function that it returns is called: matchers of consent and segments, and
// placeholders, are about pages, not about the API's paths. The request is
// edited in place, since the placeholders of Caddy read that one. Where the
// page is not known, nothing changes.
func (c *call) asPage() (restore func()) {
	page := callingPage(&c.facts, c.r.Header.Get("Referer"))
	if page == nil {
		return func() {}
	}
	u := c.r.URL
	was := *u
	u.Path, u.RawPath, u.RawQuery, u.ForceQuery = page.Path, page.RawPath, page.RawQuery, page.ForceQuery
	return func() { *u = was }
}

// consent decides what the visitor agreed to, as h's page that makes the call
// would. required is whether it is known already that he has to be asked.
func (c *call) consent(h *Handler, f *sessionctx.Facts, carried *sessionctx.Carried, required bool) sessionctx.Consent {
	if required || h.Consent == nil || len(h.Consent.require) == 0 {
		return h.consent(c.r, f, carried, required) // nothing is matched
	}
	c.publish(h)
	defer c.asPage()()
	return h.consent(c.r, f, carried, required)
}

// publish sets the variables of what the call's request tells, once, for
// matchers and placeholders of h; nil is no campaign yet.
func (c *call) publish(h *Handler) {
	if h == nil || c.published == h {
		return
	}
	c.published = h
	publishFacts(varsOf(c.r), h, &c.facts, c.now)
}

// about notes, for placeholders, that the call is about its handler's campaign.
func (c *call) about() {
	if state := stateOf(varsOf(c.r)); state != nil {
		state.call = c
	}
}

// assign gives a new session segment, variants and landing page, as h's page
// that makes the call would.
func (c *call) assign(h *Handler, v *view) {
	defer c.asPage()()
	h.assign(c.r, v)
}

// contextHandler is the campaign whose context the call asks for: the one that
// its query names, else this site's, else the only one.
func (c *call) contextHandler() (*Handler, error) {
	query := c.r.URL.Query()
	ref := sessionctx.CampaignRef{ID: query.Get("campaign_id"), Environment: sessionctx.Environment(query.Get("campaign_environment"))}
	if c.site != nil && (ref.ID == "" || ref.ID == c.site.campaign.ID) && (ref.Environment == "" || ref.Environment == c.site.campaign.Environment) {
		return c.site, nil
	}
	if h := c.app.onlyCampaign(); ref.ID == "" && h != nil {
		return h, nil
	}
	if ref.Environment == "" {
		ref.Environment = sessionctx.Production
	}
	if h := c.app.handler(ref); h != nil {
		return h, nil
	}
	return nil, refuse(http.StatusBadRequest, "unknown_campaign", "campaign_id is missing from the query or names no campaign of this server; one in preview takes campaign_environment=preview too")
}

// onlyCampaign is the app's campaign where it has just one; else nil.
func (a *App) onlyCampaign() *Handler {
	a.campaignsMu.RLock()
	defer a.campaignsMu.RUnlock()
	if len(a.campaigns) != 1 {
		return nil
	}
	for _, h := range a.campaigns {
		return h
	}
	return nil
}

// loaderQuery is what the loader's URL ends with, escaped for an attribute:
// nothing, unless there are campaigns that the API could take for this one.
// Handlers under paths are not on the way of the API's requests.
func (h *Handler) loaderQuery() string {
	if h.app.onlyCampaign() != nil {
		return ""
	}
	query := "?campaign_id=" + h.campaign.ID
	if h.campaign.Environment != sessionctx.Production {
		query += "&amp;campaign_environment=" + string(h.campaign.Environment)
	}
	return query
}
