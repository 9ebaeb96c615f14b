package tests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// asked is part of the agents of visitors that have to be asked for consent:
// they get no cookie.
const asked = " Asked/"

// fleetHost is what visitors call the site, whichever node they come to.
const fleetHost = "127.0.0.1"

// fleetSite is a site for both kinds of visitors.
const fleetSite = `
SITE {
	@asked header User-Agent *Asked*
	@mobile vars session.device.type mobile
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		session_duration DURATION
		rate_limit 1000000 100000
		consent {
			require @asked
		}
		segment mobile @mobile
		segment everyone
		ab_test hero {
			variant control 50
			variant bold WEIGHT
		}
	}
	root DIR/www
	file_server
}
`

func fleetLanding(duration, weight string) string {
	return strings.NewReplacer("DURATION", duration, "WEIGHT", weight).Replace(fleetSite)
}

// fleet is several nodes of one site: one storage, one Redis, one place that
// rows go to.
type fleet struct {
	t     testing.TB
	tb    *standin.Server
	nodes []*caddy
	taken events
}

// newFleet starts a node for each store.
func newFleet(t testing.TB, duration string, stores ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, tb: standin.New(t)}
	for _, store := range stores {
		var first *caddy
		if len(f.nodes) > 0 {
			first = f.nodes[0]
		}
		c := newNode(t, first)
		c.write(nodeFile(c, f.app(store), fleetLanding(duration, "50")))
		c.start()
		f.nodes = append(f.nodes, c)
	}
	return f
}

func (f *fleet) app(store string) string {
	return "\t\tstore " + store + "\n\t\tkeys {\n\t\t\treread 1s\n\t\t}\n" + tinybirdSink(f.tb)
}

// events are those that the API has acknowledged, by their uuids.
type events struct {
	mu sync.Mutex
	// of is the session that each was sent for.
	of map[string]string
}

func (e *events) take(uuid, session string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == nil {
		e.of = map[string]string{}
	}
	e.of[uuid] = session
}

func (e *events) next() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("e-%d-%d", len(e.of), time.Now().UnixNano())
}

// event sends one that has to be taken, and gives its number.
func (f *fleet) event(c *caddy, s *sessionContext) int {
	f.t.Helper()
	uuid := f.taken.next()
	a := newVisitor(f.t, c.site, desktop, false).post("events/track", map[string]any{
		"token": s.Session.Token, "event_id": "click", "event_type": "conversion", "event_uuid": uuid, "metadata": map[string]any{"uuid": uuid},
	}).ok(f.t)
	f.taken.take(uuid, s.Session.SessionID)
	return int(a.Data["event_sequence"].(float64))
}

// delivered holds the rows of events against what was acknowledged: each is
// there, once by row id.
func (f *fleet) delivered() *found {
	f.t.Helper()
	got := &found{events: map[string][]eventRow{}, sessions: map[string]map[string]bool{}}
	eventually(f.t, 90*time.Second, "what was acknowledged is delivered", func() error {
		clear(got.events)
		for _, row := range f.tb.RawRows("events_v1") {
			got.event(&chaos{t: f.t}, row)
		}
		for uuid := range f.taken.of {
			if len(got.events[uuid]) == 0 {
				return fmt.Errorf("event %s of session %s is not there", uuid, f.taken.of[uuid])
			}
		}
		return nil
	})
	for uuid, rows := range got.events {
		for _, row := range rows {
			if row.RowID != rows[0].RowID && row.Session == rows[0].Session {
				f.t.Errorf("event %s is there as %s and as %s", uuid, rows[0].RowID, row.RowID)
			}
		}
	}
	return got
}

// do sends a command to the server itself, and gives its answer.
func (r *redis) do(command string) string {
	r.t.Helper()
	line, err := r.ask(command)
	if err != nil {
		r.t.Fatalf("redis: %s: %v", command, err)
	}
	return line
}

func (r *redis) ask(command string) (string, error) {
	c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, command+"\r\n")
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	line = strings.TrimSpace(line)
	if n, bulk := strings.CutPrefix(line, "$"); bulk && err == nil {
		size, _ := strconv.Atoi(n)
		b := make([]byte, max(size, 0))
		_, err = io.ReadFull(in, b)
		line = string(b)
	}
	return line, err
}

// info is what a server says of itself, or why it says nothing.
func (r *redis) info(section string) string {
	text, err := r.ask("INFO " + section)
	if err != nil {
		return err.Error()
	}
	return text
}

// forget starts a server without what it knew.
func (r *redis) forget() {
	r.t.Helper()
	r.kill()
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		r.t.Fatalf("redis keeps nothing in %s: %v", r.dir, err)
	}
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			r.t.Fatal(err)
		}
	}
	r.start()
}
