package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func init() {
	caddy.RegisterModule(new(GeoMMDB))
}

// GeoMMDB looks a visitor's address up in a database of MaxMind's format
// (GeoLite2, GeoIP2, DB-IP; City or Country). A file that is replaced is
// taken into use within half a minute.
type GeoMMDB struct {
	// The database file. Required.
	Path string `json:"path,omitempty"`

	log  *zap.Logger
	once sync.Once
	db   atomic.Pointer[visitor.MMDB]
}

// mmdbPoll is how often the file is looked at.
const mmdbPoll = 10 * time.Second

// CaddyModule returns the Caddy module information.
func (*GeoMMDB) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.geo.mmdb",
		New: func() caddy.Module { return new(GeoMMDB) },
	}
}

// Provision checks that the file is a database of places. It is read into
// memory when the app starts.
func (g *GeoMMDB) Provision(ctx caddy.Context) error {
	g.log = ctx.Logger()
	if g.Path == "" {
		return fmt.Errorf("geo mmdb: path is missing: name the database file")
	}
	if _, err := visitor.CheckMMDB(g.Path); err != nil {
		return fmt.Errorf("geo mmdb: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	mmdb <path>
func (g *GeoMMDB) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if !d.Args(&g.Path) {
		return d.Err("geo mmdb wants the path of a database file")
	}
	if d.NextArg() {
		return d.Errf("geo mmdb takes one path, '%s' is one too many", d.Val())
	}
	return newBlock(d, "geo mmdb").read(nil)
}

// Start reads the database and watches the file until ctx ends.
func (g *GeoMMDB) Start(ctx context.Context) {
	db := g.open()
	if db == nil {
		return
	}
	db.Watch(ctx, mmdbPoll, func(err error) {
		if err != nil {
			g.log.Error("a new geo database can't be read: the former stays in use", zap.String("path", g.Path), zap.Error(err))
			return
		}
		g.log.Info("geo database reloaded", zap.String("path", g.Path), zap.Time("built", db.Info().Built))
	})
}

func (g *GeoMMDB) open() *visitor.MMDB {
	g.once.Do(func() {
		db, err := visitor.OpenMMDB(g.Path)
		if err != nil {
			g.log.Error("geo database can't be read: places stay unknown", zap.String("path", g.Path), zap.Error(err))
			return
		}
		g.db.Store(db)
	})
	return g.db.Load()
}

// Locate implements visitor.Geography.
func (g *GeoMMDB) Locate(r *http.Request, trusted bool, ip netip.Addr) (sessionctx.Geo, bool) {
	db := g.db.Load()
	if db == nil {
		return sessionctx.Geo{}, false
	}
	return db.Locate(r, trusted, ip)
}

var (
	_ visitor.Geography     = (*GeoMMDB)(nil)
	_ caddy.Provisioner     = (*GeoMMDB)(nil)
	_ caddyfile.Unmarshaler = (*GeoMMDB)(nil)
	_ starter               = (*GeoMMDB)(nil)
)
