package caddymodule

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// mirrorFigures are apart from the first sink's, so that sums and alerts about
// that one don't change with a mirror.
type mirrorFigures struct {
	delivered, retried, dead, dropped *prometheus.CounterVec
}

var theMirrors = newMirrorFigures()

func newMirrorFigures() *mirrorFigures {
	labels := []string{"sink", "datasource"}
	counters := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
	}
	return &mirrorFigures{
		delivered: counters("mirror_delivered_rows_total", "Rows that a mirror acknowledged."),
		retried:   counters("mirror_retries_total", "Deliveries to a mirror that failed and are tried again."),
		dead:      counters("mirror_dead_letter_rows_total", "Rows that went to a mirror's dead letters."),
		dropped:   counters("mirror_dropped_rows_total", "Rows that a mirror does not get: its share of the disk was used up, or could not be written."),
	}
}

func mirrorCollectors() []prometheus.Collector {
	f := theMirrors
	return []prometheus.Collector{f.delivered, f.retried, f.dead, f.dropped}
}

// mirrorMetrics is what a mirror's deliveries are told to.
type mirrorMetrics struct {
	outbox.NopObserver
	sink string
}

func (m mirrorMetrics) Delivered(datasource string, rows, _ int) {
	theMirrors.delivered.WithLabelValues(m.sink, datasource).Add(float64(rows))
}

func (m mirrorMetrics) Retried(datasource string, _ error) {
	theMirrors.retried.WithLabelValues(m.sink, datasource).Inc()
}

func (m mirrorMetrics) DeadLettered(datasource string, rows int, _ string) {
	theMirrors.dead.WithLabelValues(m.sink, datasource).Add(float64(rows))
}

func (m mirrorMetrics) Dropped(datasource string, rows int, _ error) {
	theMirrors.dropped.WithLabelValues(m.sink, datasource).Add(float64(rows))
}
