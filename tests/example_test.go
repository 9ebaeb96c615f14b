package tests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// startExample runs Caddyfile.example as it stands, on a free port.
func startExample(t testing.TB) *caddy {
	t.Helper()
	demo, err := filepath.Abs("../demo")
	if err != nil {
		t.Fatal(err)
	}
	config := mustRead(t, "../Caddyfile.example")
	for _, r := range [][2]string{
		{"http://localhost:8080", "SITE"}, {"admin localhost:2020", "admin ADMIN"}, {"root demo", "root " + demo},
	} {
		if strings.Count(config, r[0]) != 1 {
			t.Fatalf("Caddyfile.example has no single %q", r[0])
		}
		config = strings.Replace(config, r[0], r[1], 1)
	}
	c := newCaddy(t)
	c.write(config)
	c.start()
	return c
}

// TestExampleVariants: the page that is shown is the one that was decided.
func TestExampleVariants(t *testing.T) {
	t.Parallel()
	c := startExample(t)
	shown := map[string]int{}
	for range 40 {
		_, body := newVisitor(t, c.site, desktop, true).page("/")
		ctx := parseContext(t, body)
		variant := *ctx.ABTestVariantID
		shown[variant]++
		if !strings.Contains(body, `data-variant="`+variant+`"`) {
			t.Fatalf("variant %s was decided, another page is shown", variant)
		}
		if want := map[string]string{"control": "lp_control", "bold": "lp_bold"}[variant]; ctx.LandingPageID != want {
			t.Errorf("variant %s has landing page %s", variant, ctx.LandingPageID)
		}
	}
	if len(shown) != 2 {
		t.Errorf("40 visitors saw %v", shown)
	}
}

// TestExampleInBrowser opens the demo page in Chromium: its script reads the
// context, posts init and an event, and the rows lie in the data directory.
func TestExampleInBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: run make setup")
	}
	c := startExample(t)
	dom := dumpDOM(t, chromium, c.site+"/?utm_source=newsletter&utm_campaign=spring#server")
	ctx := parseContext(t, dom)
	if !strings.Contains(dom, `data-session-id="`+ctx.Session.SessionID+`"`) {
		t.Error("the page does not show its session")
	}
	for _, event := range []string{"init", "page-view"} {
		row := regexp.MustCompile(`<[^>]*data-event="` + event + `"[^>]*>`).FindString(dom)
		if !strings.Contains(row, `data-outcome="ok"`) || !strings.Contains(row, `data-status="200"`) {
			t.Errorf("%s: %q", event, row)
		}
	}

	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	for datasource, want := range map[string]map[string]any{
		"session_v1": {"session_id": ctx.Session.SessionID, "original_utm_source": "newsletter", "utm_campaign": "spring", "browser": "Chrome", "segment_id": *ctx.SegmentID},
		"events_v1":  {"session_id": ctx.Session.SessionID, "event_id": "page-view", "segment_id": *ctx.SegmentID, "landing_page_id": ctx.LandingPageID},
		"traffic_v1": {"session_id": ctx.Session.SessionID, "status": 200, "counted": 1},
	} {
		path := c.path("data/caddy/session_context/rows/" + datasource + ".ndjson")
		eventually(t, 15*time.Second, path+" has its row", func() error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			lines := bufio.NewScanner(bytes.NewReader(b))
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				ds, _ := set.Datasource(datasource)
				if err := ds.Check(lines.Bytes()); err != nil {
					t.Error(err)
				}
				dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
				dec.UseNumber()
				var row map[string]any
				if err := dec.Decode(&row); err != nil {
					return err
				}
				if row["session_id"] == ctx.Session.SessionID {
					expect(t, datasource, row, want)
					return nil
				}
			}
			return fmt.Errorf("it doesn't")
		})
	}
}

// dumpDOM is the page's document after its scripts have run.
func dumpDOM(t testing.TB, chromium, url string) string {
	t.Helper()
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=8000", "--dump-dom", url)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("chromium: %v\n%s", err, stderr.String())
		}
	case <-time.After(90 * time.Second):
		cmd.Process.Kill()
		t.Fatalf("chromium did not end\n%s", stderr.String())
	}
	return out.String()
}
