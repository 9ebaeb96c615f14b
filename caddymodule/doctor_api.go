package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// lookAtAPI tells whether the page's script can call home, and whether the
// server knows what it made.
func (d *doctor) lookAtAPI(ctx context.Context, p *shownPage, shown *shownContext) {
	base := &url.URL{Scheme: p.url.Scheme, Host: p.url.Host, Path: "/"}
	if shown != nil {
		u, err := url.Parse(shown.APIBaseURL)
		if err == nil && u.Host != "" {
			u, err = normalize(u)
		}
		if err != nil || u.Host == "" {
			d.found(levelError, "api", "mend api_base_url", "the context names no base URL of the API: %q", shown.APIBaseURL)
			return
		}
		base = u
	}
	policies := slices.Concat(p.policies, p.metaPolicies)
	if base.Scheme == "http" && inject.UpgradesRequests(policies) {
		base.Scheme = "https" // as browsers do
	}
	if p.url.Scheme == "https" && base.Scheme == "http" && !atHome(base) {
		d.found(levelError, "api", "where a proxy ends TLS set trusted_proxies in the global option `servers`, so that Caddy knows the scheme; or mend api_base_url",
			"the page is HTTPS, and calls its API at %s, which browsers refuse as mixed content", base)
		return
	}
	at := base.JoinPath(defaultAPIPath) // which always answers
	for _, route := range []string{"session/context", "events/session/init", "events/track"} {
		target := at.JoinPath(route)
		if by := inject.BlocksConnection(policies, p.url, target); by != "" && shown != nil {
			d.found(levelError, "policy", "add "+originOf(at)+" to connect-src ('self' where it is the page's own host)", "the page's script may not call the API at %s: %s", target, by)
			break
		}
	}
	c := shown
	for n := range doctorTokens {
		fetched, err := d.askContext(ctx, p, at, shown)
		if err != nil {
			d.refused(p, at, "gives no context", err)
			return
		}
		if n == 0 {
			d.found(levelOK, "api", "", "the API answers at %s", at)
		}
		if c == nil || n > 0 { // the page's own is tried first
			c = fetched
		}
		if err := d.tryToken(ctx, p, at, c); err != nil {
			d.refused(p, at, "does not take a token that it made", err)
			return
		}
	}
	d.found(levelOK, "tokens", "", "the server takes the tokens that it makes, %d of %d", doctorTokens, doctorTokens)
	d.tryEvents(ctx, p, at, c)
}

// tryEvents sends what is no event to the routes of events, which have to
// refuse it: something else may stand there in their place.
func (d *doctor) tryEvents(ctx context.Context, p *shownPage, at *url.URL, c *shownContext) {
	noEvent := map[string]any{"token": c.Session.Token, "event_id": "doctor", "event_type": "none"}
	for _, call := range []struct {
		route string
		body  map[string]any
	}{
		{"events/track", noEvent},
		{"events/batch-track", map[string]any{"token": c.Session.Token, "events": []any{noEvent}}},
	} {
		_, err := d.call(ctx, p, http.MethodPost, at.JoinPath(call.route), call.body)
		var refused *refusedCall
		if errors.As(err, &refused) && refused.code != "" || err == nil {
			continue
		}
		d.refused(p, at, "takes no events at "+call.route, err)
	}
}

// refused notes a call that failed, by why it did.
func (d *doctor) refused(p *shownPage, at *url.URL, what string, err error) {
	code, remedy := "api", "see `caddy session-context status`"
	var r *refusedCall
	switch errors.As(err, &r); {
	case r == nil:
		remedy = "see that the API's host is this server's, and can be reached from where visitors are"
	case r.status == http.StatusTooManyRequests:
		d.found(levelWarning, "api", "try again in a minute", "too many requests for the API at %s: the rest of it, tokens and events, was not looked at", at)
		return
	case r.status == http.StatusServiceUnavailable: // without a code for batches
	case r.code == "":
		remedy = "see that " + at.Path + "/* reaches session_context on that host: no matcher of the directive, handler, proxy or firewall may take it"
	case r.code == "origin_not_allowed":
		remedy = "name " + originOf(p.url) + " with allow_origin; where a proxy changes Host or the scheme, see trusted_proxies"
	case r.code == "invalid_session" || r.code == "unknown_campaign":
		code, remedy = "tokens", "all nodes behind this name need one Caddy `storage`, where the keys are, and the same campaigns: see docs/several-nodes.md"
	}
	d.found(levelError, code, remedy, "the API at %s %s: %v", at, what, err)
}

// refusedCall is an answer of the API, or of something else in its place.
type refusedCall struct {
	status     int
	code, text string
}

func (r *refusedCall) Error() string {
	if r.code == "" {
		return fmt.Sprintf("the answer is %d, and not the API's", r.status)
	}
	return fmt.Sprintf("%d %s (%s)", r.status, r.text, r.code)
}

// call asks the API as the page's script does.
func (d *doctor) call(ctx context.Context, p *shownPage, method string, u *url.URL, body any) ([]byte, error) {
	r, err := d.request(ctx, method, u, "empty", "cors", body)
	if err != nil {
		return nil, err
	}
	origin := originOf(p.url)
	same := originOf(u) == origin
	switch { // as browsers do by default, strict-origin-when-cross-origin
	case same:
		r.Header.Set("Referer", p.url.String())
	case p.url.Scheme != "https" || u.Scheme == "https":
		r.Header.Set("Referer", origin+"/")
	}
	r.Header.Set("Sec-Fetch-Site", map[bool]string{true: "same-origin", false: "cross-site"}[same])
	if !same || body != nil {
		r.Header.Set("Origin", origin)
	}
	res, answer, err := d.do(r)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if res.StatusCode != http.StatusOK {
		refused := &refusedCall{status: res.StatusCode}
		var said struct{ Error, Code string }
		if json.Unmarshal(answer, &said) == nil {
			refused.code, refused.text = said.Code, said.Error
		}
		return nil, refused
	}
	if !same && res.Header.Get("Access-Control-Allow-Origin") != origin {
		return nil, &refusedCall{res.StatusCode, "origin_not_allowed", "the answer does not allow the page's origin to read it"}
	}
	if front := frontOf(res.Header); front != "" {
		d.front, d.frontPort = front, portOf(u) // no upstream of Caddy's had a hand in this answer
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/json" {
		return nil, &refusedCall{status: res.StatusCode}
	}
	return answer, nil
}

func (d *doctor) askContext(ctx context.Context, p *shownPage, at *url.URL, shown *shownContext) (*shownContext, error) {
	u := at.JoinPath("session", "context")
	if shown != nil {
		u.RawQuery = url.Values{"campaign_id": {shown.CampaignID}, "campaign_environment": {shown.Environment}}.Encode()
	}
	answer, err := d.call(ctx, p, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	c, err := decodeContext(answer)
	if err != nil {
		return nil, &refusedCall{status: http.StatusOK}
	}
	return c, nil
}

// tryToken proves a session as a page's script does, which is no visit of a
// page that was fetched ahead.
func (d *doctor) tryToken(ctx context.Context, p *shownPage, at *url.URL, c *shownContext) error {
	_, err := d.call(ctx, p, http.MethodPost, at.JoinPath("events", "session", "init"), map[string]any{"token": c.Session.Token})
	return err
}
