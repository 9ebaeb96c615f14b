package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestStatusTellsOfAFurtherSink: one that takes nothing while the first does is
// a warning, and the outbox commands can be asked about it.
func TestStatusTellsOfAFurtherSink(t *testing.T) {
	t.Parallel()
	first, further := standin.New(t), standin.New(t)
	further.Fail("events_v1", standin.Fault{Status: 403}, -1)
	c := startLanding(t, globals(namedSink("a", first)+namedSink("b", further))+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	track(t, v, s.Session.Token, "1")
	waitRows(t, first, "events_v1", 1)
	status := func(code int, parts ...string) {
		t.Helper()
		eventually(t, 20*time.Second, "the status", func() error {
			out, got := c.statusOf()
			for _, part := range parts {
				if got != code || !strings.Contains(out, part) {
					return fmt.Errorf("exit code %d, want %d; %q wanted in:\n%s", got, code, part, out)
				}
			}
			return nil
		})
	}
	status(1, "warning delivery_failing of sink b: events_v1 is not delivered, 1 row waits: ", "\nsinks   a b\n", "\nsink b, ")

	if out := c.mustOutbox("peek", "events_v1", "--sink", "b"); !strings.Contains(out, s.Session.SessionID) {
		t.Errorf("rows that wait for b:\n%s", out)
	}
	if out := c.mustOutbox("peek", "events_v1"); strings.TrimSpace(out) != "no row of events_v1 waits" {
		t.Errorf("rows that wait for a:\n%s", out)
	}
	further.Heal("events_v1")
	c.mustOutbox("flush", "--sink", "b")
	waitRows(t, further, "events_v1", 1)
	status(0, ": 0 rows wait")
}
