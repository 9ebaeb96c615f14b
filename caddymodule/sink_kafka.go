package caddymodule

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/kafka"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func init() {
	caddy.RegisterModule(KafkaSink{})
}

// KafkaSink produces rows to Kafka: a topic for each datasource, a message for
// each row, keyed by its session. All in-sync replicas acknowledge a batch
// before it leaves the outbox; one that fails half way comes again as a whole,
// which the rows' ids show.
type KafkaSink struct {
	// Name that what waits for this sink is kept under. Default: kafka.
	Name string `json:"name,omitempty"`
	// Some of the cluster's brokers, host:port. Placeholders are allowed.
	// Required.
	Brokers []string `json:"brokers,omitempty"`
	// What stands before the datasource in a topic's name. Default: nothing.
	TopicPrefix string `json:"topic_prefix,omitempty"`
	// Topics by datasource, for those that are called otherwise.
	Topics map[string]string `json:"topics,omitempty"`
	// How the sink logs in. Default: not at all.
	SASL *KafkaSASL `json:"sasl,omitempty"`
	// TLS to the brokers. Default: in the clear.
	TLS *ClientTLS `json:"tls,omitempty"`
	// `none`, `gzip`, `snappy` (default), `lz4` or `zstd`.
	Compression string `json:"compression,omitempty"`
	// Largest row that the topics take, in bytes: their max.message.bytes, less
	// 512. A larger one goes to the dead letters. Default: 1000000.
	MaxMessage int64 `json:"max_message,omitempty"`
	// Longest wait for a batch to be acknowledged. Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	*kafka.Sink `json:"-"`
}

// KafkaSASL is how a sink logs in.
type KafkaSASL struct {
	// `plain` (over TLS only, or to this machine), `scram_sha_256` or
	// `scram_sha_512`.
	Mechanism string `json:"mechanism,omitempty"`
	// Placeholders are allowed.
	User string `json:"user,omitempty"`
	// Write a placeholder like `{env.KAFKA_PASSWORD}`: what stands here is shown
	// by Caddy's admin API.
	Password string `json:"password,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (KafkaSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.sinks.kafka",
		New: func() caddy.Module { return new(KafkaSink) },
	}
}

// Provision resolves placeholders and reads certificates. It dials nothing.
func (s *KafkaSink) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	cfg := kafka.Config{
		TopicPrefix: s.TopicPrefix,
		Topics:      s.Topics,
		Compression: s.Compression,
		MaxMessage:  int(s.MaxMessage),
		Timeout:     time.Duration(s.Timeout),
	}
	for _, b := range s.Brokers {
		cfg.Brokers = append(cfg.Brokers, repl.ReplaceAll(b, ""))
	}
	if s.SASL != nil {
		cfg.Mechanism, cfg.User, cfg.Password = s.SASL.Mechanism, repl.ReplaceAll(s.SASL.User, ""), repl.ReplaceAll(s.SASL.Password, "")
	}
	var err error
	if s.TLS != nil {
		if cfg.TLS, _, err = s.TLS.config(); err != nil {
			return fmt.Errorf("sink kafka: %w", err)
		}
	}
	if s.Sink, err = kafka.New(cfg); err != nil {
		return fmt.Errorf("sink kafka: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the sink from Caddyfile tokens:
//
//	kafka <broker...> {
//		name         <name>
//		topic_prefix <prefix>
//		topic        <datasource> <topic>
//		sasl         plain|scram_sha_256|scram_sha_512 <user> <password>
//		tls
//		tls_ca       <file>
//		tls_client   <certificate> <key>
//		tls_server_name <name>
//		compression  none|gzip|snappy|lz4|zstd
//		max_message  <size>
//		timeout      <duration>
//	}
func (s *KafkaSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	for d.NextArg() {
		if err := kafka.CheckBroker(d.Val()); err != nil && !strings.Contains(d.Val(), "{") {
			return d.WrapErr(err)
		}
		s.Brokers = append(s.Brokers, d.Val())
	}
	if len(s.Brokers) == 0 {
		return d.Err("sink kafka wants a broker at least, like kafka.internal:9092")
	}
	b := newBlock(d, "sink kafka")
	options := map[string]option{
		"name":         b.id("name", &s.Name),
		"topic_prefix": b.checked(&s.TopicPrefix, kafka.CheckTopic),
		"topic": func() error {
			args := d.RemainingArgs()
			if len(args) != 2 {
				return d.Errf("topic wants a datasource and its topic, and has %d values", len(args))
			}
			if _, err := choice("topic of datasource", args[0], sessionctx.Datasources...); err != nil {
				return d.WrapErr(err)
			}
			if s.Topics[args[0]] != "" {
				return d.Errf("%s has two topics: keep one", args[0])
			}
			if err := kafka.CheckTopic(args[1]); err != nil {
				return d.WrapErr(err)
			}
			if s.Topics == nil {
				s.Topics = map[string]string{}
			}
			s.Topics[args[0]] = args[1]
			return nil
		},
		"sasl": func() error {
			args := d.RemainingArgs()
			if len(args) != 3 {
				return d.Errf("sasl wants a mechanism, a user and a password, and has %d values", len(args))
			}
			if _, err := choice("sasl", args[0], kafka.Mechanisms...); err != nil {
				return d.WrapErr(err)
			}
			s.SASL = &KafkaSASL{args[0], args[1], args[2]}
			return nil
		},
		"tls": func() error {
			b.tls(&s.TLS)
			return b.end("tls")
		},
		"compression": b.choice("compression", &s.Compression, kafka.Compressions...),
		"max_message": func() error {
			var v string
			if err := b.text(&v)(); err != nil {
				return err
			}
			n, err := humanize.ParseBytes(v)
			if err != nil || n < 1<<10 || n > 1<<29 {
				return d.Errf("max_message '%s' is not a size between 1KiB and 512MiB, like 1MB", v)
			}
			s.MaxMessage = int64(n)
			return nil
		},
		"timeout": b.duration(&s.Timeout),
	}
	maps.Copy(options, b.clientTLS(&s.TLS))
	return b.read(options, "topic")
}

var (
	_ outbox.Sink           = (*KafkaSink)(nil)
	_ caddy.Provisioner     = (*KafkaSink)(nil)
	_ caddyfile.Unmarshaler = (*KafkaSink)(nil)
)
