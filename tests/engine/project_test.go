package engine

import (
	"slices"
	"strings"
	"testing"
)

// Tenants are kept apart wherever a datasource is read, and not only where
// rows are counted: each such node names all five columns.
func TestEveryNodeThatReadsADatasourceFiltersTheTenant(t *testing.T) {
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for name, pipe := range project.pipes {
		for _, node := range pipe.Nodes {
			for _, match := range reads.FindAllStringSubmatch(node.SQL, -1) {
				if !strings.HasSuffix(match[3], "_v1") {
					continue
				}
				read++
				for column, parameter := range map[string]string{
					"workspace_id": "workspaceId", "project_id": "projectId", "campaign_id": "campaignId",
					"environment": "environment", "campaign_environment": "campaignEnvironment",
				} {
					if !strings.Contains(node.SQL, " "+column+" = {{String("+parameter) {
						t.Errorf("%s, node %s reads %s for every %s", name, node.Name, match[3], column)
					}
				}
			}
		}
	}
	if read == 0 {
		t.Error("no node reads a datasource")
	}
}

// required are an endpoint's parameters without the optional ones.
func required(endpoint string) map[string]string {
	q := questions()["ten days"]
	all := q.parameters()
	switch endpoint {
	case "ab_test_result", "ab_test_winner":
		return testParameters(q, "hero", nil)
	case "realtime_overview":
		delete(all, "periodStart")
		delete(all, "periodEnd")
	case "audience_breakdown", "traffic_overview", "consent_rates":
		delete(all, "conversionEventId")
	}
	return all
}

// An endpoint can be read with the token that reads datasources, and says what
// it answers; without its required parameters it answers nothing.
func TestEndpointsAreWholeFiles(t *testing.T) {
	project, err := LoadProject("../../tinybird")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range project.Endpoints() {
		pipe := project.pipes[name]
		if !slices.Contains(pipe.Tokens, "session_context_read") || pipe.Description == "" {
			t.Errorf("%s has no token to read it, or no description", name)
		}
		all := required(name)
		for parameter, value := range all {
			delete(all, parameter)
			if _, err := project.Compile(name, all); err == nil {
				t.Errorf("%s answers without %s", name, parameter)
			}
			all[parameter] = value
		}
	}
}
