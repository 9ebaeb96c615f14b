package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// The tests speak to kfake, franz-go's own stand-in for a cluster, over real
// sockets; no test has touched a Kafka.

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, "events_v1", "session_v1")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newSink(t testing.TB, brokers []string, change func(*Config)) *Sink {
	t.Helper()
	cfg := Config{Brokers: brokers, Timeout: 20 * time.Second}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// event is a row of session s.
func event(s, n int) string {
	return fmt.Sprintf(`{"row_id":"r%d-%d","session_id":"s%d","n":%d}`, s, n, s, n)
}

func batchOf(rows ...string) outbox.Batch {
	return outbox.Batch{Datasource: "events_v1", Name: "1", Rows: len(rows), Body: []byte(strings.Join(rows, "\n") + "\n")}
}

func expect(t testing.TB, out outbox.Outcome, want outbox.Verdict, says string) {
	t.Helper()
	if out.Verdict != want {
		t.Fatalf("verdict %d, want %d: %v", out.Verdict, want, out.Reason)
	}
	if says != "" && (out.Reason == nil || !strings.Contains(out.Reason.Error(), says)) {
		t.Errorf("reason %v, want %q in it", out.Reason, says)
	}
}

// consume reads n messages of a topic.
func consume(t testing.TB, brokers []string, topic string, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		f := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d messages of %d in %s: %v", len(all), n, topic, err)
		}
		all = append(all, f.Records()...)
	}
	return all
}

// Rows of a session are in one partition, in their order, under its id, over
// batches and sinks too.
func TestSessionsKeepTheirOrder(t *testing.T) {
	c := cluster(t)
	var want int
	for b := range 4 {
		s := newSink(t, c.ListenAddrs(), nil)
		var rows []string
		for n := range 10 {
			for session := range 20 {
				rows = append(rows, event(session, b*10+n))
			}
		}
		expect(t, s.Deliver(t.Context(), batchOf(rows...)), outbox.VerdictDelivered, "")
		want += len(rows)
		s.Close() // the next has a client of its own
	}
	partitions := map[string]int32{}
	next := map[string]int{}
	used := map[int32]bool{}
	for _, r := range consume(t, c.ListenAddrs(), "events_v1", want) {
		key := string(r.Key)
		if p, ok := partitions[key]; ok && p != r.Partition {
			t.Errorf("%s is in partitions %d and %d", key, p, r.Partition)
		}
		partitions[key] = r.Partition
		used[r.Partition] = true
		var session int
		fmt.Sscanf(key, "s%d", &session)
		if got, want := string(r.Value), event(session, next[key]); got != want {
			t.Fatalf("%s: got %s, want %s", key, got, want)
		}
		next[key]++
	}
	if len(used) < 2 {
		t.Errorf("all in partitions %v", used)
	}
}

func TestKeys(t *testing.T) {
	for row, want := range map[string]string{
		`{"session_id":"s","user_id":"u","row_id":"r"}`:  "s",
		`{"session_id":null,"user_id":"u","row_id":"r"}`: "u",
		`{"session_id":"","row_id":"r"}`:                 "r",
		`{"n":1}`:                                        "",
		`{"session_id":7,"row_id":"r"}`:                  "r",
	} {
		if got := string(keyOf([]byte(row))); got != want {
			t.Errorf("%s has key %q, want %q", row, got, want)
		}
	}
}

func TestTopics(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "web.events_v1", "sessions"))
	s := newSink(t, c.ListenAddrs(), func(cfg *Config) {
		cfg.TopicPrefix, cfg.Topics = "web.", map[string]string{"session_v1": "sessions"}
	})
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
	b := batchOf(event(1, 2))
	b.Datasource = "session_v1"
	expect(t, s.Deliver(t.Context(), b), outbox.VerdictDelivered, "")
	if r := consume(t, c.ListenAddrs(), "web.events_v1", 1); string(r[0].Value) != event(1, 1) {
		t.Errorf("got %s", r[0].Value)
	}
	if r := consume(t, c.ListenAddrs(), "sessions", 1); string(r[0].Value) != event(1, 2) {
		t.Errorf("got %s", r[0].Value)
	}
}

// Each write asks for all in-sync replicas, with a producer id.
func TestWritesAreIdempotentAndAckedByAll(t *testing.T) {
	c := cluster(t)
	seen := make(chan *kmsg.ProduceRequest, 16)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		seen <- r.(*kmsg.ProduceRequest)
		return nil, nil, false
	})
	s := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.Compression = "none" })
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
	r := <-seen
	if r.Acks != -1 {
		t.Errorf("acks %d", r.Acks)
	}
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(r.Topics[0].Partitions[0].Records); err != nil {
		t.Fatal(err)
	}
	if batch.ProducerID < 0 || batch.FirstSequence != 0 {
		t.Errorf("producer %d, sequence %d: not idempotent", batch.ProducerID, batch.FirstSequence)
	}
}

func TestCompressions(t *testing.T) {
	c := cluster(t)
	for i, codec := range Compressions {
		s := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.Compression = codec })
		row := `{"row_id":"` + strings.Repeat("x", 5000) + `"}`
		expect(t, s.Deliver(t.Context(), batchOf(row)), outbox.VerdictDelivered, "")
		if r := consume(t, c.ListenAddrs(), "events_v1", i+1); string(r[i].Value) != row {
			t.Errorf("%s: %d bytes came back", codec, len(r[i].Value))
		}
	}
}

// A cluster that goes away and comes back on the same address gets the batch.
func TestBrokerDownAndBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	var n int
	fmt.Sscan(port, &n)
	s := newSink(t, []string{addr}, func(cfg *Config) { cfg.Timeout = 2 * time.Second })
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictRetry, "events_v1")
	first := cluster(t, kfake.Ports(n))
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
	first.Close()
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 2))), outbox.VerdictRetry, "events_v1")
	cluster(t, kfake.Ports(n))
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 2))), outbox.VerdictDelivered, "")
	if r := consume(t, []string{addr}, "events_v1", 1); string(r[0].Value) != event(1, 2) {
		t.Errorf("got %s", r[0].Value)
	}
}

// A broker that takes the request and never answers holds nobody up for longer
// than the timeout, and the batch goes through when it answers again.
func TestSilentBroker(t *testing.T) {
	c := cluster(t)
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	s := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.Timeout = 300 * time.Millisecond })
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictRetry, "")
	close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	expect(t, s.Deliver(ctx, batchOf(event(1, 1))), outbox.VerdictRetry, "")
	s = newSink(t, c.ListenAddrs(), nil)
	expect(t, s.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
}

func TestMissingTopicIsHeldUntilItIsThere(t *testing.T) {
	c := cluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	b := batchOf(event(1, 1))
	b.Datasource = "traffic_v1"
	expect(t, s.Deliver(t.Context(), b), outbox.VerdictHold, "create the topic")
	if err := c.CreateTopic("traffic_v1", 1, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, s.Deliver(t.Context(), b), outbox.VerdictDelivered, "")
}

func TestSASL(t *testing.T) {
	for mechanism, method := range map[string]string{"plain": "PLAIN", "scram_sha_256": "SCRAM-SHA-256", "scram_sha_512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := cluster(t, kfake.EnableSASL(), kfake.Superuser(method, "caddy", "right"))
			login := func(password string) *Sink {
				return newSink(t, c.ListenAddrs(), func(cfg *Config) {
					cfg.Mechanism, cfg.User, cfg.Password = mechanism, "caddy", password
				})
			}
			// kfake closes the connection; Kafka says why first.
			expect(t, login("wrong-secret").Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictRetry, "check tls and sasl")
			var talkative atomic.Bool
			talkative.Store(true)
			c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if !talkative.Load() {
					return nil, nil, false
				}
				resp := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
				return resp, nil, true
			})
			out := login("wrong-secret").Deliver(t.Context(), batchOf(event(1, 1)))
			talkative.Store(false)
			expect(t, out, outbox.VerdictHold, "check user, password and mechanism")
			if strings.Contains(out.Reason.Error(), "wrong-secret") {
				t.Errorf("the reason shows the password: %v", out.Reason)
			}
			expect(t, login("right").Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
		})
	}
}

func TestTLS(t *testing.T) {
	server, roots := certificate(t)
	c := cluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}}))
	trusting := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.TLS = &tls.Config{RootCAs: roots} })
	expect(t, trusting.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictDelivered, "")
	doubting := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.TLS = &tls.Config{}; cfg.Timeout = 2 * time.Second })
	expect(t, doubting.Deliver(t.Context(), batchOf(event(1, 1))), outbox.VerdictRetry, "certificate")
}

// certificate is the standard library's own for tests, which is good for
// 127.0.0.1, and who trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return server.TLS.Certificates[0], pool
}

// A row that is too large is found before anything is sent, and is the only one
// that ends among the dead letters. One that the topic alone finds too large is
// found by halving too.
func TestTooLargeRows(t *testing.T) {
	for _, limit := range []string{"ours", "the topic's"} {
		t.Run(limit, func(t *testing.T) {
			c := cluster(t)
			s := newSink(t, c.ListenAddrs(), func(cfg *Config) { cfg.Compression = "none" })
			size := DefaultMaxMessage + 1
			if limit == "the topic's" {
				size = 20_000
				c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					req := r.(*kmsg.ProduceRequest)
					for _, topic := range req.Topics {
						for _, p := range topic.Partitions {
							if len(p.Records) > 10_000 {
								return tooLarge(req), nil, true
							}
						}
					}
					return nil, nil, false
				})
			}
			o, err := outbox.Open(t.TempDir(), outbox.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			var rows []outbox.Row
			for n := range 9 {
				row := event(n, 0)
				if n == 4 {
					row = `{"row_id":"` + strings.Repeat("x", size) + `"}`
				}
				rows = append(rows, outbox.Row{Datasource: "events_v1", JSON: []byte(row)})
			}
			if err := o.Append(t.Context(), rows...); err != nil {
				t.Fatal(err)
			}
			o.SetSink(s)
			for end := time.Now().Add(60 * time.Second); o.Stats().Rows > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("left: %+v", o.Stats())
				}
			}
			letters := o.DeadLetters()
			if len(letters) != 1 || letters[0].Rows != 1 {
				t.Fatalf("dead letters %+v", letters)
			}
			text, err := o.ReadDeadLetter(letters[0].ID)
			if err != nil || !bytes.HasPrefix(text, []byte(`{"row_id":"xxx`)) {
				t.Errorf("dead letter %.40s, %v", text, err)
			}
			seen := map[string]bool{}
			for _, r := range consume(t, c.ListenAddrs(), "events_v1", 8) {
				seen[string(r.Value)] = true
			}
			if len(seen) != 8 {
				t.Errorf("%d of the other rows arrived", len(seen))
			}
		})
	}
}

func tooLarge(req *kmsg.ProduceRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.MessageTooLarge.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// Close lets a delivery that is on its way end, and a later one works.
func TestCloseAndGoOn(t *testing.T) {
	c := cluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	for n := range 3 {
		expect(t, s.Deliver(t.Context(), batchOf(event(1, n))), outbox.VerdictDelivered, "")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entered, release := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(entered)
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	out := make(chan outbox.Outcome)
	go func() { out <- s.Deliver(context.Background(), batchOf(event(1, 3))) }()
	<-entered
	s.Close()
	close(release)
	expect(t, <-out, outbox.VerdictDelivered, "")
}

func TestOutcomes(t *testing.T) {
	s := newSink(t, []string{"127.0.0.1:1"}, nil)
	for _, c := range []struct {
		err  error
		want outbox.Verdict
	}{
		{kerr.MessageTooLarge, outbox.VerdictSplit},
		{kerr.RecordListTooLarge, outbox.VerdictSplit},
		{kerr.UnknownTopicOrPartition, outbox.VerdictHold},
		{kerr.InvalidTopicException, outbox.VerdictHold},
		{kerr.SaslAuthenticationFailed, outbox.VerdictHold},
		{kerr.UnsupportedSaslMechanism, outbox.VerdictHold},
		{kerr.TopicAuthorizationFailed, outbox.VerdictHold},
		{kerr.ClusterAuthorizationFailed, outbox.VerdictHold},
		{kerr.PolicyViolation, outbox.VerdictHold},
		{kerr.InvalidRecord, outbox.VerdictBlame},
		{kerr.NotEnoughReplicas, outbox.VerdictRetry},
		{kerr.NotLeaderForPartition, outbox.VerdictRetry},
		{kerr.RequestTimedOut, outbox.VerdictRetry},
		{context.DeadlineExceeded, outbox.VerdictRetry},
		{context.Canceled, outbox.VerdictRetry},
		{kgo.ErrClientClosed, outbox.VerdictRetry},
		{errors.New("connection refused"), outbox.VerdictRetry},
	} {
		out := s.outcome(batchOf(), fmt.Errorf("producing: %w", c.err))
		if out.Verdict != c.want || !errors.Is(out.Reason, c.err) {
			t.Errorf("%v: verdict %d, want %d; reason %v", c.err, out.Verdict, c.want, out.Reason)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{Brokers: []string{"a:9092", "[::1]:9092"}, Mechanism: "scram_sha_512", User: "u", Password: "p"}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"no broker":           {},
		"no port":             {Brokers: []string{"kafka"}},
		"a url":               {Brokers: []string{"https://kafka:9092"}},
		"a bad prefix":        {Brokers: []string{"a:1"}, TopicPrefix: "a b"},
		"a bad topic":         {Brokers: []string{"a:1"}, Topics: map[string]string{"events_v1": "ä"}},
		"unknown codec":       {Brokers: []string{"a:1"}, Compression: "br"},
		"unknown mechanism":   {Brokers: []string{"a:1"}, Mechanism: "oauth", User: "u", Password: "p"},
		"no password":         {Brokers: []string{"a:1"}, Mechanism: "plain", User: "u"},
		"no mechanism":        {Brokers: []string{"a:1"}, User: "u", Password: "p"},
		"plain in the clear":  {Brokers: []string{"a:1"}, Mechanism: "plain", User: "u", Password: "p"},
		"a negative timeout":  {Brokers: []string{"a:1"}, Timeout: -1},
		"a tiny max_message":  {Brokers: []string{"a:1"}, MaxMessage: 10},
		"a giant max_message": {Brokers: []string{"a:1"}, MaxMessage: 1 << 30},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
