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
// once, and only the link itself tries the server, until it answers.
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
	closing chan struct{}
}

func newLink(c rueidis.ClientOption, o RedisOptions) *link {
	l := &link{
		address: strings.Join(c.InitAddress, ","),
		option:  c,
		o:       o,
		first:   make(chan struct{}),
		tripped: make(chan struct{}, 1),
		closing: make(chan struct{}),
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
		return fmt.Errorf("no answer lately: %w", *cause)
	}
	return errors.New("not connected")
}

// report counts calls that went unanswered. An error that the server itself
// returned is an answer; a caller who went away says nothing.
func (l *link) report(err error) {
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

// answered: err is none, or came from the server.
func answered(err error) bool {
	_, said := rueidis.IsRedisErr(err)
	return err == nil || said || rueidis.IsRedisNil(err)
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
	client := *l.client.Load()
	defer client.Close()
	for {
		select {
		case <-l.closing:
			return
		case <-l.tripped:
		}
		l.o.Logger.Warn("redis store does not answer; calls fail fast until it does",
			zap.String("address", l.address), zap.Error(l.why()))
		for {
			if !l.pause() {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), l.o.CallTimeout)
			err := client.Do(ctx, client.B().Ping().Build()).Error()
			cancel()
			if err == nil {
				break
			}
			l.cause.Store(&err)
		}
		l.misses.Store(0)
		l.down.Store(false)
		l.o.Logger.Info("redis store answers again", zap.String("address", l.address))
	}
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
				zap.String("address", l.address), zap.Error(err))
		}
		l.once.Do(func() { close(l.first) })
		if !l.pause() {
			return false
		}
	}
}

// pause waits between two attempts. False: closed meanwhile.
func (l *link) pause() bool {
	select {
	case <-l.closing:
		return false
	case <-time.After(l.o.ProbeEvery):
		return true
	}
}

func (l *link) close() { close(l.closing) }
