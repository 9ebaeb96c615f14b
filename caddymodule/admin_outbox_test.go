package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// scripted is a sink that answers as it is told.
type scripted struct {
	mu     sync.Mutex
	answer func(outbox.Batch) outbox.Outcome // nil: everything is delivered
	rows   []string
}

func (s *scripted) Deliver(_ context.Context, b outbox.Batch) outbox.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer != nil {
		return s.answer(b)
	}
	s.rows = append(s.rows, strings.Split(strings.TrimSuffix(string(b.Body), "\n"), "\n")...)
	return outbox.Delivered(0, nil)
}

func (s *scripted) script(answer func(outbox.Batch) outbox.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *scripted) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.rows...)
}

func always(out outbox.Outcome) func(outbox.Batch) outbox.Outcome {
	return func(outbox.Batch) outbox.Outcome { return out }
}

// outboxApp is a running app whose rows go to the sink.
func outboxApp(t *testing.T, sink outbox.Sink) (*App, *outbox.Outbox) {
	t.Helper()
	app := keysApp(t, newMemoryStorage())
	app.sinks = []namedSink{{name: "test", Sink: sink}}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		app.Cleanup()
		closing.Wait()
	})
	box, err := app.held.Load().outbox.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return app, box
}

// askOutbox sends a request to the outbox's routes of the admin API.
func askOutbox(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	contentType := "application/json"
	if body == "form" {
		contentType = ""
	}
	w, got := askRoutes(t, new(AdminOutbox), method, path, contentType, body)
	return w.Code, got
}

// soon waits for what happens in the background.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// letterIn makes a letter of the kind partial.
func letterIn(t *testing.T, box *outbox.Outbox, sink *scripted, reason string) outbox.Letter {
	t.Helper()
	known := len(box.DeadLetters())
	sink.script(always(outbox.DeadLetter(errors.New(reason))))
	if err := box.Append(t.Context(), outbox.Row{Datasource: "events_v1", JSON: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	if err := box.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "the letter is there", func() bool { return len(box.DeadLetters()) > known })
	sink.script(nil)
	return box.DeadLetters()[known]
}

func TestTheAdminAPIRefusesWhatTheOutboxCannotDo(t *testing.T) {
	sink := &scripted{}
	_, box := outboxApp(t, sink)
	if status, got := askOutbox(t, "GET", adminRowsPath+"?datasource=events_v1", ""); status != 404 || !strings.Contains(fmt.Sprint(got["error"]), "there is none yet") {
		t.Errorf("an empty outbox: %d %v", status, got)
	}
	l := letterIn(t, box, sink, "because")
	long := `{"id":"` + strings.Repeat("x", maxOrder) + `"}`
	for _, tt := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", adminOutboxPath, "{}", 405, "method_not_allowed"},
		{"GET", adminFlushPath, "", 405, "method_not_allowed"},
		{"GET", adminResendPath, "", 405, "method_not_allowed"},
		{"GET", adminOutboxPath + "?sink=other", "", 404, "unknown_sink"},
		{"GET", adminRowsPath, "", 400, "missing_datasource"},
		{"GET", adminRowsPath + "?datasource=nope", "", 404, "unknown_datasource"},
		{"GET", adminRowsPath + "?datasource=events_v1&n=x", "", 400, "invalid_number"},
		{"GET", adminRowsPath + "?datasource=events_v1&n=1001", "", 400, "invalid_number"},
		{"GET", adminLettersPath + "?kind=nope", "", 400, "unknown_kind"},
		{"GET", adminLettersPath + "?datasource=nope", "", 404, "unknown_datasource"},
		{"GET", adminShowPath, "", 400, "missing_id"},
		{"GET", adminShowPath + "?id=" + l.ID + "&n=-1", "", 400, "invalid_number"},
		{"GET", adminShowPath + "?id=events_v1/0000000000000001", "", 404, "unknown_letter"},
		{"GET", adminShowPath + "?id=../../etc/passwd", "", 404, "unknown_letter"},
		{"GET", adminShowPath + "?id=../../etc/passwd&download=true", "", 404, "unknown_letter"},
		{"POST", adminFlushPath, "form", 415, "unsupported_media_type"},
		{"POST", adminFlushPath, `{"x":1}`, 400, "invalid_json"},
		{"POST", adminResendPath, "form", 415, "unsupported_media_type"},
		{"POST", adminDeletePath, "", 400, "missing_id"},
		{"POST", adminDeletePath, "{}", 400, "missing_id"},
		{"POST", adminDeletePath, `{"datasource":"events_v1"}`, 400, "missing_id"},
		{"POST", adminDeletePath, `{"id":"` + l.ID + `","all":true}`, 400, "ambiguous_order"},
		{"POST", adminDeletePath, `{"id":"nope"}`, 404, "unknown_letter"},
		{"POST", adminDeletePath, `{"all":true,"kind":"nope"}`, 400, "unknown_kind"},
		{"POST", adminDeletePath, `{"all":true,"datasource":"nope"}`, 404, "unknown_datasource"},
		{"POST", adminResendPath, `{"al":true}`, 400, "invalid_json"},
		{"POST", adminResendPath, `[]`, 400, "invalid_json"},
		{"POST", adminResendPath, `{"all":true}{}`, 400, "invalid_json"},
		{"POST", adminResendPath, long, 400, "invalid_json"},
	} {
		status, got := askOutbox(t, tt.method, tt.path, tt.body)
		if status != tt.status || got["code"] != tt.code {
			t.Errorf("%s %s %.60s: %d %v, want %d %s", tt.method, tt.path, tt.body, status, got, tt.status, tt.code)
		}
	}
	if len(box.DeadLetters()) != 1 {
		t.Error("a refused order changed something")
	}
}

func TestTheAdminAPIWhileTheOutboxIsNotOpen(t *testing.T) {
	app := keysApp(t, newMemoryStorage())
	other, err := outbox.Open(app.Outbox.Path, outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	defer app.Cleanup()
	for _, path := range []string{adminOutboxPath, adminLettersPath} {
		status, got := askOutbox(t, "GET", path, "")
		if status != 503 || got["code"] != "outbox_unavailable" || !strings.Contains(fmt.Sprint(got["error"]), "in use") {
			t.Errorf("%s: %d %v", path, status, got)
		}
	}
}

// An order for all leaves what may do harm; an id or a kind sends it.
func TestResendingAllLeavesWhatTheSinkHas(t *testing.T) {
	sink := &scripted{}
	_, box := outboxApp(t, sink)
	l := letterIn(t, box, sink, "in part")
	status, got := askOutbox(t, "POST", adminResendPath, `{"all":true}`)
	left, _ := got["left"].([]any)
	if status != 200 || len(got["done"].([]any)) != 0 || len(left) != 1 || !strings.Contains(fmt.Sprint(left[0]), "twice") {
		t.Errorf("all: %d %v", status, got)
	}
	status, got = askOutbox(t, "POST", adminResendPath, `{"all":true,"kind":"partial","datasource":"events_v1"}`)
	if status != 200 || len(got["done"].([]any)) != 1 {
		t.Errorf("by kind: %d %v", status, got)
	}
	soon(t, "it is sent", func() bool { return len(sink.taken()) == 1 })
	if status, got := askOutbox(t, "POST", adminResendPath, `{"id":"`+l.ID+`"}`); status != 404 || got["code"] != "unknown_letter" {
		t.Errorf("once more: %d %v", status, got)
	}
}

// A list is bounded, and says how much it leaves out.
func TestManyLettersMakeABoundedAnswer(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "events_v1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxLettersShown + 3 {
		name := fmt.Sprintf("%016d.1.dead", 1_700_000_000_000_000+i)
		if i > maxLettersShown { // of a kind of their own
			reason := fmt.Sprintf(`{"kind":"partial","reason":"a view","at":"2100-01-0%dT00:00:00Z"}`, i-maxLettersShown)
			if err := os.WriteFile(filepath.Join(dir, "events_v1", strings.Replace(name, "1.dead", "reason", 1)), []byte(reason), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "events_v1", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	box, err := outbox.Open(dir, outbox.Options{DeadLetterAge: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	for query, want := range map[string][2]int{"": {maxLettersShown, 3}, "?kind=partial": {2, 0}} {
		got, err := listLetters(box, httptest.NewRequest("GET", adminLettersPath+query, nil))
		list, _ := got.(letterList)
		if err != nil || len(list.Letters) != want[0] || list.More != want[1] {
			t.Errorf("%q: %d letters and %d more, %v; want %v", query, len(list.Letters), list.More, err, want)
		}
	}
}

// What a guest says of its troubles may quote a URL.
func TestAnswersHideSecretsOfURLs(t *testing.T) {
	sink := &scripted{}
	_, box := outboxApp(t, sink)
	const said = `Post "https://user:s3cret@sink.example/v1?token=s3cret&x=1": EOF`
	letterIn(t, box, sink, said)
	sink.script(always(outbox.Hold(errors.New(said))))
	if err := box.Append(t.Context(), outbox.Row{Datasource: "events_v1", JSON: []byte(`{"a":2}`)}); err != nil {
		t.Fatal(err)
	}
	box.Flush(t.Context())
	soon(t, "delivery is held", func() bool { return box.Stats().Datasources["events_v1"].State == outbox.StateHeld })
	for _, path := range []string{adminOutboxPath, adminLettersPath, adminShowPath + "?id=" + box.DeadLetters()[0].ID} {
		_, got := askOutbox(t, "GET", path, "")
		if text := fmt.Sprint(got); strings.Contains(text, "s3cret") || !strings.Contains(text, "sink.example/v1") {
			t.Errorf("%s: %v", path, got)
		}
	}
	// Nor is it in what was written down, in logs and beside dead letters.
	if reason := box.DeadLetters()[0].Reason; strings.Contains(reason, "s3cret") {
		t.Errorf("the letter's reason: %s", reason)
	}
	if last := box.Stats().Datasources["events_v1"].LastError; strings.Contains(last, "s3cret") {
		t.Errorf("the last error: %s", last)
	}
}

func TestMirrorsHideSecretsToo(t *testing.T) {
	sink := &scripted{}
	sink.script(always(outbox.Retry(0, errors.New("https://user:s3cret@sink.example/"))))
	out := mirrorsOf([]namedSink{{name: "a", Sink: sink}})[0].Sink.Deliver(t.Context(), outbox.Batch{})
	if text := out.Reason.Error(); strings.Contains(text, "s3cret") || !strings.Contains(text, "sink.example") {
		t.Error(text)
	}
}

// A parked batch is listed, shown, sent at once and deleted like a letter. The
// clock is the test's: 10 failures over 15 minutes park one.
func TestParkedBatchesAreDealtWithLikeLetters(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		box, err := outbox.Open(dir, outbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		sink := &scripted{}
		box.SetSink(sink)
		poison := func(b outbox.Batch) outbox.Outcome {
			if bytes.Contains(b.Body, []byte("poison")) {
				return outbox.Retry(0, errors.New("answer 500"))
			}
			return outbox.Delivered(0, nil)
		}
		park := func() {
			sink.script(poison)
			for _, row := range []string{`{"a":"poison"}`, `{"a":"good"}`} {
				if err := box.Append(t.Context(), outbox.Row{Datasource: "events_v1", JSON: []byte(row)}); err != nil {
					t.Fatal(err)
				}
				if err := box.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Minute)
			}
			time.Sleep(30 * time.Minute)
		}
		ask := func(serve func(*outbox.Outbox, *http.Request) (any, error), path, body string) any {
			t.Helper()
			r := httptest.NewRequest("POST", path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			got, err := serve(box, r)
			if err != nil {
				t.Fatalf("%s %s: %v", path, body, err)
			}
			return got
		}
		park()
		list := ask(listLetters, "/?kind=parked", "").(letterList).Letters
		if len(list) != 1 || list[0].Kind != outbox.LetterParked || list[0].Reason != "answer 500" || list[0].Rows != 1 {
			t.Fatalf("%+v", list)
		}
		id := list[0].ID
		if c := ask(showLetter, "/?id="+id, "").(letterContent); len(c.Rows) != 1 || string(c.Rows[0].Row) != `{"a":"poison"}` {
			t.Errorf("shown %+v", c)
		}
		sink.script(nil)
		if out := ask(resendLetters, "/", `{"all":true}`).(letterOutcome); len(out.Done) != 1 {
			t.Errorf("sent again %+v", out)
		}
		synctest.Wait()
		if got := sink.taken(); len(got) != 1 || got[0] != `{"a":"poison"}` || box.Stats().Rows != 0 {
			t.Errorf("taken %v, %+v", got, box.Stats())
		}
		park()
		if out := ask(deleteLetters, "/", `{"all":true,"kind":"parked"}`).(letterOutcome); len(out.Done) != 1 {
			t.Errorf("deleted %+v", out)
		}
		if st := box.Stats(); st.Rows != 0 || st.Bytes != 0 {
			t.Errorf("after deleting: %+v", st)
		}
	})
}

// badEvent is a row that our code can't make.
const badEvent = `{"row_id":"","user_id":"a visitor's"}`

func goodRowOf(t testing.TB, datasource string) outbox.Row {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "tinybird", "testdata", datasource+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Row{Datasource: datasource, JSON: bytes.TrimSpace(text)}
}

func TestTheGuardKnowsEveryDatasource(t *testing.T) {
	for _, name := range []string{sessionctx.SessionDatasource, sessionctx.EventDatasource, sessionctx.TrafficDatasource, sessionctx.ConsentDatasource} {
		rows := []outbox.Row{goodRowOf(t, name)}
		if fit, invalid := guard(rows); len(fit) != 1 || invalid != nil {
			t.Errorf("%s: %v", name, invalid)
		}
		if n := testing.AllocsPerRun(100, func() { guard(rows) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if fit, invalid := guard([]outbox.Row{{Datasource: "nope", JSON: []byte("{}")}}); len(fit) != 0 || len(invalid) != 1 {
		t.Errorf("an unknown datasource: %v %v", fit, invalid)
	}
}

// A row that fits no column is acknowledged, kept, shown with its fault and not
// sent; those beside it arrive.
func TestARowThatFitsNotIsKeptAndTheOthersArrive(t *testing.T) {
	sink := &scripted{}
	app, box := outboxApp(t, sink)
	before := figure(t, theMetrics.invalid, "invalid_rows_total events_v1")
	e := app.engine()
	defer e.release()
	bad := outbox.Row{Datasource: "events_v1", JSON: []byte(badEvent)}
	if err := e.outbox.commit(t.Context(), goodRowOf(t, "events_v1"), bad, goodRowOf(t, "session_v1")); err != nil {
		t.Fatal(err)
	}
	// A crash now: what was acknowledged is on disk.
	if files, err := filepath.Glob(filepath.Join(box.Dir(), "events_v1", "*.invalid")); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	if err := e.outbox.add(bad); err != nil {
		t.Fatal(err)
	}
	if err := box.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "the others arrive", func() bool { return len(sink.taken()) == 2 })
	for _, row := range sink.taken() {
		if row == badEvent {
			t.Error("the bad row was sent")
		}
	}
	if n := figure(t, theMetrics.invalid, "invalid_rows_total events_v1") - before; n != 2 {
		t.Errorf("%v counted", n)
	}
	_, got := askOutbox(t, "GET", adminLettersPath, "")
	letters := got["letters"].([]any)
	l := letters[0].(map[string]any)
	if len(letters) != 1 || l["kind"] != "invalid_row" || l["rows"] != 2.0 || strings.Contains(fmt.Sprint(l), "visitor") || !strings.Contains(fmt.Sprint(l["reason"]), "column row_id") {
		t.Fatalf("letters %v", letters)
	}
	_, got = askOutbox(t, "GET", adminShowPath+"?n=1&id="+fmt.Sprint(l["id"]), "")
	rows := got["rows"].([]any)
	if row := rows[0].(map[string]any); len(rows) != 1 || got["more"] != 1.0 || !strings.Contains(fmt.Sprint(row["fault"]), "row_id") || !strings.Contains(fmt.Sprint(row["row"]), "visitor") {
		t.Errorf("shown %v", got)
	}
	// Sending it again by an order for all would only put it into quarantine.
	_, got = askOutbox(t, "POST", adminResendPath, `{"all":true}`)
	if left := got["left"].([]any); len(left) != 1 || !strings.Contains(fmt.Sprint(left[0]), "still would not arrive") || strings.Contains(fmt.Sprint(left[0]), "visitor") {
		t.Errorf("all: %v", got)
	}
	_, got = askOutbox(t, "POST", adminResendPath, fmt.Sprintf(`{"id":%q}`, l["id"]))
	if len(got["done"].([]any)) != 1 {
		t.Errorf("by id: %v", got)
	}
	soon(t, "it is sent", func() bool { return len(sink.taken()) == 4 })
}

// Rows of pages that come before the outbox is open are held to their columns
// too.
func TestEarlyRowsAreGuarded(t *testing.T) {
	app := keysApp(t, newMemoryStorage())
	sink := &scripted{}
	app.sinks = []namedSink{{name: "test", Sink: sink}}
	other, err := outbox.Open(app.Outbox.Path, outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	defer app.Cleanup()
	e := app.engine()
	defer e.release()
	for _, row := range []outbox.Row{{Datasource: "traffic_v1", JSON: []byte(badEvent)}, goodRowOf(t, "traffic_v1")} {
		if err := e.outbox.add(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	soon(t, "the good one arrives", func() bool { return len(sink.taken()) == 1 })
	soon(t, "the other is a letter", func() bool {
		_, got := askOutbox(t, "GET", adminLettersPath+"?kind=invalid_row", "")
		return len(got["letters"].([]any)) == 1
	})
}
