package caddymodule

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// metrics are the module's figures. They are global to the process: Caddy
// makes a new registry for each config, and counts must not start anew with
// a reload.
type metrics struct {
	outbox.NopObserver

	pages      *prometheus.CounterVec
	answers    *prometheus.CounterVec
	renewals   *prometheus.CounterVec
	conflicts  prometheus.Counter
	continued  *prometheus.CounterVec
	storeFails *lastFailure
	signs      *prometheus.CounterVec
	rowsLost   prometheus.Counter
	abPages    *prometheus.CounterVec
	abSessions *prometheus.CounterVec
	abRatio    *prometheus.GaugeVec

	keyRingFails prometheus.Counter
	geoUntrusted *prometheus.CounterVec
	crawlers     *prometheus.CounterVec

	committed   prometheus.Counter
	commitTime  prometheus.Histogram
	delivered   *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	retried     *prometheus.CounterVec
	dead        *prometheus.CounterVec
	invalid     *prometheus.CounterVec
	dropped     *prometheus.CounterVec

	deliveries   *prometheus.CounterVec
	deliveryTime *prometheus.HistogramVec
	outboxes     *outboxGauges
}

const metricsPrefix = "caddy_session_context_"

var theMetrics = newMetrics()

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
	}
	m := &metrics{
		pages:      counters("pages_total", "Page requests by what became of them: injected, or why not.", "campaign", "outcome"),
		answers:    counters("api_answers_total", "API answers by route and code; the code is ok, or that of the refusal.", "route", "code"),
		renewals:   counters("renewals_total", "Renewals by outcome: renewed, living, standing (another was first), derived (store down), refused.", "outcome"),
		conflicts:  counter("identity_conflicts_total", "Calls whose token is another user's than the browser's cookies, which stayed."),
		continued:  counters("continuations_total", "Pages without cookies that might go on with a session, by outcome: continued, or why not.", "outcome"),
		storeFails: &lastFailure{Counter: counter("store_errors_total", "Calls that the store did not answer.")},
		signs:      counters("signs_of_life_total", "Sessions whose page's script has called the API.", "campaign"),
		rowsLost:   counter("page_rows_lost_total", "Rows of pages that could not be handed to the outbox."),

		abPages:    counters("ab_pages_total", "First sessions of users by the variant that was drawn for them, when their page was made.", "campaign", "test", "variant"),
		abSessions: counters("ab_sessions_total", "The same at the first sign of life of the page's script.", "campaign", "test", "variant"),
		abRatio: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: metricsPrefix + "ab_sample_ratio_p",
			Help: "How likely it is at most that a test whose visitors are split as its weights say ever looks as bad as this one did, counted at the page or at the script's first sign of life.",
		}, []string{"campaign", "test", "at"}),

		keyRingFails: counter("key_ring_errors_total", "Attempts to read, make, rotate or prune the key ring that failed."),
		geoUntrusted: counters("geo_untrusted_total", "Requests whose geo headers were ignored, because the peer is no trusted proxy.", "layout"),

		crawlers: counters("crawler_verifications_total", "Addresses that claim to be a crawler's, by what DNS says: verified, refuted, lookup_failed, queue_full.", "outcome"),

		committed: counter("outbox_committed_rows_total", "Rows made durable."),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    metricsPrefix + "outbox_commit_seconds",
			Help:    "Time of one write and sync to the outbox.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		delivered:   counters("delivered_rows_total", "Rows that the sink acknowledged.", "datasource"),
		quarantined: counters("quarantined_rows_total", "Rows that the sink took but set aside.", "datasource"),
		retried:     counters("delivery_retries_total", "Deliveries that failed and are tried again.", "datasource"),
		dead:        counters("dead_letter_rows_total", "Rows that went to dead letters, by the letter's kind.", "datasource", "kind"),
		invalid:     counters("invalid_rows_total", "Rows that would not have arrived as meant, and went to dead letters unsent.", "datasource"),
		dropped:     counters("dropped_rows_total", "Rows that are gone: overflow drop_oldest, or pages' rows that could not be written.", "datasource"),

		deliveries: counters("deliveries_total", "Requests to the sink by what became of them: delivered, failed (the same again later), throttled, too_large, refused (for a row), partial, held (configuration).", "datasource", "outcome"),
		deliveryTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "delivery_seconds",
			Help:    "Time of one request to the sink.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 12),
		}, []string{"datasource"}),
		outboxes: newOutboxGauges(),
	}
	// A figure that is not there before it is 1 has no increase to be alerted of.
	for _, name := range sessionctx.Datasources {
		for _, c := range []*prometheus.CounterVec{m.delivered, m.quarantined, m.retried, m.invalid, m.dropped} {
			c.WithLabelValues(name)
		}
	}
	return m
}

// collectors are all of them.
func (m *metrics) collectors() []prometheus.Collector {
	return append(mirrorCollectors(),
		m.pages, m.answers, m.renewals, m.conflicts, m.continued, m.storeFails, m.signs, m.rowsLost, m.abPages, m.abSessions, m.abRatio, m.keyRingFails, m.geoUntrusted, m.crawlers, m.committed, m.commitTime,
		m.delivered, m.quarantined, m.retried, m.dead, m.invalid, m.dropped,
		m.deliveries, m.deliveryTime, m.outboxes,
	)
}

// registerMetrics adds the figures to the registry of a config.
func registerMetrics(ctx caddy.Context) *metrics {
	m := theMetrics
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return m
	}
	for _, c := range m.collectors() {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			ctx.Logger().Error("metric could not be registered", zap.Error(err))
		}
	}
	return m
}

// lastFailure counts failures, and remembers when the last one was.
type lastFailure struct {
	prometheus.Counter
	at atomic.Int64 // Unix ms; 0: never
}

// Inc implements prometheus.Counter.
func (l *lastFailure) Inc() {
	l.Counter.Inc()
	l.at.Store(wallClock().UnixMilli())
}

func (m *metrics) verified(v visitor.Verification) {
	m.crawlers.WithLabelValues(string(v)).Inc()
}

// The methods of outbox.Observer.

func (m *metrics) Committed(rows int, took time.Duration) {
	m.committed.Add(float64(rows))
	m.commitTime.Observe(took.Seconds())
}

func (m *metrics) Delivered(datasource string, rows, quarantined int) {
	m.delivered.WithLabelValues(datasource).Add(float64(rows))
	if quarantined > 0 {
		m.quarantined.WithLabelValues(datasource).Add(float64(quarantined))
	}
}

func (m *metrics) Retried(datasource string, _ error) {
	m.retried.WithLabelValues(datasource).Inc()
}

func (m *metrics) DeadLettered(datasource string, rows int, kind string) {
	m.dead.WithLabelValues(datasource, kind).Add(float64(rows))
}

func (m *metrics) Dropped(datasource string, rows int, _ error) {
	m.dropped.WithLabelValues(datasource).Add(float64(rows))
}
