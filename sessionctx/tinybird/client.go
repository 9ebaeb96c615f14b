package tinybird

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

const (
	// DefaultTimeout bounds a request. The API answers after it has written,
	// which takes seconds as a rule.
	DefaultTimeout = 60 * time.Second

	// gzipLevel is fixed, as the compressed bytes may be what the service
	// recognizes a repeated batch by.
	gzipLevel = 5

	// maxAnswer bounds what is read of an answer; real ones have 60 bytes.
	maxAnswer = 64 << 10
)

// Config is where rows go.
type Config struct {
	// URL is the region's API host: https://api.tinybird.co, or a local
	// http://localhost:7181.
	URL string
	// Token has the scope DATASOURCE:APPEND for the datasources, no more.
	Token string
	// Timeout bounds a request. Default DefaultTimeout.
	Timeout time.Duration
	// HTTPClient is used for its transport; its redirect policy is replaced.
	// Default: a transport of its own with net/http's defaults.
	HTTPClient *http.Client
	// Rows makes of a batch's body what is sent, row for row, and reports false
	// where the workspace has no such datasource: such a batch is not sent, and
	// counts as delivered. It must make the same of the same body each time. An
	// error blames a row. Default: the body as it is, of every datasource.
	Rows func(datasource string, body []byte) (rows []byte, has bool, err error)
	// AllowHTTP permits plain http to hosts that are not loopback.
	AllowHTTP bool
	// UserAgent names the sender. Default "caddy-sessionctx".
	UserAgent string
}

// Client is an outbox.Sink. It is safe for concurrent use.
type Client struct {
	endpoint url.URL
	host     string
	token    string
	agent    string
	rows     func(datasource string, body []byte) ([]byte, bool, error)
	timeout  time.Duration
	http     *http.Client
	zippers  sync.Pool
}

var _ outbox.Sink = (*Client)(nil)

// New checks a configuration; it dials nothing. Its errors name the value and
// the remedy.
func New(cfg Config) (*Client, error) {
	endpoint, err := parseURL(cfg.URL, cfg.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if err := checkToken(cfg.Token); err != nil {
		return nil, err
	}
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("tinybird timeout %s is negative: leave it out for %s", cfg.Timeout, DefaultTimeout)
	}
	c := &Client{endpoint: *endpoint, host: endpoint.Host, token: cfg.Token, agent: cfg.UserAgent, rows: cfg.Rows, timeout: cfg.Timeout}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.agent == "" {
		c.agent = "caddy-sessionctx"
	}
	c.http = new(http.Client)
	if cfg.HTTPClient != nil {
		*c.http = *cfg.HTTPClient
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		c.http.Transport = t.Clone()
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.zippers.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzipLevel)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	}
	return c, nil
}

// CheckURL reports what is wrong with a Config's URL.
func CheckURL(raw string) error {
	_, err := parseURL(raw, false)
	return err
}

func parseURL(raw string, allowHTTP bool) (*url.URL, error) {
	const remedy = "give the region's API host, such as https://api.tinybird.co"
	if raw == "" {
		return nil, errors.New("tinybird url is empty: " + remedy)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("tinybird url can't be read: %s", remedy) // the parser's text may repeat a password
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("tinybird url for host %q holds a user or password: put the token into token", u.Host)
	case strings.HasPrefix(raw, "p."):
		return nil, errors.New("tinybird url looks like a token: " + remedy) // which is not repeated
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "":
		return nil, fmt.Errorf("tinybird url %q: %s", raw, remedy)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("tinybird url for host %q has a query or fragment: %s", u.Host, remedy)
	case strings.Contains(u.Path, "/v0"):
		return nil, fmt.Errorf("tinybird url %q holds the API's path: %s", raw, remedy)
	case u.Scheme == "http" && !allowHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("tinybird url %q would send the token in the clear: use https", raw)
	}
	return u.JoinPath("v0", "events"), nil
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func checkToken(token string) error {
	if token == "" {
		return errors.New("tinybird token is empty: make one with the scope DATASOURCE:APPEND and set it, or the environment variable that the configuration names")
	}
	for i := 0; i < len(token); i++ {
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("tinybird token has a blank or control character at position %d: copy it without spaces and line breaks", i)
		}
	}
	return nil
}

// Close drops idle connections. Requests in flight go on.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Deliver sends a batch and reads the answer.
func (c *Client) Deliver(ctx context.Context, b outbox.Batch) outbox.Outcome {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	rows := b.Body
	if c.rows != nil {
		var has bool
		var err error
		if rows, has, err = c.rows(b.Datasource, rows); err != nil {
			return outbox.Blame(fmt.Errorf("making the rows of batch %s of %s: %w", b.Name, b.Datasource, err))
		}
		if !has {
			return outbox.Delivered(0, nil)
		}
	}
	body, err := c.compress(rows)
	if err != nil {
		return outbox.Retry(0, fmt.Errorf("compressing batch %s of %s: %w", b.Name, b.Datasource, err))
	}
	u := c.endpoint
	u.RawQuery = url.Values{"name": {b.Datasource}, "wait": {"true"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return outbox.Hold(fmt.Errorf("making a request to %s: %w", c.host, err))
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", c.agent)

	resp, err := c.http.Do(req)
	if err != nil {
		return outbox.Retry(0, c.network(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	a := answer{
		status: resp.StatusCode, header: resp.Header, body: bytes.ReplaceAll(text, []byte(c.token), []byte("[token]")),
		cut: err, host: c.host, datasource: b.Datasource, sent: b.Rows, now: time.Now(),
	}
	return a.outcome()
}

// network words what kept a request from an answer, without its URL.
func (c *Client) network(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s within %s: %w", c.host, c.timeout, err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("host %s does not exist, check url for the workspace's region: %w", c.host, err)
	}
	return fmt.Errorf("sending to %s: %w", c.host, err)
}

// compress makes the same bytes of the same body: fixed level, no time.
func (c *Client) compress(body []byte) ([]byte, error) {
	w := c.zippers.Get().(*gzip.Writer)
	defer c.zippers.Put(w)
	var out bytes.Buffer
	out.Grow(len(body)/6 + 512)
	w.Reset(&out)
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
