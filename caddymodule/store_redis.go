package caddymodule

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

func init() {
	caddy.RegisterModule(RedisStore{})
}

// RedisStore keeps session states, renewals and sequence numbers in Redis 7
// or Valkey, which several nodes share.
type RedisStore struct {
	// The server: `redis://user:password@host:6379/0`, `rediss://` for TLS,
	// `unix:///path`. `?addr=host:port` adds a cluster's or the sentinels'
	// further addresses, `?master_set=name` says that they are sentinels.
	// Placeholders are allowed. Required.
	URL string `json:"url,omitempty"`
	// What every key begins with. Default: `session_context:`.
	KeyPrefix string `json:"key_prefix,omitempty"`
	// Credentials of the sentinels, where they have their own.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`
	// Longest wait for a connection. Default: 1s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`
	// Longest wait for an answer. Default: 500ms.
	CallTimeout caddy.Duration `json:"call_timeout,omitempty"`

	options store.RedisOptions
	name    string
	log     *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.stores.redis",
		New: func() caddy.Module { return new(RedisStore) },
	}
}

// Provision resolves placeholders. It dials nothing.
func (s *RedisStore) Provision(ctx caddy.Context) error {
	s.log = ctx.Logger()
	repl := caddy.NewReplacer()
	s.options = store.RedisOptions{
		URL:              repl.ReplaceAll(s.URL, ""),
		KeyPrefix:        s.KeyPrefix,
		SentinelUsername: repl.ReplaceAll(s.SentinelUsername, ""),
		SentinelPassword: repl.ReplaceAll(s.SentinelPassword, ""),
		DialTimeout:      time.Duration(s.DialTimeout),
		CallTimeout:      time.Duration(s.CallTimeout),
		Logger:           s.log,
	}
	u, err := checkRedis(s.options)
	if err != nil {
		return err
	}
	// The query may hold anything.
	s.name = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	return nil
}

func checkRedis(o store.RedisOptions) (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil || o.URL == "" {
		// Neither the value nor the parser's error is shown: a password may
		// be in both.
		return nil, errors.New("store redis: its url is missing or is no URL: give one like redis://host:6379/0")
	}
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("store redis: %w", err)
	}
	return u, nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens:
//
//	redis <url> {
//		key_prefix        <prefix>
//		sentinel_username <name>
//		sentinel_password <password>
//		dial_timeout      <duration>
//		call_timeout      <duration>
//	}
func (s *RedisStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if !d.Args(&s.URL) {
		return d.Err("store redis wants a URL like redis://host:6379/0")
	}
	if d.NextArg() {
		return d.Errf("store redis takes one URL, '%s' is one too many: further addresses go into it as ?addr=host:port", d.Val())
	}
	if !strings.Contains(s.URL, "{") { // else a placeholder: Provision checks what it stands for
		if _, err := checkRedis(store.RedisOptions{URL: s.URL}); err != nil {
			return d.WrapErr(err)
		}
	}
	b := newBlock(d, "store redis")
	return b.read(map[string]option{
		"key_prefix":        b.text(&s.KeyPrefix),
		"sentinel_username": b.text(&s.SentinelUsername),
		"sentinel_password": b.text(&s.SentinelPassword),
		"dial_timeout":      b.duration(&s.DialTimeout),
		"call_timeout":      b.duration(&s.CallTimeout),
	})
}

// StoreKey implements Store. It holds no readable secret.
func (s *RedisStore) StoreKey() string {
	o := s.options
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %v %v", o.URL, o.KeyPrefix, o.SentinelUsername, o.SentinelPassword, o.DialTimeout, o.CallTimeout))
	return fmt.Sprintf("redis %x", sum)
}

// StoreName implements Store.
func (s *RedisStore) StoreName() string { return s.name }

// OpenStore implements Store.
func (s *RedisStore) OpenStore() (store.Store, error) {
	st, err := store.OpenRedis(s.options)
	if err != nil {
		return nil, err
	}
	return st, nil
}

var (
	_ Store                 = (*RedisStore)(nil)
	_ caddy.Provisioner     = (*RedisStore)(nil)
	_ caddyfile.Unmarshaler = (*RedisStore)(nil)
)
