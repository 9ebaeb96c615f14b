package kafka

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// batchOverhead is more than a batch of one message holds beside its key and
// value.
const batchOverhead = 512

// Sink is an outbox.Sink. It is safe for concurrent use.
type Sink struct {
	cfg     Config
	options []kgo.Opt

	mu   sync.Mutex
	conn *connection // nil until it is needed
}

// connection is a client and those who use it.
type connection struct {
	*kgo.Client
	users  int  // under Sink.mu
	doomed bool // under Sink.mu: closed when the last has let go
	proven atomic.Bool
}

var _ outbox.Sink = (*Sink)(nil)

// New checks a configuration; it dials nothing. Its errors name the value and
// the remedy.
func New(cfg Config) (*Sink, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = DefaultMaxMessage
	}
	options = append(options, kgo.ProducerBatchMaxBytes(int32(cfg.MaxMessage)+batchOverhead))
	if err := kgo.ValidateOpts(options...); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &Sink{cfg: cfg, options: options}, nil
}

// Topic is where a datasource's rows go.
func (s *Sink) Topic(datasource string) string {
	if t := s.cfg.Topics[datasource]; t != "" {
		return t
	}
	return s.cfg.TopicPrefix + datasource
}

// Deliver produces a batch and waits until every row is acknowledged.
func (s *Sink) Deliver(ctx context.Context, b outbox.Batch) outbox.Outcome {
	records, err := s.records(b)
	if err != nil {
		return outbox.Blame(err)
	}
	conn, err := s.take()
	if err != nil {
		return outbox.Hold(fmt.Errorf("making a kafka client: %w", err))
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	// Produced records wait for a broker as long as they may; a ping tells at
	// once what keeps them from one.
	if !conn.proven.Load() {
		if err := conn.Ping(ctx); err != nil {
			s.release(conn, ctx.Err() != nil)
			return s.outcome(b, err)
		}
		conn.proven.Store(true)
	}
	err, abandoned := produce(ctx, conn.Client, records)
	if err != nil {
		conn.proven.Store(false)
	}
	s.release(conn, abandoned)
	if err != nil {
		return s.outcome(b, err)
	}
	return outbox.Delivered(0, nil)
}

// produceGrace is how long the client may take to notice that time is up.
const produceGrace = time.Second

// produce hands records over and waits for all of them. It returns the first
// error, and whether the client may still be busy with some.
func produce(ctx context.Context, client *kgo.Client, records []*kgo.Record) (err error, abandoned bool) {
	var mu sync.Mutex
	left := len(records)
	done := make(chan struct{})
	var first error
	for _, r := range records {
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
			if left--; left == 0 {
				close(done)
			}
		})
	}
	select {
	case <-done:
		return first, false
	case <-ctx.Done():
	}
	grace := time.NewTimer(produceGrace)
	defer grace.Stop()
	select {
	case <-done:
		return first, false
	case <-grace.C:
		return ctx.Err(), true
	}
}

// records makes a message of each row. They don't share the batch's memory: the
// client may hold them longer than Deliver does. It fails for a row that no
// broker would take, before any is sent.
func (s *Sink) records(b outbox.Batch) ([]*kgo.Record, error) {
	topic := s.Topic(b.Datasource)
	records := make([]*kgo.Record, 0, b.Rows)
	for row := range bytes.Lines(bytes.Clone(b.Body)) {
		row = bytes.TrimSuffix(row, []byte("\n"))
		key := keyOf(row)
		if n := len(row) + len(key); n > s.cfg.MaxMessage {
			return nil, fmt.Errorf("a row of %s has %d bytes, max_message is %d: raise it, and the topic's max.message.bytes, and send the row again", b.Datasource, n, s.cfg.MaxMessage)
		}
		records = append(records, &kgo.Record{Topic: topic, Key: key, Value: row})
	}
	return records, nil
}

// keyOf is what decides about the partition: the session, so that its rows stay
// in order; of a row without one the user, else the row itself.
func keyOf(row []byte) []byte {
	var ids struct {
		Session string `json:"session_id"`
		User    string `json:"user_id"`
		Row     string `json:"row_id"`
	}
	_ = json.Unmarshal(row, &ids) // what can't be read has no key: any partition will do
	for _, id := range []string{ids.Session, ids.User, ids.Row} {
		if id != "" {
			return []byte(id)
		}
	}
	return nil
}

// take returns the client, made when it is needed first.
func (s *Sink) take() (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		client, err := kgo.NewClient(s.options...)
		if err != nil {
			return nil, err
		}
		s.conn = &connection{Client: client}
	}
	s.conn.users++
	return s.conn, nil
}

// release lets go of a client. One that is stuck is used no more.
func (s *Sink) release(c *connection, stuck bool) {
	s.mu.Lock()
	if stuck {
		s.drop(c)
	}
	c.users--
	closeIt := c.doomed && c.users == 0
	s.mu.Unlock()
	if closeIt {
		c.Close()
	}
}

// drop keeps a client from being taken again, under the lock.
func (s *Sink) drop(c *connection) {
	c.doomed = true
	if s.conn == c {
		s.conn = nil
	}
}

// Close ends the connections, those of deliveries in flight when these have
// ended. A later delivery makes new ones.
func (s *Sink) Close() error {
	s.mu.Lock()
	c := s.conn
	if c == nil {
		s.mu.Unlock()
		return nil
	}
	c.users++
	s.drop(c)
	s.mu.Unlock()
	s.release(c, false)
	return nil
}
