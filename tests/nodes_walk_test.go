package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNodesWalk sends each request of many visitors to any of three nodes, while
// these are killed, stopped, started and reloaded, and keys rotate and are
// revoked. Whatever happens, a session is renewed to one, numbers of events
// don't come twice, first touches stay, nobody gets another's session, and what
// was acknowledged is delivered, once.
//
// `make chaos-nodes` does so for longer. CHAOS_ROUNDS says how many disturbances
// there are, CHAOS_SEED repeats a run's decisions (not its timing).
func TestNodesWalk(t *testing.T) {
	t.Parallel()
	rounds, seed := uint64(5), uint64(time.Now().UnixNano())
	for name, set := range map[string]*uint64{"CHAOS_ROUNDS": &rounds, "CHAOS_SEED": &seed} {
		if v := os.Getenv(name); v != "" {
			n, err := strconv.ParseUint(v, 10, 63)
			if err != nil {
				t.Fatalf("%s=%q: want a number", name, v)
			}
			*set = n
		}
	}
	t.Logf("CHAOS_SEED=%d, %d rounds", seed, rounds)
	r := startRedis(t)
	url := "redis redis://127.0.0.1:" + r.port + "/0"
	w := &nodesWalk{
		fleet: newFleet(t, walkDuration, url, url, url), store: url,
		rng:   rand.New(rand.NewPCG(seed, 0)),
		users: map[string]*walkUser{}, sessions: map[string]string{}, counts: map[string]int{},
	}
	quit := make(chan struct{})
	var all sync.WaitGroup
	for n := range 16 {
		k := w.newWalker(n, w.rng.Uint64())
		all.Go(func() { k.walk(quit) })
	}
	for i := range int(rounds) {
		w.pause(1500)
		w.disturb(i == int(rounds)/2)
	}
	w.pause(1500)
	// A busy machine takes longer for as much to happen.
	for began := time.Now(); w.renewed() < minRenewals && time.Since(began) < time.Minute; {
		time.Sleep(500 * time.Millisecond)
	}
	close(quit)
	all.Wait()
	w.law()
}

// walkDuration is a session's: short, so that visitors live through many.
const walkDuration = "3s"

// nodesWalk is what visitors of several nodes have seen.
type nodesWalk struct {
	*fleet
	store string
	rng   *rand.Rand

	mu       sync.Mutex
	users    map[string]*walkUser
	sessions map[string]string // who was given a session
	counts   map[string]int
	kills    []time.Time
	revoked  []time.Time
}

// walkUser is a user as its first page showed it.
type walkUser struct {
	walker, source string
}

func (w *nodesWalk) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// saw notes what a visitor was given; source is the first touch that a page
// told, "" where an answer tells none.
func (w *nodesWalk) saw(k *walker, t *walkerTab, source string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if who, ok := w.sessions[t.session]; !ok {
		w.sessions[t.session] = k.name
	} else if who != k.name {
		w.t.Errorf("session %s is %s's and was given to %s", t.session, who, k.name)
	}
	u := w.users[t.user]
	switch {
	case u == nil:
		w.users[t.user] = &walkUser{k.name, source}
	case u.walker != k.name:
		w.t.Errorf("user %s is %s and %s", t.user, u.walker, k.name)
	case source != "" && source != u.source:
		w.t.Errorf("the first touch of user %s was %s and is %s", t.user, u.source, source)
	}
}

// reread is how long after a revocation nodes may still have the old keys.
const reread = 20 * time.Second

// revokedSince: keys that what was made then was made with may be gone.
func (w *nodesWalk) revokedSince(then time.Time) bool { return w.since(&w.revoked, then, reread) }

// killedSince: what a node was about to write then may never have been.
func (w *nodesWalk) killedSince(then time.Time) bool { return w.since(&w.kills, then, 0) }

func (w *nodesWalk) since(moments *[]time.Time, then time.Time, after time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range *moments {
		if then.Before(m.Add(after)) {
			return true
		}
	}
	return false
}

func (w *nodesWalk) note(moments *[]time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*moments = append(*moments, time.Now())
}

func (w *nodesWalk) pause(ms int) { time.Sleep(time.Duration(w.rng.IntN(ms)) * time.Millisecond) }

// disturb is one thing that happens to a node.
func (w *nodesWalk) disturb(revoke bool) {
	c := w.nodes[w.rng.IntN(len(w.nodes))]
	n := w.rng.IntN(10)
	switch {
	case revoke:
		args := [][]string{{"rotate", "--revoke"}, {"rotate", "--revoke", "--user"}}[w.rng.IntN(2)]
		w.note(&w.revoked)
		c.mustKeys(args...)
		w.note(&w.revoked)
	case n < 5:
		c.kill()
		w.note(&w.kills)
		w.pause(1000)
		c.start()
	case n < 7:
		c.stop()
		w.pause(500)
		c.start()
	case n < 9:
		// Nodes differ in their settings while a change is rolled out.
		c.reload(nodeFile(c, w.app(w.store), fleetLanding(walkDuration, fmt.Sprint(10+w.rng.IntN(80)))))
	default:
		if out, err := c.keys("rotate", "--address", c.admin); err != nil && !strings.Contains(out, "published") {
			w.t.Errorf("rotating keys: %v\n%s", err, out)
		}
	}
}

// minRenewals is how many renewals a run has to have seen.
const minRenewals = 20

// renewed is how many renewals have been delivered.
func (w *nodesWalk) renewed() int {
	seen := map[string]bool{}
	for _, text := range w.tb.RawRows("session_v1") {
		var row walkRow
		if json.Unmarshal(text, &row) == nil && row.Renewals > 0 {
			seen[row.renewal()] = true
		}
	}
	return len(seen)
}

// walkRow is what the law looks at in a row of a session.
type walkRow struct {
	Session  string  `json:"session_id"`
	User     string  `json:"user_id"`
	Original string  `json:"original_session_id"`
	Renewals int     `json:"renewal_count"`
	Source   string  `json:"attribution_source"`
	First    *string `json:"original_utm_source"`
}

// renewal names which renewal of which line a session is.
func (r *walkRow) renewal() string { return fmt.Sprint(r.Original, " ", r.Renewals) }

func (w *nodesWalk) law() {
	t := w.t
	for _, c := range w.nodes {
		c.stop() // what is acknowledged is delivered then, or at the next start
		c.start()
	}
	got := w.delivered()
	derived := 0
	for _, c := range w.nodes {
		derived += c.log.count("renewals fall back to derived sessions")
	}
	numbers := map[string]map[int64]eventRow{}
	twice := 0
	for uuid, rows := range got.events {
		for _, row := range rows {
			if row.RowID != rows[0].RowID {
				twice++ // in two sessions: delivered holds the others
			}
			if row.Sequence == 0 {
				continue
			}
			if numbers[row.Session] == nil {
				numbers[row.Session] = map[int64]eventRow{}
			}
			if other, ok := numbers[row.Session][row.Sequence]; ok && other.RowID != row.RowID {
				t.Errorf("two events of session %s have the number %d: %+v and %+v (%s)", row.Session, row.Sequence, other, row, uuid)
			}
			numbers[row.Session][row.Sequence] = row
		}
	}
	renewals := map[string]string{} // of a line, by their count
	rows, firsts, lost := 0, 0, 0
	for _, text := range w.tb.RawRows("session_v1") {
		var row walkRow
		if err := json.Unmarshal(text, &row); err != nil {
			t.Fatal(err)
		}
		rows++
		if row.Renewals > 0 {
			name := row.renewal()
			if other, ok := renewals[name]; ok && other != row.Session && derived == 0 {
				t.Errorf("renewal %s is %s and %s", name, other, row.Session)
			}
			renewals[name] = row.Session
		}
		if row.Source != "server" {
			lost++
			continue
		}
		u := w.users[row.User]
		if u == nil || row.First == nil {
			continue // a page that was given while its node died
		}
		firsts++
		if *row.First != u.source {
			t.Errorf("user %s of %s came by %s, and a row says %s", row.User, u.walker, u.source, *row.First)
		}
	}
	t.Logf("%v; %d users, %d sessions, %d events taken, %d rows of sessions, %d renewals, %d first touches held, %d lost, %d events in two sessions, %d nodes derived; the last revocation was %v ago",
		w.counts, len(w.users), len(w.sessions), len(w.taken.of), rows, len(renewals), firsts, lost, twice, derived, time.Since(w.revoked[len(w.revoked)-1]).Round(time.Second))
	if len(w.taken.of) < 100 || len(renewals) < minRenewals || firsts < 20 {
		t.Error("too little happened: the run shows nothing")
	}
}
