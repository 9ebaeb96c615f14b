package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// What survives a reload: an outbox for each directory and a store for each
// place, shared by whichever configs use them. Requests take hold of them on
// entry, since a request may enter an old handler after its Cleanup.
var (
	outboxes = caddy.NewUsagePool()
	stores   = caddy.NewUsagePool()
)

// opening is something that is opened in the background, tried again until it
// works. A predecessor in this process may still be closing, or another
// process may hold its lock; a page never waits for either.
type opening[T interface{ Close() error }] struct {
	what   string
	log    *zap.Logger
	cancel context.CancelFunc
	done   chan struct{} // run has ended
	ready  chan struct{} // value is set

	mu    sync.Mutex
	value T
	err   error // why it isn't open yet
}

func open[T interface{ Close() error }](what string, log *zap.Logger, try func() (T, error)) *opening[T] {
	ctx, cancel := context.WithCancel(context.Background())
	o := &opening[T]{what: what, log: log, cancel: cancel, done: make(chan struct{}), ready: make(chan struct{})}
	go o.run(ctx, try)
	return o
}

func (o *opening[T]) run(ctx context.Context, try func() (T, error)) {
	defer close(o.done)
	const patience = 2 * time.Second // a predecessor's closing is no news
	began := time.Now()
	warned := false
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		v, err := try()
		o.mu.Lock()
		o.value, o.err = v, err
		o.mu.Unlock()
		if err == nil {
			close(o.ready)
			if warned {
				o.log.Info(o.what + " is open now")
			}
			return
		}
		if !warned && time.Since(began) > patience {
			warned = true
			o.log.Error(o.what+" can't be opened: pages go out all the same, what needs it is refused, and it is tried again", zap.Error(err))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// openPatience is how long a call waits for what isn't open yet. Clients try
// again; what waits for another process's lock takes longer than they would.
const openPatience = time.Second

// get returns the value once it is open, waiting openPatience at most.
func (o *opening[T]) get(ctx context.Context) (T, error) {
	select {
	case <-o.ready:
		return o.value, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	select {
	case <-o.ready:
		return o.value, nil
	case <-ctx.Done():
		o.mu.Lock()
		defer o.mu.Unlock()
		var none T
		if o.err != nil {
			return none, fmt.Errorf("%s is not open yet: %w", o.what, o.err)
		}
		return none, fmt.Errorf("%s is not open yet", o.what)
	}
}

// look returns the value if it is open, else why it is not, as far as is known.
func (o *opening[T]) look() (value T, open bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.ready:
		return o.value, true, nil
	default:
		return value, false, o.err
	}
}

// close ends the opening, or what was opened.
func (o *opening[T]) close() error {
	o.cancel()
	<-o.done
	select {
	case <-o.ready:
		return o.value.Close()
	default:
		return nil
	}
}

// pooledOutbox is the outbox of one directory with its delivery.
type pooledOutbox struct {
	*opening[*outbox.Outbox]

	mu sync.Mutex
	// box is nil until the outbox is open.
	box *outbox.Outbox
	// apps are the configs that use the outbox, the latest last. That one
	// says where batches go and how much may wait. A config that is rejected
	// after its Start leaves, and the one before it counts again.
	apps []*App
	// sinks and options are those of the last app that counted.
	sinks   []namedSink
	options outbox.Options
	// early are rows of pages that were served before the outbox was open.
	early []outbox.Row
	// invalidRows are in the log once a minute.
	invalidRows rate.Sometimes
}

// maxEarly bounds the rows that wait for the outbox to open.
const maxEarly = 4096

var errEarlyFull = errors.New("outbox is not open yet and too many rows wait for it")

// Destruct closes the outbox when the last has let go of it. That may be a
// request, which doesn't wait for it; the process does before it exits. Who
// opens the directory again in the meantime waits for the lock.
func (p *pooledOutbox) Destruct() error { return closeUnwaited(p.opening) }

func closeUnwaited[T interface{ Close() error }](o *opening[T]) error {
	if caddy.Exiting() {
		return o.close()
	}
	closing.Go(func() {
		if err := o.close(); err != nil {
			o.log.Error("closing "+o.what, zap.Error(err))
		}
	})
	return nil
}

// closing are those that are being closed; the process waits for them before
// it exits.
var closing sync.WaitGroup

// configure makes the outbox work as the app says.
func (p *pooledOutbox) configure(a *App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apps = append(p.apps, a)
	p.apply()
}

// unconfigure is configure's inverse. The last app's sinks stay in use until
// the outbox is closed.
func (p *pooledOutbox) unconfigure(a *App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	latest := p.apps[len(p.apps)-1] == a
	p.apps = slices.DeleteFunc(p.apps, func(o *App) bool { return o == a })
	if latest && len(p.apps) > 0 {
		p.apply()
	}
}

// apply puts the latest app's settings into force, or the last that were.
// Under p.mu.
func (p *pooledOutbox) apply() {
	if n := len(p.apps); n > 0 {
		p.sinks, p.options = p.apps[n-1].sinks, p.apps[n-1].outboxOptions()
	}
	if p.box == nil {
		return
	}
	// Mirrors first: the sink deletes what it has delivered.
	if err := p.box.SetMirrors(mirrorsOf(p.sinks)); err != nil {
		p.log.Error("further sinks stay as they were", zap.Error(err))
	}
	p.box.SetSink(meteredSink{discreetSink{p.sinks[0].Sink}})
	if err := p.box.SetLimits(p.options.MaxDisk, p.options.Overflow); err != nil {
		p.log.Error("outbox keeps its former limits", zap.Error(err))
	}
}

// stranded is how many rows wait in an outbox that no config uses any more.
func (p *pooledOutbox) stranded() int64 {
	p.mu.Lock()
	box, used := p.box, len(p.apps) > 0
	p.mu.Unlock()
	if used || box == nil {
		return 0
	}
	rows := box.Stats().Rows
	for _, m := range box.Mirrors() {
		if m.InUse {
			rows += m.Rows
		}
	}
	return rows
}

// current is the outbox, nil until it is open.
func (p *pooledOutbox) current() *outbox.Outbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.box
}

// opened takes the outbox into use.
func (p *pooledOutbox) opened(o *outbox.Outbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.box = o
	p.apply()
	lost, why := 0, error(nil)
	for _, row := range p.early { // traffic is refused sooner than sessions
		if err := p.addTo(o, row); err != nil {
			lost, why = lost+1, err
		}
	}
	if lost > 0 {
		p.log.Warn("rows of pages served before the outbox was open are lost", zap.Int("rows", lost), zap.Error(why))
	}
	p.early = nil
}

// add hands over rows that no one waits for. They are copied.
func (p *pooledOutbox) add(rows ...outbox.Row) error {
	p.mu.Lock()
	box := p.box
	if box == nil {
		defer p.mu.Unlock()
		if len(p.early)+len(rows) > maxEarly {
			return errEarlyFull
		}
		for _, row := range rows {
			row.JSON = bytes.Clone(row.JSON)
			p.early = append(p.early, row)
		}
		return nil
	}
	p.mu.Unlock()
	return p.addTo(box, rows...)
}

func (p *pooledOutbox) addTo(box *outbox.Outbox, rows ...outbox.Row) error {
	rows, invalid := guard(rows)
	p.tell(invalid)
	err := box.Add(rows...)
	for _, bad := range invalid {
		err = errors.Join(err, box.AddInvalid(bad.why, bad.Row))
	}
	return err
}

// commit makes rows durable.
func (p *pooledOutbox) commit(ctx context.Context, rows ...outbox.Row) error {
	o, err := p.get(ctx)
	if err != nil {
		return err
	}
	rows, invalid := guard(rows)
	p.tell(invalid)
	for _, bad := range invalid {
		if err := o.AppendInvalid(ctx, bad.why, bad.Row); err != nil {
			return err
		}
	}
	return o.Append(ctx, rows...)
}

type pooledStore struct {
	*opening[store.Store]
}

func (p *pooledStore) Destruct() error { return closeUnwaited(p.opening) }

// engine is what a request works with. It stays open until release.
type engine struct {
	outbox *pooledOutbox
	store  *pooledStore

	outboxKey, storeKey string
	// held is whose hold on the pools this is a share of, if it isn't its own.
	held *heldEngine
}

// heldEngine is the app's own hold, from Start to Cleanup, and those of the
// requests that began in between. Cheaper than the pools: each page takes one.
type heldEngine struct {
	engine
	users atomic.Int64
}

// share takes another hold, unless the last one was let go of.
func (h *heldEngine) share() (engine, bool) {
	for {
		n := h.users.Load()
		if n == 0 {
			return engine{}, false
		}
		if h.users.CompareAndSwap(n, n+1) {
			e := h.engine
			e.held = h
			return e, true
		}
	}
}

// engine takes hold of the app's outbox and store.
func (a *App) engine() engine {
	if h := a.held.Load(); h != nil {
		if e, ok := h.share(); ok {
			return e
		}
	}
	return a.newEngine()
}

func (a *App) newEngine() engine {
	e := engine{outboxKey: a.Outbox.Path, storeKey: a.storeKey}
	// The constructors don't fail: what can't be opened is tried again.
	box, _, _ := outboxes.LoadOrNew(e.outboxKey, func() (caddy.Destructor, error) {
		p := &pooledOutbox{sinks: a.sinks, options: a.outboxOptions(), invalidRows: rate.Sometimes{Interval: time.Minute}}
		// The opener must see p whole: it starts when the opening is set.
		begin := make(chan struct{})
		p.opening = open("outbox "+e.outboxKey, a.log, func() (*outbox.Outbox, error) {
			<-begin
			p.mu.Lock()
			options := p.options
			p.mu.Unlock()
			o, err := outbox.Open(e.outboxKey, options)
			if err != nil {
				return nil, err
			}
			p.opened(o)
			p.log.Info("outbox is open", zap.String("path", e.outboxKey), zap.Strings("sinks", a.sinkNames()), zap.Int64("rows_waiting", o.Stats().Rows))
			return o, nil
		})
		close(begin)
		return p, nil
	})
	e.outbox = box.(*pooledOutbox)
	st, _, _ := stores.LoadOrNew(e.storeKey, func() (caddy.Destructor, error) {
		return &pooledStore{open("store "+a.store.StoreName(), a.log, a.store.OpenStore)}, nil
	})
	e.store = st.(*pooledStore)
	return e
}

// release lets go of both. The last to let go closes them; where rows would
// be left in a directory that no config uses any more, they are delivered
// first.
func (e engine) release() {
	if e.held != nil {
		if e.held.users.Add(-1) > 0 {
			return
		}
		e = e.held.engine
	}
	rows := e.outbox.stranded()
	if rows == 0 || caddy.Exiting() {
		e.drop()
		return
	}
	go func() {
		defer e.drop()
		log := e.outbox.log.With(zap.String("path", e.outboxKey))
		log.Info("no config uses this outbox any more: its rows are delivered before it is closed", zap.Int64("rows", rows))
		for rows > 0 && !caddy.Exiting() {
			time.Sleep(drainPoll)
			rows = e.outbox.stranded()
		}
		if rows > 0 {
			log.Warn("rows stay in an outbox that no config uses: configure its path again to have them delivered", zap.Int64("rows", rows))
		}
	}()
}

// drainPoll is how often an outbox that is being emptied is looked at.
const drainPoll = 200 * time.Millisecond

func (e engine) drop() {
	if _, err := outboxes.Delete(e.outboxKey); err != nil {
		e.outbox.log.Error("closing outbox", zap.String("path", e.outboxKey), zap.Error(err))
	}
	if _, err := stores.Delete(e.storeKey); err != nil {
		e.outbox.log.Error("closing store", zap.Error(err))
	}
}
