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
	// How the store logs in, where the URL does not say. Write a placeholder like
	// `{file./run/secrets/redis}`: it is read at each connection, so that the
	// password can change (with sentinels: at each load of the config).
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// More of TLS, where the URL is `rediss://`.
	TLS *ClientTLS `json:"tls,omitempty"`
	// What every key begins with. Default: `session_context:`.
	KeyPrefix string `json:"key_prefix,omitempty"`
	// Credentials of the sentinels, where they have their own.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`
	// Longest wait for a connection. Default: 1s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`
	// Longest wait for an answer. Default: 500ms.
	CallTimeout caddy.Duration `json:"call_timeout,omitempty"`

	options  store.RedisOptions
	name     string
	identity string // what two configs of one store have in common
	log      *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.stores.redis",
		New: func() caddy.Module { return new(RedisStore) },
	}
}

// Provision resolves placeholders and reads certificates. It dials nothing.
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
		LongestMember:    longestCounts,
		Logger:           s.log,
	}
	if s.Username != "" || s.Password != "" {
		s.options.Credentials = s.credentials
	}
	authorities := []byte(nil)
	if s.TLS != nil {
		var err error
		if s.options.TLS, authorities, err = s.TLS.config(); err != nil {
			return fmt.Errorf("store redis: %w", err)
		}
	}
	u, err := checkRedis(s.options)
	if err != nil {
		return err
	}
	// The query may hold anything.
	s.name = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	o := s.options
	username, password, _ := s.credentials()
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %v %v %q %+v", o.URL, o.KeyPrefix, username, password,
		o.SentinelUsername, o.SentinelPassword, o.DialTimeout, o.CallTimeout, authorities, s.TLS))
	s.identity = fmt.Sprintf("redis %x", sum)
	return nil
}

// credentials are asked for at each connection.
func (s *RedisStore) credentials() (username, password string, err error) {
	repl := caddy.NewReplacer()
	return repl.ReplaceAll(s.Username, ""), repl.ReplaceAll(s.Password, ""), nil
}

func checkRedis(o store.RedisOptions) (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil || o.URL == "" {
		// Neither the value nor the parser's error is shown: a password may
		// be in both.
		return nil, errors.New("store redis: its url is missing or is no URL: give one like redis://host:6379/0")
	}
	if o.Credentials != nil && u.User != nil {
		return nil, errors.New("store redis: it logs in by its url, and by username and password too: keep one")
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
//		username          <name>
//		password          <password>
//		tls_ca            <file>
//		tls_client        <certificate> <key>
//		tls_server_name   <name>
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
	options := map[string]option{
		"key_prefix":        b.text(&s.KeyPrefix),
		"username":          b.text(&s.Username),
		"password":          b.text(&s.Password),
		"sentinel_username": b.text(&s.SentinelUsername),
		"sentinel_password": b.text(&s.SentinelPassword),
		"dial_timeout":      b.duration(&s.DialTimeout),
		"call_timeout":      b.duration(&s.CallTimeout),
	}
	for name, read := range b.clientTLS(&s.TLS) {
		options[name] = func() error {
			if scheme, _, _ := strings.Cut(s.URL, "://"); scheme == "redis" || scheme == "valkey" || scheme == "unix" {
				return d.Errf("%s is for TLS, and the url begins with %s://: write rediss://", name, scheme)
			}
			return read()
		}
	}
	return b.read(options)
}

// StoreKey implements Store. It holds no readable secret.
func (s *RedisStore) StoreKey() string { return s.identity }

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
