package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
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
		sent := make(map[string]int)
		for _, b := range tb.Batches(ds) {
			sent[b.WireSHA256]++
		}
		if !slices.ContainsFunc(tb.Batches(ds), func(b standin.Batch) bool { return b.Fault && b.Committed && sent[b.WireSHA256] > 1 }) {
			t.Errorf("%s: no batch came again: %v", ds, sent)
		}
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
	eventually(t, 20*time.Second, "nothing waits", func() error {
		res, err := http.Get("http://" + c.admin + "/session_context/status")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var st struct {
			Outbox struct {
				Rows        int
				Datasources []struct {
					DeadLetters int `json:"dead_letters"`
				}
			}
		}
		if err := json.NewDecoder(res.Body).Decode(&st); err != nil || st.Outbox.Rows > 0 {
			return fmt.Errorf("%+v, %v", st, err)
		}
		for _, ds := range st.Outbox.Datasources {
			if ds.DeadLetters > 0 {
				t.Errorf("dead letters: %+v", st)
			}
		}
		return nil
	})
	if !strings.Contains(c.log.String(), "records of consent are not sent") {
		t.Error("the log does not say that records of consent are not sent")
	}

	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		ds, _ := set.Datasource(name)
		eventually(t, 20*time.Second, name+" is in the further sink", func() error {
			b, err := os.ReadFile(c.path("rows/" + name + ".ndjson"))
			if err != nil {
				return err
			}
			seen := make(map[string]bool)
			for line := range strings.Lines(string(b)) {
				if err := ds.Check([]byte(strings.TrimSpace(line))); err != nil {
					t.Fatal(err)
				}
				seen[line] = true
			}
			if len(seen) != want {
				return fmt.Errorf("%d rows, want %d", len(seen), want)
			}
			return nil
		})
	}
}
