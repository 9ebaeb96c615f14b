package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
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
	storeFails prometheus.Counter
	rowsLost   prometheus.Counter
	abPages    *prometheus.CounterVec
	abSessions *prometheus.CounterVec
	abRatio    *prometheus.GaugeVec

	keyRingFails prometheus.Counter

	committed   prometheus.Counter
	commitTime  prometheus.Histogram
	delivered   *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	retried     *prometheus.CounterVec
	dead        *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	failing     *prometheus.GaugeVec
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
	return &metrics{
		pages:      counters("pages_total", "Page requests by what became of them: injected, or why not.", "campaign", "outcome"),
		answers:    counters("api_answers_total", "API answers by route and code; the code is ok, or that of the refusal.", "route", "code"),
		renewals:   counters("renewals_total", "Renewals by outcome: renewed, living, standing (another was first), derived (store down), refused.", "outcome"),
		conflicts:  counter("identity_conflicts_total", "Calls whose token is another user's than the browser's cookies, which stayed."),
		continued:  counters("continuations_total", "Pages without cookies that might go on with a session, by outcome: continued, or why not.", "outcome"),
		storeFails: counter("store_errors_total", "Calls that the store did not answer."),
		rowsLost:   counter("page_rows_lost_total", "Rows of pages that could not be handed to the outbox."),

		abPages:    counters("ab_pages_total", "First sessions of users by the variant that was drawn for them, when their page was made.", "campaign", "test", "variant"),
		abSessions: counters("ab_sessions_total", "The same at the first sign of life of the page's script.", "campaign", "test", "variant"),
		abRatio: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: metricsPrefix + "ab_sample_ratio_p",
			Help: "How likely it is at most that a test whose visitors are split as its weights say ever looks as bad as this one did, counted at the page or at the script's first sign of life.",
		}, []string{"campaign", "test", "at"}),

		keyRingFails: counter("key_ring_errors_total", "Attempts to read, make, rotate or prune the key ring that failed."),

		committed: counter("outbox_committed_rows_total", "Rows made durable."),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    metricsPrefix + "outbox_commit_seconds",
			Help:    "Time of one write and sync to the outbox.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		delivered:   counters("delivered_rows_total", "Rows that the sink acknowledged.", "datasource"),
		quarantined: counters("quarantined_rows_total", "Rows that the sink took but set aside.", "datasource"),
		retried:     counters("delivery_retries_total", "Deliveries that failed and are tried again.", "datasource"),
		dead:        counters("dead_letter_rows_total", "Rows that went to dead letters.", "datasource"),
		dropped:     counters("dropped_rows_total", "Rows that are gone: overflow drop_oldest, or pages' rows that could not be written.", "datasource"),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: metricsPrefix + "delivery_failing",
			Help: "1 while a datasource's delivery fails or is held.",
		}, []string{"datasource"}),
	}
}

// registerMetrics adds the figures to the registry of a config.
func registerMetrics(ctx caddy.Context) *metrics {
	m := theMetrics
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return m
	}
	for _, c := range append(mirrorCollectors(),
		m.pages, m.answers, m.renewals, m.conflicts, m.continued, m.storeFails, m.rowsLost, m.abPages, m.abSessions, m.abRatio, m.keyRingFails, m.committed, m.commitTime,
		m.delivered, m.quarantined, m.retried, m.dead, m.dropped, m.failing,
	) {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			ctx.Logger().Error("metric could not be registered", zap.Error(err))
		}
	}
	return m
}

func (m *metrics) page(campaign string, outcome inject.Reason) {
	m.pages.WithLabelValues(campaign, string(outcome)).Inc()
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

func (m *metrics) DeadLettered(datasource string, rows int, _ string) {
	m.dead.WithLabelValues(datasource).Add(float64(rows))
}

func (m *metrics) Dropped(datasource string, rows int, _ error) {
	m.dropped.WithLabelValues(datasource).Add(float64(rows))
}

func (m *metrics) StateChanged(datasource string, state outbox.State, _ error) {
	v := 0.0
	if state != outbox.StateOK {
		v = 1
	}
	m.failing.WithLabelValues(datasource).Set(v)
}
