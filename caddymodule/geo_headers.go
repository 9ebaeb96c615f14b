package caddymodule

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func init() {
	caddy.RegisterModule(new(GeoHeaders))
}

// GeoHeaders takes a visitor's place from the headers that a CDN adds. They
// count from trusted proxies only (the server's `trusted_proxies`); others'
// are ignored, counted, and logged once.
type GeoHeaders struct {
	// Whose headers: `cloudflare`, `cloudfront`, `fastly`, `fly`, `vercel`,
	// or `custom`.
	Layout string `json:"layout,omitempty"`
	// For `custom`: header names by field (country, region, region_code,
	// city, continent, timezone, latitude, longitude).
	Headers map[string]string `json:"headers,omitempty"`

	source    *visitor.Headers
	log       *zap.Logger
	untrusted prometheus.Counter
	told      sync.Once
}

// CaddyModule returns the Caddy module information.
func (*GeoHeaders) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.geo.headers",
		New: func() caddy.Module { return new(GeoHeaders) },
	}
}

// Provision checks the layout.
func (g *GeoHeaders) Provision(ctx caddy.Context) (err error) {
	g.log = ctx.Logger()
	if g.source, err = g.open(); err != nil {
		return err
	}
	g.untrusted = theMetrics.geoUntrusted.WithLabelValues(g.Layout)
	return nil
}

func (g *GeoHeaders) open() (*visitor.Headers, error) {
	if g.Layout == "custom" {
		return visitor.CustomHeaders(g.Headers)
	}
	return visitor.NamedHeaders(g.Layout)
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	headers cloudflare|cloudfront|fastly|fly|vercel
//	headers custom {
//		<field> <header>
//	}
func (g *GeoHeaders) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	known := strings.Join(append(visitor.HeaderLayouts(), "custom"), ", ")
	if !d.Args(&g.Layout) {
		return d.Errf("geo headers wants to know whose: known are %s", known)
	}
	if g.Layout != "custom" && !slices.Contains(visitor.HeaderLayouts(), g.Layout) {
		return d.Errf("geo headers '%s' is unknown: known are %s", g.Layout, known)
	}
	layout := *d
	if d.NextArg() {
		return d.Errf("geo headers takes one argument, '%s' is one too many", d.Val())
	}
	b := newBlock(d, "geo headers")
	options := map[string]option{}
	if g.Layout == "custom" {
		fields := visitor.HeaderFields()
		values := make([]string, len(fields))
		for i, f := range fields {
			options[f] = b.text(&values[i])
		}
		if err := b.read(options); err != nil {
			return err
		}
		g.Headers = map[string]string{}
		for i, f := range fields {
			if values[i] != "" {
				g.Headers[f] = values[i]
			}
		}
	} else if err := b.read(options); err != nil {
		return err
	}
	if _, err := g.open(); err != nil {
		return layout.WrapErr(err)
	}
	return nil
}

// Locate implements visitor.Geography.
func (g *GeoHeaders) Locate(r *http.Request, trusted bool, ip netip.Addr) (sessionctx.Geo, bool) {
	if !trusted && g.source.Sent(r) {
		g.untrusted.Inc()
		g.told.Do(func() {
			g.log.Warn("geo headers of a peer that is no trusted proxy are ignored: if it is the CDN, name its addresses in trusted_proxies (trusted_proxies_unix for a UNIX socket); if not, visitors reach this server around the CDN",
				zap.String("layout", g.Layout), zap.String("peer", r.RemoteAddr))
		})
	}
	return g.source.Locate(r, trusted, ip)
}

var (
	_ visitor.Geography     = (*GeoHeaders)(nil)
	_ caddy.Provisioner     = (*GeoHeaders)(nil)
	_ caddyfile.Unmarshaler = (*GeoHeaders)(nil)
)
