package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func TestWhatStatusWarnsOf(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	datasources := []datasourceStatus{
		{Name: "events_v1", State: outbox.StateHeld, LastError: "403"},
		{Name: "session_v1", State: outbox.StateFailing, LastError: "503"},
		{Name: "traffic_v1", State: outbox.StateOK},
	}
	dead := []datasourceStatus{{Name: "events_v1", State: outbox.StateOK, DeadLetters: 1, DeadRows: 2}}
	mirrored := func(m mirrorStatus) []warning {
		return (&outboxHealth{Open: true, outboxStatus: outboxStatus{Mirrors: []mirrorStatus{m}}}).warnings()
	}
	one := func(w *warning) []warning {
		if w == nil {
			return nil
		}
		return []warning{*w}
	}
	for name, tt := range map[string]struct {
		got  []warning
		want []string
	}{
		"keys in order":                 {one((&keysStatus{Available: true}).warning()), nil},
		"no keys":                       {one((&keysStatus{}).warning()), []string{"keys_unavailable"}},
		"keys that can't be re-read":    {one((&keysStatus{Available: true, Trouble: "x"}).warning()), []string{"keys_failing"}},
		"a store":                       {one((&storeStatus{Open: true}).warning(now)), nil},
		"a store that is being opened":  {one((&storeStatus{}).warning(now)), nil},
		"a store that can't be opened":  {one((&storeStatus{Trouble: "locked"}).warning(now)), []string{"store_failing"}},
		"a store that failed just now":  {one((&storeStatus{Open: true, LastFailureAt: now.UnixMilli() - 1000}).warning(now)), []string{"store_failing"}},
		"a store that failed long ago":  {one((&storeStatus{Open: true, LastFailureAt: now.Add(-lately).UnixMilli()}).warning(now)), nil},
		"a store that is not sure":      {one((&storeStatus{Open: true, Unsure: "a node is silent"}).warning(now)), []string{"store_unsure"}},
		"a store that fails altogether": {one((&storeStatus{Open: true, Trouble: "down", Unsure: "a node is silent"}).warning(now)), []string{"store_failing"}},
		"an outbox":                     {(&outboxHealth{Open: true, outboxStatus: outboxStatus{MaxDisk: 1000, Bytes: 799}}).warnings(), nil},
		"an outbox that is nearly full": {(&outboxHealth{Open: true, outboxStatus: outboxStatus{MaxDisk: 1000, Bytes: 800}}).warnings(), []string{"outbox_nearly_full"}},
		"an outbox of another process":  {(&outboxHealth{Trouble: "locked"}).warnings(), []string{"outbox_unavailable"}},
		"dead letters":                  {(&outboxHealth{Open: true, outboxStatus: outboxStatus{Datasources: dead}}).warnings(), []string{"dead_letters events_v1"}},
		"a further sink that fails":     {mirrored(mirrorStatus{Sink: "kafka", InUse: true, outboxStatus: outboxStatus{MaxDisk: 1000, Bytes: 800, Datasources: datasources}}), []string{"outbox_nearly_full of kafka", "delivery_failing events_v1 of kafka", "delivery_failing session_v1 of kafka"}},
		"dead letters of a further one": {mirrored(mirrorStatus{Sink: "kafka", InUse: true, outboxStatus: outboxStatus{Datasources: dead}}), []string{"dead_letters events_v1 of kafka"}},
		"a sink that was taken out":     {mirrored(mirrorStatus{Sink: "kafka", outboxStatus: outboxStatus{Rows: 1}}), []string{"sink_not_in_use of kafka"}},
		"deliveries that fail":          {(&outboxHealth{Open: true, outboxStatus: outboxStatus{Datasources: datasources}}).warnings(), []string{"delivery_failing events_v1", "delivery_failing session_v1"}},
	} {
		var got []string
		for _, w := range tt.got {
			code := w.Code
			if w.Datasource != "" {
				code += " " + w.Datasource
			}
			if w.Sink != "" {
				code += " of " + w.Sink
			}
			got = append(got, code)
			if w.Text == "" || w.Remedy == "" {
				t.Errorf("%s: %+v", name, w)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// Which pages bring a warning about their script, and what the admin API says.
func TestStatusOfSilentPages(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	setClock(t, func() time.Time { return now })
	app := keysApp(t, newMemoryStorage())
	t.Cleanup(func() { awaitRelease(app) })
	h := app.handlersOf("")[0]
	h.life = &life{}
	ask := func() (st status) {
		t.Helper()
		a := new(AdminStatus)
		w := httptest.NewRecorder()
		if err := a.Routes()[0].Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, adminStatusPath, nil)); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || w.Code != http.StatusOK {
			t.Fatal(errors.Join(err, errors.New(w.Body.String())))
		}
		return st
	}
	silent := func(st status) bool {
		return slices.ContainsFunc(st.Warnings, func(w warning) bool { return w.Code == "no_sign_of_life" && w.Campaign == "cmp_1" })
	}
	for range 2 * silentPages {
		now = now.Add(time.Minute)
		h.awaitLife(&sessionctx.Bot{Score: likelyBot - 1}, now)
		h.awaitLife(&sessionctx.Bot{Score: 99, Verified: true}, now)
	}
	if st := ask(); silent(st) || st.Campaigns[0].Counted != 0 {
		t.Error("it counts bots")
	}
	for range silentPages {
		now = now.Add(time.Minute)
		h.awaitLife(&sessionctx.Bot{Score: likelyBot}, now)
	}
	if st := ask(); !silent(st) || st.Campaigns[0].Counted != silentPages || st.Keys.Available {
		t.Errorf("%+v", st)
	}
	h.signOfLife("019abcde-f012-8345-9678-9abcdef01234", now)
	h.signOfLife("019abcde-f012-8345-9678-9abcdef01234", now)
	if st := ask(); silent(st) || st.Campaigns[0].SignsOfLife != 1 || st.Campaigns[0].LastSignOfLife != now.UnixMilli() {
		t.Errorf("%+v", st)
	}
}
