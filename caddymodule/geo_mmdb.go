package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
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
// (GeoLite2, GeoIP2, DB-IP; City or Country). A file that is replaced or
// rewritten is taken into use within seconds; until it can be read, and if it
// goes away, the former stays in use.
type GeoMMDB struct {
	// The database file. Required.
	Path string `json:"path,omitempty"`

	log *zap.Logger
	key string // in geoDatabases
	db  *visitor.MMDB
}

// mmdbPoll is how often the file is looked at.
const mmdbPoll = 2 * time.Second

// geoDatabases are those in memory, by absolute path. Configs share them, so
// that a reload neither reads a file again nor holds it twice.
var geoDatabases = caddy.NewUsagePool()

type geoDatabase struct{ *visitor.MMDB }

// Destruct implements caddy.Destructor: what nobody uses is garbage.
func (geoDatabase) Destruct() error { return nil }

// CaddyModule returns the Caddy module information.
func (*GeoMMDB) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.geo.mmdb",
		New: func() caddy.Module { return new(GeoMMDB) },
	}
}

// Provision reads the database, if no other config has: consent may hang on
// the first visitor's country.
func (g *GeoMMDB) Provision(ctx caddy.Context) error {
	g.log = ctx.Logger()
	if g.Path == "" {
		return fmt.Errorf("geo mmdb: path is missing: name the database file")
	}
	path, err := filepath.Abs(g.Path)
	if err != nil {
		return fmt.Errorf("geo mmdb: path %q: %w", g.Path, err)
	}
	v, shared, err := geoDatabases.LoadOrNew(path, func() (caddy.Destructor, error) {
		db, err := visitor.OpenMMDB(path)
		return geoDatabase{db}, err
	})
	if err != nil {
		return fmt.Errorf("geo mmdb: %w", err)
	}
	g.key, g.db = path, v.(geoDatabase).MMDB
	if shared {
		// Who reloads after replacing the file means the new one.
		if changed, err := g.db.Refresh(); changed || err != nil {
			g.report(err)
		}
	}
	return nil
}

// Cleanup lets go of the database. Requests that still run go on with it.
func (g *GeoMMDB) Cleanup() error {
	if g.db == nil {
		return nil
	}
	_, err := geoDatabases.Delete(g.key)
	return err
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

// Start watches the file until ctx ends.
func (g *GeoMMDB) Start(ctx context.Context) { g.db.Watch(ctx, mmdbPoll, g.report) }

func (g *GeoMMDB) report(err error) {
	if err != nil {
		g.log.Error("the geo database's file can't be read: what was read before stays in use until there is a whole one", zap.String("path", g.key), zap.Error(err))
		return
	}
	g.log.Info("geo database replaced", zap.String("path", g.key), zap.Time("built", g.db.Info().Built))
}

// Locate implements visitor.Geography.
func (g *GeoMMDB) Locate(r *http.Request, trusted bool, ip netip.Addr) (sessionctx.Geo, bool) {
	return g.db.Locate(r, trusted, ip)
}

var (
	_ visitor.Geography     = (*GeoMMDB)(nil)
	_ caddy.Provisioner     = (*GeoMMDB)(nil)
	_ caddy.CleanerUpper    = (*GeoMMDB)(nil)
	_ caddyfile.Unmarshaler = (*GeoMMDB)(nil)
	_ starter               = (*GeoMMDB)(nil)
)
