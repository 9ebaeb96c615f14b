package caddymodule

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/filestorage"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// keyNode is a node with a clock of its own on a storage that it shares.
type keyNode struct {
	*keyRing
	clock time.Time
}

// keyNodes are nodes on one directory, through Caddy's own file storage.
func keyNodes(t *testing.T, n int) []*keyNode {
	t.Helper()
	root := t.TempDir()
	nodes := make([]*keyNode, n)
	for i := range nodes {
		s, err := (&filestorage.FileStorage{Root: root}).CertMagicStorage()
		if err != nil {
			t.Fatal(err)
		}
		node := &keyNode{clock: noon}
		node.keyRing = newKeyRing(s, &newKeysInUse().ring, 30*24*time.Hour, defaultReread, zap.NewNop())
		node.now = func() time.Time { return node.clock }
		nodes[i] = node
		node.mustRefresh(t)
	}
	return nodes
}

func (n *keyNode) mustRefresh(t *testing.T) {
	t.Helper()
	if err := n.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (n *keyNode) mustObey(t *testing.T, o keyOrder) {
	t.Helper()
	if err := n.obey(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

var keysCampaign = &sessionctx.Campaign{
	CampaignRef: sessionctx.CampaignRef{ID: "cmp_1", Environment: sessionctx.Production}, WorkspaceID: "ws_1",
	SessionDuration: 30 * time.Minute, AttributionWindow: 30 * 24 * time.Hour, Cookies: true,
	Segments: []sessionctx.Segment{{ID: "everyone"}},
}

// made is what one page of a node gives a browser.
type made struct {
	session sessionctx.Session
	token   string
	cookies []sessionctx.Cookie
	at      time.Time
}

func (n *keyNode) makes(t *testing.T) made {
	t.Helper()
	ring := n.ring.Load()
	v, err := sessionctx.Identify(sessionctx.Input{
		Ring: ring, Campaign: keysCampaign, Facts: &sessionctx.Facts{}, Now: n.clock, Random: rand.Reader,
		Consent: sessionctx.Consent{Purposes: sessionctx.Purposes{Analytics: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	v.Assign("everyone", n.clock)
	m := made{session: v.Session, token: ring.SealToken(&v.Session, n.clock.UnixMilli()), cookies: v.Cookies(ring, true, n.clock), at: n.clock}
	if len(m.cookies) != 3 {
		t.Fatalf("a page sets %d cookies", len(m.cookies))
	}
	return m
}

// refuses names what of a page's gifts the node doesn't take.
func (n *keyNode) refuses(m made) string {
	ring, now := n.ring.Load(), m.at.UnixMilli()
	var out []string
	add := func(ok bool, what string) {
		if !ok {
			out = append(out, what)
		}
	}
	_, ok := ring.VerifySessionID(m.session.ID, keysCampaign.CampaignRef, m.session.UserID, n.clock.UnixMilli())
	add(ok, "session id")
	add(ring.VerifyUserID(m.session.UserID, "ws_1"), "user id")
	s, err := ring.OpenToken(m.token)
	add(err == nil && s.ID == m.session.ID, "token")
	got := ring.OpenCookies(m.cookies, keysCampaign, true, now)
	add(got.User != nil, "user cookie")
	add(got.Session != nil, "session cookie")
	add(got.Attribution != nil, "attribution cookie")
	return strings.Join(out, ", ")
}

// Two nodes that read the ring at different moments never refuse each other's
// ids, tokens and cookies, through several rotations of each kind. Each step
// of the clock is shorter than the time between re-readings; the second node's
// clock is wrong by minutes.
func TestNodesNeverRefuseEachOthersThroughRotations(t *testing.T) {
	for name, skew := range map[string]time.Duration{"equal clocks": 0, "the other is 4 minutes ahead": 4 * time.Minute, "the other is 4 minutes behind": -4 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			nodes := keyNodes(t, 2)
			a, b := nodes[0], nodes[1]
			start := a.ring.Load()
			var before []made // from the first minutes
			step := func(i int) {
				t.Helper()
				a.clock = a.clock.Add(20 * time.Second)
				b.clock = a.clock.Add(skew)
				// a re-reads at the full minute, b 40 s later.
				if i%3 == 0 {
					a.mustRefresh(t)
				}
				if i%3 == 2 {
					b.mustRefresh(t)
				}
				for _, pair := range [][2]*keyNode{{a, b}, {b, a}} {
					m := pair[0].makes(t)
					if why := pair[1].refuses(m); why != "" {
						t.Fatalf("step %d, %v after the start: refused: %s", i, a.clock.Sub(noon), why)
					}
					if len(before) < 4 {
						before = append(before, m)
					}
				}
			}
			orders := []func(){
				func() { a.mustObey(t, keyOrder{}) },
				func() { b.mustObey(t, keyOrder{User: true}) },
				func() { a.clock = a.clock.Add(31 * 24 * time.Hour) }, // the schedule's turn
			}
			i := 0
			for _, order := range orders {
				for range 10 {
					step(i)
					i++
				}
				order()
				for range 60 { // 20 minutes: published, then in force
					step(i)
					i++
				}
			}
			if a.ring.Load().Equal(start) || len(a.ring.Load().List(sessionctx.SessionKeys, 0)) != 3 || len(a.ring.Load().List(sessionctx.UserKeys, 0)) != 2 {
				t.Error("the keys did not change as this test means them to")
			}
			// What was made before all that is taken still.
			for _, m := range before {
				for _, n := range nodes {
					if why := n.refuses(m); why != "" {
						t.Errorf("of the first minutes: refused: %s", why)
					}
				}
			}
		})
	}
}

func TestACommandIsInForceAtOnceOnItsNodeAndElsewhereAfterReReading(t *testing.T) {
	nodes := keyNodes(t, 2)
	a, b := nodes[0], nodes[1]
	old := a.makes(t)
	a.mustObey(t, keyOrder{Revoke: true})
	if why := a.refuses(old); why != "session id, token, user cookie, session cookie, attribution cookie" {
		t.Errorf("the node of the command refuses: %s", why)
	}
	fresh := a.makes(t)
	if why := a.refuses(fresh); why != "" {
		t.Errorf("it refuses its own: %s", why)
	}
	// Until it re-reads, the other node lives in the old ring. That is what
	// the README says.
	if why := b.refuses(old); why != "" {
		t.Errorf("the other node refused %s before it re-read", why)
	}
	b.mustRefresh(t)
	if b.refuses(old) == "" || b.refuses(fresh) != "" {
		t.Errorf("after re-reading the other node refuses %q of the old and %q of the new", b.refuses(old), b.refuses(fresh))
	}
}

func TestARevokedUserKey(t *testing.T) {
	nodes := keyNodes(t, 2)
	a, b := nodes[0], nodes[1]
	old := a.makes(t)
	b.mustObey(t, keyOrder{User: true, Revoke: true})
	a.mustRefresh(t)
	for _, n := range nodes {
		// The token opens, but whoever takes it looks at the user id too.
		if why := n.refuses(old); why != "user id, user cookie, session cookie" {
			t.Errorf("refused: %s", why)
		}
	}
	fresh := a.makes(t)
	if why := b.refuses(fresh); why != "" {
		t.Errorf("of the new key: refused: %s", why)
	}
}

func TestRetiredKeysGoWithoutAnyRotationThatIsDue(t *testing.T) {
	n := keyNodes(t, 1)[0]
	n.rotate = 1000 * 24 * time.Hour
	old := n.makes(t)
	n.mustObey(t, keyOrder{})
	n.mustObey(t, keyOrder{User: true})
	last := noon.Add(time.Duration(sessionctx.PublishAhead+sessionctx.KeepRetired) * time.Millisecond)
	n.clock = last
	n.mustRefresh(t)
	if why := n.refuses(old); why != "" {
		t.Errorf("too soon: %s", why)
	}
	n.clock = last.Add(time.Millisecond)
	n.mustRefresh(t)
	l, _ := n.list()
	if len(l.Keys) != 1 || len(l.UserKeys) != 1 {
		t.Errorf("keys %v, of user ids %v", l.Keys, l.UserKeys)
	}
}

// Many commands and re-readings at once leave one ring, which all nodes have.
func TestCommandsOnAllNodesAtOnceLeaveOneRing(t *testing.T) {
	nodes := keyNodes(t, 3)
	errs := make(chan error)
	for _, n := range nodes {
		go func() { errs <- n.obey(t.Context(), keyOrder{}) }()
		go func() { errs <- n.refresh(t.Context()) }()
		go func() { errs <- n.obey(t.Context(), keyOrder{User: true, Revoke: true}) }()
	}
	refused := 0
	for range 3 * len(nodes) {
		if err := <-errs; err != nil {
			if !strings.Contains(err.Error(), "published already") {
				t.Error(err)
			}
			refused++
		}
	}
	if refused != len(nodes)-1 {
		t.Errorf("%d of 3 rotations were refused: one makes a key, two find it", refused)
	}
	for _, n := range nodes {
		n.mustRefresh(t)
		if !n.ring.Load().Equal(nodes[0].ring.Load()) {
			t.Error("nodes have different rings")
		}
	}
	if l, _ := nodes[0].list(); len(l.Keys) != 2 || len(l.UserKeys) != 1 {
		t.Errorf("%+v", l)
	}
}
