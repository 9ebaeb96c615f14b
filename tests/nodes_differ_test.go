package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestNodesThatDiffer: while a change is rolled out, nodes have different
// settings, and their clocks never agree. What a visitor was assigned stays.
func TestNodesThatDiffer(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	url := "redis redis://127.0.0.1:" + r.port + "/0"
	f := newFleet(t, "10m", url, url)
	old, changed := f.nodes[0], f.nodes[1]
	// Another split, another segment first, and one more campaign.
	site := fleetLanding("10m", "1000000")
	site = strings.Replace(site, "segment mobile @mobile", "segment new @mobile", 1) +
		"http://127.0.0.2 {\n\t" + campaignLines("cmp_2", roomy) + "\n}\n"
	_, port, _ := strings.Cut(strings.TrimPrefix(changed.site, "http://"), ":")
	changed.reload(nodeFile(changed, f.app(url), strings.Replace(site, "http://127.0.0.2", "http://127.0.0.2:"+port, 1)))

	t.Run("what was assigned", func(t *testing.T) {
		kept := 0
		for range 20 {
			v := newVisitor(t, old.site, iPhone, true)
			s := v.visit("/?utm_source=first")
			if *s.ABTestVariantID == "control" {
				kept++ // the changed node would hardly ever draw it
			}
			v.site = changed.site
			next := v.visit("/?utm_source=later")
			if next.Session.SessionID != s.Session.SessionID || *next.ABTestVariantID != *s.ABTestVariantID || *next.SegmentID != *s.SegmentID || *s.SegmentID != "mobile" {
				t.Fatalf("one node gave segment %s and variant %s, the next %s and %s", *s.SegmentID, *s.ABTestVariantID, *next.SegmentID, *next.ABTestVariantID)
			}
			if next.Attribution.Original["utm_source"] != "first" {
				t.Fatalf("the first touch is %v", next.Attribution.Original)
			}
			v.post("events/session/init", map[string]any{"token": s.Session.Token}).ok(t)
		}
		if kept == 0 {
			t.Error("no visitor was drawn into control: the test shows nothing")
		}
		if s := newVisitor(t, changed.site, iPhone, true).visit("/"); *s.SegmentID != "new" {
			t.Errorf("the changed node gives segment %s: the test shows nothing", *s.SegmentID)
		}
	})
	t.Run("a campaign that one does not have", func(t *testing.T) {
		s := mint(t, old.ring(), "cmp_2", time.Minute, 10*time.Minute)
		body := map[string]any{"token": s.token()}
		newVisitor(t, changed.site, desktop, false).post("events/session/init", body).ok(t)
		if a := newVisitor(t, old.site, desktop, false).post("events/session/init", body); a.status != 403 || a.Code != "unknown_campaign" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	// What a node makes whose clock is ahead.
	for ahead, ok := range map[time.Duration]bool{4 * time.Minute: true, 6 * time.Minute: false} {
		t.Run(fmt.Sprint("a clock ", ahead, " ahead"), func(t *testing.T) {
			s := mint(t, old.ring(), "cmp_1", -ahead, 10*time.Minute)
			ids := map[string]any{"session_id": s.ID, "user_id": s.UserID, "campaign_id": "cmp_1"}
			for _, c := range f.nodes {
				if a := newVisitor(t, c.site, desktop, false).post("events/session/init", ids); (a.status == 200) != ok {
					t.Errorf("its ids got %d %s", a.status, a.body)
				}
				if !ok {
					continue
				}
				a := newVisitor(t, c.site, desktop, false).post("events/session/renew", map[string]any{"token": s.token()}).ok(t)
				if a.Data["session_id"] != s.ID {
					t.Errorf("a session that lives was renewed to %v", a.Data["session_id"])
				}
				v := newVisitor(t, c.site, desktop, false)
				if page := v.visit("/", "Cookie", s.cookies()); page.Session.SessionID != s.ID {
					t.Errorf("its cookie gave session %s, want %s", page.Session.SessionID, s.ID)
				}
			}
		})
	}
}

// TestOneNodeWithoutStorage: a node that can't reach the storage goes on with
// the keys that it has read, and says so. One that starts then has none, serves
// its pages as they are, and gets them by itself.
func TestOneNodeWithoutStorage(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	r := startRedis(t)
	app := "\t\tstore redis redis://127.0.0.1:" + r.port + "/0\n\t\tkeys {\n\t\t\treread 1s\n\t\t}\n" + tinybirdSink(tb)
	with := newNode(t, nil)
	with.write(nodeFile(with, app, landing("10m", roomy)))
	with.start()
	without := newNode(t, nil)
	mount := without.path("mount")
	without.storage = mount
	reach := func(where string) {
		t.Helper()
		_ = os.Remove(mount)
		if err := os.Symlink(where, mount); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := without.path("file")
	if err := os.WriteFile(nowhere, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reach(with.storage)
	without.write(nodeFile(without, app, landing("10m", roomy)))
	without.start()
	without.warns()
	v := newVisitor(t, with.site, desktop, true)
	s := v.visit("/")
	reach(nowhere)
	without.warns("keys_failing")
	if without.metric("caddy_session_context_key_ring_errors_total") == 0 {
		t.Error("metrics don't say so")
	}
	if err := without.knows(v, s); err != nil {
		t.Errorf("of the other's: %v", err)
	}
	own := newVisitor(t, without.site, desktop, true)
	if err := with.knows(own, own.visit("/")); err != nil {
		t.Errorf("of its own: %v", err)
	}
	without.stop()
	without.unready = true
	without.start()
	if _, body := newVisitor(t, without.site, desktop, false).page("/"); body != plainPage {
		t.Errorf("without keys a page is\n%s", body)
	}
	a := newVisitor(t, without.site, desktop, false).post("events/session/init", map[string]any{"token": s.Session.Token})
	if a.status != 503 || a.Code != "keys_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("without keys the API answers %d %s", a.status, a.body)
	}
	without.warns("keys_unavailable")
	reach(with.storage)
	without.warns()
	if err := without.knows(v, s); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

var fenced = regexp.MustCompile("(?ms)^```\\w+\n# ([\\w.]+)[^\n]*\n(.*?)^```$")

// TestSeveralNodesDocument: the example of docs/several-nodes.md holds together,
// and its Caddyfile is one.
func TestSeveralNodesDocument(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, m := range fenced.FindAllStringSubmatch(mustRead(t, "../docs/several-nodes.md"), -1) {
		files[m[1]] = m[2]
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(files["Caddyfile"]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"adapt", "--config", path}, {"fmt", "--diff", path}} {
		if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil || len(files["Caddyfile"]) == 0 {
			t.Errorf("caddy %v: %v\n%s", args, err, out)
		}
	}
	type service struct {
		Image, Command, Restart string
		Build                   struct {
			Dockerfile string `yaml:"dockerfile_inline"`
		}
		Environment    map[string]string
		Ports, Volumes []string
		DependsOn      []string `yaml:"depends_on"`
	}
	var compose struct {
		Services map[string]service
		Volumes  map[string]any
	}
	d := yaml.NewDecoder(bytes.NewReader([]byte(files["compose.yaml"])))
	d.KnownFields(true)
	if err := d.Decode(&compose); err != nil {
		t.Fatal(err)
	}
	used := map[string]string{} // the volumes by who has them alone
	for name, s := range compose.Services {
		if (s.Image == "") == (s.Build.Dockerfile == "") {
			t.Errorf("%s has an image and a build, or neither", name)
		}
		for _, other := range s.DependsOn {
			if _, ok := compose.Services[other]; !ok {
				t.Errorf("%s depends on %s, which there isn't", name, other)
			}
		}
		for _, v := range s.Volumes {
			volume, at, _ := strings.Cut(v, ":")
			if strings.HasPrefix(volume, "./") {
				continue
			}
			if _, ok := compose.Volumes[volume]; !ok {
				t.Errorf("%s mounts %s, which is not declared", name, volume)
			}
			if other := used[volume]; other != "" && at != "/shared" {
				t.Errorf("%s and %s share %s", other, name, volume)
			}
			used[volume] = name
		}
		// Where its nodes listen, and what it names them.
		for host := range strings.FieldsSeq(s.Command) {
			if host, port, ok := strings.Cut(host, ":"); ok && host != "" {
				if _, ok := compose.Services[host]; !ok || !strings.Contains(files["Caddyfile"], "\n:"+port+" {") {
					t.Errorf("%s speaks of %s:%s, where nobody listens", name, host, port)
				}
			}
		}
	}
	if len(used) != len(compose.Volumes) || len(compose.Services) != 4 {
		t.Errorf("%d volumes of %d are used, by %d services", len(used), len(compose.Volumes), len(compose.Services))
	}
	for _, path := range []string{"/shared", "redis://redis:6379/0", "/data/outbox"} {
		if !strings.Contains(files["Caddyfile"], path) {
			t.Errorf("the Caddyfile does not name %s", path)
		}
	}
}
