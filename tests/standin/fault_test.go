package standin

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFaultsActInOrderAndOnTheirDatasourceOnly(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{Status: 429}, 2)
	s.Fail("events_v1", Fault{}, 1)
	s.Fail("events_v1", Fault{Status: 503}, 0)
	if n := s.Pending("events_v1"); n != 3 {
		t.Fatalf("%d pending", n)
	}
	row := sample(t, "events_v1", "a")
	for i, want := range []int{429, 429, 500, 200} {
		if status, _, err := (call{datasource: "traffic_v1", body: sample(t, "traffic_v1", "a")}).do(t, s); status != 200 {
			t.Fatalf("the other datasource: %d %v", status, err)
		}
		if status, _, err := (call{body: row}).do(t, s); status != want {
			t.Fatalf("request %d: %d %v, want %d", i, status, err, want)
		}
	}
	if s.Count("events_v1") != 1 || s.Pending("events_v1") != 0 {
		t.Errorf("%d rows, %d pending", s.Count("events_v1"), s.Pending("events_v1"))
	}
	batches := s.Batches("events_v1")
	for _, b := range batches {
		if b.PlainSHA256 != batches[0].PlainSHA256 || b.Committed == b.Fault {
			t.Errorf("batch %+v", b)
		}
	}
}

func TestFaultsActForEverUntilHealed(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{Status: 403}, -1)
	for range 5 {
		if status, _, _ := (call{body: sample(t, "events_v1", "a")}).do(t, s); status != 403 {
			t.Fatal(status)
		}
	}
	s.Heal("events_v1")
	if status, _, _ := (call{body: sample(t, "events_v1", "a")}).do(t, s); status != 200 {
		t.Fatal(status)
	}
}

// A fault that stores first says 2xx only to what was stored.
func TestNoFaultTakesWhatIsRefused(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{CommitFirst: true, Status: 200, Body: `{"successful_rows":1,"quarantined_rows":0}`}, 1)
	s.Fail("events_v1", Fault{CommitFirst: true, Status: 202}, 2)
	s.Fail("events_v1", Fault{CommitFirst: true, Status: 503}, 1)
	wrong := call{body: sample(t, "events_v1", "a"), header: map[string]string{"Authorization": "Bearer p.wrong"}}
	for i, want := range []int{403, 403} {
		if status, text, err := wrong.do(t, s); status != want || strings.Contains(text, "successful") {
			t.Errorf("request %d: %d %s %v, want %d", i, status, text, err, want)
		}
	}
	if status, _, err := (call{body: sample(t, "events_v1", "a")}).do(t, s); status != 202 || s.Count("events_v1") != 1 {
		t.Errorf("with the right token: %d %v, %d rows", status, err, s.Count("events_v1"))
	}
	if status, _, err := wrong.do(t, s); status != 503 {
		t.Errorf("a fault that is no 2xx: %d %v", status, err)
	}
}

func TestFaultAnswersWithHeaderAndBody(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{Status: 429, Header: http.Header{"retry-after": {"7"}}, Body: "slow down"}, 1)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v0/events?name=events_v1", nil)
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 429 || answer.Header.Get("Retry-After") != "7" || string(body) != "slow down" {
		t.Errorf("%d %v %s", answer.StatusCode, answer.Header, body)
	}
}

func TestPoisonousRowFailsItsBatchOnly(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{Status: 500, When: func(body []byte) bool { return bytes.Contains(body, []byte(`"poison"`)) }}, -1)
	good, bad := sample(t, "events_v1", "a"), sample(t, "events_v1", "poison")
	for body, want := range map[string]int{good: 200, bad: 500, good + bad: 500} {
		for _, packed := range []bool{false, true} {
			if status, _, _ := (call{body: body, gzip: packed}).do(t, s); status != want {
				t.Errorf("got %d, want %d", status, want)
			}
		}
	}
}

func TestCommittedThenTheConnectionDies(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{CommitFirst: true, CloseConn: true}, 1)
	status, _, err := call{body: sample(t, "events_v1", "a")}.do(t, s)
	if err == nil || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Fatalf("%d %v", status, err)
	}
	if b := s.Batches("events_v1")[0]; s.Count("events_v1") != 1 || !b.Committed || b.Status != 0 || !b.Fault {
		t.Errorf("%d rows, %+v", s.Count("events_v1"), b)
	}
}

func TestCommittedAndStillAnsweredBadly(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{CommitFirst: true, Status: 422}, 1)
	if status, _, _ := (call{body: sample(t, "events_v1", "a")}).do(t, s); status != 422 || s.Count("events_v1") != 1 {
		t.Errorf("%d, %d rows", status, s.Count("events_v1"))
	}
}

func TestConnectionDiesBeforeTheBodyIsRead(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{BeforeBody: true, CloseConn: true}, 1)
	if status, _, err := (call{body: strings.Repeat(sample(t, "events_v1", "a"), 1000)}).do(t, s); err == nil {
		t.Errorf("answered %d", status)
	}
	if b := s.Batches("events_v1")[0]; b.PlainSHA256 != "" || s.Count("events_v1") != 0 {
		t.Errorf("%d rows, %+v", s.Count("events_v1"), b)
	}
}

func TestTruncatedAnswer(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{CommitFirst: true, TruncateBody: true}, 1)
	status, body, err := call{body: sample(t, "events_v1", "a")}.do(t, s)
	if status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || body == "" || strings.HasSuffix(body, "}") {
		t.Errorf("%d %q %v", status, body, err)
	}
}

func TestSlowAnswerArrivesWhole(t *testing.T) {
	s := New(t)
	s.Fail("events_v1", Fault{CommitFirst: true, SlowDrip: time.Millisecond}, 1)
	start := time.Now()
	status, body, err := call{body: sample(t, "events_v1", "a")}.do(t, s)
	if status != 200 || err != nil || body != `{"successful_rows":1,"quarantined_rows":0}` {
		t.Errorf("%d %q %v", status, body, err)
	}
	if took := time.Since(start); took < 40*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestHangEndsWithTheTimeTheClientOrTheServer(t *testing.T) {
	row := sample(t, "events_v1", "a")
	t.Run("the time", func(t *testing.T) {
		s := New(t)
		s.Fail("events_v1", Fault{CommitFirst: true, Hang: 20 * time.Millisecond}, 1)
		start := time.Now()
		if status, _, err := (call{body: row}).do(t, s); status != 200 || time.Since(start) < 20*time.Millisecond {
			t.Errorf("%d %v after %v", status, err, time.Since(start))
		}
	})
	t.Run("the client", func(t *testing.T) {
		s := New(t)
		s.Fail("events_v1", Fault{CommitFirst: true, Hang: -1}, 1)
		if status, _, err := (call{body: row, timeout: 50 * time.Millisecond}).do(t, s); err == nil {
			t.Errorf("answered %d", status)
		}
		if s.Count("events_v1") != 1 {
			t.Errorf("%d rows", s.Count("events_v1"))
		}
	})
	t.Run("the server", func(t *testing.T) {
		s := New(t)
		s.Fail("events_v1", Fault{Hang: -1}, 1)
		go func() {
			if s.WaitBatches(t.Context(), "events_v1", 1) == nil {
				s.Close()
			}
		}()
		if status, _, err := (call{body: row}).do(t, s); err == nil {
			t.Errorf("answered %d", status)
		}
	})
}
