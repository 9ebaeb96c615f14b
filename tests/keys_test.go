package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// twoNodes are two processes on one storage directory, each with an outbox and
// a store of its own. Both re-read the ring each second.
func twoNodes(t *testing.T) (a, b *caddy, storage string) {
	t.Helper()
	storage = t.TempDir()
	text := strings.Replace(globals("\t\tkeys {\n\t\t\treread 1s\n\t\t}"), "{\n", "{\n\tstorage file_system "+storage+"\n", 1)
	for _, c := range []**caddy{&a, &b} {
		*c = newCaddy(t)
		writePage(t, *c, "index.html", plainPage)
		(*c).write(text + landing("30m", "debug"))
	}
	return a, b, storage
}

// keys runs the command on a node's server.
func (c *caddy) keys(args ...string) (string, error) {
	out, err := c.command(append([]string{"session-context", "keys"}, args...)...).CombinedOutput()
	return string(out), err
}

func (c *caddy) mustKeys(args ...string) string {
	c.t.Helper()
	out, err := c.keys(append(args, "--address", c.admin)...)
	if err != nil {
		c.t.Fatalf("keys %v: %v\n%s", args, err, out)
	}
	return out
}

// knows says whether a node takes a visitor's cookies and token for what they
// are: the same session again.
func (c *caddy) knows(v *visitor, s *sessionContext) error {
	v.site = c.site
	a, err := newVisitor(c.t, c.site, desktop, false).tryCall("POST", "events/session/init", map[string]any{"token": s.Session.Token})
	if err != nil {
		return err
	}
	if a.status != 200 {
		return fmt.Errorf("the token got %d %s", a.status, a.Code)
	}
	byIDs, err := newVisitor(c.t, c.site, desktop, false).tryCall("POST", "events/session/init", s.ids())
	if err != nil {
		return err
	}
	if byIDs.status != 200 {
		return fmt.Errorf("the ids got %d %s", byIDs.status, byIDs.Code)
	}
	if again := v.visit("/"); again.Session.SessionID != s.Session.SessionID || again.UserID != s.UserID {
		return fmt.Errorf("the cookies gave another session")
	}
	return nil
}

var keyLine = regexp.MustCompile(`(?m)^([0-9a-f]{8})  (sessions|user ids)\s+(in force|pending|retired) `)

func TestTwoProcessesShareTheirKeys(t *testing.T) {
	t.Parallel()
	a, b, storage := twoNodes(t)
	a.start()
	b.start()
	nodes := []*caddy{a, b}
	both := func(when string, v *visitor, s *sessionContext) {
		t.Helper()
		for _, c := range nodes {
			if err := c.knows(v, s); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	newSession := func(c *caddy) (*visitor, *sessionContext) {
		t.Helper()
		v := newVisitor(t, c.site, desktop, true)
		return v, v.visit("/")
	}
	v, s := newSession(a)
	both("before a rotation", v, s)

	// A rotation changes nothing for any visitor, before and after B knows it.
	for _, args := range [][]string{{"rotate"}, {"rotate", "--user"}} {
		out := a.mustKeys(args...)
		if !strings.Contains(out, "pending") {
			t.Errorf("%v printed\n%s", args, out)
		}
		for _, c := range nodes {
			v2, s2 := newSession(c)
			both("right after a rotation", v2, s2)
		}
		both("right after a rotation, of before", v, s)
		eventually(t, 20*time.Second, "B knows the new key", func() error {
			if got, want := keyLine.FindAllString(b.mustKeys("list"), -1), keyLine.FindAllString(out, -1); strings.Join(got, "") != strings.Join(want, "") {
				return fmt.Errorf("it has %q, A has %q", got, want)
			}
			return nil
		})
		both("after re-reading", v, s)
	}
	if out, err := a.keys("rotate", "--address", a.admin); err == nil || !strings.Contains(out, "key_pending") {
		t.Errorf("a rotation while a key is pending: %v\n%s", err, out)
	}

	// A revocation: A refuses at once, B when it has re-read.
	a.mustKeys("rotate", "--revoke")
	if err := a.knows(v, s); err == nil || !strings.Contains(err.Error(), "invalid_session") {
		t.Errorf("A after revoking: %v", err)
	}
	v2, s2 := newSession(a)
	if err := a.knows(v2, s2); err != nil {
		t.Errorf("A by its new key: %v", err)
	}
	eventually(t, 20*time.Second, "B takes what the new key made, and nothing of the revoked", func() error {
		if err := b.knows(v2, s2); err != nil {
			return err
		}
		if err := b.knows(newVisitor(t, b.site, desktop, false), s); err == nil || !strings.Contains(err.Error(), "invalid_session") {
			return fmt.Errorf("the revoked key's: %v", err)
		}
		return nil
	})
	out := a.mustKeys("rotate", "--user", "--revoke")
	if err := a.knows(v2, s2); err == nil {
		t.Error("a user id of the revoked key is taken")
	}

	// No secret is ever printed.
	ring, err := os.ReadFile(filepath.Join(storage, "session_context", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := regexp.MustCompile(`"secret": "([^"]{43})"`).FindAllStringSubmatch(string(ring), -1)
	if len(secrets) != 4 {
		t.Errorf("%d secrets in the ring", len(secrets))
	}
	for _, m := range secrets {
		if strings.Contains(out+a.log.String()+b.log.String(), m[1]) {
			t.Error("a secret is printed or logged")
		}
	}
}

func TestTheKeysCommand(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m"))
	newVisitor(t, c.site, desktop, false).visit("/") // the ring is there
	if out, err := c.keys("list", "--config", c.path("Caddyfile"), "--adapter", "caddyfile"); err != nil || len(keyLine.FindAllString(out, -1)) != 2 {
		t.Errorf("by the config's address: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"list", "--address", "127.0.0.1:1"}, "the admin API at 127.0.0.1:1"},
		{[]string{"list", "x"}, "x"},
		{[]string{"lits"}, `no command "lits": known are list, rotate`},
		{[]string{"rotate", "1a2b3c4d", "--address", c.admin}, "add --revoke"},
		{[]string{"rotate", "--revoke", "00000000", "--address", c.admin}, "(unknown_key)"},
		{[]string{"rotate", "--revoke", "", "--address", c.admin}, "the key's name is empty"},
	} {
		if out, err := c.keys(tt.args...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("keys %v: %v\n%s", tt.args, err, out)
		}
	}
}

// TestALockOfADeadProcess: who held the lock of the ring is dead. Caddy's file
// storage sees that after 10 s; pages don't wait for it.
func TestALockOfADeadProcess(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	c.write(globals("") + landing("30m", "debug"))
	locks := c.path("data/caddy/locks")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Format(time.RFC3339Nano)
	if err := os.WriteFile(filepath.Join(locks, "session_context_keys.lock"), fmt.Appendf(nil, `{"created":%q,"updated":%q}`, now, now), 0o600); err != nil {
		t.Fatal(err)
	}
	c.unready = true
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	res, body := v.page("/")
	if res.StatusCode != 200 || body != plainPage || res.Header.Get("Session-Context") != "skipped; reason=keys_unavailable" {
		t.Errorf("%d %v\n%s", res.StatusCode, res.Header, body)
	}
	eventually(t, time.Minute, "pages have their context", func() error {
		if _, body := v.page("/"); !strings.Contains(body, "data-session-context") {
			return fmt.Errorf("they don't")
		}
		return nil
	})
}

// TestARingThatVanishes: running nodes go on, and write it back, so that none
// that starts makes all visitors new.
func TestARingThatVanishes(t *testing.T) {
	t.Parallel()
	a, b, storage := twoNodes(t)
	a.start()
	v := newVisitor(t, a.site, desktop, true)
	s := v.visit("/")
	ring := filepath.Join(storage, "session_context", "keys.json")
	for what, spoil := range map[string]func() error{
		"vanished": func() error { return os.Remove(ring) },
		"torn":     func() error { return os.WriteFile(ring, []byte(`{"version":1,"ke`), 0o600) },
	} {
		good, err := os.ReadFile(ring)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := a.knows(v, s); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if what == "torn" {
			eventually(t, 20*time.Second, "operators see it", func() error {
				if out := a.mustKeys("list"); !strings.Contains(out, "trouble: ") {
					return fmt.Errorf("they see\n%s", out)
				}
				return nil
			})
			if err := os.WriteFile(ring, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 20*time.Second, "the ring is in order", func() error {
			back, err := os.ReadFile(ring)
			if err == nil && string(back) != string(good) {
				err = fmt.Errorf("it is another one")
			}
			return err
		})
		if err := a.knows(v, s); err != nil {
			t.Errorf("after it %s: %v", what, err)
		}
	}
	b.start()
	if err := b.knows(v, s); err != nil {
		t.Errorf("a node that starts then: %v", err)
	}
}
