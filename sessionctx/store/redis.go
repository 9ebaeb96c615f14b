package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

// RedisOptions of a store in Redis 7 or Valkey. Only URL is required.
type RedisOptions struct {
	// URL names the server: redis://user:password@host:6379/0, rediss:// for
	// TLS, unix:///path. Further addresses (addr=host:port, repeatable) make a
	// cluster's or, with master_set=name, the sentinels' list. The server is
	// asked whether it is a cluster.
	URL string
	// SentinelUsername and SentinelPassword, where sentinels want their own.
	SentinelUsername, SentinelPassword string
	// KeyPrefix of every key. Default: "session_context:".
	KeyPrefix string
	// Credentials, where given, stand for the URL's. They are asked for at each
	// connection, so a password can change while the store is open; but once,
	// where sentinels are named.
	Credentials func() (username, password string, err error)
	// TLS says more of rediss://: authorities, a client certificate, a name.
	// Without a name each address has to have a certificate of its own.
	TLS *tls.Config
	// DialTimeout bounds a connection attempt. Default: 1s.
	DialTimeout time.Duration
	// CallTimeout bounds each call, beside its context. Default: 500ms.
	CallTimeout time.Duration
	// TripAfter is how many calls in a row must go unanswered before calls
	// fail fast; ProbeEvery is how often the server is then tried, in the
	// background. Defaults: 5 and 250ms.
	TripAfter  int
	ProbeEvery time.Duration
	// MaxPending and MaxPendingBytes bound the Puts that wait. Defaults: 16384
	// and 32 MiB.
	MaxPending      int
	MaxPendingBytes int
	// KeepPending is how long a Put is tried while the server is down.
	// Default: 30s.
	KeepPending time.Duration
	// LongestMember is how long members of groups may live at most, as far as
	// is known when it is called. Default, and where it says 0: 48 hours.
	LongestMember func() time.Duration
	// Sealer and Logger: as in Options.
	Sealer Sealer
	Logger *zap.Logger
}

func (o RedisOptions) withDefaults() RedisOptions {
	orDefault(&o.KeyPrefix, "session_context:")
	orDefault(&o.DialTimeout, time.Second)
	orDefault(&o.CallTimeout, 500*time.Millisecond)
	orDefault(&o.TripAfter, 5)
	orDefault(&o.ProbeEvery, 250*time.Millisecond)
	orDefault(&o.MaxPending, 16384)
	orDefault(&o.MaxPendingBytes, 32<<20)
	orDefault(&o.KeepPending, 30*time.Second)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// Check reports what is wrong with the options. It dials nothing.
func (o RedisOptions) Check() error {
	_, err := o.withDefaults().client()
	return err
}

func (o RedisOptions) client() (rueidis.ClientOption, error) {
	c, err := rueidis.ParseURL(o.URL)
	if err != nil {
		// The URL may hold a password: say what is wrong, not where.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return c, fmt.Errorf("url: %w; want redis://[user:password@]host:port[/db] or rediss://", err)
	}
	switch {
	case c.TLSConfig == nil && o.TLS != nil:
		return c, errors.New("url: TLS is set up, and the url is not for TLS: write rediss://")
	case c.TLSConfig != nil:
		tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			tlsConfig = o.TLS.Clone()
		}
		tlsConfig.InsecureSkipVerify = tlsConfig.InsecureSkipVerify || c.TLSConfig.InsecureSkipVerify
		c.TLSConfig = tlsConfig
	}
	if ask := o.Credentials; ask != nil && c.Sentinel.MasterSet == "" {
		c.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			username, password, err := ask()
			return rueidis.AuthCredentials{Username: username, Password: password}, err
		}
	} else if ask != nil { // rueidis would show them to the sentinels
		if c.Username, c.Password, err = ask(); err != nil {
			return c, err
		}
	}
	if c.Dialer.Timeout == 0 {
		c.Dialer.Timeout = o.DialTimeout
	}
	if c.ConnWriteTimeout == 0 {
		c.ConnWriteTimeout = max(2*time.Second, 2*o.CallTimeout)
	}
	c.Sentinel.Username, c.Sentinel.Password = o.SentinelUsername, o.SentinelPassword
	c.Sentinel.TLSConfig, c.Sentinel.Dialer = c.TLSConfig, c.Dialer
	// A switch that a sentinel told of while nobody listened is found all the same.
	c.Sentinel.TopologyRefreshInterval = 5 * time.Second
	// Two nodes of a cluster that name each other would be asked in turn for ever.
	c.ClusterOption.MaxMovedRedirections = 16
	c.DisableCache = true // what is read is read once
	// A call that gives up must not cost the connection that others use.
	c.AlwaysPipelining = true
	// Where several wait, the next flush may be this much later: each is a call
	// into the kernel, which costs more than all else that a claim needs.
	c.MaxFlushDelay = 20 * time.Microsecond
	c.ReadBufferEachConn, c.WriteBufferEachConn = 128<<10, 128<<10
	// Redirections of a cluster are followed, but nothing is sent twice: a
	// claim that was won, and whose answer was lost, would come back as lost.
	c.RetryDelay = func(int, rueidis.Completed, error) time.Duration { return -1 }
	return c, nil
}

// Redis is a Store on a Redis or Valkey server that several nodes share.
// Entries end by the server's clock. A claim is as durable as the server is
// configured to be: appendonly with appendfsync always keeps every one,
// everysec may lose the last second in a crash of the host, and a failover
// loses what had not reached the replica.
type Redis struct {
	o     RedisOptions
	link  *link
	queue *queue
	roll  *roll
	ended atomic.Bool

	unsure unsure

	claims, lost, damaged, failures atomic.Uint64
}

var _ Store = (*Redis)(nil)

// OpenRedis returns at once; the server is dialed in the background, and again
// whenever it was lost. Until it answers, calls return ErrUnavailable: the
// first ones wait for the outcome of the first attempt, within their
// deadlines. The only errors are those of the options.
func OpenRedis(o RedisOptions) (*Redis, error) {
	o = o.withDefaults()
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	r := &Redis{o: o}
	r.link = newLink(c, o)
	r.queue = newQueue(r)
	r.roll = newRoll(r)
	return r, nil
}

// claimed is what the server said to a claim.
type claimed struct {
	record string
	won    bool
}

// replaceDamaged puts a claim in place of a record that did not verify, if
// that still stands; else it returns what does. Plain SET cannot compare.
var replaceDamaged = rueidis.NewLuaScript(`
local standing = redis.call('GET', KEYS[1])
if standing and standing ~= ARGV[1] then return standing end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false`)

// addAfresh is INCRBY on what turned out not to be a number.
var addAfresh = rueidis.NewLuaScript(`
local ok = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(ok) ~= 'number' then
	redis.call('DEL', KEYS[1])
	ok = redis.call('INCRBY', KEYS[1], ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ok`)

// Claim implements [Store], by one SET NX GET PX.
func (r *Redis) Claim(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, bool, error) {
	if err := checkEntry(key, value, ttl); err != nil {
		return nil, false, fmt.Errorf("claiming: %w", err)
	}
	name := valueName(key)
	if err := r.queue.settled(ctx, name); err != nil {
		return nil, false, r.fail("claiming", err)
	}
	record := rueidis.BinaryString(encode(name, value, 0, r.o.Sealer))
	got, err := call(ctx, r, func(ctx context.Context, c rueidis.Client) (claimed, error) {
		return toClaimed(c.Do(ctx, c.B().Set().Key(r.key(name)).Value(record).Nx().Get().Px(ttl).Build()))
	})
	// A second round only where a damaged record stood and another claimer
	// replaced it first, or that one is damaged too.
	for range 3 {
		if err != nil {
			return nil, false, r.fail("claiming", err)
		}
		if got.won {
			r.claims.Add(1)
			return value, true, nil
		}
		standing, _, damage := decode(name, []byte(got.record), r.o.Sealer)
		if damage == nil {
			r.claims.Add(1)
			r.lost.Add(1)
			return standing, false, nil
		}
		r.damaged.Add(1)
		damaged := got.record
		got, err = call(ctx, r, func(ctx context.Context, c rueidis.Client) (claimed, error) {
			return toClaimed(replaceDamaged.Exec(ctx, c, []string{r.key(name)},
				[]string{damaged, record, fmt.Sprint(ttl.Milliseconds())}))
		})
	}
	return nil, false, r.fail("claiming", errDamaged)
}

func toClaimed(result rueidis.RedisResult) (claimed, error) {
	record, err := result.ToString()
	if rueidis.IsRedisNil(err) {
		return claimed{won: true}, nil
	}
	return claimed{record: record}, err
}

// Get implements [Store].
func (r *Redis) Get(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	name := valueName(key)
	if value, known := r.queue.get(name); known && !r.ended.Load() {
		if value == nil {
			return nil, ErrNotFound
		}
		return value, nil
	}
	record, err := call(ctx, r, func(ctx context.Context, c rueidis.Client) ([]byte, error) {
		return c.Do(ctx, c.B().Get().Key(r.key(name)).Build()).AsBytes()
	})
	if rueidis.IsRedisNil(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, r.fail("reading", err)
	}
	value, _, err := decode(name, record, r.o.Sealer)
	if err != nil {
		r.damaged.Add(1)
		return nil, ErrNotFound
	}
	return value, nil
}

// Put implements [Store].
func (r *Redis) Put(key string, value []byte, ttl time.Duration) {
	if checkEntry(key, value, ttl) != nil {
		r.queue.dropped.Add(1)
		return
	}
	name := valueName(key)
	r.queue.put(name, append([]byte{}, value...), encode(name, value, 0, r.o.Sealer), time.Now().Add(ttl))
}

// Next implements [Store], by INCRBY and PEXPIRE in one pipeline.
func (r *Redis) Next(ctx context.Context, key string, n int, ttl time.Duration) (int64, error) {
	if err := checkReserve(key, n, ttl); err != nil {
		return 0, fmt.Errorf("reserving: %w", err)
	}
	name := r.key(counterName(key))
	last, err := call(ctx, r, func(ctx context.Context, c rueidis.Client) (int64, error) {
		results := c.DoMulti(ctx,
			c.B().Incrby().Key(name).Increment(int64(n)).Build(),
			c.B().Pexpire().Key(name).Milliseconds(ttl.Milliseconds()).Build())
		return results[0].AsInt64()
	})
	if e, ok := rueidis.IsRedisErr(err); ok && (strings.HasPrefix(e.Error(), "WRONGTYPE") || strings.Contains(e.Error(), "not an integer")) {
		r.damaged.Add(1)
		last, err = call(ctx, r, func(ctx context.Context, c rueidis.Client) (int64, error) {
			return addAfresh.Exec(ctx, c, []string{name}, []string{fmt.Sprint(n), fmt.Sprint(ttl.Milliseconds())}).AsInt64()
		})
	}
	if err != nil {
		return 0, r.fail("reserving", err)
	}
	return last - int64(n) + 1, nil
}

// Delete implements [Store].
func (r *Redis) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	// Through the queue, so that it comes after Puts of this process.
	for _, name := range []string{valueName(key), counterName(key)} {
		if err := r.queue.delete(ctx, name); err != nil {
			return r.fail("deleting", err)
		}
	}
	return nil
}

// Stats implements [Store].
func (r *Redis) Stats() Stats {
	s := Stats{
		Claims:     r.claims.Load(),
		ClaimsLost: r.lost.Load(),
		Commits:    r.queue.batches.Load(),
		Dropped:    r.queue.dropped.Load(),
		Damaged:    r.damaged.Load(),
		Failures:   r.failures.Load(),
		Pending:    r.queue.pending(),
		Down:       r.link.down.Load(),
		Trouble:    r.link.refused.trouble(),
	}
	if s.Down {
		s.Trouble = r.link.why().Error()
	}
	if advice := r.link.advice.Load(); advice != nil {
		s.Advice = *advice
	}
	// No news are the link's trouble, or over in a moment.
	if _, err := r.sure(); err != nil && !errors.Is(err, errNoNews) {
		s.Unsure = err.Error()
	}
	return s
}

// Close implements [Store]. It writes what waits if the server answers, for
// two seconds at most.
func (r *Redis) Close() error {
	if r.ended.Swap(true) {
		<-r.queue.done
		return nil
	}
	left := r.queue.close()
	r.roll.close()
	r.link.close()
	if left > 0 {
		return fmt.Errorf("closing redis store %s: %d written-behind entries lost: %w", r.link.address, left, ErrUnavailable)
	}
	return nil
}

func (r *Redis) key(name string) string { return r.o.KeyPrefix + name }

// fail counts a call that ends in ErrUnavailable.
func (r *Redis) fail(doing string, cause error) error {
	if errors.Is(cause, ErrClosed) {
		return ErrClosed
	}
	if !errors.Is(cause, ErrUnsure) {
		r.failures.Add(1)
	}
	return unavailable(doing+" in redis store "+r.link.address, explain(cause))
}

// call runs f with a client and a deadline, and tells the link how it went.
func call[T any](ctx context.Context, r *Redis, f func(context.Context, rueidis.Client) (T, error)) (T, error) {
	var zero T
	if r.ended.Load() {
		return zero, ErrClosed
	}
	return through(ctx, r.link, r.o.CallTimeout, f)
}

func through[T any](ctx context.Context, l *link, timeout time.Duration, f func(context.Context, rueidis.Client) (T, error)) (T, error) {
	var zero T
	short := ctx
	// Most callers give less time than ours.
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > timeout {
		var cancel context.CancelFunc
		short, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, err := l.get(short)
	if err != nil {
		return zero, err
	}
	// The caller's deadline, unlike ours, also binds where rueidis waits for
	// another call's dial.
	value, err := bounded(ctx, func() (T, error) { return f(short, c) })
	l.report(err)
	return value, err
}
