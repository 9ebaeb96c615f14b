package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// lookAtContext tells whether the page has its context, one of its own, and may
// run it.
func (d *doctor) lookAtContext(ctx context.Context, p *shownPage) *shownContext {
	switch n := len(p.contexts) + len(p.loaders); {
	case n == 0 && p.wrong: // that has been said
		return nil
	case n == 0 && p.header.Get(debugHeader) == outcomeText(reasonOff, false):
		d.found(levelNote, "context", "", "by `inject off` the page has no context, and has to ask for it itself")
		return nil
	case n == 0:
		d.found(levelError, "context", missingRemedy(p), "the page has no context%s", outcomeOf(p))
		return nil
	case n > 1:
		d.found(levelError, "context", "let only one session_context stand on a page's way: a second proxy, or a copy of the page that was saved with its script, brings another", "the page has %d contexts", n)
	}
	if len(p.contexts) == 0 {
		return d.lookAtLoader(ctx, p)
	}
	first := p.contexts[0]
	if first.err != nil {
		d.found(levelError, "context", "something between Caddy and here changes scripts: minifiers and optimizers of CDNs must leave it alone", "the context can't be read: %v", first.err)
		return nil
	}
	c := first.context
	d.describe(c)
	d.lookAtPolicy(inject.BlocksScript(p.policies, first.nonce), "the context's script")
	for _, s := range p.runtimes {
		d.lookAtSource(ctx, p, s)
	}
	d.lookAtSharing(p, c, func() (*shownContext, error) {
		again, err := d.getPage(ctx)
		if err != nil || len(again.contexts) == 0 {
			return nil, errors.Join(err, errNoContext)
		}
		return again.contexts[0].context, again.contexts[0].err
	})
	return c
}

// lookAtLoader is lookAtContext for a page that loads its context.
func (d *doctor) lookAtLoader(ctx context.Context, p *shownPage) *shownContext {
	s := p.loaders[0]
	get := func() (http.Header, *shownContext, error) {
		res, body, err := d.getSource(ctx, p, s.src)
		if err != nil {
			return nil, nil, err
		}
		c, err := contextOf(body)
		return res.Header, c, err
	}
	header, c, err := get()
	if err != nil {
		d.found(levelError, "context", "the API's path has to reach this server: see that no handler or proxy takes it", "the page loads its context from %s, which gives none: %v", s.src, err)
		return nil
	}
	d.describe(c)
	d.lookAtPolicy(inject.BlocksSource(p.policies, p.url, s.src, s.nonce), "the loader")
	for _, s := range p.runtimes {
		d.lookAtSource(ctx, p, s)
	}
	d.lookAtSharing(&shownPage{url: s.src, header: header}, c, func() (*shownContext, error) {
		_, c, err := get()
		return c, err
	})
	return c
}

func (d *doctor) describe(c *shownContext) {
	d.found(levelOK, "context", "", "campaign %s (%s) of project %s, workspace %s", c.CampaignID, c.Environment, c.ProjectID, c.WorkspaceID)
	if c.Environment == string(sessionctx.Preview) {
		d.found(levelNote, "preview", "", "the campaign is in preview: its pages are no traffic")
	}
	if skew := d.now().Sub(time.UnixMilli(c.ServerTime)); skew.Abs() > mostSkew {
		d.found(levelWarning, "clock", "set the server's clock by NTP, or this machine's: sessions end by the server's", "the server's clock and this machine's are %s apart", skew.Abs().Round(time.Second))
	}
}

func (d *doctor) lookAtPolicy(blocking, what string) {
	if blocking == "" {
		d.found(levelOK, "policy", "", "the page's Content-Security-Policy lets %s run", what)
		return
	}
	d.found(levelError, "policy", "a policy that is set after session_context has to name its nonce, 'nonce-{session.csp_nonce}', or for a loader 'self'; one that a CDN sets can't: leave it to Caddy", "%s may not run: %s", what, blocking)
}

// lookAtSource tells whether the browser runtime can be loaded.
func (d *doctor) lookAtSource(ctx context.Context, p *shownPage, s sourceScript) {
	d.lookAtPolicy(inject.BlocksSource(p.policies, p.url, s.src, s.nonce), "the runtime")
	if _, _, err := d.getSource(ctx, p, s.src); err != nil {
		d.found(levelError, "runtime", "the API's path has to reach this server: see that no handler or proxy takes it", "the browser runtime can't be loaded from %s: %v", s.src, err)
		return
	}
	d.found(levelOK, "runtime", "", "the browser runtime is at %s", s.src)
}

// getSource fetches a script of the page.
func (d *doctor) getSource(ctx context.Context, p *shownPage, src *url.URL) (*http.Response, []byte, error) {
	r, err := d.request(ctx, http.MethodGet, src, "script", "no-cors", nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Referer", p.url.String())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	res, body, err := d.do(r)
	if err != nil {
		return nil, nil, unwrapURL(err)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode != http.StatusOK || !strings.HasSuffix(kind, "/javascript") {
		return nil, nil, fmt.Errorf("the answer is %d %s", res.StatusCode, kind)
	}
	return res, body, nil
}

// lookAtSharing tells whether two who ask get two sessions.
func (d *doctor) lookAtSharing(p *shownPage, c *shownContext, again func() (*shownContext, error)) {
	const remedy = "a cache keeps what is one visitor's own: let it obey Cache-Control and CDN-Cache-Control, or use `inject loader`"
	other, err := again()
	switch {
	case err != nil:
		d.found(levelWarning, "sharing", "try again: it may be a node of several that differs, or a limit on requests", "asked a second time there was no context: %v", err)
		return
	case other.Session.SessionID == c.Session.SessionID:
		d.found(levelError, "sharing", remedy, "two who ask for %s get the same session", p.url)
		return
	}
	if !private(p.header) {
		d.found(levelWarning, "sharing", "see which `header` line or proxy replaces it; shared caches may keep the page without", "Cache-Control is %q, and should be private", p.header.Get("Cache-Control"))
		return
	}
	d.found(levelOK, "sharing", "", "who asks gets a session of one's own, which no cache may share")
}

// outcomeOf is what the server says became of the page, with `debug`.
func outcomeOf(p *shownPage) string {
	if said := p.header.Get(debugHeader); said != "" {
		return ": " + said
	}
	return ""
}

// missingRemedy is what to do about a page without context.
func missingRemedy(p *shownPage) string {
	switch said := p.header.Get(debugHeader); {
	case strings.HasPrefix(said, "skipped"):
		return `README, "What became of a page", says what the reason means`
	case said != "":
		return "Caddy has injected it, so something between Caddy and here took it out, or a cache has an old copy"
	case fromCache(p.header) != "":
		return "the page comes from a cache (" + fromCache(p.header) + "), perhaps from before session_context: purge it"
	}
	return "see that this host's site has session_context before what answers; with `debug` in it the answer says why (header " + debugHeader + "). By `inject off` there is none, and all is well"
}
