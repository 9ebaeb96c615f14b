package caddymodule

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// outboxGauges tell what the open outboxes hold, read when they are asked: so
// they are right after a reload too, and what is closed is gone.
type outboxGauges struct {
	maxDisk, bytes *prometheus.Desc // of an outbox
	datasource     []outboxGauge
}

// outboxGauge is a figure of a datasource.
type outboxGauge struct {
	desc *prometheus.Desc
	read func(outbox.DatasourceStats) float64
}

func newOutboxGauges() *outboxGauges {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(metricsPrefix+name, help, append([]string{"outbox"}, labels...), nil)
	}
	of := func(name, help string, read func(outbox.DatasourceStats) float64) outboxGauge {
		return outboxGauge{gauge(name, help, "datasource"), read}
	}
	return &outboxGauges{
		maxDisk: gauge("outbox_max_disk_bytes", "Most bytes that the outbox may take."),
		bytes:   gauge("outbox_disk_bytes", "Bytes that it takes: rows that wait, and dead letters."),
		datasource: []outboxGauge{
			of("outbox_rows", "Rows that wait for delivery.", func(d outbox.DatasourceStats) float64 { return float64(d.Rows) }),
			of("outbox_bytes", "Bytes of rows that wait for delivery.", func(d outbox.DatasourceStats) float64 { return float64(d.Bytes) }),
			of("outbox_oldest_age_seconds", "Age of the oldest row that waits; 0 if none does.", func(d outbox.DatasourceStats) float64 { return d.Oldest.Seconds() }),
			of("outbox_dead_letters", "Dead letters that are kept.", func(d outbox.DatasourceStats) float64 { return float64(d.DeadLetters) }),
			of("outbox_dead_rows", "Rows, or damaged lines, in dead letters that are kept.", func(d outbox.DatasourceStats) float64 { return float64(d.DeadRows) }),
			of("outbox_parked_batches", "Batches that failed while others passed, and are retried hourly.", func(d outbox.DatasourceStats) float64 { return float64(d.Parked) }),
			of("delivery_failing", "1 while a datasource's delivery fails or is held.", func(d outbox.DatasourceStats) float64 {
				if d.State == outbox.StateOK {
					return 0
				}
				return 1
			}),
		},
	}
}

// Describe implements prometheus.Collector.
func (g *outboxGauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.maxDisk
	ch <- g.bytes
	for _, d := range g.datasource {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (g *outboxGauges) Collect(ch chan<- prometheus.Metric) {
	outboxes.Range(func(_, value any) bool {
		if p, ok := value.(*pooledOutbox); ok {
			if box := p.current(); box != nil {
				g.collect(ch, box)
				for _, name := range box.MirrorNames() {
					if mirror := box.Mirror(name); mirror != nil {
						g.collect(ch, mirror)
					}
				}
			}
		}
		return true
	})
}

func (g *outboxGauges) collect(ch chan<- prometheus.Metric, box *outbox.Outbox) {
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats := box.Stats()
	send(g.maxDisk, float64(stats.MaxDisk), box.Dir())
	send(g.bytes, float64(stats.Bytes), box.Dir())
	for name, of := range stats.Datasources {
		for _, d := range g.datasource {
			send(d.desc, d.read(of), box.Dir(), name)
		}
	}
}

// meteredSink counts what becomes of the requests to a sink, and their time.
type meteredSink struct {
	discreetSink
}

// Deliver implements outbox.Sink.
func (s meteredSink) Deliver(ctx context.Context, b outbox.Batch) outbox.Outcome {
	began := time.Now()
	out := s.discreetSink.Deliver(ctx, b)
	theMetrics.deliveryTime.WithLabelValues(b.Datasource).Observe(time.Since(began).Seconds())
	theMetrics.deliveries.WithLabelValues(b.Datasource, verdictWord(out.Verdict)).Inc()
	return out
}

func verdictWord(v outbox.Verdict) string {
	switch v {
	case outbox.VerdictDelivered:
		return "delivered"
	case outbox.VerdictRetry:
		return "failed"
	case outbox.VerdictThrottle:
		return "throttled"
	case outbox.VerdictSplit:
		return "too_large"
	case outbox.VerdictBlame:
		return "refused"
	case outbox.VerdictDeadLetter:
		return "partial"
	case outbox.VerdictHold:
		return "held"
	}
	return "unknown"
}
