package caddymodule

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// checkOwnHosts checks the hosts of own_hosts.
func checkOwnHosts(hosts []string) error {
	for _, h := range hosts {
		if err := visitor.CheckHost(h); err != nil {
			return fmt.Errorf("own_hosts: %w", err)
		}
	}
	return nil
}

// ownHosts reads own_hosts; it may stand more than once.
func (b *block) ownHosts(to *[]string) option {
	return func() error {
		args := b.d.RemainingArgs()
		if len(args) == 0 {
			return b.d.Err("own_hosts wants at least one host like www.example.com or *.example.com")
		}
		if err := checkOwnHosts(args); err != nil {
			return b.d.WrapErr(err)
		}
		*to = append(*to, args...)
		return nil
	}
}

// isOwnHost reports whether a visitor who comes from host comes from the
// campaign's own: own_hosts, or a site that has the campaign.
func (h *Handler) isOwnHost(host string) bool {
	return h.ownHosts.Load().Contain(host)
}

// findOwnHosts tells each handler the hosts of the sites that have its
// campaign. It runs when all apps are set up: a handler does not know its own
// site's host while it is.
func (a *App) findOwnHosts() {
	loaded, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return
	}
	app, ok := loaded.(*caddyhttp.App)
	if !ok {
		return
	}
	found := &siteHosts{hosts: map[sessionctx.CampaignRef][]string{}}
	for _, server := range app.Servers {
		found.server = server
		found.routes(server.Routes, nil, 0)
		if server.Errors != nil {
			found.routes(server.Errors.Routes, nil, 0)
		}
	}
	a.hosts.Store(&found.hosts)
	for _, h := range found.handlers {
		h.ownHosts.Store(visitor.NewHosts(append(slices.Clone(h.OwnHosts), found.hosts[h.campaign.CampaignRef]...)))
	}
}

// siteHosts collects the hosts of routes that lead to a campaign's handlers.
type siteHosts struct {
	server   *caddyhttp.Server
	hosts    map[sessionctx.CampaignRef][]string
	handlers []*Handler
}

// maxRouteDepth ends the search where named routes invoke each other.
const maxRouteDepth = 32

// routes looks through routes that answer for some hosts; nil is any.
func (s *siteHosts) routes(routes caddyhttp.RouteList, hosts []string, depth int) {
	if depth > maxRouteDepth {
		return
	}
	for i := range routes {
		s.route(&routes[i], hosts, depth)
	}
}

func (s *siteHosts) route(r *caddyhttp.Route, hosts []string, depth int) {
	var narrower []string
	for _, set := range r.MatcherSets {
		for _, m := range set {
			if m, ok := m.(*caddyhttp.MatchHost); ok {
				narrower = append(narrower, *m...)
			}
		}
	}
	if narrower != nil {
		hosts = narrower
	}
	for _, handler := range r.Handlers {
		switch handler := handler.(type) {
		case *Handler:
			ref := handler.campaign.CampaignRef
			s.hosts[ref] = append(s.hosts[ref], hosts...)
			s.handlers = append(s.handlers, handler)
		case *caddyhttp.Subroute:
			s.routes(handler.Routes, hosts, depth+1)
		case *caddyhttp.Invoke:
			if named := s.server.NamedRoutes[handler.Name]; named != nil {
				s.routes(caddyhttp.RouteList{*named}, hosts, depth+1)
			}
		}
	}
}
