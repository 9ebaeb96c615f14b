package standin

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// sample returns a good row, with its id replaced.
func sample(tb testing.TB, datasource, id string) string {
	tb.Helper()
	text, err := os.ReadFile("../../tinybird/testdata/" + datasource + ".json")
	if err != nil {
		tb.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(text, &row); err != nil {
		tb.Fatal(err)
	}
	row["row_id"] = id
	text, err = json.Marshal(row)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text) + "\n"
}

// call is a request, right unless a test says otherwise.
type call struct {
	datasource, body, method, path, query string
	header                                map[string]string
	gzip                                  bool
	timeout                               time.Duration
}

// do sends a call and returns what came back.
func (c call) do(t *testing.T, s *Server) (status int, body string, err error) {
	t.Helper()
	payload := []byte(c.body)
	header := http.Header{"Authorization": {"Bearer " + DefaultToken}, "Content-Type": {"application/x-ndjson"}}
	if c.gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(payload)
		_ = z.Close()
		payload = b.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	for name, value := range c.header {
		header.Set(name, value)
	}
	url := s.URL + cmp.Or(c.path, "/v0/events") + cmp.Or(c.query, "?wait=true&name="+cmp.Or(c.datasource, "events_v1"))
	ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(c.timeout, 20*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, cmp.Or(c.method, "POST"), url, bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func TestRowsAreTakenCountedAndRecorded(t *testing.T) {
	for _, packed := range []bool{false, true} {
		t.Run(fmt.Sprintf("gzip %v", packed), func(t *testing.T) {
			s := New(t)
			body := sample(t, "events_v1", "a") + "\n" + strings.TrimSuffix(sample(t, "events_v1", "b"), "\n")
			status, answer, err := call{body: body, gzip: packed}.do(t, s)
			if err != nil || status != 200 || answer != `{"successful_rows":2,"quarantined_rows":0}` {
				t.Fatalf("%d %s %v", status, answer, err)
			}
			rows := s.Rows("events_v1")
			if len(rows) != 2 || rows[1]["row_id"] != "b" || rows[0]["session_event_sequence"] != json.Number("7") {
				t.Fatalf("rows %v", rows)
			}
			b := s.Batches("events_v1")[0]
			if b.PlainSHA256 != hash([]byte(body)) || b.PlainBytes != len(body) || packed == (b.WireSHA256 == b.PlainSHA256) {
				t.Errorf("hashes %+v", b)
			}
			if b.Status != 200 || b.Rows != 2 || !b.Committed || b.Fault || b.Answered.Before(b.Started) || b.Header.Get("Authorization") == "" {
				t.Errorf("batch %+v", b)
			}
		})
	}
}

func TestEveryDatasourceIsKnown(t *testing.T) {
	s := New(t)
	for _, name := range []string{"session_v1", "events_v1", "traffic_v1", "consents_v1"} {
		if status, answer, err := (call{datasource: name, body: sample(t, name, "a")}).do(t, s); status != 200 || err != nil {
			t.Errorf("%s: %d %s %v", name, status, answer, err)
		}
		if s.Count(name) != 1 {
			t.Errorf("%s: %d rows", name, s.Count(name))
		}
	}
	if n := len(s.Batches("")); n != 4 {
		t.Errorf("%d batches", n)
	}
}

func TestBadRowsGoIntoQuarantineAndAreViolations(t *testing.T) {
	s := New(t)
	bad := strings.Replace(sample(t, "events_v1", "b"), `"conversion"`, `"click"`, 1)
	status, answer, err := call{body: sample(t, "events_v1", "a") + bad + "nonsense\n"}.do(t, s)
	if err != nil || status != 200 || answer != `{"successful_rows":1,"quarantined_rows":2}` {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	violations := s.Violations()
	if len(violations) != 2 || !strings.Contains(violations[0].Error(), "column event_type") || string(violations[1].Row) != "nonsense" {
		t.Fatalf("violations %v", violations)
	}
	if s.Count("events_v1") != 1 {
		t.Fatalf("%d rows", s.Count("events_v1"))
	}
}

// recorder takes what New reports.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestViolationsThatNobodyAskedForFailTheTest(t *testing.T) {
	for _, asked := range []bool{false, true} {
		r := &recorder{TB: t}
		s := New(r)
		if _, _, err := (call{body: "{}\n"}).do(t, s); err != nil {
			t.Fatal(err)
		}
		if asked {
			s.Violations()
		}
		for _, f := range r.cleanups {
			f()
		}
		if failed := len(r.errors) > 0; failed == asked {
			t.Errorf("asked %v, errors %v", asked, r.errors)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	row := sample(t, "events_v1", "a")
	for name, tc := range map[string]struct {
		call   call
		status int
	}{
		"no token":                      {call{body: row, header: map[string]string{"Authorization": ""}}, 403},
		"another token":                 {call{body: row, header: map[string]string{"Authorization": "Bearer x"}}, 403},
		"a token in the query":          {call{body: row, query: "?name=events_v1&wait=true&token=" + DefaultToken, header: map[string]string{"Authorization": ""}}, 403},
		"another scheme":                {call{body: row, header: map[string]string{"Authorization": "Basic " + DefaultToken}}, 403},
		"an unknown datasource":         {call{body: row, datasource: "event_v1"}, 400},
		"no datasource":                 {call{body: row, query: "?wait=true"}, 400},
		"another content type":          {call{body: row, header: map[string]string{"Content-Type": "text/plain"}}, 400},
		"another encoding":              {call{body: row, header: map[string]string{"Content-Encoding": "zstd"}}, 400},
		"what is not gzip":              {call{body: row, header: map[string]string{"Content-Encoding": "gzip"}}, 400},
		"no rows":                       {call{body: "\n\n"}, 400},
		"another method":                {call{body: row, method: "PUT"}, 405},
		"another path":                  {call{body: row, path: "/v0/datasources"}, 404},
		"too large":                     {call{body: strings.Repeat(row, 20)}, 413},
		"too large only when unpacked":  {call{body: strings.Repeat(row, 20), gzip: true}, 413},
		"no wait is accepted, not done": {call{body: row, query: "?name=events_v1"}, 202},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t, WithMaxBody(10_000))
			status, answer, err := tc.call.do(t, s)
			if err != nil || status != tc.status {
				t.Fatalf("%d %s %v, want %d", status, answer, err, tc.status)
			}
			want := 0
			if status == 202 {
				want = 1
			} else if !strings.HasPrefix(answer, `{"documentation":"`) || !strings.Contains(answer, `"error":"`) {
				t.Errorf("answer %s", answer)
			}
			if n := s.Count("events_v1"); n != want {
				t.Errorf("%d rows", n)
			}
		})
	}
}

func TestTokenCanBeSet(t *testing.T) {
	s := New(t, WithToken("other"))
	row := sample(t, "events_v1", "a")
	if status, _, _ := (call{body: row}).do(t, s); status != 403 {
		t.Errorf("default token: %d", status)
	}
	if status, _, _ := (call{body: row, header: map[string]string{"Authorization": "Bearer other"}}).do(t, s); status != 200 {
		t.Errorf("own token: %d", status)
	}
}

func TestReferenceWorkspaceTakesItsColumnsOnly(t *testing.T) {
	s := New(t, WithReferenceRows())
	row := sample(t, "events_v1", "a")
	for range 2 {
		body := strings.Replace(row, `,"row_id":"a"`, "", 1)
		if _, answer, _ := (call{body: body}).do(t, s); !strings.Contains(answer, `"successful_rows":1`) {
			t.Fatal(answer)
		}
	}
	if rows, conflicts := s.Distinct("events_v1"); len(rows) != 1 || len(conflicts) != 0 {
		t.Errorf("%d rows, %v", len(rows), conflicts)
	}
	if _, answer, _ := (call{body: row}).do(t, s); !strings.Contains(answer, `"quarantined_rows":1`) || len(s.Violations()) != 1 {
		t.Error(answer)
	}
	if status, _, _ := (call{datasource: "consents_v1", body: sample(t, "consents_v1", "a")}).do(t, s); status != 400 {
		t.Errorf("consents: %d", status)
	}
}

func TestDistinctTakesTheFirstAndReportsConflicts(t *testing.T) {
	s := New(t)
	first, other := sample(t, "events_v1", "a"), sample(t, "events_v1", "b")
	changed := strings.Replace(first, `"event_value":12.5`, `"event_value":13`, 1)
	if _, _, err := (call{body: first + other + first + changed}).do(t, s); err != nil {
		t.Fatal(err)
	}
	rows, conflicts := s.Distinct("events_v1")
	if len(rows) != 2 || rows[0]["event_value"] != json.Number("12.5") {
		t.Errorf("rows %v", rows)
	}
	if len(conflicts) != 1 || conflicts[0].ID != "a" || !strings.Contains(conflicts[0].Error(), "event_value: 12.5, then 13") {
		t.Errorf("conflicts %v", conflicts)
	}
}

func TestDeduplicationKnowsTheSameBytesOnly(t *testing.T) {
	s := New(t, WithDeduplication())
	a, b := sample(t, "events_v1", "a"), sample(t, "events_v1", "b")
	for _, body := range []string{a + b, a + b, a} {
		if _, answer, _ := (call{body: body}).do(t, s); !strings.Contains(answer, `"quarantined_rows":0`) {
			t.Fatal(answer)
		}
	}
	if n := s.Count("events_v1"); n != 3 {
		t.Errorf("%d rows, want the two and the one that came alone", n)
	}
	if batches := s.Batches("events_v1"); !batches[1].Duplicate || batches[1].Committed || batches[2].Duplicate {
		t.Errorf("batches %+v", batches)
	}
}

func TestSinkComesBeforeTheAnswer(t *testing.T) {
	var got []string
	fail := true
	s := New(t, WithSink(func(datasource string, rows []byte) error {
		if fail {
			fail = false
			return fmt.Errorf("no room")
		}
		got = append(got, datasource+" "+string(rows))
		return nil
	}))
	row := sample(t, "events_v1", "a")
	if status, answer, _ := (call{body: row}).do(t, s); status != 500 || !strings.Contains(answer, "no room") || s.Count("events_v1") != 0 {
		t.Fatalf("%d %s, %d rows", status, answer, s.Count("events_v1"))
	}
	if status, _, _ := (call{body: row + "\n" + row}).do(t, s); status != 200 || len(got) != 1 || got[0] != "events_v1 "+row+row {
		t.Fatalf("%d %q", status, got)
	}
}

func TestWaitRows(t *testing.T) {
	s := New(t)
	row := sample(t, "events_v1", "a")
	done := make(chan error)
	go func() { done <- s.WaitRows(t.Context(), "events_v1", 2) }()
	for range 2 {
		if _, _, err := (call{body: row}).do(t, s); err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.WaitBatches(t.Context(), "events_v1", 2); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.WaitRows(short, "events_v1", 3); err == nil || !strings.Contains(err.Error(), "have 2") {
		t.Fatalf("got %v", err)
	}
	if err := s.WaitBatches(short, "session_v1", 1); err == nil {
		t.Fatal("no error")
	}
}

func TestStartOnAnAddress(t *testing.T) {
	s, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(strings.TrimPrefix(s.URL, "http://")); err == nil {
		t.Error("a second server on the same port")
	}
	s.Close()
	s.Close()
	if _, _, err := (call{body: sample(t, "events_v1", "a")}).do(t, s); err == nil {
		t.Error("a closed server answers")
	}
}
