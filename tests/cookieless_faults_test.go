package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// askingEachSite is a site that asks for consent; OPTIONS stands for more.
const askingEachSite = "SITE {\n\tsession_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign cmp_1\n\t\tconsent {\n\t\t\trequire always\n\t\t}\n\t\tOPTIONS\n\t}\n\troot DIR/www\n\tfile_server\n}\n"

// startAskingEach starts one with pages /, /a.html and /b.html, and waits until
// it has its keys.
func startAskingEach(t testing.TB, app, options string) *caddy {
	t.Helper()
	c := newCaddy(t)
	for _, name := range []string{"index.html", "a.html", "b.html"} {
		writePage(t, c, name, plainPage)
	}
	c.write(globals(app) + strings.Replace(askingEachSite, "OPTIONS", options, 1))
	c.start()
	waitContext(t, c)
	return c
}

func waitContext(t testing.TB, c *caddy) {
	t.Helper()
	eventually(t, 30*time.Second, "a page has its context", func() error {
		if _, body := newVisitor(t, c.site, iPhone, false).page("/"); !contextPattern.MatchString(body) {
			return fmt.Errorf("it has none")
		}
		return nil
	})
}

// TestARenewedSessionIsFoundByTheNextPage: what took the place of an ended
// session counts for its visitor from then on, whatever the renewal proved.
func TestARenewedSessionIsFoundByTheNextPage(t *testing.T) {
	t.Parallel()
	c := startAskingEach(t, "", "session_duration 8s\n\t\trate_limit 100000 100000")
	for name, proof := range map[string]func(s *sessionContext) map[string]any{
		"token": func(s *sessionContext) map[string]any { return map[string]any{"token": s.Session.Token} },
		"ids":   func(s *sessionContext) map[string]any { return s.ids() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVisitor(t, c.site, desktop+name, false)
			s := v.visit("/")
			renewed := ""
			eventually(t, 30*time.Second, "the session ends and is renewed", func() error {
				renewed = v.post("events/session/renew", proof(s)).ok(t).Data["session_id"].(string)
				if renewed == s.Session.SessionID {
					return fmt.Errorf("it lives")
				}
				return nil
			})
			next := v.visit("/a.html", v.from("/")...)
			if next.Session.SessionID != renewed || next.UserID != s.UserID || next.Session.RenewalCount != 1 {
				t.Errorf("the next page has session %s after %d renewals, want %s", next.Session.SessionID, next.Session.RenewalCount, renewed)
			}
		})
	}
}

// holder passes bytes on to a server, unless it holds them back.
type holder struct {
	addr  string
	mu    sync.Mutex
	cond  *sync.Cond
	held  bool
	delay time.Duration // of whatever passes, either way
	asked logBuffer     // what clients sent
}

func holdBack(t testing.TB, server string) *holder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := &holder{addr: l.Addr().String()}
	h.cond = sync.NewCond(&h.mu)
	t.Cleanup(func() { h.hold(false) })
	pass := func(to io.WriteCloser, from io.Reader) {
		defer to.Close()
		b := make([]byte, 4096)
		for {
			n, err := from.Read(b)
			h.mu.Lock()
			for h.held {
				h.cond.Wait()
			}
			delay := h.delay
			h.mu.Unlock()
			time.Sleep(delay)
			if _, werr := to.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go pass(conn, io.TeeReader(client, &h.asked))
			go pass(client, conn)
		}
	}()
	return h
}

func (h *holder) hold(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held
	h.cond.Broadcast()
}

func (h *holder) slow(delay time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delay = delay
}

// continuations are those of that outcome.
func (c *caddy) continuations(outcome string) float64 {
	return c.metric(`caddy_session_context_continuations_total{outcome="` + outcome + `"}`)
}

// TestPagesDoNotWaitForASlowStore: a store that gives no answer costs a visitor
// the session, never the page; when it answers again sessions are found again.
func TestPagesDoNotWaitForASlowStore(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	h := holdBack(t, "127.0.0.1:"+server.port)
	c := startAskingEach(t, "\t\tstore redis redis://"+h.addr, "session_duration 24h")
	goesOn := func(v *visitor) error {
		before := v.visit("/")
		if after := v.visit("/a.html", v.from("/")...); after.Session.SessionID != before.Session.SessionID {
			return fmt.Errorf("the second page has another session")
		}
		return nil
	}
	tries := 0
	found := func() error {
		tries++
		return goesOn(newVisitor(t, c.site, fmt.Sprint(desktop, " try ", tries), false))
	}
	eventually(t, 30*time.Second, "a session is found", found)

	h.hold(true)
	v := newVisitor(t, c.site, desktop+" held", false)
	if goesOn(v) == nil {
		t.Error("a session was found in a store that doesn't answer")
	}
	if c.continuations("timeout") == 0 { // else the store's own limit ended it, which is longer
		t.Error("no page gave up waiting")
	}
	h.hold(false)
	eventually(t, 30*time.Second, "a session is found again", found)
}

// TestNobodyIsAloneAfterTheStoreWasDown: the session of a page that was made
// while the store was down may not be in it, so the next one that is looks as
// if it were the only one. It is nobody's but its own visitor's.
func TestNobodyIsAloneAfterTheStoreWasDown(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	server.kill()
	c := startAskingEach(t, "\t\tstore redis redis://127.0.0.1:"+server.port, "session_duration 24h")
	one, two := newVisitor(t, c.site, desktop, false), newVisitor(t, c.site, desktop, false)
	first := one.visit("/")
	server.start()
	other := two.visit("/")
	eventually(t, 30*time.Second, "the store answers again", func() error {
		// Renewals say so: they read and write it.
		fresh := newVisitor(t, c.site, iPhone, false)
		s := fresh.visit("/")
		if a := fresh.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}).ok(t); a.Data["event_sequence"].(float64) == 0 {
			return fmt.Errorf("there are no sequence numbers")
		}
		return nil
	})
	for range 3 {
		s := one.visit("/a.html", one.from("/")...)
		if s.Session.SessionID == other.Session.SessionID || s.UserID == other.UserID {
			t.Fatal("a visitor is given another's session")
		}
		s = two.visit("/b.html", two.from("/")...)
		if s.Session.SessionID == first.Session.SessionID || s.UserID == first.UserID {
			t.Fatal("a visitor is given another's session")
		}
		other = two.visit("/")
	}
}

// TestNobodyIsAloneWhileANodeIsSilent: two visitors share address and agent, one
// comes to a node that can't tell the others of it. When he moves on to another
// node he is not given the only session that is known there; not while his node
// is cut off, and not after it was killed.
func TestNobodyIsAloneWhileANodeIsSilent(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	way := holdBack(t, "127.0.0.1:"+server.port)
	w := &storeWalk{t: t}
	w.fleet = newFleet(t, "10m", "redis redis://127.0.0.1:"+server.port+"/0", "redis redis://"+way.addr+"/0")
	here, silent := w.nodes[0], w.nodes[1]
	known := func() error {
		if v, s := w.someone(silent); !w.goesOn(v, s, here) {
			return fmt.Errorf("they aren't")
		}
		return nil
	}
	// unsure waits until the node knows of the other's silence. One that never
	// does is not waited for: what it does then is what is tested.
	unsure := func() {
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if st, _ := here.status(); strings.Contains(st.Store.Unsure, "did not say goodbye") {
				return
			}
		}
		t.Error("status doesn't tell of the other's silence")
	}
	for _, c := range []struct {
		name   string
		befall func()
	}{
		{"cut off", func() {}},
		{"killed with what it was about to write", silent.kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			eventually(t, 60*time.Second, "visitors without cookies are known at the other node", known)
			one, first := w.someone(here)
			server.has(first)
			way.hold(true)
			two := newVisitor(t, silent.site, one.agent, false)
			two.host = fleetHost
			second := two.visit("/?utm_source=before")
			c.befall()
			unsure()
			two.site = here.site
			next := two.visit("/a.html", two.from("/?utm_source=before")...)
			if next.Session.SessionID == first.Session.SessionID || next.UserID == first.UserID {
				t.Errorf("a visitor with session %s is given another's, %s", second.Session.SessionID, first.Session.SessionID)
			}
			if next.Session.SessionID == second.Session.SessionID {
				t.Error("the node knew what the other could not tell: nothing is tested")
			}
			if silent.cmd != nil {
				way.hold(false)
			}
		})
	}
}

// TestPagesGoOutWithoutDayKeys: whatever became of the day keys in storage,
// each page has its context, and the keys are made anew.
func TestPagesGoOutWithoutDayKeys(t *testing.T) {
	t.Parallel()
	c := startAskingEach(t, "", "")
	path := c.path(filepath.Join("data", "caddy", "session_context", "visitor_keys.json"))
	readable := func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var keys struct{ Keys []any }
		if err := json.Unmarshal(b, &keys); err != nil || len(keys.Keys) < 2 {
			return fmt.Errorf("%d keys: %v", len(keys.Keys), err)
		}
		return nil
	}
	eventually(t, 30*time.Second, "day keys are in the storage", readable)
	for name, damage := range map[string]func() error{
		"half-written": func() error { return os.Truncate(path, 40) },
		"empty":        func() error { return os.Truncate(path, 0) },
		"vanished":     func() error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			c.stop()
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			c.start()
			waitContext(t, c)
			eventually(t, 30*time.Second, "day keys are in the storage again", readable)
			n := 0
			eventually(t, 30*time.Second, "a session goes on", func() error {
				n++
				v := newVisitor(t, c.site, fmt.Sprint(desktop, name, n), false)
				before := v.visit("/")
				if after := v.visit("/a.html", v.from("/")...); after.Session.SessionID != before.Session.SessionID {
					return fmt.Errorf("it doesn't")
				}
				return nil
			})
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		c.stop()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "a directory"), 0o700); err != nil {
			t.Fatal(err)
		}
		c.start()
		waitContext(t, c)
		v := newVisitor(t, c.site, desktop, false)
		if before := v.visit("/"); before.UserID == v.visit("/a.html", v.from("/")...).UserID {
			t.Error("a session is found without a key")
		}
		eventually(t, 30*time.Second, "the log says so", func() error {
			if !strings.Contains(c.log.String(), "day keys of visitors can't be read or made") {
				return io.EOF
			}
			return nil
		})
	})
}
