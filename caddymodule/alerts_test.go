package caddymodule

import (
	"bytes"
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
