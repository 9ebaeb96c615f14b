package caddymodule

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// figure is one of a collector's, by its name and labels.
func figure(t testing.TB, c prometheus.Collector, name string) float64 {
	t.Helper()
	return gathered(t, prometheusOf(c))[name]
}

// gathered are a registry's figures, by name and labels: of the outboxes in some
// directories, where they are of outboxes. Others may be open in the process.
func gathered(t testing.TB, r prometheus.Gatherer, dirs ...string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels, other := "", false
			for _, l := range m.GetLabel() {
				if l.GetName() != "outbox" {
					labels += " " + l.GetValue()
				} else if !slices.Contains(dirs, l.GetValue()) {
					other = true
				}
			}
			if other {
				continue
			}
			out[strings.TrimPrefix(f.GetName(), metricsPrefix)+labels] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// The gauges tell what is open, of two configs at once and after one has gone.
func TestGaugesTellWhatOpenOutboxesHold(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(theMetrics.outboxes)
	sink := &scripted{}
	sink.script(always(outbox.Hold(errors.New("token refused"))))
	_, box := outboxApp(t, sink)
	if err := box.Append(t.Context(), goodRowOf(t, "events_v1"), goodRowOf(t, "events_v1")); err != nil {
		t.Fatal(err)
	}
	if err := box.AppendInvalid(t.Context(), "why", goodRowOf(t, "events_v1")); err != nil {
		t.Fatal(err)
	}
	if err := box.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "delivery is held", func() bool { return box.Stats().Datasources["events_v1"].State == outbox.StateHeld })
	closed := ""
	t.Run("two configs", func(t *testing.T) {
		app, second := outboxApp(t, &scripted{})
		closed = second.Dir()
		if err := second.Append(t.Context(), goodRowOf(t, "traffic_v1")); err != nil {
			t.Fatal(err)
		}
		if again := registerMetrics(app.ctx); again != theMetrics {
			t.Error("a second registration made other figures")
		}
		got := gathered(t, registry, box.Dir(), second.Dir())
		for name, want := range map[string]float64{
			"outbox_rows events_v1": 2, "outbox_dead_letters events_v1": 1, "outbox_dead_rows events_v1": 1, "outbox_parked_batches events_v1": 0,
			"delivery_failing events_v1": 1, "delivery_failing traffic_v1": 0, "outbox_max_disk_bytes": 2 * float64(2<<30),
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
		if got["outbox_bytes events_v1"] <= 0 || got["outbox_disk_bytes"] <= got["outbox_bytes events_v1"] || got["outbox_oldest_age_seconds events_v1"] <= 0 {
			t.Errorf("bytes and ages: %v", got)
		}
	})
	soon(t, "the outbox of the other is closed", func() bool { return len(gathered(t, registry, closed)) == 0 })
	if got := gathered(t, registry, box.Dir()); got["outbox_rows events_v1"] != 2 {
		t.Errorf("the first: %v", got)
	}
	sink.script(nil)
	box.SetSink(sink)
	soon(t, "nothing waits", func() bool { return gathered(t, registry, box.Dir())["outbox_rows events_v1"] == 0 })
}

func TestDeliveriesAreCountedByOutcome(t *testing.T) {
	sink := &scripted{}
	_, box := outboxApp(t, sink)
	count := func(outcome string) float64 {
		return figure(t, theMetrics.deliveries, "deliveries_total consents_v1 "+outcome)
	}
	for outcome, answer := range map[string]outbox.Outcome{
		"delivered": outbox.Delivered(0, nil), "failed": outbox.Retry(0, errors.New("x")), "throttled": outbox.Throttle(0, errors.New("x")),
		"too_large": outbox.Split(errors.New("x")), "refused": outbox.Blame(errors.New("x")), "partial": outbox.DeadLetter(errors.New("x")), "held": outbox.Hold(errors.New("x")),
	} {
		before := count(outcome)
		sink.script(func(outbox.Batch) outbox.Outcome {
			sink.answer = nil // under its lock
			return answer
		})
		if err := box.Append(t.Context(), outbox.Row{Datasource: "consents_v1", JSON: []byte(`{"a":1}`)}); err != nil {
			t.Fatal(err)
		}
		if err := box.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		soon(t, outcome, func() bool { return count(outcome) > before })
		box.SetSink(meteredSink{discreetSink{sink}}) // ends a hold
		soon(t, "nothing waits", func() bool { return box.Stats().Rows == 0 })
	}
	if n := figure(t, theMetrics.deliveryTime, "delivery_seconds consents_v1"); n < 7 {
		t.Errorf("%v requests timed", n)
	}
}

func prometheusOf(c prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	return r
}
