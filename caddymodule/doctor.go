package caddymodule

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// level is how bad a finding is.
type level string

const (
	levelOK      level = "ok"
	levelNote    level = "note"
	levelWarning level = "warning"
	levelError   level = "error"
)

// finding is one thing that doctor has looked at.
type finding struct {
	Level level `json:"level"`
	// Code is stable.
	Code   string `json:"code"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// doctor looks at a site from where its visitors stand, and at the server that
// it is from, if that may be asked. Its requests say that they are made ahead
// of a visit (Sec-Purpose: prefetch), so none is counted as one.
type doctor struct {
	page   *url.URL
	header http.Header // of each request to the page's host
	to     string      // host:port to connect to, in place of the page's
	// skipVerify takes any certificate.
	skipVerify bool
	roots      *x509.CertPool // in place of the system's
	now        func() time.Time
	// status and servers ask the admin API; nil if it is not to be asked.
	status  func() (*status, error)
	servers func() (map[string]httpServer, error)

	client   *http.Client
	findings []finding
}

// httpServer is what of a server's configuration is looked at.
type httpServer struct {
	TrustedProxies json.RawMessage `json:"trusted_proxies"`
}

const (
	doctorPatience = 20 * time.Second
	// doctorTokens is how many tokens are tried: behind a balancer each may
	// come to another node.
	doctorTokens = 4
	// maxDoctorBody is how much of an answer is read, in bytes.
	maxDoctorBody = 8 << 20
	// maxFinding is how long a finding's text may be, in bytes.
	maxFinding = 2000
	// mostSkew is by how much clocks may differ; an answer takes a while.
	mostSkew = 30 * time.Second
)

// found notes a finding. What a site answers may be in it, and goes to a
// terminal.
func (d *doctor) found(l level, code, remedy, format string, args ...any) {
	text := sessionctx.CleanText(fmt.Sprintf(format, args...), maxFinding)
	d.findings = append(d.findings, finding{Level: l, Code: code, Text: text, Remedy: sessionctx.CleanText(remedy, maxFinding)})
}

// examine looks at everything that can be looked at.
func (d *doctor) examine(ctx context.Context) []finding {
	d.connectBy()
	var shown *shownContext
	front := ""
	if d.findHost(ctx) {
		if page := d.lookAtPage(ctx); page != nil {
			front = frontOf(page.header)
			shown = d.lookAtContext(ctx, page)
			d.lookAtAPI(ctx, page, shown)
		}
	}
	d.lookAtServer(shown, front)
	return d.findings
}

func (d *doctor) connectBy() {
	dialer := &net.Dialer{Timeout: doctorPatience}
	d.client = &http.Client{
		Timeout: doctorPatience,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) == 10 {
				return errors.New("10 redirects")
			}
			if r.URL.Host != d.page.Host { // what is for the page's host may be a secret
				for name := range d.header {
					r.Header.Del(name)
				}
			}
			return nil
		},
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			ForceAttemptHTTP2: true,
			DisableKeepAlives: true, // behind a balancer each request may come to another node
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: d.skipVerify, RootCAs: d.roots},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if d.to != "" && addr == hostPort(d.page) {
					addr = d.to
				}
				return dialer.DialContext(ctx, network, addr)
			},
		},
	}
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[u.Scheme == "https"]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// findHost resolves the host's name.
func (d *doctor) findHost(ctx context.Context) bool {
	host := d.page.Hostname()
	if d.to != "" {
		d.found(levelNote, "address", "", "%s is asked at %s, whatever its name resolves to", host, d.to)
		return true
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		d.found(levelError, "address", "give the name an A or AAAA record, or name the server's address by --to", "the name does not resolve: %v", err)
		return false
	}
	d.found(levelOK, "address", "", "%s is %s", host, strings.Join(addrs, ", "))
	return true
}

// request makes one of the site, as a browser would that fetches ahead.
func (d *doctor) request(ctx context.Context, method string, u *url.URL, dest, mode string, body any) (*http.Request, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), sent)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (compatible; caddy-session-context-doctor)")
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("Sec-Purpose", "prefetch")
	r.Header.Set("Sec-Fetch-Dest", dest)
	r.Header.Set("Sec-Fetch-Mode", mode)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

func (d *doctor) do(r *http.Request) (*http.Response, []byte, error) {
	if r.URL.Host == d.page.Host {
		for name, values := range d.header {
			r.Header[name] = values
		}
	}
	res, err := d.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDoctorBody))
	return res, body, err
}

// getPage fetches the page.
func (d *doctor) getPage(ctx context.Context) (*shownPage, *http.Response, error) {
	r, err := d.request(ctx, http.MethodGet, d.page, "document", "navigate", nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Site", "none")
	res, body, err := d.do(r)
	if err != nil {
		return nil, nil, err
	}
	p := &shownPage{url: res.Request.URL, status: res.StatusCode, header: res.Header}
	readPage(p, body)
	return p, res, nil
}

// lookAtPage fetches the page and tells of connection, certificate and answer.
func (d *doctor) lookAtPage(ctx context.Context) *shownPage {
	p, res, err := d.getPage(ctx)
	if err != nil {
		code, remedy := "connection", "see that Caddy runs, listens there, and is let through by the firewall"
		var bad *tls.CertificateVerificationError
		var op *net.OpError
		alerted := errors.As(err, &op) && op.Op == "remote error" // as where Caddy has no certificate for the name
		if errors.As(err, &bad) || alerted || errors.Is(err, http.ErrSchemeMismatch) {
			code, remedy = "certificate", "Caddy's log says why it has no certificate that visitors trust: names, DNS, ports 80 and 443, rate limits of the issuer"
		}
		d.found(levelError, code, remedy, "no page from %s: %v", d.page, unwrapURL(err))
		return nil
	}
	d.lookAtTLS(res)
	kind, _, _ := mime.ParseMediaType(p.header.Get("Content-Type"))
	at := ""
	if p.url.String() != d.page.String() {
		at = ", after a redirect to " + p.url.String()
	}
	switch {
	case p.status < 200 || p.status > 299:
		d.found(levelError, "page", "name a page that is answered with 200; --header adds what it needs to be let in", "the answer is %d%s", p.status, at)
	case kind != "text/html" && kind != "application/xhtml+xml":
		d.found(levelError, "page", "name a page of HTML", "the answer is no page: its type is %q%s", p.header.Get("Content-Type"), at)
	default:
		d.found(levelOK, "page", "", "%d %s, %s%s", p.status, kind, size(int64(p.size)), at)
	}
	return p
}

// unwrapURL takes off what names method and URL once more.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (d *doctor) lookAtTLS(res *http.Response) {
	u := res.Request.URL
	if res.TLS == nil {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip.IsLoopback() {
			d.found(levelNote, "certificate", "", "plain HTTP, which on this machine is like HTTPS for browsers")
			return
		}
		d.found(levelError, "certificate", "serve the site by HTTPS: cookies have no protection here, and sendBeacon, crypto and client hints are restricted", "the page is served by plain HTTP")
		return
	}
	leaf := res.TLS.PeerCertificates[0]
	if d.skipVerify {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: u.Hostname(), Roots: d.roots, Intermediates: poolOf(res.TLS.PeerCertificates[1:])})
		if err != nil {
			d.found(levelNote, "certificate", "", "visitors would not trust it: %v", err)
			return
		}
	}
	left, life := leaf.NotAfter.Sub(d.now()), leaf.NotAfter.Sub(leaf.NotBefore)
	if left < life/5 { // Caddy renews when a third is left
		d.found(levelWarning, "certificate", "Caddy's log says why it is not renewed", "valid until %s only, by %s", leaf.NotAfter.UTC().Format(time.DateTime), leaf.Issuer)
		return
	}
	d.found(levelOK, "certificate", "", "valid until %s, by %s", leaf.NotAfter.UTC().Format(time.DateTime), leaf.Issuer)
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// lookAtContext tells whether the page has its context, one of its own, and may
// run it.
func (d *doctor) lookAtContext(ctx context.Context, p *shownPage) *shownContext {
	switch n := len(p.contexts) + len(p.loaders); {
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
	d.lookAtSharing(ctx, p, c, func() (http.Header, *shownContext, error) {
		again, _, err := d.getPage(ctx)
		if err != nil || len(again.contexts) == 0 {
			return nil, nil, errors.Join(err, errNoContext)
		}
		return again.header, again.contexts[0].context, again.contexts[0].err
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
	d.lookAtPolicy(inject.BlocksOwnScript(p.policies, p.url, s.nonce), "the loader")
	for _, s := range p.runtimes {
		d.lookAtSource(ctx, p, s)
	}
	d.lookAtSharing(ctx, &shownPage{url: s.src, header: header}, c, get)
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
	d.lookAtPolicy(inject.BlocksOwnScript(p.policies, p.url, s.nonce), "the runtime")
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
func (d *doctor) lookAtSharing(ctx context.Context, p *shownPage, c *shownContext, again func() (http.Header, *shownContext, error)) {
	const remedy = "a cache keeps what is one visitor's own: let it obey Cache-Control and CDN-Cache-Control, or use `inject loader`"
	header, other, err := again()
	switch {
	case err != nil:
		d.found(levelWarning, "sharing", "try again: it may be a node of several that differs", "asked a second time there was no context: %v", err)
		return
	case other.Session.SessionID == c.Session.SessionID:
		d.found(levelError, "sharing", remedy, "two who ask for %s get the same session", p.url)
		return
	}
	for _, h := range []http.Header{p.header, header} {
		if sign := fromCache(h); sign != "" {
			d.found(levelError, "sharing", remedy, "a context comes from a cache: %s", sign)
			return
		}
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
	case p.status < 200 || p.status > 299:
		return "pages of errors have a context only in handle_errors: name a page that is answered with 200"
	}
	return "see that this host's site has session_context before what answers; with `debug` in it the answer says why (header " + debugHeader + ")"
}

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

// lookAtServer asks the server's admin API.
func (d *doctor) lookAtServer(shown *shownContext, front string) {
	if d.status == nil {
		return
	}
	st, err := d.status()
	if err != nil {
		d.found(levelNote, "server", "", "what only the server knows was not looked at: %v", err)
		return
	}
	if shown != nil && !hasCampaign(st, shown) {
		d.found(levelWarning, "server", "name that of the server which the page is from by --address", "the admin API is of another server, which has no campaign %s (%s)", shown.CampaignID, shown.Environment)
	}
	if len(st.Warnings) == 0 {
		d.found(levelOK, "status", "", "the server has no warnings; rows go to %s", orDash(strings.Join(st.Sinks, ", ")))
	}
	for _, w := range st.Warnings {
		d.found(levelWarning, "status", w.Remedy, "%s: %s", w.Code, w.Text)
	}
	if len(st.Geo) == 0 {
		d.found(levelNote, "geo", "", "there is no geo source: places are unknown, and rules of consent by place take every visitor for one of nowhere")
	}
	d.lookAtProxies(front)
}

func hasCampaign(st *status, c *shownContext) bool {
	for _, s := range st.Campaigns {
		if s.Campaign == c.CampaignID && string(s.Environment) == c.Environment && s.Workspace == c.WorkspaceID {
			return true
		}
	}
	return false
}

// lookAtProxies tells whether the server knows its visitors' addresses.
func (d *doctor) lookAtProxies(front string) {
	if front == "" {
		return
	}
	servers, err := d.servers()
	if err != nil {
		d.found(levelNote, "trusted_proxies", "", "the servers' configuration was not looked at: %v", err)
		return
	}
	for _, s := range servers {
		if len(s.TrustedProxies) > 0 {
			d.found(levelOK, "trusted_proxies", "", "%s stands before Caddy, which trusts proxies", front)
			return
		}
	}
	d.found(levelWarning, "trusted_proxies", "set trusted_proxies in the global option `servers`: else all visitors share its addresses, for places, rate limits and the scheme of URLs", "%s stands before Caddy, which trusts no proxy", front)
}
