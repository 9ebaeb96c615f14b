package tests

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// startNode starts a Caddy that shares the first one's storage, with a store
// and an outbox of its own choice.
func startNode(t testing.TB, first *caddy, tb *standin.Server, store string) *caddy {
	t.Helper()
	c := newNode(t, first)
	c.write(nodeFile(c, "\t\tstore "+store+"\n"+tinybirdSink(tb), landing("10m", roomy)))
	c.start()
	return c
}

// newNode makes one that is not started yet.
func newNode(t testing.TB, first *caddy, env ...string) *caddy {
	t.Helper()
	c := newCaddy(t, env...)
	for _, name := range []string{"index.html", "a.html"} {
		writePage(t, c, name, plainPage)
	}
	if first != nil {
		c.storage = first.storage
	}
	return c
}

// nodeFile is a node's Caddyfile.
func nodeFile(c *caddy, app, sites string) string {
	return strings.Replace(globals(app), "auto_https off", "auto_https off\n\tstorage file_system "+c.storage, 1) + sites
}

func renewedBy(t testing.TB, c *caddy, body any) string {
	t.Helper()
	a := newVisitor(t, c.site, desktop, false).post("events/session/renew", body).ok(t)
	return fmt.Sprint(a.Data["session_id"], " ", a.Data["created_at"], " ", a.Data["expires_at"], " ", a.Data["renewal_count"])
}

// TestNodesRenewOnce: two nodes on one storage and one Redis renew a session to
// one, also while Redis is down, and when it is back the line goes on as one.
func TestNodesRenewOnce(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	r := startRedis(t)
	url := "redis redis://127.0.0.1:" + r.port + "/0"
	a := startNode(t, nil, tb, url)
	ring := a.ring()
	b := startNode(t, a, tb, url)
	nodes := []*caddy{a, b}

	expired := func() *minted { return mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute) }
	together := func(body any) string {
		t.Helper()
		got := make([]string, 20)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = renewedBy(t, nodes[i%2], body) })
		}
		wg.Wait()
		for _, g := range got {
			if g != got[0] {
				t.Errorf("one got %s, another %s", got[0], g)
			}
		}
		return got[0]
	}
	for range 5 {
		together(map[string]any{"token": expired().token()})
	}

	// Settled before the outage, derived during it, and both named again after.
	settled, derived := expired(), expired()
	first := together(map[string]any{"token": settled.token()})
	r.kill()
	during := together(map[string]any{"token": derived.token()})
	next, err := derived.RenewDerived(ring, derived.campaign, time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(during, next.ID+" ") {
		t.Errorf("with Redis down the nodes made %s, want %s", during, next.ID)
	}
	page := newVisitor(t, a.site, desktop, false).visit("/", "Cookie", derived.cookies())
	if page.Session.SessionID != next.ID || page.Session.ExpiresAt != next.ExpiresAt {
		t.Errorf("a page made %+v, want %+v", page.Session, next)
	}
	for _, n := range nodes {
		if n.metric(`caddy_session_context_renewals_total{outcome="derived"}`) == 0 {
			t.Error("a node derived nothing: the test shows nothing")
		}
	}
	r.start()
	for _, n := range nodes {
		eventually(t, 20*time.Second, "the node has its store again", func() error {
			before := n.metric(`caddy_session_context_renewals_total{outcome="renewed"}`)
			newVisitor(t, n.site, desktop, false).post("events/session/renew", map[string]any{"token": expired().token()}).ok(t)
			if n.metric(`caddy_session_context_renewals_total{outcome="renewed"}`) == before {
				return fmt.Errorf("renewals are still derived")
			}
			return nil
		})
	}
	if again := together(map[string]any{"token": settled.token()}); again != first {
		t.Errorf("before the outage %s, after it %s", first, again)
	}
	after := together(map[string]any{"token": derived.token()})
	if !strings.HasPrefix(after, next.ID+" ") {
		t.Errorf("during the outage %s, after it %s", during, after)
	}
	// Page, a call with what the page got, and the other node: one session.
	for _, n := range nodes {
		if got := renewedBy(t, n, map[string]any{"token": page.Session.Token}); got != after {
			t.Errorf("the page's token leads to %s, others to %s", got, after)
		}
	}
	waitRows(t, tb, "session_v1", 8)
	ids := map[any]bool{}
	rows, _ := tb.Distinct("session_v1")
	for _, row := range rows {
		if o := row["original_session_id"]; o == derived.ID || o == settled.ID {
			ids[row["session_id"]] = true
		}
	}
	if len(ids) != 2 {
		t.Errorf("two lines have %d sessions: %v", len(ids), ids)
	}
}

// TestKilledBetweenClaimAndAnswer: Redis has taken the claim, the node dies
// before it knows. Another node, and the same one later, find that claim.
func TestKilledBetweenClaimAndAnswer(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	r := startRedis(t)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close() })
	var armed atomic.Bool
	claimed := make(chan struct{})
	var once sync.Once
	go func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", "127.0.0.1:"+r.port)
			if err != nil {
				conn.Close()
				continue
			}
			var asked atomic.Bool // for the claim, on this connection
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := conn.Read(buf)
					if armed.Load() && bytes.Contains(buf[:n], []byte("\r\nNX\r\n")) {
						asked.Store(true)
					}
					if _, werr := back.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
			go func() {
				defer conn.Close()
				defer back.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := back.Read(buf)
					if err != nil {
						return
					}
					if armed.Load() && asked.Load() {
						// What Redis did is done; its answer goes nowhere.
						once.Do(func() { close(claimed) })
						return
					}
					if _, err := conn.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	a := startNode(t, nil, tb, "redis redis://"+front.Addr().String()+"/0")
	ring := a.ring()
	// The connection stands.
	renewedBy(t, a, map[string]any{"token": mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute).token()})
	s := mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute)
	body := map[string]any{"token": s.token()}
	armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { newVisitor(t, a.site, desktop, false).tryCall("POST", "events/session/renew", body) })
	select {
	case <-claimed:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was claimed")
	}
	a.kill()
	killed := time.Now().UnixMilli()
	wg.Wait()
	armed.Store(false)
	b := startNode(t, a, tb, "redis redis://127.0.0.1:"+r.port+"/0")
	there := renewedBy(t, b, body)
	var id string
	var created float64
	if _, err := fmt.Sscan(there, &id, &created); err != nil {
		t.Fatal(err, there)
	}
	if int64(created) > killed {
		t.Errorf("the renewal %s was made after the kill at %d: the claim before it is lost", there, killed)
	}
	a.start()
	if here := renewedBy(t, a, body); here != there {
		t.Errorf("the node itself found %s, the other %s", here, there)
	}
}

// TestEmbeddedStoreOfAnother: a node whose embedded store another process holds
// derives, and goes on with the very same sessions once it has the store.
func TestEmbeddedStoreOfAnother(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	holder := startNode(t, nil, tb, "embedded")
	ring := holder.ring()
	path := holder.path("data/caddy/session_context/store.db")
	expired := func() map[string]any {
		return map[string]any{"token": mint(t, ring, "cmp_1", 12*time.Minute, 10*time.Minute).token()}
	}
	renewedBy(t, holder, expired()) // its store is open
	node := startNode(t, holder, tb, "embedded "+path)
	body := expired()
	derived := renewedBy(t, node, body)
	if node.metric(`caddy_session_context_renewals_total{outcome="derived"}`) != 1 {
		t.Fatal("nothing was derived: the test shows nothing")
	}
	there := renewedBy(t, holder, body)
	if strings.Fields(derived)[0] != strings.Fields(there)[0] {
		t.Errorf("the node derived %s, the holder of the store made %s", derived, there)
	}
	holder.stop()
	eventually(t, 30*time.Second, "the node has the store", func() error {
		if got := renewedBy(t, node, body); got != there {
			return fmt.Errorf("it finds %s, the holder had made %s", got, there)
		}
		return nil
	})
}
