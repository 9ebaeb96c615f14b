package tests

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watch is what a Redis is asked, in the server's own order (MONITOR).
type watch struct {
	t     testing.TB
	addr  string
	mu    sync.Mutex
	lines []string
	marks int
}

func watchRedis(t testing.TB, r *redis) *watch {
	t.Helper()
	w := &watch{t: t, addr: "127.0.0.1:" + r.port}
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, "MONITOR\r\n")
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR: %q", lines.Text())
	}
	go func() {
		for lines.Scan() {
			w.mu.Lock()
			w.lines = append(w.lines, lines.Text())
			w.mu.Unlock()
		}
	}()
	return w
}

// monitored is a command as MONITOR shows it. What a script does comes from
// "lua", and is not asked by us.
var monitored = regexp.MustCompile(`^\+[0-9.]+ \[0 ([^]]*)\] "([^"]*)"`)

// since gives the commands that came after a mark, and sets a new one. What
// connections say for themselves is left out, and the roll call, which comes
// twice a second whatever is requested.
func (w *watch) since(mark int) (commands []string, next int) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	w.marks++
	sign := fmt.Sprintf(`"ECHO" "mark %d"`, w.marks)
	fmt.Fprintf(conn, "ECHO \"mark %d\"\r\n", w.marks)
	eventually(w.t, 20*time.Second, "the mark is seen", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := slices.IndexFunc(w.lines[mark:], func(l string) bool { return strings.HasSuffix(l, sign) })
		if at < 0 {
			return fmt.Errorf("not yet")
		}
		commands, next = nil, mark+at+1
		for _, line := range w.lines[mark : mark+at] {
			m := monitored.FindStringSubmatch(line)
			if m == nil {
				w.t.Errorf("a line of another form: %s", line)
			} else if name := strings.ToUpper(m[2]); !strings.Contains(line, `"session_context:nodes"`) && m[1] != "lua" && !slices.Contains([]string{"ECHO", "PING", "INFO", "HELLO", "CLIENT", "CLUSTER"}, name) {
				commands = append(commands, name)
			}
		}
		return nil
	})
	return commands, next
}

// saw tells whether a command named a key.
func (w *watch) saw(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.lines, func(l string) bool { return strings.Contains(l, key) })
}

// TestCommandsOfEachPage: how much Redis has to do for one request of each
// form, and that pages wait for none of their writes. docs/store.md has the
// table.
func TestCommandsOfEachPage(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	c := newCaddy(t)
	for _, name := range []string{"index.html", "a.html"} {
		writePage(t, c, name, plainPage)
	}
	writePage(t, c, "app.css", "body{}")
	config := globals("\t\tstore redis redis://127.0.0.1:"+r.port+" {\n\t\t\tcall_timeout 1h\n\t\t}") + "SITE {\n\trespond 404\n}\n"
	site := func(campaign string, lines ...string) string {
		at := "http://" + freeAddr(t)
		config += at + " {\n\t" + campaignLines(campaign, append(lines, "segment everyone", "rate_limit 100000 100000")...) + "\n\troot DIR/www\n\tfile_server\n}\n"
		return at
	}
	asking := site("cmp_1", "consent {\n\t\t\trequire always\n\t\t}")
	cookies := site("cmp_2")
	short := site("cmp_3", "session_duration 1s", "consent {\n\t\t\trequire always\n\t\t}")
	random := site("cmp_4", "before_consent random", "consent {\n\t\t\trequire always\n\t\t}")
	c.write(config)
	c.start()
	for _, at := range []string{asking, cookies, short, random} {
		eventually(t, 30*time.Second, "a page has its context", func() error {
			if _, body := newVisitor(t, at, iPhone, true).page("/"); !contextPattern.MatchString(body) {
				return fmt.Errorf("it has none")
			}
			return nil
		})
	}

	known := newVisitor(t, cookies, desktop, true)
	known.visit("/")
	// One after the other follows a link: a page whose look into Redis takes
	// longer than pages wait has a new session, and can't be asked for again.
	type walk struct {
		*visitor
		first *sessionContext
	}
	var walkers []walk
	for i := range 5 {
		v := newVisitor(t, asking, fmt.Sprint(desktop, " walker ", i), false)
		walkers = append(walkers, walk{v, v.visit("/")})
	}
	old := newVisitor(t, short, desktop+" old", false)
	ended := old.visit("/")
	eventually(t, 20*time.Second, "the session ends", func() error {
		if now := time.Now().UnixMilli(); now <= ended.Session.ExpiresAt+1000 {
			return fmt.Errorf("it lives")
		}
		return nil
	})

	barrier := newVisitor(t, random, desktop, false)
	event := func(s *sessionContext, proof string) map[string]any {
		body := map[string]any{"event_id": "cta_click", "event_type": "conversion", "event_uuid": fmt.Sprintf("%s-%d", proof, time.Now().UnixNano())}
		if proof == "token" {
			return with(body, "token", s.Session.Token)
		}
		return with(s.ids(), "event_id", "cta_click", "event_type", "conversion", "event_uuid", body["event_uuid"])
	}
	var renewed *answer
	forms := []struct {
		name string
		page bool
		do   func() *http.Response
		want string // commands, by name
	}{
		{"cookies, a new visitor", true, func() *http.Response { return newVisitor(t, cookies, desktop, true).get("/") }, "SET"},
		{"cookies, a known visitor", true, func() *http.Response { return known.get("/a.html") }, ""},
		{"no cookies, a new visitor", true, func() *http.Response { return newVisitor(t, asking, desktop+" new", false).get("/") }, "EVAL SET"},
		{"no cookies, no visitor key", true, func() *http.Response { return newVisitor(t, random, desktop, false).get("/") }, "SET"},
		{"no cookies, from a page of the site", true, func() *http.Response {
			walker := walkers[0]
			return walker.get("/a.html", walker.from("/")...)
		}, "EVAL GET HGETALL"},
		{"no cookies, from the site, never seen", true, func() *http.Response {
			v := newVisitor(t, asking, desktop+" unseen", false)
			return v.get("/a.html", v.from("/")...)
		}, "EVAL HGETALL SET"},
		{"prefetched", true, func() *http.Response {
			return newVisitor(t, asking, desktop+" ahead", false).get("/", "Sec-Purpose", "prefetch")
		}, "EVAL SET"},
		{"a crawler", true, func() *http.Response { return newVisitor(t, asking, googlebot, false).get("/") }, "EVAL SET"},
		{"HEAD", true, func() *http.Response {
			res, err := http.Head(asking + "/")
			if err != nil {
				t.Fatal(err)
			}
			return res
		}, ""},
		{"a file beside", true, func() *http.Response {
			return newVisitor(t, asking, desktop, false).get("/app.css", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "style")
		}, ""},
		{"init, token", false, func() *http.Response {
			walkers[0].post("events/session/init", map[string]any{"token": walkers[0].first.Session.Token}).ok(t)
			return nil
		}, "EVAL HGETALL"},
		{"event, token", false, func() *http.Response {
			walkers[0].post("events/track", event(walkers[0].first, "token")).ok(t)
			return nil
		}, "INCRBY PEXPIRE"},
		{"event, ids", false, func() *http.Response {
			walkers[0].post("events/track", event(walkers[0].first, "ids")).ok(t)
			return nil
		}, "GET INCRBY PEXPIRE"},
		{"renewal of a session that lives", false, func() *http.Response {
			walkers[0].post("events/session/renew", map[string]any{"token": walkers[0].first.Session.Token}).ok(t)
			return nil
		}, ""},
		{"renewal of one that ended", false, func() *http.Response {
			renewed = old.post("events/session/renew", map[string]any{"token": ended.Session.Token}).ok(t)
			return nil
		}, "EVAL HGETALL SET SET"},
		{"the same again", false, func() *http.Response {
			if again := old.post("events/session/renew", map[string]any{"token": ended.Session.Token}).ok(t); again.Data["original_session_id"] != renewed.Data["original_session_id"] {
				t.Error("another line")
			}
			return nil
		}, "EVAL HGETALL SET SET"},
	}
	w := watchRedis(t, r)
	_, mark := w.since(0)
	// asked sends a request, and gives the commands until all that it writes is written.
	asked := func(name string, page bool, do func() *http.Response) (commands []string) {
		if res := do(); page && res.StatusCode != 200 {
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
		// What is written goes out in its order: that of one more page comes last.
		last := barrier.visit("/").Session.SessionID
		from := mark
		eventually(t, 20*time.Second, name+": written", func() error {
			if !w.saw("session/" + last) {
				return fmt.Errorf("not yet")
			}
			commands, mark = w.since(from)
			return nil
		})
		slices.Sort(commands)
		return commands
	}
	for _, f := range forms {
		want := append(strings.Fields(f.want), "SET")
		slices.Sort(want)
		late := c.continuations("timeout")
		commands := asked(f.name, f.page, f.do)
		for len(walkers) > 1 && c.continuations("timeout") > late {
			late, walkers = c.continuations("timeout"), walkers[1:]
			commands = asked(f.name, f.page, f.do)
		}
		if !slices.Equal(commands, want) {
			t.Errorf("%s: Redis was asked %q, want %q, with one SET of the page after", f.name, commands, want)
		}
	}

	// With a Redis that does not answer, and an hour to wait for it, each page
	// comes: none of the writes is waited for, and reads no longer than 20 ms.
	r.cmd.Process.Signal(syscall.SIGSTOP)
	defer r.cmd.Process.Signal(syscall.SIGCONT)
	for _, f := range forms {
		if !f.page {
			continue
		}
		if res := f.do(); res.StatusCode != 200 {
			t.Errorf("%s with a Redis that hangs: status %d", f.name, res.StatusCode)
		}
	}
}

// get is page without its body.
func (v *visitor) get(path string, header ...string) *http.Response {
	v.t.Helper()
	res, _ := v.page(path, header...)
	return res
}
