package caddymodule

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// A page whose script does not run looks fine from here: it goes out with its
// context, and nothing comes back. Only over many pages does that show. So for
// each campaign pages are weighed against signs of life: sessions whose script
// calls the API for the first time.
//
// Where all is well one sign comes for a few pages. Say that nine of ten clients
// are programs that look like browsers, and that people see five pages a session:
// then 14 pages bring one sign. Silence is measured as pages less signOfLifeWeighs
// for each sign, never below nothing: as long as more than one page in a hundred
// brings a sign it falls. silentPages on end without a sign then have a chance of
// (1-1/14)^100, one in 1,600, per sign of such a site, and where programs are half
// of all, of one in eighty million. Below one sign in a hundred pages it rises
// until there is a warning.
const (
	silentPages      = 100
	signOfLifeWeighs = 100
	// silentFor is how long it has to last: calls come seconds after a page,
	// but who fetches a hundred pages in a minute is no visitor, or has not
	// begun to read.
	silentFor = 10 * time.Minute
	// mostSilence bounds what has to be made up for: after a long outage, three
	// signs end the warning.
	mostSilence = 300
	// likelyBot is the score below which a client is taken for a program that
	// runs no scripts. 0 is unknown.
	likelyBot = 30
)

// life is what is counted about a campaign since the process began.
type life struct {
	mu    sync.Mutex
	pages map[inject.Reason]int64              // by what became of them
	shown map[inject.Reason]prometheus.Counter // the metric, once there is such a page
	// counted are pages of which signs of life are expected.
	counted int64
	signs   int64
	lastAt  time.Time // the last sign's

	silence int
	since   time.Time // when the silence began
	warned  bool
}

// lives are the campaigns' of all configs that the process has had.
var (
	livesMu sync.Mutex
	lives   = map[sessionctx.CampaignRef]*life{}
)

func lifeOf(ref sessionctx.CampaignRef) *life {
	livesMu.Lock()
	defer livesMu.Unlock()
	l := lives[ref]
	if l == nil {
		l = &life{pages: map[inject.Reason]int64{}, shown: map[inject.Reason]prometheus.Counter{}}
		lives[ref] = l
	}
	return l
}

// signed are the sessions that have given a sign of life, over reloads too: a
// tab of before the pages broke goes on calling.
var signed = newSeenSessions()

// page notes a page that went out at now and ought to bring a sign of life. It
// reports whether it is time to warn.
func (l *life) page(now time.Time) (begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counted++
	if l.silence == 0 {
		l.since = now
	}
	l.silence = min(l.silence+1, mostSilence)
	if l.warned || !l.silent(now) {
		return false
	}
	l.warned = true
	return true
}

func (l *life) silent(now time.Time) bool {
	return l.silence >= silentPages && now.Sub(l.since) >= silentFor
}

// sign notes a session's first call. It reports whether that ends a warning.
func (l *life) sign(now time.Time) (ends bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signs++
	l.lastAt = now
	l.silence = max(l.silence-signOfLifeWeighs, 0)
	ends = l.warned && l.silence == 0
	if ends {
		l.warned = false
	}
	return ends
}

// lifeFigures are those of the status.
type lifeFigures struct {
	pages          map[inject.Reason]int64
	counted, signs int64
	lastAt, since  time.Time
	silent         bool
}

func (l *life) figures(now time.Time) lifeFigures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lifeFigures{
		pages: maps.Clone(l.pages), counted: l.counted, signs: l.signs, lastAt: l.lastAt, since: l.since,
		silent: l.warned || l.silent(now),
	}
}

// served counts a page by what became of it.
func (h *Handler) served(why inject.Reason) {
	l := h.life
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[why]++
	count, ok := l.shown[why]
	if !ok {
		count = h.app.metrics.pages.WithLabelValues(h.campaign.ID, string(why))
		l.shown[why] = count
	}
	count.Inc()
}

// noSignOfLifeRemedy is what to do about pages whose script is not heard of.
const noSignOfLifeRemedy = "open a page in a browser and look at its console and network: the client's script may be missing, fail, or be blocked by a Content-Security-Policy; the API's path may not reach this server, or answer origin_not_allowed"

// awaitLife is called with each page that counts.
func (h *Handler) awaitLife(bot *sessionctx.Bot, now time.Time) {
	if bot.Verified || bot.Score != 0 && bot.Score < likelyBot {
		return
	}
	if h.life.page(now) {
		f := h.life.figures(now)
		h.log.Warn("pages go out with their context, and their script gives no sign of life",
			zap.String("campaign", h.campaign.ID), zap.String("campaign_environment", string(h.campaign.Environment)),
			zap.Time("since", f.since), zap.Int64("pages", f.counted), zap.Int64("signs_of_life", f.signs), zap.String("remedy", noSignOfLifeRemedy))
	}
}

// signOfLife is called with each call that proved a session of the campaign.
func (h *Handler) signOfLife(sessionID string, now time.Time) {
	if signed.has(sessionID, 0) {
		return
	}
	signed.add(sessionID, 0)
	h.app.metrics.signs.WithLabelValues(h.campaign.ID).Inc()
	if h.life.sign(now) {
		h.log.Info("pages give signs of life again", zap.String("campaign", h.campaign.ID), zap.String("campaign_environment", string(h.campaign.Environment)))
	}
}
