package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	// DefaultTimeout bounds the delivery of a batch.
	DefaultTimeout = 60 * time.Second
	// DefaultMaxMessage is Kafka's own default of max.message.bytes, less what a
	// batch of one message needs beside it.
	DefaultMaxMessage = 1_000_000
)

// Mechanisms are the names of the SASL mechanisms that are known.
var Mechanisms = []string{"plain", "scram_sha_256", "scram_sha_512"}

// Compressions are the names of the codecs that are known.
var Compressions = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Config is where rows go.
type Config struct {
	// Brokers are host:port of some of the cluster's brokers.
	Brokers []string
	// TopicPrefix stands before the datasource's name in a topic's.
	TopicPrefix string
	// Topics are the topics of datasources that are called otherwise.
	Topics map[string]string
	// Mechanism is one of Mechanisms; empty is no SASL.
	Mechanism, User, Password string
	// TLS is nil for connections in the clear.
	TLS *tls.Config
	// Compression is one of Compressions. Default snappy.
	Compression string
	// MaxMessage is the largest row, in bytes, that topics take. Default
	// DefaultMaxMessage.
	MaxMessage int
	// Timeout bounds the delivery of a batch. Default DefaultTimeout.
	Timeout time.Duration
}

// topicName is Kafka's rule for names of topics.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// CheckBroker wants host:port.
func CheckBroker(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" || strings.ContainsAny(addr, "/ \t") {
		return fmt.Errorf("broker %q is not host:port, like kafka.internal:9092", addr)
	}
	return nil
}

// CheckTopic wants a name that Kafka takes.
func CheckTopic(name string) error {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("topic %q: want 1 to 249 letters, digits, dots, _ and -", name)
	}
	return nil
}

// options checks a configuration and words it for the client.
func (c *Config) options() ([]kgo.Opt, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("no kafka broker: give one at least, like kafka.internal:9092")
	}
	for _, b := range c.Brokers {
		if err := CheckBroker(b); err != nil {
			return nil, err
		}
	}
	if c.TopicPrefix != "" {
		if err := CheckTopic(c.TopicPrefix); err != nil {
			return nil, fmt.Errorf("topic_prefix: %w", err)
		}
	}
	for ds, topic := range c.Topics {
		if err := CheckTopic(topic); err != nil {
			return nil, fmt.Errorf("%s: %w", ds, err)
		}
	}
	if c.Timeout < 0 {
		return nil, fmt.Errorf("kafka timeout %s is negative: leave it out for %s", c.Timeout, DefaultTimeout)
	}
	if c.MaxMessage != 0 && (c.MaxMessage < 1<<10 || c.MaxMessage > 1<<29) {
		return nil, fmt.Errorf("max_message %d is not between 1 KiB and 512 MiB", c.MaxMessage)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("caddy-sessionctx"),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // murmur2, as Kafka's own clients
		kgo.ProducerLinger(0),
		// A batch is given up after its timeout and comes again as a whole,
		// though some of it may have been written.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.MaxBufferedRecords(1 << 20),
		kgo.DisableClientMetrics(),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	codec, err := codecOf(c.Compression)
	if err != nil {
		return nil, err
	}
	return append(opts, kgo.ProducerBatchCompression(codec, kgo.NoCompression())), nil
}

func (c *Config) mechanism() (sasl.Mechanism, error) {
	switch {
	case c.Mechanism == "" && c.User+c.Password == "":
		return nil, nil
	case c.Mechanism == "":
		return nil, fmt.Errorf("kafka user %q without a mechanism: known are %s", c.User, strings.Join(Mechanisms, ", "))
	case c.User == "" || c.Password == "":
		return nil, fmt.Errorf("kafka sasl %s has no user or no password: set them, or the variables that their placeholders name", c.Mechanism)
	}
	switch c.Mechanism {
	case "plain":
		if c.TLS == nil && !c.local() {
			return nil, errors.New("kafka sasl plain would send the password in the clear: use tls, or scram_sha_512")
		}
		return plain.Auth{User: c.User, Pass: c.Password}.AsMechanism(), nil
	case "scram_sha_256":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha256Mechanism(), nil
	case "scram_sha_512":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka sasl mechanism %q is unknown: known are %s", c.Mechanism, strings.Join(Mechanisms, ", "))
}

// local tells whether no broker is outside of this machine.
func (c *Config) local() bool {
	for _, b := range c.Brokers {
		host, _, _ := net.SplitHostPort(b)
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

func codecOf(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "snappy":
		return kgo.SnappyCompression(), nil
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("kafka compression %q is unknown: known are %s", name, strings.Join(Compressions, ", "))
}
