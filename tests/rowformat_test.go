package tests

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestAnExistingWorkspaceGetsItsOwnColumns: a workspace that knows the
// reference's columns alone takes every row, the same bytes at each try, over a
// restart too; what it has no datasource for does not pile up; and a further
// sink gets all columns of all rows.
func TestAnExistingWorkspaceGetsItsOwnColumns(t *testing.T) {
	t.Parallel()
	tb := standin.New(t, standin.WithReferenceRows())
	app := strings.Replace(tinybirdSink(tb), "url", "row_format firebuzz\n\t\t\turl", 1) + "\n\t\tsink file DIR/rows"
	c := startAsking(t, app)
	datasources := []string{"session_v1", "events_v1", "traffic_v1"}
	for _, ds := range datasources {
		tb.Fail(ds, standin.Fault{CommitFirst: true, CloseConn: true}, 1)
	}
	// The second try is another process's.
	tb.Fail("events_v1", standin.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"2"}}}, 1)

	v := newVisitor(t, c.site, iPhone, true)
	s := v.visit("/?utm_source=google&gclid=g1")
	token := map[string]any{"token": s.Session.Token}
	v.post("events/session/init", token).ok(t)
	v.post("events/batch-track", with(token, "events", []any{
		map[string]any{"event_id": "page-view", "event_type": "engagement", "metadata": map[string]any{"row_id": `",{}"`, "b": []any{1, "]"}}},
		map[string]any{"event_id": "sold", "event_type": "conversion", "event_value": 12.5, "event_value_currency": "EUR", "form_id": "für"},
	})).ok(t)
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	v.post("consent/record", with(token, "purposes", noPurposes)).ok(t)
	v.page("/none", "Sec-Purpose", "prefetch")
	eventually(t, 20*time.Second, "the sink failed", func() error {
		if tb.Pending("events_v1") > 0 {
			return fmt.Errorf("%d faults are to come", tb.Pending("events_v1"))
		}
		return nil
	})
	c.kill()
	c.start()

	all := map[string]int{"session_v1": 1, "events_v1": 2, "traffic_v1": 1, "consents_v1": 3}
	for _, ds := range datasources {
		rows := waitRows(t, tb, ds, all[ds])
		if len(rows) != all[ds] {
			t.Errorf("%s: %d rows, want %d", ds, len(rows), all[ds])
		}
		eventually(t, 20*time.Second, ds+": the batch whose answer was lost comes again", func() error {
			sent := make(map[string]int)
			for _, b := range tb.Batches(ds) {
				sent[b.WireSHA256]++
			}
			if !slices.ContainsFunc(tb.Batches(ds), func(b standin.Batch) bool { return b.Fault && b.Committed && sent[b.WireSHA256] > 1 }) {
				return fmt.Errorf("batches and how often each came: %v", sent)
			}
			return nil
		})
	}
	rows, _ := tb.Distinct("events_v1")
	for _, r := range rows {
		if _, ours := r["row_id"]; ours || r["id"] == nil {
			t.Errorf("event %v", r)
		}
	}
	if n := len(tb.Batches("consents_v1")); n > 0 {
		t.Errorf("%d requests for records of consent", n)
	}
	eventually(t, 20*time.Second, "nothing waits, and nothing is wrong", func() error {
		st, _ := c.status()
		for _, w := range st.Warnings {
			if w.Code != "store_unsure" { // it was killed
				return fmt.Errorf("%+v", w)
			}
		}
		if st.Outbox.Rows > 0 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	if !strings.Contains(c.log.String(), "records of consent are not sent") {
		t.Error("the log does not say that records of consent are not sent")
	}

	for name, want := range all {
		eventually(t, 20*time.Second, name+" is in the further sink", func() error {
			rows, err := fileRows(c.path("rows"), name)
			if err != nil {
				return err
			}
			distinct := make(map[any]bool)
			for _, row := range rows {
				distinct[row["row_id"]] = true
			}
			if len(distinct) != want {
				return fmt.Errorf("%d rows, want %d", len(distinct), want)
			}
			return nil
		})
	}
}
