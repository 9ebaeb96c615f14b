package engine

import (
	"maps"
	"strings"
	"testing"
)

// readsOf is how often an endpoint reads each table. A node that is named
// twice is computed twice, from the tables on: what an endpoint costs grows with
// this, whatever the tables hold. See docs/tinybird-scale.md.
var readsOf = map[string]map[string]int{
	"ab_test_result":          {"session_v1": 3, "events_v1": 1},
	"ab_test_winner":          {"session_v1": 3, "events_v1": 1},
	"attribution_first_touch": {"session_v1": 3, "events_v1": 1},
	"audience_breakdown":      {"session_v1": 1},
	"consent_rates":           {"consents_v1": 4},
	"conversions_breakdown":   {"session_v1": 6, "events_v1": 2},
	"overview_analytics":      {"session_v1": 4, "events_v1": 2},
	"realtime_overview":       {"session_v1": 4, "events_v1": 2},
	"sum_primitives":          {"session_v1": 4, "events_v1": 2},
	"timeseries_primitives":   {"session_v1": 4, "events_v1": 2},
	"traffic_overview":        {"session_v1": 2, "traffic_v1": 2},
}

func TestEndpointsReadTablesNoOftenerThanTheyMust(t *testing.T) {
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	for endpoint := range readsOf {
		if project.pipes[endpoint] == nil {
			t.Errorf("there is no endpoint %s", endpoint)
		}
	}
	for _, endpoint := range project.Endpoints() {
		pipe, want := project.pipes[endpoint], readsOf[endpoint]
		found := make(map[string]int)
		project.countReads(pipe, pipe.Nodes[len(pipe.Nodes)-1].Name, found)
		if !maps.Equal(found, want) {
			t.Errorf("%s reads tables %v times, want %v", endpoint, found, want)
		}
	}
}

// countReads adds how often a node reads tables, by itself and through what it
// names.
func (p *Project) countReads(pipe *Pipe, node string, found map[string]int) {
	for _, n := range pipe.Nodes {
		if n.Name != node {
			continue
		}
		for _, match := range reads.FindAllStringSubmatch(n.SQL, -1) {
			name := match[3]
			switch other, isPipe := p.pipes[name]; {
			case pipe.has(name):
				p.countReads(pipe, name, found)
			case isPipe:
				p.countReads(other, other.Nodes[len(other.Nodes)-1].Name, found)
			case strings.HasSuffix(name, "_v1"):
				found[name]++
			}
		}
	}
}

// has says that the pipe has a node of that name.
func (p *Pipe) has(node string) bool {
	for _, n := range p.Nodes {
		if n.Name == node {
			return true
		}
	}
	return false
}
