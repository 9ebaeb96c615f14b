package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/tinybird"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

func init() {
	caddy.RegisterModule(TinybirdSink{})
}

// TinybirdSink delivers rows to Tinybird's Events API.
type TinybirdSink struct {
	// Name that what waits for this sink is kept under. Default: tinybird.
	Name string `json:"name,omitempty"`
	// The API host of the workspace's region, for example
	// `https://api.tinybird.co` or `https://api.us-east.tinybird.co`.
	// Placeholders are allowed. Required.
	URL string `json:"url,omitempty"`
	// A token with the scope DATASOURCE:APPEND of the datasources, and no
	// other. Write a placeholder like `{env.TINYBIRD_TOKEN}` or
	// `{file./run/secrets/tinybird}`: what stands here is shown by Caddy's
	// admin API. Required.
	Token string `json:"token,omitempty"`
	// Longest wait for an answer. Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Which columns are sent: `full` (default), those of the datasource files;
	// or `firebuzz`, those that an existing workspace of the reference system
	// has. That one has no consents_v1, so records of consent are not sent.
	RowFormat string `json:"row_format,omitempty"`

	*tinybird.Client `json:"-"`
}

// CaddyModule returns the Caddy module information.
func (TinybirdSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.sinks.tinybird",
		New: func() caddy.Module { return new(TinybirdSink) },
	}
}

// rowFormatFirebuzz is the row_format of an existing workspace.
const rowFormatFirebuzz = "firebuzz"

// Provision resolves placeholders and checks URL and token. It dials nothing.
func (s *TinybirdSink) Provision(ctx caddy.Context) error {
	repl := caddy.NewReplacer()
	token := repl.ReplaceAll(s.Token, "")
	if s.Token == "" {
		return errors.New("sink tinybird: the token is missing: give a placeholder like {env.TINYBIRD_TOKEN}")
	}
	if token == "" {
		return fmt.Errorf("sink tinybird: its token, the placeholder %q, is empty: set it to a token with the scope DATASOURCE:APPEND", placeholderOnly(s.Token))
	}
	cfg := tinybird.Config{
		URL:     repl.ReplaceAll(s.URL, ""),
		Token:   token,
		Timeout: time.Duration(s.Timeout),
	}
	format, err := choice("row_format", s.RowFormat, "full", rowFormatFirebuzz)
	if err != nil {
		return fmt.Errorf("sink tinybird: %w", err)
	}
	if format == rowFormatFirebuzz {
		cfg.Rows = referenceRows
		ctx.Logger().Warn("records of consent are not sent by this sink: with row_format firebuzz the workspace has no consents_v1; a further sink, such as `sink file`, keeps them",
			zap.String("sink", cmp.Or(s.Name, "tinybird")))
	}
	client, err := tinybird.New(cfg)
	if err != nil {
		return fmt.Errorf("sink tinybird: %w", err)
	}
	s.Client = client
	return nil
}

// referenceRows makes of a batch what an existing workspace takes. The outbox has
// all columns: so every sink gets what it is made for, and a batch that became a
// dead letter can be sent in another format later.
func referenceRows(datasource string, body []byte) (rows []byte, has bool, err error) {
	set, err := schema.Load()
	if err != nil {
		return nil, false, err
	}
	ds, ok := set.Datasource(datasource)
	if !ok || !ds.HasReference() {
		return nil, false, nil
	}
	if rows, err = ds.ReferenceRows(body); err != nil {
		return nil, false, errors.New(outline(err))
	}
	return rows, true, nil
}

// placeholderOnly shows a token's setting in an error only where it is a
// placeholder.
func placeholderOnly(s string) string {
	if len(s) > 1 && s[0] == '{' && s[len(s)-1] == '}' {
		return s
	}
	return ""
}

// UnmarshalCaddyfile sets up the sink from Caddyfile tokens:
//
//	tinybird {
//		name       <name>
//		url        <url>
//		token      <token>
//		timeout    <duration>
//		row_format full|firebuzz
//	}
func (s *TinybirdSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	start := *d
	if d.NextArg() {
		return d.Errf("sink tinybird takes no argument, '%s' was given: url and token go into its block", d.Val())
	}
	b := newBlock(d, "sink tinybird")
	if err := b.read(map[string]option{
		"name": b.id("name", &s.Name),
		"url": b.checked(&s.URL, func(v string) error {
			if strings.Contains(v, "{") { // a placeholder: Provision checks what it stands for
				return nil
			}
			return tinybird.CheckURL(v)
		}),
		"token":      b.text(&s.Token),
		"timeout":    b.duration(&s.Timeout),
		"row_format": b.choice("row_format", &s.RowFormat, "full", rowFormatFirebuzz),
	}); err != nil {
		return err
	}
	if s.URL == "" {
		return start.Err("sink tinybird has no url: give the API host of the workspace's region, like https://api.tinybird.co")
	}
	if s.Token == "" {
		return start.Err("sink tinybird has no token: give a placeholder like {env.TINYBIRD_TOKEN}")
	}
	return nil
}

var (
	_ outbox.Sink           = (*TinybirdSink)(nil)
	_ caddy.Provisioner     = (*TinybirdSink)(nil)
	_ caddyfile.Unmarshaler = (*TinybirdSink)(nil)
)
