package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func init() {
	caddy.RegisterModule(new(App))
}

const appName = "session_context"

// App is what sites share: the key ring in Caddy's storage, the store of
// session states, the outbox and the sinks that its rows go to, the sources
// of visitors' places, and the register of campaigns.
type App struct {
	// Where session states, renewals and sequence numbers are kept.
	// Default: `embedded`, a file in Caddy's data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=session_context.stores inline_key=store"`
	// Where rows are delivered. Further sinks get the same rows, each at its
	// own pace. While the first takes nothing and the outbox is full, events are
	// refused; a further one loses its oldest rows then. What waits for one is
	// kept under its name: `name`, or the module's. Default: `file`, NDJSON
	// files by datasource in Caddy's data directory.
	SinksRaw []json.RawMessage `json:"sinks,omitempty" caddy:"namespace=session_context.sinks inline_key=sink"`
	// Sources of visitors' places, in order; the first that knows wins.
	// Default: none.
	GeoRaw []json.RawMessage `json:"geo,omitempty" caddy:"namespace=session_context.geo inline_key=source"`
	// What counts as the EU beside its member states: `eea` (Iceland,
	// Liechtenstein, Norway), and two-letter codes of countries, as `gb` and
	// `ch`. Default: nothing.
	EUIncludes []string `json:"eu_includes,omitempty"`
	// Parameters that carry click ids of advertising networks. Those without
	// a column of their own go into the column other_click_ids. Default: those
	// of the larger networks.
	ClickIDs *NameList `json:"click_ids,omitempty"`
	// Domains, with all below them, that visits only pass through: who comes
	// back from one has no referrer. Default: payment, card authentication
	// and sign-in providers.
	IgnoreReferrers *NameList `json:"ignore_referrers,omitempty"`
	// What is kept of URLs in rows.
	URLParams *URLParams `json:"url_params,omitempty"`
	// How programs are told from people.
	Bots *Bots `json:"bots,omitempty"`
	// The queue on disk that rows wait in.
	Outbox *Outbox `json:"outbox,omitempty"`
	// The key ring that ids, tokens and cookies are made with.
	Keys *Keys `json:"keys,omitempty"`
	// Bytes that the heap is taken to be larger than it is, so that the garbage
	// collector runs less often: by as much the process may grow under load.
	// Default: 16 MiB; 0 is none.
	HeapReserve *int64 `json:"heap_reserve,omitempty"`

	ctx      caddy.Context
	log      *zap.Logger
	store    Store
	storeKey string      // the store's, asked for once
	sinks    []namedSink // the first is the outbox's own, the others mirror it
	guests   []any
	reader   *visitor.Reader
	bots     *bots
	ring     *keyRing
	dayKeys  *dayKeys
	// releaseKeys lets go of both their keys.
	releaseKeys func()
	// blind is until when (Unix ms) this node finds nobody by the visitor key:
	// sessions that it could not write down still live, so one that looks alone
	// may not be.
	blind   highest
	limits  *limiters
	metrics *metrics
	seen    *seenSessions // whose rows were made
	settled *seenSessions // spans that are known to be their line's living ones
	// What every request could say is said once a minute.
	lostRows, storeDown, noCommit, nested, badLandingPage, noAddress rate.Sometimes

	campaignsMu sync.RWMutex
	campaigns   map[sessionctx.CampaignRef]*Handler
	origins     []string // of all campaigns that other sites may call from

	// hosts are those of the sites that have a campaign; set by Start.
	hosts atomic.Pointer[map[sessionctx.CampaignRef][]string]

	cancel context.CancelFunc
	held   atomic.Pointer[heldEngine]
	// experiments are set by Start; requests may come before.
	experiments atomic.Pointer[experiments]
	background  sync.WaitGroup
	reserve     []byte
}

// Outbox says where rows wait for delivery, and how many may.
type Outbox struct {
	// Directory. One process at a time may use it. Default:
	// `session_context/outbox` in Caddy's data directory.
	Path string `json:"path,omitempty"`
	// Most bytes on disk. Default: 2 GiB.
	MaxDisk int64 `json:"max_disk,omitempty"`
	// What happens then: `refuse` (default) answers 503 to events, so that
	// nothing acknowledged is lost; `drop_oldest` makes room.
	Overflow string `json:"overflow,omitempty"`
}

// Keys says how the key ring ages.
type Keys struct {
	// How often a new key is made. Default: 30d; at least 1h.
	Rotate caddy.Duration `json:"rotate,omitempty"`
	// How often this node looks for a ring that another node has changed: so
	// long it goes on with a key that was revoked there. Default: 1m; 1s to
	// 5m.
	Reread caddy.Duration `json:"reread,omitempty"`
}

// Store is a guest in the namespace session_context.stores.
type Store interface {
	// StoreKey is equal for configs that mean the same place: they share one
	// open store.
	StoreKey() string
	// StoreName names the place in logs, without secrets.
	StoreName() string
	// OpenStore opens it. It is called off the requests' path, and again
	// after an error.
	OpenStore() (store.Store, error)
}

// starter is a guest that has work to do from Start to Cleanup.
type starter interface {
	Start(ctx context.Context)
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets the app up. It opens, makes and dials nothing: `caddy
// validate` runs it too, perhaps beside a server and as another user.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.log = ctx.Logger()
	a.campaigns = map[sessionctx.CampaignRef]*Handler{}
	a.limits = newLimiters(time.Now)
	a.seen, a.settled = newSeenSessions(), newSeenSessions()
	for _, s := range []*rate.Sometimes{&a.lostRows, &a.storeDown, &a.noCommit, &a.nested, &a.badLandingPage, &a.noAddress} {
		s.Interval = time.Minute
	}
	a.metrics = registerMetrics(ctx)

	if a.Outbox == nil {
		a.Outbox = &Outbox{}
	}
	if a.Outbox.Path == "" {
		a.Outbox.Path = filepath.Join(dataDir(), "outbox")
	}
	path, err := filepath.Abs(a.Outbox.Path)
	if err != nil {
		return fmt.Errorf("outbox path %q: %w", a.Outbox.Path, err)
	}
	a.Outbox.Path = path
	if a.Outbox.MaxDisk < 0 || a.Outbox.MaxDisk > 0 && a.Outbox.MaxDisk < minMaxDisk {
		return fmt.Errorf("outbox max_disk %d is less than %d bytes", a.Outbox.MaxDisk, minMaxDisk)
	}
	if _, err := choice("overflow", a.Outbox.Overflow, "refuse", "drop_oldest"); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}

	if err := checkHeapReserve(a.heapReserve()); err != nil {
		return err
	}
	rotate, reread, err := a.Keys.values()
	if err != nil {
		return err
	}
	inUse, release := holdKeys(ctx.Storage())
	a.releaseKeys = release
	a.ring = newKeyRing(ctx.Storage(), &inUse.ring, rotate, reread, a.log.Named("keys"))
	a.dayKeys = newDayKeys(ctx.Storage(), &inUse.days, reread, a.log.Named("keys"))

	if err := a.loadGuests(ctx); err != nil {
		return err
	}
	return nil
}

func (a *App) loadGuests(ctx caddy.Context) error {
	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"store":"embedded"}`)
	}
	mod, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return fmt.Errorf("loading store: %w", err)
	}
	st, ok := mod.(Store)
	if !ok {
		return fmt.Errorf("module %T is no session store", mod)
	}
	a.store, a.storeKey = st, st.StoreKey()
	a.guests = append(a.guests, mod)

	if err := a.loadSinks(ctx); err != nil {
		return err
	}

	if a.reader, err = a.newReader(); err != nil {
		return err
	}
	if len(a.GeoRaw) > 0 {
		mods, err := ctx.LoadModule(a, "GeoRaw")
		if err != nil {
			return fmt.Errorf("loading geo source: %w", err)
		}
		for _, mod := range mods.([]any) {
			g, ok := mod.(visitor.Geography)
			if !ok {
				return fmt.Errorf("module %T is no geo source", mod)
			}
			a.reader.Geo = append(a.reader.Geo, g)
			a.guests = append(a.guests, mod)
		}
	}
	a.bots, err = a.Bots.provision(a.reader, a.metrics)
	return err
}

// dataDir is where files lie that no one gave a place.
func dataDir() string { return filepath.Join(caddy.AppDataDir(), appName) }

// minMaxDisk leaves room for some segments of each datasource.
const minMaxDisk = 32 << 20

func (a *App) outboxOptions() outbox.Options {
	overflow := outbox.Refuse
	if a.Outbox.Overflow == "drop_oldest" {
		overflow = outbox.DropOldest
	}
	return outbox.Options{
		MaxDisk:     a.Outbox.MaxDisk,
		Overflow:    overflow,
		LowPriority: []string{sessionctx.TrafficDatasource},
		After:       map[string]string{sessionctx.EventDatasource: sessionctx.SessionDatasource},
		Logger:      a.log.Named("outbox"),
		Observer:    a.metrics,
	}
}

// Start begins what happens in the background. It fails for nothing that goes
// wrong at run time: that degrades, and shows.
func (a *App) Start() error {
	a.reserve = make([]byte, a.heapReserve())
	a.findOwnHosts()
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.background.Go(func() { a.ring.run(ctx) })
	a.background.Go(func() { a.dayKeys.run(ctx) })
	a.background.Go(func() { a.limits.sweep(ctx) })
	a.background.Go(func() { a.bots.run(ctx, a.log) })
	for _, g := range a.guests {
		if s, ok := g.(starter); ok {
			a.background.Go(func() { s.Start(ctx) })
		}
	}
	if useStore(a.storeKey) {
		// Whose sessions the former store knows of, this one doesn't.
		a.blind.raise(wallClock().Add(longestCounts()).UnixMilli())
	}
	// Rows from before the restart are delivered without waiting for a
	// visitor, and this config's sink takes over from the last one's.
	h := &heldEngine{engine: a.newEngine()}
	h.users.Store(1)
	h.outbox.configure(a)
	a.held.Store(h)
	a.experiments.Store(holdExperiments(a.handlersOf(""), a.metrics, a.log, wallClock()))
	running.add(a)
	return nil
}

// Stop ends nothing: requests may still be running, and on a reload they go
// on running after Cleanup too.
func (a *App) Stop() error { return nil }

// Cleanup lets go of what Start took.
func (a *App) Cleanup() error {
	running.remove(a)
	if a.cancel != nil {
		a.cancel()
		a.background.Wait()
	}
	a.reserve = nil
	if a.releaseKeys != nil {
		a.releaseKeys()
	}
	a.bots.release()
	if e := a.experiments.Load(); e != nil {
		e.release()
	}
	if h := a.held.Load(); h != nil {
		h.outbox.unconfigure(a)
		engine{held: h}.release()
		leaveStore()
	}
	if caddy.Exiting() {
		closing.Wait()
	}
	return nil
}

// register adds a handler's campaign. Two handlers with the same campaign and
// settings, as an imported snippet makes them, are one.
func (a *App) register(h *Handler) error {
	a.campaignsMu.Lock()
	defer a.campaignsMu.Unlock()
	ref := h.campaign.CampaignRef
	if other := a.campaigns[ref]; other != nil {
		if diff := differentSettings(other.settings, h.settings); diff != "" {
			return fmt.Errorf("campaign %s (%s) stands twice with different settings: %s; give one of them another id, or put both into one snippet", ref.ID, ref.Environment, diff)
		}
		return nil
	}
	a.campaigns[ref] = h
	for _, o := range h.AllowOrigin {
		if !slices.Contains(a.origins, o) {
			a.origins = append(a.origins, o)
		}
	}
	return nil
}

// handler returns the handler that knows the campaign.
func (a *App) handler(ref sessionctx.CampaignRef) *Handler {
	a.campaignsMu.RLock()
	defer a.campaignsMu.RUnlock()
	return a.campaigns[ref]
}

// handlersOf returns those of the campaign in any environment; of all
// campaigns if id is empty.
func (a *App) handlersOf(id string) []*Handler {
	a.campaignsMu.RLock()
	defer a.campaignsMu.RUnlock()
	if id != "" {
		var out []*Handler
		for _, e := range []sessionctx.Environment{sessionctx.Production, sessionctx.Preview} {
			if h := a.campaigns[sessionctx.CampaignRef{ID: id, Environment: e}]; h != nil {
				out = append(out, h)
			}
		}
		return out
	}
	out := make([]*Handler, 0, len(a.campaigns))
	for _, h := range a.campaigns {
		out = append(out, h)
	}
	slices.SortFunc(out, func(x, y *Handler) int {
		return strings.Compare(x.campaign.ID+string(x.campaign.Environment), y.campaign.ID+string(y.campaign.Environment))
	})
	return out
}

// allowsOrigin reports whether any campaign lets the origin call the API.
func (a *App) allowsOrigin(origin string) bool {
	a.campaignsMu.RLock()
	defer a.campaignsMu.RUnlock()
	return slices.Contains(a.origins, origin)
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
