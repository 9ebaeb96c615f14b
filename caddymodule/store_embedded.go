package caddymodule

import (
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

func init() {
	caddy.RegisterModule(EmbeddedStore{})
}

// EmbeddedStore keeps session states, renewals and sequence numbers in a file
// of this machine. It is right for one node; several nodes share `redis`.
type EmbeddedStore struct {
	// The file. One process at a time may use it. Default:
	// `session_context/store.db` in Caddy's data directory.
	Path string `json:"path,omitempty"`

	log *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (EmbeddedStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.stores.embedded",
		New: func() caddy.Module { return new(EmbeddedStore) },
	}
}

// Provision sets the default path. It opens nothing.
func (s *EmbeddedStore) Provision(ctx caddy.Context) error {
	s.log = ctx.Logger()
	if s.Path == "" {
		s.Path = filepath.Join(dataDir(), "store.db")
	}
	path, err := filepath.Abs(s.Path)
	if err != nil {
		return err
	}
	s.Path = path
	return nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens:
//
//	embedded [<path>]
func (s *EmbeddedStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	d.Args(&s.Path)
	if d.NextArg() {
		return d.Errf("store embedded takes one path at most, '%s' is one too many", d.Val())
	}
	return newBlock(d, "store embedded").read(nil)
}

// StoreKey implements Store.
func (s *EmbeddedStore) StoreKey() string { return "embedded " + s.Path }

// StoreName implements Store.
func (s *EmbeddedStore) StoreName() string { return s.Path }

// OpenStore implements Store.
func (s *EmbeddedStore) OpenStore() (store.Store, error) {
	st, err := store.OpenEmbedded(s.Path, store.Options{Logger: s.log})
	if err != nil {
		return nil, err
	}
	return st, nil
}

var (
	_ Store                 = (*EmbeddedStore)(nil)
	_ caddy.Provisioner     = (*EmbeddedStore)(nil)
	_ caddyfile.Unmarshaler = (*EmbeddedStore)(nil)
)
