package tests

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideNamespace is set in the process that a test runs of itself in a network
// of its own.
const insideNamespace = "SESSION_CONTEXT_TESTS_NAMESPACE"

// inNamespace runs the test once more, in a network namespace of its own, and
// reports whether this is that run. Where the machine allows none, the test is
// skipped.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
		mustRun(t, "ip", "link", "set", "lo", "up")
		return true
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	attr, err := namespaceAttr()
	if err != nil {
		t.Skipf("SKIPPED: cuts between nodes and Redis are not tested on this machine, which allows no network namespace, or has no ip (Debian's iproute2): %v", err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), insideNamespace+"=1", builtBinary+"="+binary)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("in its namespace: %v\n%s", err, out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
		t.Errorf("in its namespace nothing was tested:\n%s", out)
	default:
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "--- ") || strings.Contains(line, "SKIPPED") {
				t.Log(strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return false
}

// namespaceAttr starts a process in a network namespace: as root, else as the
// root of a user namespace.
func namespaceAttr() (*syscall.SysProcAttr, error) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		if ip, err = exec.LookPath("/usr/sbin/ip"); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{
			Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		},
	} {
		cmd := exec.Command(ip, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
		cmd.SysProcAttr = attr
		out, err := cmd.CombinedOutput()
		if err == nil {
			return attr, nil
		}
		errs = append(errs, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out)))
	}
	return nil, errors.Join(errs...)
}

func mustRun(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// cable joins a node to Redis, which is in a namespace of its own.
type cable struct {
	t testing.TB
	// here and there are the devices at its ends.
	here, there     string
	hereIP, thereIP string
	pid             string // of Redis
}

const redisPort = "6379"

// startRedisBehind starts a Redis behind so many cables.
func startRedisBehind(t testing.TB, n int) []*cable {
	t.Helper()
	cmd := exec.Command("redis-server", "--port", redisPort, "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", t.TempDir(),
		"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatalf("redis-server in a namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var cables []*cable
	for i := range n {
		c := &cable{
			t: t, pid: strconv.Itoa(cmd.Process.Pid), here: fmt.Sprint("node", i), there: fmt.Sprint("redis", i),
			// Addresses for documentation, which are nobody's.
			hereIP: fmt.Sprintf("192.0.2.%d", 4*i+1), thereIP: fmt.Sprintf("192.0.2.%d", 4*i+2),
		}
		mustRun(t, "ip", "link", "add", c.here, "type", "veth", "peer", "name", c.there, "netns", c.pid)
		mustRun(t, "ip", "addr", "add", c.hereIP+"/30", "dev", c.here)
		mustRun(t, "ip", "link", "set", c.here, "up")
		c.atRedis("ip", "addr", "add", c.thereIP+"/30", "dev", c.there)
		c.atRedis("ip", "link", "set", c.there, "up")
		eventually(t, 20*time.Second, "Redis can be reached", func() error {
			conn, err := net.DialTimeout("tcp", c.thereIP+":"+redisPort, time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
		cables = append(cables, c)
	}
	return cables
}

// atRedis runs a command in the namespace of Redis.
func (c *cable) atRedis(args ...string) {
	c.t.Helper()
	mustRun(c.t, "nsenter", append([]string{"-t", c.pid, "-n"}, args...)...)
}

// nowhere is an address of a device that there isn't: what is sent to it
// vanishes, and nobody is told.
const nowhere = "02:00:00:00:00:99"

// cableFaults are what can happen to a cable.
var cableFaults = []struct {
	name     string
	cut, tie func(*cable) error
	// cuts is false for what only takes longer.
	cuts bool
}{
	{
		name: "cut", cuts: true,
		cut: func(c *cable) error { c.atRedis("ip", "link", "set", c.there, "down"); return nil },
		tie: func(c *cable) error { c.atRedis("ip", "link", "set", c.there, "up"); return nil },
	},
	{
		name: "nothing reaches Redis", cuts: true,
		cut: func(c *cable) error {
			mustRun(c.t, "ip", "neigh", "replace", c.thereIP, "lladdr", nowhere, "dev", c.here, "nud", "permanent")
			return nil
		},
		tie: func(c *cable) error { mustRun(c.t, "ip", "neigh", "del", c.thereIP, "dev", c.here); return nil },
	},
	{
		// What the node asks is done, and it never hears of it.
		name: "nothing comes back", cuts: true,
		cut: func(c *cable) error {
			c.atRedis("ip", "neigh", "replace", c.hereIP, "lladdr", nowhere, "dev", c.there, "nud", "permanent")
			return nil
		},
		tie: func(c *cable) error { c.atRedis("ip", "neigh", "del", c.hereIP, "dev", c.there); return nil },
	},
	{
		name: "delay",
		cut: func(c *cable) error {
			if exec.Command("tc", "qdisc", "add", "dev", c.here, "root", "netem", "delay", "80ms").Run() == nil {
				return nil
			}
			// A kernel without netem: a line that is thin delays too.
			out, err := exec.Command("tc", "qdisc", "add", "dev", c.here, "root", "tbf", "rate", "24kbit", "burst", "1600", "latency", "20s").CombinedOutput()
			if err != nil {
				return fmt.Errorf("the kernel knows neither netem nor tbf: %w: %s", err, out)
			}
			return nil
		},
		tie: func(c *cable) error { mustRun(c.t, "tc", "qdisc", "del", "dev", c.here, "root"); return nil },
	},
}

// TestOneNodeCutOffFromRedis: the node goes on alone, and renews to the same
// sessions as the one that still has Redis; afterwards both agree.
func TestOneNodeCutOffFromRedis(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	cables := startRedisBehind(t, 2)
	w := &storeWalk{t: t}
	var stores []string
	for _, c := range cables {
		stores = append(stores, "redis redis://"+c.thereIP+":"+redisPort+"/0")
	}
	w.fleet = newFleet(t, "10m", stores...)
	w.known = newVisitor(t, w.nodes[0].site, desktop, false).visit("/")
	alone, other := w.nodes[0], w.nodes[1]
	for _, fault := range cableFaults {
		t.Run(fault.name, func(t *testing.T) {
			w.t, w.fleet.t = t, t
			w.works("before")
			during := w.expired()
			if err := fault.cut(cables[0]); err != nil {
				t.Skipf("SKIPPED: %v", err)
			}
			newVisitor(t, alone.site, iPhone, true).visit("/")
			if n := w.event(alone, w.known); n > 0 {
				if fault.cuts {
					t.Errorf("a node that is cut off numbers an event %d", n)
				}
				w.last = w.higher(n)
			}
			w.last = w.higher(w.event(other, w.known))
			there := sessionOf(renewedBy(t, other, map[string]any{"token": during.token()}))
			here := sessionOf(renewedBy(t, alone, map[string]any{"token": during.token()}))
			if here != there {
				t.Errorf("the node that is cut off renewed to %s, the other to %s", here, there)
			}
			if st, code := alone.status(); fault.cuts && (code != 1 || len(st.Warnings) != 1 || st.Warnings[0].Code != "store_failing") {
				t.Errorf("status says, with exit code %d: %+v", code, st)
			}
			if st, _ := other.status(); st.Store.Trouble != "" {
				t.Errorf("of the other node's store status says %q", st.Store.Trouble)
			}
			if err := fault.tie(cables[0]); err != nil {
				t.Fatal(err)
			}
			w.works("after")
			if again := w.renewed(during.token()); again != there {
				t.Errorf("during %s, after %s", there, again)
			}
		})
	}
	w.delivered()
}
