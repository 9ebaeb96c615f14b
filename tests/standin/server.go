package standin

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"sync"
	"testing"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// DefaultToken is the token that a Server takes unless WithToken says another.
const DefaultToken = "p.standin"

// DefaultMaxBody is the most that a request may hold, packed and unpacked: what
// Tinybird's smallest plan allows. Whether that means the one or the other is
// not documented, so both are held to it.
const DefaultMaxBody = 10 << 20

// Server is a stand-in for Tinybird. Its methods can be called from any
// goroutine.
type Server struct {
	// URL is the address to configure as the sink's, without a trailing slash.
	URL string

	token       string
	maxBody     int64
	reference   bool
	deduplicate bool
	sink        func(datasource string, rows []byte) error
	schema      schema.Set
	http        *httptest.Server
	done        chan struct{} // closed by Close: ends hangs
	once        sync.Once

	// inserting keeps batches apart, so that of two equal ones at a time the
	// second is known. It is held over the sink, mu never is.
	inserting sync.Mutex

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change
	rows       map[string][][]byte
	known      map[[32]byte]counts // batches that are in, by hash; only to deduplicate
	batches    []Batch
	violations []Violation
	told       int // violations that the test has seen
	faults     map[string][]*armed
}

// Option changes a Server before it starts.
type Option func(*Server)

// WithToken sets the token that requests must bear.
func WithToken(token string) Option { return func(s *Server) { s.token = token } }

// WithMaxBody sets the size, packed or unpacked, above which a request is answered 413.
func WithMaxBody(bytes int64) Option { return func(s *Server) { s.maxBody = bytes } }

// WithReferenceRows makes the Server an existing workspace of the reference
// system: rows have its columns and no others.
func WithReferenceRows() Option { return func(s *Server) { s.reference = true } }

// WithDeduplication makes the Server ignore a batch whose bytes it already has,
// and answer as it did then. Tinybird is said to do so for five hours. It is
// off by default, since nothing should rest on it.
func WithDeduplication() Option { return func(s *Server) { s.deduplicate = true } }

// WithSink hands the good rows of each batch, as NDJSON, to a real engine
// before they are acknowledged. Its error is answered as a 500, and the rows
// count as not in.
func WithSink(sink func(datasource string, rows []byte) error) Option {
	return func(s *Server) { s.sink = sink }
}

// New starts a Server on a loopback port for one test, and closes it when that
// ends. Violations that the test has not fetched by then fail it.
func New(t testing.TB, options ...Option) *Server {
	t.Helper()
	s, err := Start("127.0.0.1:0", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, v := range s.untold() {
			t.Errorf("stand-in: %v", v)
		}
	})
	return s
}

// Start starts a Server on an address. The caller closes it.
func Start(addr string, options ...Option) (*Server, error) {
	set, err := schema.Load()
	if err != nil {
		return nil, fmt.Errorf("loading datasources: %w", err)
	}
	s := &Server{
		token:   DefaultToken,
		maxBody: DefaultMaxBody,
		schema:  set,
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		rows:    make(map[string][][]byte),
		known:   make(map[[32]byte]counts),
		faults:  make(map[string][]*armed),
	}
	for _, option := range options {
		option(s)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for the stand-in: %w", err)
	}
	s.http = httptest.NewUnstartedServer(s)
	s.http.Listener.Close()
	s.http.Listener = listener
	s.http.Start()
	s.URL = s.http.URL
	return s, nil
}

// Close ends requests that hang and stops the Server. What it recorded can
// still be read.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.done)
		s.http.CloseClientConnections()
		s.http.Close()
	})
}

// Wait waits until a condition holds, which is asked again at every change. It
// returns the context's error if that comes first. The condition may call the
// Server's methods.
func (s *Server) Wait(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitRows waits until a datasource has at least n rows, duplicates counted.
func (s *Server) WaitRows(ctx context.Context, datasource string, n int) error {
	if err := s.Wait(ctx, func() bool { return s.Count(datasource) >= n }); err != nil {
		return fmt.Errorf("waiting for %d rows in %s, have %d: %w", n, datasource, s.Count(datasource), err)
	}
	return nil
}

// WaitBatches waits until a datasource has answered at least n requests, or
// broken them off.
func (s *Server) WaitBatches(ctx context.Context, datasource string, n int) error {
	if err := s.Wait(ctx, func() bool { return len(s.Batches(datasource)) >= n }); err != nil {
		return fmt.Errorf("waiting for %d requests to %s, have %d: %w", n, datasource, len(s.Batches(datasource)), err)
	}
	return nil
}

// notify wakes those who wait. The caller holds mu.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
