package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// prometheus is a server that reads a Caddy's figures and the alert rules.
type prometheus struct {
	t   testing.TB
	url string
}

func startPrometheus(t testing.TB, c *caddy) *prometheus {
	t.Helper()
	rules, err := filepath.Abs("../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), freeAddr(t)
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs:\n  - job_name: caddy\n    static_configs: [{targets: [%q]}]\n", rules, c.admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (make setup installs it)", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log.String())
		}
	})
	p := &prometheus{t, "http://" + addr}
	eventually(t, 60*time.Second, "Prometheus serves", func() error {
		res, err := http.Get(p.url + "/-/ready")
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 200 {
				err = fmt.Errorf("%s", res.Status)
			}
		}
		return err
	})
	return p
}

// get asks the API, and reads its data into data.
func (p *prometheus) get(path string, query url.Values, data any) error {
	res, err := http.Get(p.url + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return nil
}

// series is what an expression is right now.
type series struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prometheus) query(expression string) (found []series, err error) {
	var data struct{ Result []series }
	err = p.get("query", url.Values{"query": {expression}}, &data)
	return data.Result, err
}

// TestDashboardAndAlertsInPrometheus: a real Prometheus, that reads the figures
// of a real Caddy, understands each question of the dashboard and each alert
// rule, and finds under every label that is shown what the server counted.
func TestDashboardAndAlertsInPrometheus(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+"SITE {\n\t"+campaignLines("cmp_1", roomy, "ab_test hero {\n\t\t\tvariant control 50\n\t\t\tvariant bold 50\n\t\t}")+"\n\troot DIR/www\n\tfile_server\n}\n")
	visits := func() {
		v := newVisitor(t, c.site, desktop, true)
		token := map[string]any{"token": v.visit("/").Session.Token}
		id := clickIDOf(t, v, token)
		v.post("events/session/renew", token).ok(t)
		v.post("events/track", map[string]any{"event_id": "nobody's"})
		elsewhere(t, c.site, sold(id)).ok(t)
		newVisitor(t, c.site, desktop, false).page("/none")
	}
	visits()
	p := startPrometheus(t, c)
	b, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	ask := strings.NewReplacer("$instance", ".*", "$campaign", ".*", "$__rate_interval", "1m", "$__range", "1m").Replace
	eventually(t, 60*time.Second, "Prometheus has two readings that differ", func() error {
		visits()
		for _, expression := range []string{
			`rate(caddy_session_context_pages_total{outcome="injected",campaign=~".+"}[1m]) > 0`,
			`rate(caddy_session_context_ab_sessions_total[1m]) > 0`,
			`rate(caddy_session_context_deliveries_total{outcome="delivered",datasource="events_v1"}[1m]) > 0`,
		} {
			found, err := p.query(expression)
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("%s: nothing", expression)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})

	labels := regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	told := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			found, err := p.query(ask(target.Expr))
			if err != nil {
				t.Errorf("%s: %s: %v", panel.Title, target.Expr, err)
				continue
			}
			if len(found) > 0 {
				told++
			}
			for _, m := range labels.FindAllStringSubmatch(target.Expr, -1) {
				for _, label := range strings.Split(m[1], ", ") {
					for _, s := range found {
						if label != "le" && s.Metric[label] == "" {
							t.Errorf("%s: %s has no label %s: %v", panel.Title, target.Expr, label, s.Metric)
						}
					}
				}
			}
		}
	}
	if told < 25 {
		t.Errorf("only %d questions have an answer", told)
	}

	eventually(t, 60*time.Second, "the alert rules are looked at", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
		if err := p.get("rules", nil, &data); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				n++
				if r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
				if r.State == "firing" {
					t.Errorf("%s fires where all is well", r.Name)
				}
			}
		}
		if n < 8 {
			t.Errorf("only %d rules", n)
		}
		return nil
	})
}
