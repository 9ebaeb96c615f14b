package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// outbox runs the command on the server.
func (c *caddy) outbox(args ...string) (string, error) {
	out, err := c.command(append([]string{"session-context", "outbox", "--address", c.admin}, args...)...).CombinedOutput()
	return string(out), err
}

func (c *caddy) mustOutbox(args ...string) string {
	c.t.Helper()
	out, err := c.outbox(args...)
	if err != nil {
		c.t.Fatalf("outbox %v: %v\n%s", args, err, out)
	}
	return out
}

// letter is what the command tells of one.
type letter struct {
	ID, Datasource, Kind, Reason string
	Rows                         int
	Since                        time.Time
}

// letters lists those of a kind, once there are as many.
func (c *caddy) letters(kind string, n int) (list []letter) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, fmt.Sprintf("%d letters of kind %s", n, kind), func() error {
		var answer struct{ Letters []letter }
		out := c.mustOutbox("letters", "--kind", kind, "--json")
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if list = answer.Letters; len(list) != n {
			return fmt.Errorf("there are %d: %s", len(list), out)
		}
		return nil
	})
	return list
}

// sends makes a visitor send an event, and returns what finds its row.
func sends(t testing.TB, c *caddy, event string) string {
	t.Helper()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": event, "event_type": "conversion"}).ok(t)
	return `"event_id":"` + event + `"`
}

func arrived(s *standin.Server, datasource, row string) error {
	for _, r := range s.RawRows(datasource) {
		if bytes.Contains(r, []byte(row)) {
			return nil
		}
	}
	return errors.New("it has not arrived")
}

// TestALettersLife: a row that the service blames becomes a letter, a view that
// fails makes another, what is quarantined leaves a copy. Each is listed and
// shown with its reason, after a restart too. With the service mended they are
// sent again and arrive, or are deleted.
func TestALettersLife(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	text := globals(tinybirdSink(tb)) + landing("10m")
	c := startLanding(t, text)
	holds := func(text string) func([]byte) bool {
		return func(body []byte) bool { return bytes.Contains(body, []byte(text)) }
	}
	tb.Fail("events_v1", standin.Fault{When: holds("refused-event"), Status: 400, Body: `{"error":"row 1: column event_id can't be parsed"}`}, -1)
	tb.Fail("events_v1", standin.Fault{When: holds("partial-event"), Status: 422}, 1)
	tb.Fail("events_v1", standin.Fault{When: holds("copied-event"), CommitFirst: true, Body: `{"successful_rows":0,"quarantined_rows":1}`, Status: 200}, 1)

	refusedRow := sends(t, c, "refused-event")
	refused := c.letters("refused", 1)[0]
	partialRow := sends(t, c, "partial-event")
	partial := c.letters("partial", 1)[0]
	copiedRow := sends(t, c, "copied-event")
	copied := c.letters("copy", 1)[0]
	if n := c.metric(`caddy_session_context_dead_letter_rows_total{datasource="events_v1",kind="refused"}`); n != 1 {
		t.Errorf("%v rows counted", n)
	}
	if refused.Datasource != "events_v1" || refused.Rows != 1 || time.Since(refused.Since) > time.Minute ||
		!strings.Contains(refused.Reason, "a row was refused") || strings.Contains(refused.Reason, standin.DefaultToken) {
		t.Errorf("%+v", refused)
	}
	c.reload(text) // figures go on
	for name, want := range map[string]float64{"outbox_dead_letters": 3, "outbox_dead_rows": 3, "outbox_parked_batches": 0, "delivery_failing": 0} {
		full := fmt.Sprintf(`caddy_session_context_%s{datasource="events_v1",outbox="%s"}`, name, c.path("data/caddy/session_context/outbox"))
		if got := c.metric(full); got != want {
			t.Errorf("%s is %v, want %v", full, got, want)
		}
	}

	// A table for people, and rows on demand only.
	table := c.mustOutbox("letters")
	for _, want := range []string{"ID", "SINCE", refused.ID, partial.ID, copied.ID, refused.Since.UTC().Format(time.RFC3339), "answer 422"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %s in\n%s", want, table)
		}
	}
	if strings.Contains(table, "user_id") {
		t.Errorf("a list holds rows:\n%s", table)
	}
	if out := c.mustOutbox("show", refused.ID); !strings.Contains(out, refusedRow) || !strings.Contains(out, "a row was refused") {
		t.Errorf("shown:\n%s", out)
	}
	raw := c.mustOutbox("show", refused.ID, "--raw")
	if !json.Valid([]byte(raw)) || !strings.Contains(raw, refusedRow) || strings.Count(raw, "\n") != 1 {
		t.Errorf("raw:\n%s", raw)
	}

	// They outlive the process, however it ends.
	c.kill()
	c.start()
	if again := c.letters("refused", 1)[0]; again != refused {
		t.Errorf("after a restart %+v, before %+v", again, refused)
	}

	// As long as the service refuses the row, it comes back as a letter.
	c.mustOutbox("resend", refused.ID)
	eventually(t, 20*time.Second, "it is a letter again", func() error {
		if l := c.letters("refused", 1)[0]; l.ID == refused.ID {
			return errors.New("it has its old id")
		}
		return nil
	})
	tb.Heal("events_v1")
	out := c.mustOutbox("resend", "--all")
	if !strings.Contains(out, "sent again: 1") || !strings.Contains(out, "left where they are: 2") || !strings.Contains(out, "twice") {
		t.Errorf("resend --all:\n%s", out)
	}
	eventually(t, 20*time.Second, "the refused row arrives", func() error { return arrived(tb, "events_v1", refusedRow) })
	if err := arrived(tb, "events_v1", partialRow); err == nil {
		t.Error("what the sink may have was sent without being named")
	}
	c.mustOutbox("resend", "--all", "--kind", "partial", "--datasource", "events_v1")
	eventually(t, 20*time.Second, "the partial one arrives", func() error { return arrived(tb, "events_v1", partialRow) })

	if out, err := c.outbox("delete", "--all"); err == nil || !strings.Contains(out, "--yes") {
		t.Errorf("delete --all without --yes: %v\n%s", err, out)
	}
	if out := c.mustOutbox("delete", copied.ID); !strings.Contains(out, "deleted: 1") {
		t.Errorf("deleted:\n%s", out)
	}
	if out := c.mustOutbox("letters"); out != "none\n" {
		t.Errorf("left:\n%s", out)
	}
	files, err := filepath.Glob(c.path("data/caddy/session_context/outbox/*/*"))
	if err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
	if err := arrived(tb, "events_v1", copiedRow); err != nil {
		t.Errorf("the copied row: %v", err)
	}
}

// prepare makes an outbox directory by the library, before a Caddy uses it.
func prepare(t *testing.T, c *caddy, fill func(*outbox.Outbox)) {
	t.Helper()
	box, err := outbox.Open(c.path("data/caddy/session_context/outbox"), outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(box)
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLettersOfAPreparedDirectory: damaged lines, rows that fit no column, and
// rows that wait, as a stopped server left them.
func TestLettersOfAPreparedDirectory(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals(tinybirdSink(tb)) + landing("10m"))
	good, err := os.ReadFile("../tinybird/testdata/events_v1.json")
	if err != nil {
		t.Fatal(err)
	}
	good = bytes.TrimSpace(good)
	damagedRow := bytes.Replace(good, []byte(`"row_id":"`), []byte(`"row_id":"damaged`), 1)
	prepare(t, c, func(box *outbox.Outbox) {
		for _, row := range [][]byte{good, damagedRow} {
			if err := box.Append(t.Context(), outbox.Row{Datasource: "events_v1", JSON: row}); err != nil {
				t.Fatal(err)
			}
		}
		if err := box.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := box.AppendInvalid(t.Context(), "column x: want y", outbox.Row{Datasource: "events_v1", JSON: []byte(`{"user_id":"somebody"}`)}); err != nil {
			t.Fatal(err)
		}
	})
	files, err := filepath.Glob(c.path("data/caddy/session_context/outbox/events_v1/*.sealed"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], bytes.Replace(text, []byte("damaged"), []byte("Damaged"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	tb.Fail("events_v1", standin.Fault{Status: 403}, 1)
	c.start()

	damaged, invalid := c.letters("damaged", 1)[0], c.letters("invalid_row", 1)[0]
	if out := c.mustOutbox("show", damaged.ID); !strings.Contains(out, "wrong checksum") || !strings.Contains(out, `\"row_id\":\"Damaged`) || !strings.Contains(out, `"offset":`) {
		t.Errorf("damaged:\n%s", out)
	}
	if out, err := c.outbox("resend", damaged.ID); err == nil || !strings.Contains(out, "(letter_damaged)") {
		t.Errorf("resending damaged lines: %v\n%s", err, out)
	}
	if invalid.Reason != "column x: want y" {
		t.Errorf("%+v", invalid)
	}
	if out := c.mustOutbox("show", invalid.ID); !strings.Contains(out, "^ row for events_v1, column ") {
		t.Errorf("invalid:\n%s", out)
	}

	// What waits is held: the token was refused. A flush is the next try.
	eventually(t, 20*time.Second, "the status tells of the token", func() error {
		if out := c.mustOutbox("status"); !strings.Contains(out, "held: ") || !strings.Contains(out, "token refused") {
			return errors.New(out)
		}
		return nil
	})
	if out := c.mustOutbox("peek", "events_v1", "-n", "5"); strings.TrimSpace(out) == "" || strings.Count(out, "\n") != 1 || !json.Valid([]byte(out)) {
		t.Errorf("peek:\n%s", out)
	}
	c.mustOutbox("flush")
	waitRows(t, tb, "events_v1", 1)
	eventually(t, 20*time.Second, "nothing waits", func() error {
		if out := c.mustOutbox("status"); !strings.Contains(out, ": 0 rows wait") {
			return errors.New(out)
		}
		return nil
	})
	if out := c.mustOutbox("delete", "--all", "--yes", "--kind", "damaged"); !strings.Contains(out, "deleted: 1") || !strings.Contains(out, damaged.ID) {
		t.Errorf("deleted:\n%s", out)
	}
	c.letters("damaged", 0)
	c.letters("invalid_row", 1)
}

func TestTheOutboxCommandNamesMistakes(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("10m"))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"lettres"}, `no command "lettres": known are delete, flush, letters, peek, resend, show, status`},
		{[]string{"show"}, "wants a letter's id"},
		{[]string{"peek"}, "wants a datasource"},
		{[]string{"status", "--sink", "nope"}, "(unknown_sink)"},
		{[]string{"show", "nope"}, "(unknown_letter)"},
		{[]string{"peek", "nope"}, "(unknown_datasource)"},
		{[]string{"letters", "--kind", "nope"}, "known are refused, too_large, partial"},
		{[]string{"resend"}, "no letter is named"},
		{[]string{"delete", "--kind", "copy"}, "no letter is named"},
		{[]string{"resend", "a", "b"}, "2 ids are given"},
		{[]string{"delete", "a", "--kind", "copy"}, "(ambiguous_order)"},
	} {
		if out, err := c.outbox(tt.args...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("outbox %v: %v\n%s", tt.args, err, out)
		}
	}
	if out, err := c.command("session-context", "outbox", "status", "--address", "127.0.0.1:1").CombinedOutput(); err == nil || !strings.Contains(string(out), "the admin API at 127.0.0.1:1") {
		t.Errorf("no server: %v\n%s", err, out)
	}
}
