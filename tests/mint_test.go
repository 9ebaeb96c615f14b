package tests

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"net"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// ring is the key ring that the process works with: sessions of any age can be
// made with it, so that no test waits for one to end.
func (c *caddy) ring() *sessionctx.Ring {
	c.t.Helper()
	var ring *sessionctx.Ring
	eventually(c.t, 20*time.Second, "the key ring is there", func() error {
		b, err := os.ReadFile(filepath.Join(c.storage, "session_context", "keys.json"))
		if err == nil {
			ring, err = sessionctx.ParseRing(b)
		}
		return err
	})
	return ring
}

// minted is a session that a server made, as far as anyone can tell.
type minted struct {
	sessionctx.Session
	ring     *sessionctx.Ring
	campaign *sessionctx.Campaign
}

// mint makes a session of the campaign that began so long ago and lasts for
// duration.
func mint(t testing.TB, ring *sessionctx.Ring, campaign string, ago, duration time.Duration) *minted {
	t.Helper()
	c := &sessionctx.Campaign{
		CampaignRef: sessionctx.CampaignRef{ID: campaign, Environment: sessionctx.Production},
		WorkspaceID: "ws_1", ProjectID: "pr_1", SessionDuration: duration, AttributionWindow: 30 * 24 * time.Hour, Cookies: true,
	}
	created := time.Now().Add(-ago).UnixMilli()
	user, err := ring.NewUserID(rand.Reader, created, c.WorkspaceID)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ring.NewSessionID(rand.Reader, created, c.CampaignRef, user)
	if err != nil {
		t.Fatal(err)
	}
	touch := sessionctx.Touch{Time: created, UTM: sessionctx.UTM{Source: "google"}}
	return &minted{sessionctx.Session{
		ID: id, UserID: user, Campaign: c.CampaignRef, CreatedAt: created, ExpiresAt: created + duration.Milliseconds(),
		OriginalID: id, OriginalAt: created, SegmentID: "mobile",
		Assignments: []sessionctx.Assignment{{TestID: "hero", VariantID: "bold"}},
		Attribution: sessionctx.Attribution{Original: touch, Current: touch},
	}, ring, c}
}

func (m *minted) token() string { return m.ring.SealToken(&m.Session, m.CreatedAt) }

// cookies is the header that a browser sends while it has the session's
// cookies, those of plain HTTP.
func (m *minted) cookies() string {
	consent := sessionctx.Consent{Purposes: sessionctx.Purposes{Analytics: true}}
	visit := sessionctx.Resume(m.campaign, m.Session, consent, sessionctx.Carried{})
	var pairs []string
	for _, c := range visit.Cookies(m.ring, false, time.UnixMilli(m.CreatedAt)) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// expire waits until the API takes the token's session for ended.
func expire(t testing.TB, v *visitor, token string) {
	t.Helper()
	eventually(t, 30*time.Second, "the session ends", func() error {
		if a := v.post("events/session/track", map[string]any{"token": token}); a.Code != "session_expired" {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
}

// redis is a redis-server on a loopback port of its own, whose data outlives
// it.
type redis struct {
	t         testing.TB
	dir, port string
	args      []string // further ones
	sentinel  string   // a sentinel's configuration: it watches servers, and keeps nothing
	cmd       *exec.Cmd
}

func startRedis(t testing.TB, args ...string) *redis {
	t.Helper()
	return startRedisAs(t, &redis{args: args})
}

func startRedisAs(t testing.TB, r *redis) *redis {
	t.Helper()
	_, r.port, _ = net.SplitHostPort(freeAddr(t))
	r.t, r.dir = t, t.TempDir()
	r.start()
	t.Cleanup(r.kill)
	if r.sentinel == "" {
		// Nodes can't know that it is new and was not emptied: by themselves
		// they would continue nobody's session before all that may have been
		// lost had ended. (A replica refuses; it is told by its primary.)
		r.do("HSET session_context:nodes unsure 0")
	}
	return r
}

// has waits until the server has what the session's page wrote behind itself.
func (r *redis) has(s *sessionContext) {
	r.t.Helper()
	eventually(r.t, 20*time.Second, "what a page wrote is in Redis", func() error {
		if n := r.do("EXISTS session_context:v:session/" + s.Session.SessionID); n != ":1" {
			return fmt.Errorf("it isn't: %s", n)
		}
		return nil
	})
}

func (r *redis) start() {
	r.t.Helper()
	args := []string{"--port", r.port, "--bind", "127.0.0.1", "--dir", r.dir}
	if r.sentinel != "" {
		args = append([]string{r.sentinel, "--sentinel"}, args...)
	} else {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	}
	r.cmd = exec.Command("redis-server", append(args, r.args...)...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatalf("redis-server: %v; run make setup", err)
	}
	eventually(r.t, 20*time.Second, "redis-server answers", func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "PING\r\n")
		b := make([]byte, 5)
		if n, err := c.Read(b); string(b[:n]) != "+PONG" {
			return fmt.Errorf("answer %q: %v", b[:n], err)
		}
		return nil
	})
}

func (r *redis) kill() {
	if r.cmd != nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.cmd = nil
	}
}
