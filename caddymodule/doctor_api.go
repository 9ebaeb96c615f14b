package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// lookAtAPI tells whether the page's script can call home, and whether the
// server knows what it made.
func (d *doctor) lookAtAPI(ctx context.Context, p *shownPage, shown *shownContext) {
	base := &url.URL{Scheme: p.url.Scheme, Host: p.url.Host, Path: "/"}
	if shown != nil {
		u, err := url.Parse(shown.APIBaseURL)
		if err != nil || u.Host == "" {
			d.found(levelError, "api", "mend api_base_url", "the context names no base URL of the API: %q", shown.APIBaseURL)
			return
		}
		base = u.JoinPath("/")
	}
	at := base.JoinPath(defaultAPIPath) // which always answers
	if shown != nil {
		if by := inject.BlocksConnection(append(p.policies, p.metaPolicies...), p.url, at); by != "" {
			d.found(levelError, "policy", "add "+at.Scheme+"://"+at.Host+" to connect-src ('self' where it is the page's own host)", "the page's script may not call the API at %s: %s", at, by)
		}
	}
	for n := range doctorTokens {
		c, err := d.askContext(ctx, p, at, shown)
		if err != nil {
			d.found(levelError, "api", apiRemedy(err, p, at), "the API at %s gives no context: %v", at, err)
			return
		}
		if n == 0 {
			d.found(levelOK, "api", "", "the API answers at %s", at)
		}
		tried := c
		if n == 0 && shown != nil {
			tried = shown // the page's own
		}
		if err := d.tryToken(ctx, p, at, tried); err != nil {
			d.found(levelError, "tokens", "all nodes behind this name need one Caddy `storage`, where the keys are: see docs/several-nodes.md", "a token that the server made is refused by it: %v", err)
			return
		}
	}
	d.found(levelOK, "tokens", "", "the server takes the tokens that it makes, %d of %d", doctorTokens, doctorTokens)
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

func apiRemedy(err error, p *shownPage, at *url.URL) string {
	var refused *refusedCall
	if !errors.As(err, &refused) {
		return "see that the API's host is this server's, and can be reached from where visitors are"
	}
	switch refused.code {
	case "":
		return "see that " + at.Path + "/* reaches session_context on that host: no matcher of the directive, handler or proxy may take it"
	case "origin_not_allowed":
		return "name " + p.url.Scheme + "://" + p.url.Host + " with allow_origin; where a proxy changes Host or the scheme, see trusted_proxies"
	}
	return "see `caddy session-context status`"
}

// call asks the API as the page's script does.
func (d *doctor) call(ctx context.Context, p *shownPage, method string, u *url.URL, body any) ([]byte, error) {
	r, err := d.request(ctx, method, u, "empty", "cors", body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Referer", p.url.String())
	origin := p.url.Scheme + "://" + p.url.Host
	same := u.Scheme == p.url.Scheme && u.Host == p.url.Host
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
