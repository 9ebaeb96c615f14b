package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startSentinel watches a master, which it takes for gone after half a second.
func startSentinel(t testing.TB, master *redis) *redis {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "sentinel monitor main 127.0.0.1 " + master.port + " 1\n" +
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startRedisAs(t, &redis{sentinel: config})
	// It asks servers what they are each ten seconds otherwise, and waits for
	// eight before it makes a former master follow.
	if got := s.do("SENTINEL DEBUG info-period 500 publish-period 250 ping-period 100"); got != "+OK" {
		t.Fatalf("sentinel: %s", got)
	}
	return s
}

// TestFailover: a master ends, or only stops, and its replica takes over. The
// nodes find it by themselves, and lines of sessions and numbers go on there;
// the former master, back again, is no place where anything is settled.
func TestFailover(t *testing.T) {
	t.Parallel()
	one := startRedis(t)
	two := startRedis(t, "--replicaof", "127.0.0.1", one.port)
	sentinel := startSentinel(t, one)
	synced := func(replica *redis) {
		t.Helper()
		eventually(t, 60*time.Second, "the replica has caught up, and the sentinel knows it", func() error {
			if role := replica.info("replication"); !strings.Contains(role, "role:slave") || !strings.Contains(role, "master_link_status:up") {
				return fmt.Errorf("it says %q", role)
			}
			if known := sentinel.info("sentinel"); !strings.Contains(known, "slaves=1") {
				return fmt.Errorf("the sentinel says %q", known)
			}
			return nil
		})
	}
	becomes := func(t testing.TB, r *redis, role string) {
		t.Helper()
		eventually(t, 60*time.Second, "the server is a "+role, func() error {
			if said := r.info("replication"); !strings.Contains(said, "role:"+role) {
				return fmt.Errorf("it says %q", said)
			}
			return nil
		})
	}
	synced(two)
	w := &storeWalk{t: t}
	url := "redis redis://127.0.0.1:" + sentinel.port + "/0?master_set=main"
	w.fleet = newFleet(t, "10m", url, url)
	w.known = newVisitor(t, w.nodes[0].site, desktop, false).visit("/")
	master, replica := one, two
	for _, fault := range []struct {
		name       string
		begin, end func(*redis)
	}{
		{"the master is killed", (*redis).kill, (*redis).start},
		{
			"the master stops",
			func(r *redis) { _ = r.cmd.Process.Signal(syscall.SIGSTOP) },
			func(r *redis) { _ = r.cmd.Process.Signal(syscall.SIGCONT) },
		},
	} {
		t.Run(fault.name, func(t *testing.T) {
			w.t, w.fleet.t = t, t
			synced(replica)
			w.works("before")
			before := w.expired()
			settled := w.renewed(before.token())
			// What is settled is at the replica, so that nothing is lost by chance.
			eventually(t, 20*time.Second, "it is replicated", func() error {
				if a, b := master.do("DBSIZE"), replica.do("DBSIZE"); a != b {
					return fmt.Errorf("%s there, %s here", a, b)
				}
				return nil
			})
			fault.begin(master)
			during := w.expired()
			for _, c := range w.nodes {
				newVisitor(t, c.site, iPhone, true).visit("/")
				w.event(c, w.known)
			}
			derived := w.renewed(during.token())
			becomes(t, replica, "master")
			w.works("after")
			if again := w.renewed(before.token()); again != settled {
				t.Errorf("before %s, after %s", settled, again)
			}
			after := w.renewed(during.token())
			if after != derived {
				t.Errorf("during %s, after %s", derived, after)
			}
			fault.end(master)
			becomes(t, master, "slave")
			w.works("after the former master is back")
			if again := w.renewed(during.token()); again != after {
				t.Errorf("before the former master was back %s, after %s", after, again)
			}
			master, replica = replica, master
		})
	}
	w.delivered()
}
