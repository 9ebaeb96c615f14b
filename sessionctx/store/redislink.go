package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

// link is the way to the server: it dials in the background, and breaks the
// circuit. When TripAfter calls in a row went unanswered, further calls fail at
// once, and only the link itself tries the server, until it answers. Where one
// server is named and that became a replica, it dials again: the name may lead
// to another by now.
type link struct {
	address string // for messages: no credentials
	option  rueidis.ClientOption
	o       RedisOptions

	client  atomic.Pointer[rueidis.Client]
	first   chan struct{} // closed after the first attempt to connect
	once    sync.Once
	down    atomic.Bool
	misses  atomic.Int32
	cause   atomic.Pointer[error] // why the link is down
	tripped chan struct{}
	demoted chan struct{} // a server that took writes is read-only
	closing chan struct{}

	refused refused
	advice  atomic.Pointer[[]string]
	// evicted: servers have dropped entries, which may have been any.
	evicted       atomic.Bool
	evictedBefore int64 // how many at the last look of run's; -1: there was none
}

func newLink(c rueidis.ClientOption, o RedisOptions) *link {
	l := &link{
		address:       strings.Join(c.InitAddress, ","),
		option:        c,
		evictedBefore: -1,
		o:             o,
		first:         make(chan struct{}),
		tripped:       make(chan struct{}, 1),
		demoted:       make(chan struct{}, 1),
		closing:       make(chan struct{}),
	}
	go l.run()
	return l
}

// get returns the client, or why there is none.
func (l *link) get(ctx context.Context) (rueidis.Client, error) {
	if l.down.Load() {
		return nil, l.why()
	}
	if c := l.client.Load(); c != nil {
		return *c, nil
	}
	select {
	case <-l.first:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := l.client.Load(); c != nil {
		return *c, nil
	}
	return nil, l.why()
}

func (l *link) why() error {
	if cause := l.cause.Load(); cause != nil {
		return fmt.Errorf("no answer lately: %w", explain(*cause))
	}
	return errors.New("not connected")
}

// report counts calls that went unanswered. An error that the server itself
// returned is an answer, unless it says that nothing can be done at present; a
// caller who went away says nothing.
func (l *link) report(err error) {
	l.note(err)
	if answered(err) {
		if l.misses.Load() != 0 {
			l.misses.Store(0)
		}
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	if l.misses.Add(1) >= int32(l.o.TripAfter) {
		l.trip(err)
	}
}

// note tells of what the server refuses.
func (l *link) note(err error) {
	r := refusalOf(err)
	if r == nil {
		return
	}
	l.refused.note(err, l.o.Logger, l.address)
	if r.sign == "READONLY" {
		signal(l.demoted)
	}
}

// answered: err is none, or came from a server that can do something.
func answered(err error) bool {
	if err == nil || rueidis.IsRedisNil(err) {
		return true
	}
	if r := refusalOf(err); r != nil {
		return !r.whole
	}
	_, said := rueidis.IsRedisErr(err)
	return said
}

func (l *link) trip(err error) {
	l.cause.Store(&err)
	if !l.down.Swap(true) {
		signal(l.tripped)
	}
}

func (l *link) run() {
	if !l.connect() {
		return
	}
	defer func() { (*l.client.Load()).Close() }()
	l.advise(*l.client.Load())
	again := time.NewTicker(adviseEvery)
	defer again.Stop()
	for {
		select {
		case <-l.closing:
			return
		case <-again.C:
		case <-l.demoted:
			if !l.redial() {
				return
			}
		case <-l.tripped:
			if !l.heal() {
				return
			}
		}
		l.advise(*l.client.Load())
	}
}

// heal tries the server until it answers. False: closed before.
func (l *link) heal() bool {
	l.o.Logger.Warn("redis store does not answer; calls fail fast until it does",
		zap.String("address", l.address), zap.Error(l.why()))
	for err := *l.cause.Load(); ; {
		if !l.pause(err) {
			return false
		}
		client := *l.client.Load()
		ctx, cancel := context.WithTimeout(context.Background(), l.o.CallTimeout)
		err = client.Do(ctx, client.B().Ping().Build()).Error()
		cancel()
		if err == nil || refusalOf(err) != nil && refusalOf(err).sign == "NOPERM" { // an answer, too
			break
		}
		l.note(err)
		l.cause.Store(&err)
	}
	l.refused.forget()
	l.misses.Store(0)
	l.down.Store(false)
	l.o.Logger.Info("redis store answers again", zap.String("address", l.address))
	return true
}

// redial takes a new client in place of one whose server became a replica.
// Sentinels and clusters tell where the primary is; rueidis follows them. False:
// closed meanwhile.
func (l *link) redial() bool {
	old := *l.client.Load()
	if old.Mode() != rueidis.ClientModeStandalone {
		return true
	}
	if client, err := rueidis.NewClient(l.option); err == nil {
		l.client.Store(&client)
		// Calls that are under way end by themselves.
		time.AfterFunc(2*l.o.CallTimeout, old.Close)
	}
	return l.pause(nil)
}

// connect makes the client, however long it takes. False: closed before.
func (l *link) connect() bool {
	for {
		client, err := rueidis.NewClient(l.option)
		if err == nil {
			l.client.Store(&client)
			if l.down.Swap(false) {
				l.o.Logger.Info("redis store answers", zap.String("address", l.address))
			}
			l.once.Do(func() { close(l.first) })
			return true
		}
		l.cause.Store(&err)
		if !l.down.Swap(true) {
			l.o.Logger.Warn("redis store cannot be reached; calls fail fast until it can",
				zap.String("address", l.address), zap.Error(explain(err)))
		}
		l.note(err)
		l.once.Do(func() { close(l.first) })
		if !l.pause(err) {
			return false
		}
	}
}

// pause waits between two attempts; longer after a wrong password, which is
// not right in a moment, and which servers count. False: closed meanwhile.
func (l *link) pause(err error) bool {
	wait := l.o.ProbeEvery
	if r := refusalOf(err); r != nil && (r.sign == "WRONGPASS" || r.sign == "NOAUTH") {
		wait *= 8
	}
	select {
	case <-l.closing:
		return false
	case <-time.After(wait):
		return true
	}
}

func (l *link) close() { close(l.closing) }
