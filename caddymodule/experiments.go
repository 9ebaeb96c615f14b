package caddymodule

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Whether visitors are split over a test's variants as its weights say is
// counted at two moments. At both each visitor is drawn anew and counted once,
// so the same ratio is expected; where the later one is off and the earlier
// isn't, visitors get lost in between: by a page that is slow or broken.
const (
	atPage   = "page"   // the page was made
	atScript = "script" // first sign of life of the page's script
)

// tallies are the counts of all tests that a config in use has, by campaign,
// test and weights. A reload that leaves those as they are keeps the counts,
// since the new config takes hold before the old lets go. Other weights begin
// anew: visitors that were drawn by the old ones say nothing about the new.
var tallies = caddy.NewUsagePool()

// tally counts the visitors of one test with one set of weights.
type tally struct {
	campaign, test string
	variants       []string
	weights        []int
	since          int64 // Unix ms; sessions that began before are not counted
	figures        *metrics

	mu     sync.Mutex
	closed bool
	stages [2]tallyStage // atPage, atScript
}

// tallyStage is a tally's count at one moment.
type tallyStage struct {
	counts   []int
	total    int
	smallest float64 // AlwaysP of all looks
	alarmed  bool
	shown    []prometheus.Counter // each variant's, once it has a visitor
}

// Of the first lookAtEach visitors each is looked at, of later ones every
// lookEvery-th: a look costs as much as all the rest.
const (
	lookAtEach = 200
	lookEvery  = 20
)

func stageIndex(at string) int {
	if at == atPage {
		return 0
	}
	return 1
}

func newTally(campaign string, t *sessionctx.Test, m *metrics, now time.Time) *tally {
	out := &tally{campaign: campaign, test: t.ID, since: now.UnixMilli(), figures: m}
	for _, v := range t.Variants {
		out.variants = append(out.variants, v.ID)
		out.weights = append(out.weights, v.Weight)
	}
	for i := range out.stages {
		out.stages[i] = tallyStage{counts: make([]int, len(t.Variants)), shown: make([]prometheus.Counter, len(t.Variants)), smallest: 1}
	}
	return out
}

// tallyKey names a test with its weights.
func tallyKey(c *sessionctx.Campaign, t *sessionctx.Test) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", c.ID, t.ID)
	for _, v := range t.Variants {
		fmt.Fprintf(&b, "/%s:%d", v.ID, v.Weight)
	}
	return b.String()
}

// count adds a visitor. It returns the check if this one begins the alarm.
func (t *tally) count(at, variant string) *sessionctx.SampleRatio {
	i := slices.Index(t.variants, variant)
	if i < 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed { // a request of an old config
		return nil
	}
	s := &t.stages[stageIndex(at)]
	s.counts[i]++
	s.total++
	if s.shown[i] == nil {
		s.shown[i] = t.figures.abCount(at).WithLabelValues(t.campaign, t.test, variant)
	}
	s.shown[i].Inc()
	if s.total > lookAtEach && s.total%lookEvery != 0 {
		return nil
	}
	check := sessionctx.CheckSampleRatio(t.weights, s.counts)
	s.smallest = min(s.smallest, check.AlwaysP)
	t.figures.abRatio.WithLabelValues(t.campaign, t.test, at).Set(s.smallest)
	if !check.Mismatch || s.alarmed {
		return nil
	}
	s.alarmed = true
	return &check
}

// Destruct forgets the counts, when no config has the test any more.
func (t *tally) Destruct() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, at := range []string{atPage, atScript} {
		t.figures.abRatio.DeleteLabelValues(t.campaign, t.test, at)
	}
	return nil
}

// alarm is the one line in the log that an operator gets.
func (t *tally) alarm(log *zap.Logger, at string, check *sessionctx.SampleRatio) {
	t.mu.Lock()
	counts := slices.Clone(t.stages[stageIndex(at)].counts)
	early := t.stages[stageIndex(atPage)].alarmed
	t.mu.Unlock()
	lookAt := "what decides before the page is made: handlers or caches that keep some variants' pages away from this server, matchers on the directive itself, bots that come for one page only"
	if at == atScript && !early {
		lookAt = "the pages of the variant that has too few: errors or a slow start before its script calls the API, a redirect, a Content-Security-Policy; as many were sent as should be"
	}
	log.Warn("sample ratio mismatch: visitors of an A/B test are not split as its weights say, so its result can't be trusted",
		zap.String("campaign", t.campaign), zap.String("test", t.test), zap.String("counted_at", at),
		zap.Strings("variants", t.variants), zap.Ints("weights", t.weights), zap.Ints("visitors", counts),
		zap.Float64("p", check.AlwaysP), zap.String("look_at", lookAt))
}

// experiments are the tallies that one config holds.
type experiments struct {
	log        *zap.Logger
	keys       []string
	byCampaign map[string][]*tally
}

// countDrawn counts a session for the tests that it was drawn for.
func (a *App) countDrawn(s *sessionctx.Session, subject, at string) {
	if e := a.experiments.Load(); e != nil {
		e.count(s, subject, at)
	}
}

// holdExperiments takes hold of the tallies of all tests that draw visitors.
// Where a winner is declared nobody is drawn; preview campaigns have no
// visitors.
func holdExperiments(handlers []*Handler, m *metrics, log *zap.Logger, now time.Time) *experiments {
	e := &experiments{log: log, byCampaign: map[string][]*tally{}}
	for _, h := range handlers {
		c := h.campaign
		if c.Environment != sessionctx.Production {
			continue
		}
		for i := range c.Tests {
			t := &c.Tests[i]
			if t.Winner != "" {
				continue
			}
			key := tallyKey(c, t)
			// The constructor doesn't fail.
			v, _, _ := tallies.LoadOrNew(key, func() (caddy.Destructor, error) {
				return newTally(c.ID, t, m, now), nil
			})
			e.keys = append(e.keys, key)
			e.byCampaign[c.ID] = append(e.byCampaign[c.ID], v.(*tally))
		}
	}
	return e
}

// release lets go of them.
func (e *experiments) release() {
	for _, key := range e.keys {
		tallies.Delete(key)
	}
}

// counted remembers whom the process has counted, over reloads too: what
// makes a session's row is asked again then.
var counted = newOnce(countedGeneration)

// countedGeneration is how many visitors are remembered at least, at about
// 40 bytes each; half as many of those without cookies.
const countedGeneration = 100_000

// count counts the session for the tests that it was drawn for, at its first
// call for that moment. Only a user's first session is drawn: later ones hold
// what he has, perhaps by other weights, and a user who comes more often than
// others would weigh more. subject is what the visitor was bucketed by; who
// shares it, shares the variant, and is counted once.
func (e *experiments) count(s *sessionctx.Session, subject, at string) {
	if s.Returning || s.RenewalCount > 0 || len(s.Assignments) == 0 {
		return
	}
	ts := e.byCampaign[s.Campaign.ID]
	if len(ts) == 0 || s.Campaign.Environment != sessionctx.Production {
		return
	}
	fresh := counted.first(onceKey{at, s.Campaign.ID, subject}, s.CreatedAt)
	if subject != s.UserID {
		// A session that is asked for again, after a reload, may have cookies
		// by then, and is its user's.
		fresh = counted.first(onceKey{at, s.Campaign.ID, s.UserID}, s.CreatedAt) && fresh
	}
	if !fresh {
		return
	}
	for _, a := range s.Assignments {
		for _, t := range ts {
			if t.test != a.TestID || s.CreatedAt < t.since {
				continue
			}
			if check := t.count(at, a.VariantID); check != nil {
				t.alarm(e.log, at, check)
			}
		}
	}
}

// once tells what comes for the first time, and forgets in generations. What
// is older than its memory does not count as first: nobody can tell.
type once struct {
	mu   sync.Mutex
	seed maphash.Seed
	recent[uint64, struct{}]
	// latest is the latest time that was seen, youngAt and oldAt what it was
	// when either generation began; all in Unix ms.
	latest, youngAt, oldAt int64
}

type onceKey struct{ at, campaign, subject string }

func newOnce(size int) *once {
	return &once{seed: maphash.MakeSeed(), recent: newRecent[uint64, struct{}](size)}
}

// first reports whether the key, of something made at createdAt (Unix ms), was
// not there before.
func (o *once) first(key onceKey, createdAt int64) bool {
	h := maphash.Comparable(o.seed, key)
	o.mu.Lock()
	defer o.mu.Unlock()
	if createdAt <= o.oldAt {
		return false // it may be among those that are forgotten
	}
	if _, known := o.get(h); known {
		return false
	}
	o.latest = max(o.latest, createdAt)
	if o.put(h, struct{}{}) {
		o.oldAt, o.youngAt = o.youngAt, o.latest
	}
	return true
}

// abCount is the counter of visitors at one moment.
func (m *metrics) abCount(at string) *prometheus.CounterVec {
	if at == atPage {
		return m.abPages
	}
	return m.abSessions
}
