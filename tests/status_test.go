package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// statusOf runs the command, and gives what it prints and its exit code.
func (c *caddy) statusOf(args ...string) (out string, code int) {
	c.t.Helper()
	cmd := c.command(append([]string{"session-context", "status", "--address", c.admin}, args...)...)
	b, err := cmd.CombinedOutput()
	return string(b), exitCode(c.t, err)
}

// exitCode is that of a command that ended with err.
func exitCode(t testing.TB, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		t.Fatal(err)
	}
	return exit.ExitCode()
}

type statusDocument struct {
	Campaigns []struct {
		Campaign    string
		Environment string `json:"campaign_environment"`
		Hosts       []string
		Pages       map[string]int
		Counted     int
		SignsOfLife int   `json:"signs_of_life"`
		Last        int64 `json:"last_sign_of_life"`
	}
	Keys  struct{ Available bool }
	Store struct {
		Open    bool
		Trouble string
		Unsure  string
	}
	Outbox struct {
		Open bool
		Rows int
	}
	Geo      []string
	Warnings []struct{ Code, Datasource, Text, Remedy string }
}

func (c *caddy) status() (st statusDocument, code int) {
	c.t.Helper()
	out, code := c.statusOf("--json")
	at := strings.IndexByte(out, '{')
	if err := json.NewDecoder(strings.NewReader(out[max(at, 0):])).Decode(&st); err != nil {
		c.t.Fatalf("%v:\n%s", err, out)
	}
	return st, code
}

// warns waits until these are all that status warns of.
func (c *caddy) warns(codes ...string) {
	c.t.Helper()
	eventually(c.t, time.Minute, fmt.Sprint("status warns of ", codes), func() error {
		st, _ := c.status()
		var got []string
		for _, w := range st.Warnings {
			got = append(got, w.Code)
		}
		if !slices.Equal(got, codes) {
			return fmt.Errorf("of %v", got)
		}
		return nil
	})
}

// TestStatus: an operator sees what a running server has done and what is wrong
// with it, over reloads, and scripts see by the exit code whether anything is.
func TestStatus(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	config := func(sink string) string {
		return globals(sink+"\n\t\tgeo headers cloudflare") + "SITE {\n\t" + campaignLines("cmp_1") + "\n\troot DIR/www\n\tfile_server\n}\n"
	}
	c.write(config(tinybirdSink(tb)))
	c.start()
	for range 3 {
		v := newVisitor(t, c.site, desktop, false)
		s := v.visit("/")
		v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t)
		v.post("events/session/track", map[string]any{"token": s.Session.Token}).ok(t)
	}
	newVisitor(t, c.site, desktop, false).visit("/", "Sec-Purpose", "prefetch")
	newVisitor(t, c.site, "curl/8.0", false).visit("/")
	waitRows(t, tb, "traffic_v1", 5)
	want := func(code int, warnings ...string) {
		t.Helper()
		eventually(t, 20*time.Second, "the status is as it should be", func() error {
			st, got := c.status()
			var codes []string
			for _, w := range st.Warnings {
				codes = append(codes, w.Code)
				if w.Text == "" || w.Remedy == "" {
					t.Errorf("%s says nothing", w.Code)
				}
			}
			if got != code || strings.Join(codes, " ") != strings.Join(warnings, " ") {
				return fmt.Errorf("exit code %d, warnings %q", got, codes)
			}
			if len(st.Campaigns) != 1 || !st.Keys.Available || !st.Store.Open || !st.Outbox.Open || strings.Join(st.Geo, " ") != "headers" {
				t.Fatalf("%+v", st)
			}
			p := st.Campaigns[0]
			if p.Campaign != "cmp_1" || p.Environment != "production" || len(p.Hosts) != 1 || p.Hosts[0] != "127.0.0.1" ||
				p.Pages["injected"] != 5 || p.Counted != 3 || p.SignsOfLife != 3 || p.Last == 0 {
				t.Fatalf("%+v", p)
			}
			return nil
		})
	}
	want(0)
	if n := c.metric(`caddy_session_context_signs_of_life_total{campaign="cmp_1"}`); n != 3 {
		t.Errorf("%v signs of life by the metrics", n)
	}

	// A sink that can't be reached, with the next config: counts go on.
	c.reload(config("\t\tsink tinybird {\n\t\t\turl http://" + freeAddr(t) + "\n\t\t\ttoken x\n\t\t}"))
	want(0)
	v := newVisitor(t, c.site, "curl/8.0", false)
	s := v.visit("/", "Sec-Purpose", "prefetch")
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "e", "event_type": "system"}, "Sec-Purpose", "prefetch").ok(t)
	eventually(t, 20*time.Second, "failing deliveries show", func() error {
		out, code := c.statusOf()
		for _, part := range []string{"warning delivery_failing: ", "events_v1 is not delivered", "failing", "cmp_1", "127.0.0.1"} {
			if !strings.Contains(out, part) || code != 1 {
				return fmt.Errorf("exit code %d, no %q in:\n%s", code, part, out)
			}
		}
		return nil
	})
	c.stop()
	if out, code := c.statusOf(); code != 1 || !strings.Contains(out, "the admin API at "+c.admin) {
		t.Errorf("of a server that is down: exit code %d\n%s", code, out)
	}
}

// TestStatusOfPagesWithALoader: signs of life are expected of these too.
func TestStatusOfPagesWithALoader(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+"SITE {\n\t"+campaignLines("cmp_1", "inject loader")+"\n\troot DIR/www\n\tfile_server\n}\n")
	v := newVisitor(t, c.site, desktop, false)
	v.page("/")
	v.page("/", "Sec-Purpose", "prefetch")
	v.page("/missing")
	if st, code := c.status(); code != 0 || st.Campaigns[0].Counted != 1 || st.Campaigns[0].Pages["injected"] != 2 {
		t.Errorf("exit code %d: %+v", code, st)
	}
}

// TestStatusAfterAFailedReload: Caddy leaves the admin API of a config that
// failed in place; what it tells is of the one that runs.
func TestStatusAfterAFailedReload(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m"))
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	another := strings.Replace(landing("30m"), "cmp_1", "cmp_2", 1)
	elsewhere := strings.Replace(globals(""), "{\n", "{\n\tstorage file_system DIR/other\n", 1)
	for name, config := range map[string]string{
		"while it is provisioned": elsewhere + another + "\nhttp://a.test {\n\treverse_proxy {\n\t\tto https://b.test\n\t\ttransport http {\n\t\t\ttls_trust_pool file DIR/none.pem\n\t\t}\n\t}\n}\n",
		"while it starts":         elsewhere + another + "\nhttp://" + taken.Addr().String() + " {\n\trespond ok\n}\n",
		"before ours is there":    "JSON",
		"without our app":         "{\n\tadmin ADMIN\n\tauto_https off\n\tpersist_config off\n}\nhttp://" + taken.Addr().String() + " {\n\trespond ok\n}\n",
	} {
		contentType, body := "text/caddyfile", c.expand(config)
		if config == "JSON" {
			contentType, body = "application/json", failsEarly(t, c, strings.Replace(elsewhere, "DIR/other", "DIR/early", 1)+another)
		}
		res, err := http.Post("http://"+c.admin+"/load", contentType, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.Contains(string(answer), "loading new config") { // the status may be 200 all the same
			t.Fatalf("%s: the config was loaded: %s %s", name, res.Status, answer)
		}
		st, code := c.status()
		if code != 0 || len(st.Campaigns) != 1 || st.Campaigns[0].Campaign != "cmp_1" || !st.Keys.Available || st.Campaigns[0].Pages["injected"] == 0 {
			t.Errorf("it failed %s: exit code %d, %+v", name, code, st)
		}
	}
	if _, err := os.Stat(c.path("early")); err == nil {
		t.Error("asking made keys for a config that never ran")
	}
	before := c.mustKeys("list")
	c.mustKeys("rotate")
	if after := c.mustKeys("list"); strings.Count(after, "\n") <= strings.Count(before, "\n") {
		t.Errorf("a key was not added to the ring in use:\n%s", after)
	}
	if err := c.knows(v, s); err != nil {
		t.Error(err)
	}
	// A config that is loaded, and has none of ours, has nothing to tell.
	c.reload("{\n\tadmin ADMIN\n\tauto_https off\n\tpersist_config off\n}\nSITE {\n\trespond ok\n}\n")
	if out, code := c.statusOf(); code == 0 || !strings.Contains(out, "not_configured") {
		t.Errorf("without session_context: exit code %d\n%s", code, out)
	}
}

// failsEarly is the configuration with a fault in an app that http loads before
// its sites.
func failsEarly(t *testing.T, c *caddy, caddyfile string) string {
	t.Helper()
	path := c.path("early.Caddyfile")
	if err := os.WriteFile(path, []byte(c.expand(caddyfile)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := c.command("adapt", "--config", path, "--adapter", "caddyfile").Output()
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	config["apps"].(map[string]any)["tls"] = map[string]any{"certificates": map[string]any{"nosuchloader": []any{}}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
