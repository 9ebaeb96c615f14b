package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

// metricNames are those of all figures; histograms have three.
func metricNames() map[string]bool {
	names := map[string]bool{}
	fqName := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	for _, c := range theMetrics.collectors() {
		ch := make(chan *prometheus.Desc, 100)
		c.Describe(ch)
		close(ch)
		for d := range ch {
			name := fqName.FindStringSubmatch(d.String())[1]
			names[name] = true
			if strings.HasSuffix(name, "_seconds") {
				for _, part := range []string{"_bucket", "_sum", "_count"} {
					names[name+part] = true
				}
			}
		}
	}
	return names
}

// The alert rules are what Prometheus reads, and ask for figures that there are.
func TestAlertRulesNameFiguresThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	known, asked := metricNames(), map[string]bool{}
	if len(known) < 30 {
		t.Errorf("only %d figures are known", len(known))
	}
	duration := regexp.MustCompile(`^([0-9]+[smhd])?$`)
	name := regexp.MustCompile(metricsPrefix + `[a-z_]+`)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if asked[r.Alert] || r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !duration.MatchString(r.For) {
				t.Errorf("not whole, or a second time: %+v", r)
			}
			asked[r.Alert] = true
			found := name.FindAllString(r.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s asks for none of our figures: %s", r.Alert, r.Expr)
			}
			for _, n := range found {
				if !known[n] {
					t.Errorf("%s asks for %s, which is no figure", r.Alert, n)
				}
			}
			if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") {
				t.Errorf("%s: %s", r.Alert, r.Expr)
			}
		}
	}
	if len(asked) < 8 {
		t.Errorf("only %d rules", len(asked))
	}
}

// The dashboard is one that Grafana reads, shows each figure, and asks for none
// that there isn't. What Prometheus says to it is another test's.
func TestDashboardShowsEveryFigure(t *testing.T) {
	text, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ X, Y, W, H int }
	var dashboard struct {
		UID           string
		SchemaVersion int
		Panels        []struct {
			ID                 int
			Title, Description string
			Type               string
			GridPos            place
			Targets            []struct{ RefID, Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	known, asked := metricNames(), map[string]bool{}
	name := regexp.MustCompile(metricsPrefix + `[a-z_]+`)
	ids, covered := map[int]bool{}, map[place]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d, %q: no title, no question, or a second one of that id", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := place{X: p.GridPos.X + x, Y: p.GridPos.Y + y}
				if other, taken := covered[at]; taken {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				covered[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			found := name.FindAllString(target.Expr, -1)
			if len(found) == 0 || target.LegendFormat == "" || !strings.Contains(target.Expr, "$instance") {
				t.Errorf("%s: %s", p.Title, target.Expr)
			}
			for _, n := range found {
				if !known[n] {
					t.Errorf("%s asks for %s, which is no figure", p.Title, n)
				}
				asked[strings.TrimSuffix(n, "_bucket")] = true
			}
		}
	}
	for n := range known {
		if !asked[n] && !strings.HasSuffix(n, "_sum") && !strings.HasSuffix(n, "_count") && !strings.HasSuffix(n, "_bucket") {
			t.Errorf("%s is shown nowhere", n)
		}
	}
}
