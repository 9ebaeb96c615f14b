package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// claiming is a load of claims by two nodes. Both claim each key at the same
// time, each with a value of its own, and again until they are answered.
type claiming struct {
	t     *testing.T
	nodes [2]*Redis
	stop  func() // and wait
	wg    sync.WaitGroup

	settled, unanswered atomic.Int64
	split               atomic.Bool // there may be two primaries

	mu   sync.Mutex
	keys []string
	was  map[string]string // what stood when both had their answers
}

func startClaiming(t *testing.T, o RedisOptions) *claiming {
	t.Helper()
	o.ProbeEvery, o.CallTimeout = 20*time.Millisecond, 500*time.Millisecond
	stop := make(chan struct{})
	c := &claiming{t: t, was: map[string]string{}}
	c.stop = sync.OnceFunc(func() { close(stop); c.wg.Wait() })
	for i := range c.nodes {
		c.nodes[i] = openRedis(t, o)
	}
	for worker := range 4 {
		c.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					c.settle(fmt.Sprint("w", worker, "/", i))
				}
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

// said is what a claimer was told.
type said struct {
	standing string
	won      bool
	again    bool // after calls that were not answered
}

func (c *claiming) settle(key string) {
	var answers [2]said
	var both sync.WaitGroup
	for i, s := range c.nodes {
		both.Go(func() { answers[i] = c.claim(s, key, fmt.Sprint("node", i, " ", key)) })
	}
	both.Wait()
	c.settled.Add(1)
	standing := answers[0].standing
	sure := !c.split.Load() && !answers[0].again && !answers[1].again
	if sure && standing != answers[1].standing {
		c.t.Errorf("%s: told %q and %q", key, standing, answers[1].standing)
	}
	for i, a := range answers {
		if !strings.HasSuffix(a.standing, " "+key) {
			c.t.Errorf("%s: told %q, which nobody claimed it with", key, a.standing)
		}
		if a.won && a.standing != fmt.Sprint("node", i, " ", key) {
			c.t.Errorf("%s: won with %q, which was another's", key, a.standing)
		}
	}
	if sure && answers[0].won && answers[1].won {
		c.t.Errorf("%s: both won", key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, key)
	c.was[key] = standing
}

func (c *claiming) claim(s *Redis, key, value string) (out said) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		standing, won, err := s.Claim(ctx, key, []byte(value), long)
		if err == nil {
			return said{string(standing), won, out.again}
		}
		if !errors.Is(err, ErrUnavailable) {
			c.t.Errorf("%s: %v", key, err)
		}
		out.again = true
		c.unanswered.Add(1)
	}
	c.t.Errorf("%s: not answered for a minute", key)
	return out
}

// more waits for so many further keys.
func (c *claiming) more(n int64) {
	c.t.Helper()
	until := c.settled.Load() + n
	eventually(c.t, fmt.Sprint(n, " more claims"), func() bool { return c.settled.Load() >= until || c.t.Failed() })
}

// known are the keys that were settled until now.
func (c *claiming) known() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

// end stops the load and looks at each of the keys again: what both were told
// still stands.
func (c *claiming) end(keys []string) {
	c.t.Helper()
	c.stop()
	if keys == nil {
		keys = c.keys
	}
	for _, key := range keys {
		got := c.claim(c.nodes[1], key, "late "+key)
		if got.standing != c.was[key] || got.won {
			c.t.Errorf("%s: stands %q, won %t; both were told %q", key, got.standing, got.won, c.was[key])
		}
	}
	c.t.Logf("%d keys claimed by two, %d calls not answered", len(c.keys), c.unanswered.Load())
}

// replicated waits until a primary's replica has what that took.
func replicated(t *testing.T, primary *server) {
	t.Helper()
	c := primary.raw(t)
	mine := func(i int) bool { // WAIT waits for the writes of its own connection
		return c.Do(ctx, c.B().Set().Key(fmt.Sprint("marker", i)).Value("").Build()).Error() == nil
	}
	for i := 0; !mine(i); i++ { // another node's
	}
	if n := does(t, c, "WAIT 1 10000"); n != "1" {
		t.Fatalf("%s replicas", n)
	}
}

// takesOver waits until a replica is the primary.
func takesOver(t *testing.T, replica *server) {
	t.Helper()
	c := replica.raw(t)
	eventually(t, "the replica takes over", func() bool {
		role, _ := c.Do(ctx, c.B().Role().Build()).ToArray() // connections are cut meanwhile
		name := ""
		if len(role) > 0 {
			name, _ = role[0].ToString()
		}
		return name == "master"
	})
}

// A failover on command has two primaries for a moment: the old one takes
// writes until it hears of the new. What was replicated before stands, and what
// comes when all nodes have found the new one.
func TestRedisSentinelFailoverOnCommand(t *testing.T) {
	primary, replica, url := startReplicated(t)
	load := startClaiming(t, RedisOptions{URL: url})
	load.more(200)
	option, err := rueidis.ParseURL(url)
	must(t, err)
	sentinel := rawClient(t, rueidis.ClientOption{InitAddress: option.InitAddress[:1], ForceSingleClient: true})
	before := load.known()
	replicated(t, primary)
	load.split.Store(true)
	does(t, sentinel, "SENTINEL FAILOVER primary")
	takesOver(t, replica)
	c := replica.raw(t)
	for i, node := range load.nodes {
		eventually(t, "the node has found it", func() bool {
			key := fmt.Sprint("found by ", i)
			node.Claim(ctx, key, nil, long)
			n, _ := c.Do(ctx, c.B().Exists().Key("session_context:v:"+key).Build()).AsInt64()
			return n == 1
		})
	}
	during := len(load.known())
	load.more(50) // what is under way
	load.split.Store(false)
	load.more(200)
	load.end(append(before, load.known()[during+50:]...))
}

func TestRedisSentinelFailoverByKill(t *testing.T) {
	primary, replica, url := startReplicated(t)
	load := startClaiming(t, RedisOptions{URL: url})
	load.more(200)
	before := load.known()
	replicated(t, primary)
	primary.kill()
	takesOver(t, replica)
	load.more(200)
	load.end(before)
}

// A failover on command loses nothing: the primary stops, and the replica takes
// over when it has everything.
func TestRedisClusterFailoverOnCommand(t *testing.T) {
	nodes := startCluster(t)
	load := startClaiming(t, RedisOptions{URL: nodes[0].url()})
	for _, replica := range nodes[3:] {
		load.more(100)
		does(t, replica.raw(t), "CLUSTER FAILOVER")
		takesOver(t, replica)
	}
	load.more(200)
	load.end(nil)
}

func TestRedisClusterFailoverByKill(t *testing.T) {
	nodes := startCluster(t)
	load := startClaiming(t, RedisOptions{URL: nodes[1].url() + "?addr=" + nodes[0].addr()})
	load.more(200)
	before := load.known()
	replicated(t, nodes[0])
	nodes[0].kill()
	takesOver(t, nodes[3])
	load.more(200)
	load.end(before)
}

// All keys lie in one slot, which moves from node to node under load: while it
// does, half of the answers are redirections.
func TestRedisClusterSlotMoves(t *testing.T) {
	nodes := startCluster(t)
	const prefix = "session_context:{one}:"
	load := startClaiming(t, RedisOptions{URL: nodes[0].url(), KeyPrefix: prefix})
	var clients []rueidis.Client
	var ids []string
	for _, n := range nodes[:3] {
		c := n.raw(t)
		id, err := c.Do(ctx, c.B().Arbitrary("CLUSTER", "MYID").Build()).ToString()
		must(t, err)
		clients, ids = append(clients, c), append(ids, id)
	}
	slot, err := clients[0].Do(ctx, clients[0].B().ClusterKeyslot().Key(prefix).Build()).AsInt64()
	must(t, err)
	from := min(int(slot)/5461, 2)
	redirections := func() (n int64) {
		for _, c := range clients {
			stats := does(t, c, "INFO errorstats")
			for _, kind := range []string{"errorstat_ASK:count=", "errorstat_MOVED:count="} {
				_, rest, _ := strings.Cut(stats, kind)
				digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
				count, _ := strconv.ParseInt(rest[:max(digits, 0)], 10, 64)
				n += count
			}
		}
		return n
	}
	for range 3 {
		load.more(100)
		to := (from + 1) % 3
		does(t, clients[to], fmt.Sprint("CLUSTER SETSLOT ", slot, " IMPORTING ", ids[from]))
		does(t, clients[from], fmt.Sprint("CLUSTER SETSLOT ", slot, " MIGRATING ", ids[to]))
		load.more(50) // new keys are at the one, old ones at the other
		for {
			keys, err := clients[from].Do(ctx, clients[from].B().Arbitrary("CLUSTER", "GETKEYSINSLOT", fmt.Sprint(slot), "50").Build()).AsStrSlice()
			must(t, err)
			if len(keys) == 0 {
				break
			}
			must(t, clients[from].Do(ctx, clients[from].B().Arbitrary(append([]string{"MIGRATE", "127.0.0.1", nodes[to].port, "", "0", "5000", "KEYS"}, keys...)...).Build()).Error())
		}
		for _, i := range []int{to, from, 3 - to - from} {
			does(t, clients[i], fmt.Sprint("CLUSTER SETSLOT ", slot, " NODE ", ids[to]))
		}
		from = to
	}
	load.more(100)
	load.end(nil)
	if n := redirections(); n < 100 {
		t.Errorf("only %d redirections", n)
	}
}
