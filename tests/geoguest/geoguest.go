// Package geoguest shows how to write a geo source of one's own: a Caddy module
// in the namespace session_context.geo that implements visitor.Geography. Like
// any plugin it is compiled in with xcaddy, and then stands in the global
// option as
//
//	session_context {
//		geo office 198.51.100.0/24 DE
//	}
package geoguest

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func init() {
	caddy.RegisterModule(Office{})
}

// Office knows where one network is.
type Office struct {
	// The network, in CIDR notation.
	Network netip.Prefix `json:"network"`
	// The ISO 3166-1 alpha-2 code of the country that it is in.
	Country string `json:"country"`
}

// CaddyModule returns the Caddy module information.
func (Office) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.geo.office",
		New: func() caddy.Module { return new(Office) },
	}
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	office <network> <country>
func (o *Office) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	var network string
	if !d.AllArgs(&network, &o.Country) {
		return d.Err("geo office wants a network and a country")
	}
	var err error
	if o.Network, err = netip.ParsePrefix(network); err != nil {
		return d.WrapErr(fmt.Errorf("geo office: %w", err))
	}
	return nil
}

// Locate implements visitor.Geography. What follows from the country, the
// continent and the EU, is filled in by who asks; so is what the next source
// knows where this one doesn't.
func (o *Office) Locate(_ *http.Request, _ bool, ip netip.Addr) (sessionctx.Geo, bool) {
	if !o.Network.Contains(ip) {
		return sessionctx.Geo{}, false
	}
	return sessionctx.Geo{Country: o.Country}, true
}

var (
	_ visitor.Geography     = (*Office)(nil)
	_ caddyfile.Unmarshaler = (*Office)(nil)
)
