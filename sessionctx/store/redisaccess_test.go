package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// The rules of an access list that suffice, as docs/store.md has them: for a
// server, and what a cluster's nodes and those behind sentinels need beside it;
// and for the sentinels themselves.
const (
	leastRights     = "resetkeys resetchannels -@all ~session_context:* +ping +info +set +get +del +incrby +pexpire +pttl +hset +hgetall +hlen +hdel +time +eval +evalsha"
	clusterRights   = "+cluster|slots +cluster|shards"
	behindSentinels = "+role"
	sentinelRights  = "-@all +ping +subscribe +sentinel|sentinels +sentinel|get-master-addr-by-name allchannels"
)

func TestDocumentedAccessRules(t *testing.T) {
	doc, err := os.ReadFile("../../docs/store.md")
	must(t, err)
	for _, rule := range []string{leastRights, clusterRights, behindSentinels, sentinelRights} {
		if !strings.Contains(string(doc), rule) {
			t.Errorf("docs/store.md lacks %s", rule)
		}
	}
}

func TestRedisWithLeastRights(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	does(t, c, "ACL SETUSER app on >secret "+leastRights)
	testRedis(t, place{RedisOptions{URL: "redis://app:secret@" + s.addr()}, c})
	if denied := deniedCommands(t, c); len(denied) > 0 {
		t.Errorf("rights are missing: %s", denied)
	}
}

// deniedCommands are those that the access list refused, but for what rueidis
// asks for beside: what it is called, and whether this is a cluster.
func deniedCommands(t *testing.T, c rueidis.Client) (out []string) {
	t.Helper()
	entries, err := c.Do(ctx, c.B().Arbitrary("ACL", "LOG").Build()).ToArray()
	must(t, err)
	for _, e := range entries {
		m, err := e.AsMap()
		must(t, err)
		command := m["object"]
		if text, _ := command.ToString(); text != "client|setinfo" && text != "cluster|slots" && text != "cluster|shards" {
			out = append(out, text)
		}
	}
	return out
}

// tour uses every command that the store has.
func tour(t *testing.T, s *Redis, raw rueidis.Client) {
	t.Helper()
	s.Claim(ctx, "k", []byte("v"), long)
	does(t, raw, "SET session_context:v:bad junk")
	s.Claim(ctx, "bad", []byte("v"), long)
	does(t, raw, "SET session_context:n:bad junk")
	s.Next(ctx, "bad", 1, long)
	s.Get(ctx, "k")
	s.Put("p", []byte("v"), long)
	for i := range 3 {
		s.Join("g", fmt.Sprint(i), []byte("v"), long)
		eventually(t, "it was tried", func() bool { st := s.Stats(); return st.Pending == 0 || st.Failures > 0 })
	}
	s.Sole(ctx, "g")
	s.Delete(ctx, "k")
}

// Each right is one that something fails without, and the error says so. PING is
// beside it: without it a store that was down is still found to be back by the
// refusal.
func TestRedisEachRightIsNeeded(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	for _, right := range strings.Fields(leastRights) {
		command, is := strings.CutPrefix(right, "+")
		if !is || command == "ping" {
			continue
		}
		t.Run(command, func(t *testing.T) {
			does(t, c, "FLUSHALL")
			does(t, c, "SCRIPT FLUSH")
			does(t, c, "ACL LOG RESET")
			does(t, c, "ACL SETUSER app reset on >secret "+strings.Replace(leastRights, right, "", 1))
			r := openAsIs(t, RedisOptions{URL: "redis://app:secret@" + s.addr(), KeepPending: 50 * time.Millisecond, ProbeEvery: 10 * time.Millisecond})
			tour(t, r, c)
			if !slices.Contains(deniedCommands(t, c), command) {
				t.Error("nothing needs this right")
			}
			if trouble := r.Stats().Trouble; !strings.Contains(trouble, "docs/store.md") {
				t.Errorf("the operator is told %q", trouble)
			}
		})
	}
}

func TestRedisClusterWithLeastRights(t *testing.T) {
	nodes := startCluster(t)
	for _, n := range nodes {
		does(t, n.raw(t), "ACL SETUSER app on >secret "+leastRights+" "+clusterRights)
	}
	r := openRedis(t, RedisOptions{URL: "redis://app:secret@" + nodes[0].addr()})
	for i := range 50 { // on all nodes
		claim(t, r, fmt.Sprint(i), "v", "v", true)
		expect(t, r, fmt.Sprint(i), "v")
	}
	if mode := (*r.link.client.Load()).Mode(); mode != rueidis.ClientModeCluster {
		t.Errorf("it is taken for %s", mode)
	}
	// Without them it is no cluster to us, and the error says what to do.
	for _, n := range nodes {
		does(t, n.raw(t), "ACL SETUSER app -cluster")
	}
	r = openRedis(t, RedisOptions{URL: "redis://app:secret@" + nodes[0].addr()})
	told := false
	for i := range 50 {
		_, err := r.Get(ctx, fmt.Sprint(i))
		told = told || err != nil && strings.Contains(err.Error(), clusterRights[:14])
	}
	if !told {
		t.Error("nobody is told of the rights that are missing")
	}
}

func TestRedisBehindSentinelsWithLeastRights(t *testing.T) {
	primary, replica, url := startReplicated(t)
	for _, n := range []*server{primary, replica} {
		does(t, n.raw(t), "ACL SETUSER app on >secret "+leastRights+" "+behindSentinels)
	}
	option, err := rueidis.ParseURL(url)
	must(t, err)
	for _, addr := range option.InitAddress {
		c := rawClient(t, rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true})
		does(t, c, "ACL SETUSER watcher on >other "+sentinelRights)
	}
	for name, o := range map[string]RedisOptions{
		"in the URL": {URL: strings.Replace(url, "redis://", "redis://app:secret@", 1)},
		"as options": {URL: url, Credentials: func() (string, string, error) { return "app", "secret", nil }},
	} {
		o.SentinelUsername, o.SentinelPassword = "watcher", "other"
		r := openRedis(t, o)
		if _, _, err := r.Claim(ctx, name, []byte("v"), long); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRedisWrongPassword(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	does(t, c, "ACL SETUSER app on >secret "+leastRights)
	log, lines := observed()
	r := openRedis(t, RedisOptions{URL: "redis://app:wrong@" + s.addr(), Logger: log, ProbeEvery: 10 * time.Millisecond})
	for range 100 {
		if _, err := r.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "WRONGPASS") ||
			!strings.Contains(err.Error(), "user name or password are wrong") || strings.Contains(err.Error(), "app:") {
			t.Fatal(err)
		}
	}
	if st := r.Stats(); !st.Down || !strings.Contains(st.Trouble, "user name or password") {
		t.Errorf("%+v", st)
	}
	if n := len(lines("redis store cannot be reached")); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	// It is right a moment later, and nobody has to do anything here.
	does(t, c, "ACL SETUSER app >wrong")
	eventually(t, "it is let in", func() bool { _, err := r.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
}

// A password is changed in three steps: both are valid, the new one is given to
// the nodes, the old one goes. Connections that were made with the old one and
// break then come back with the new one.
func TestRedisPasswordRotates(t *testing.T) {
	s := startServer(t)
	c := s.raw(t)
	does(t, c, "ACL SETUSER app on >old "+leastRights)
	var password atomic.Value
	password.Store("old")
	r := s.open(t, RedisOptions{ProbeEvery: 10 * time.Millisecond,
		Credentials: func() (string, string, error) { return "app", password.Load().(string), nil }})
	claim(t, r, "k", "v", "v", true)
	does(t, c, "ACL SETUSER app >new")
	password.Store("new")
	does(t, c, "ACL SETUSER app <old")
	claim(t, r, "k", "w", "v", false) // connections stay
	does(t, c, "CLIENT KILL USER app")
	eventually(t, "it is let in by the new one", func() bool { v, err := r.Get(ctx, "k"); return err == nil && string(v) == "v" })

	// A store that keeps the old one breaks the circuit, and is told why.
	does(t, c, "ACL SETUSER app >old")
	stale := openRedis(t, RedisOptions{URL: "redis://app:old@" + s.addr(), ProbeEvery: 10 * time.Millisecond})
	expect(t, stale, "k", "v")
	does(t, c, "ACL SETUSER app <old")
	does(t, c, "CLIENT KILL USER app")
	eventually(t, "the circuit is open", func() bool { stale.Get(ctx, "k"); return stale.Stats().Down })
	if _, err := stale.Get(ctx, "k"); !strings.Contains(err.Error(), "user name or password are wrong") {
		t.Error(err)
	}
}
