package caddymodule

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
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
// of a visit, and by whom, so none is counted as one.
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
	// front is what stands before Caddy, as an answer of ours from frontPort shows.
	front, frontPort string
}

// httpServer is what of a server's configuration is looked at.
type httpServer struct {
	Listen         []string        `json:"listen"`
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
	if d.findHost(ctx) {
		if page := d.lookAtPage(ctx); page != nil {
			shown = d.lookAtContext(ctx, page)
			d.lookAtAPI(ctx, page, shown)
		}
	}
	d.lookAtServer(shown)
	return d.findings
}

// lookAtServer asks the server's admin API.
func (d *doctor) lookAtServer(shown *shownContext) {
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
	d.lookAtProxies()
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
func (d *doctor) lookAtProxies() {
	if d.front == "" {
		return
	}
	servers, err := d.servers()
	if err != nil {
		d.found(levelNote, "trusted_proxies", "", "the servers' configuration was not looked at: %v", err)
		return
	}
	const remedy = "set trusted_proxies in the global option `servers`: else all visitors share its addresses, for places, rate limits and the scheme of URLs"
	here, sure := onPort(servers, d.frontPort)
	trusting := 0
	for _, s := range here {
		if len(s.TrustedProxies) > 0 {
			trusting++
		}
	}
	switch {
	case len(here) == 0:
		d.found(levelNote, "trusted_proxies", "", "%s stands before Caddy, whose configuration has no server", d.front)
	case trusting == len(here):
		d.found(levelOK, "trusted_proxies", "", "%s stands before Caddy, which trusts proxies", d.front)
	case trusting == 0 || sure:
		d.found(levelWarning, "trusted_proxies", remedy, "%s stands before Caddy, where %d of %d servers trust proxies", d.front, trusting, len(here))
	default:
		d.found(levelNote, "trusted_proxies", "", "%s stands before Caddy, where %d of %d servers trust proxies: see that those of sites behind it do", d.front, trusting, len(here))
	}
}

// onPort are the servers that listen on a port. Where none does they are all,
// and none is sure to be the one: what stands before them asks on another.
func onPort(servers map[string]httpServer, port string) (here []httpServer, sure bool) {
	for _, s := range servers {
		if slices.ContainsFunc(s.Listen, func(addr string) bool { return strings.HasSuffix(addr, ":"+port) }) {
			here = append(here, s)
		}
	}
	if len(here) > 0 {
		return here, true
	}
	return slices.Collect(maps.Values(servers)), false
}
