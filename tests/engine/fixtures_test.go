package engine

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

var update = flag.Bool("update", false, "write tinybird/fixtures and tinybird/tests anew")

// A fixture's days lie ahead, since datasources drop rows by their age: they are
// taken as long as the project is likely to be tested.
const (
	fixtureDays = 5
	fixtureSeed = 21
)

var fixtureStart = time.Date(2090, time.January, 2, 0, 0, 0, 0, time.UTC)

// fixture is some days of a made-up month, small enough to be kept.
func fixture() *month.Truth {
	truth := month.Make(fixtureSeed, fixtureStart, 60)
	truth.End = truth.Start.AddDate(0, 0, fixtureDays)
	truth.Visits = filter(truth.Visits, func(v *month.Visit) bool { return v.Start().Before(truth.End) })
	truth.Pages = filter(truth.Pages, func(p *month.Page) bool { return p.At.Before(truth.End) })
	truth.Decisions = filter(truth.Decisions, func(d *month.Decision) bool { return d.Given.Before(truth.End) })
	return truth
}

// request is one test of tb.
type request struct {
	name, description string
	question          question
	more              map[string]string
}

// requests are the tests of each endpoint.
func requests(truth *month.Truth) map[string][]request {
	all := question{truth: truth, tenant: month.Main, period: days(truth, 0, fixtureDays), conversion: month.Conversion, currency: "USD"}
	last := all
	last.period = days(truth, 3, 2)
	whole := last
	whole.programs, whole.renewals, whole.currency = true, true, "EUR"
	periods := []request{
		{"two_days", "People's visits of two days, beside the two before where an endpoint compares.", last, nil},
		{"everybody", "The same days with programs and each renewal as a session, in euros.", whole, nil},
		{"nobody", "A period without rows.", question{truth: truth, tenant: month.Main, period: days(truth, -10, 1), conversion: month.Conversion, currency: "USD"}, nil},
	}
	byDay := slices.Clone(periods)
	for i := range byDay {
		byDay[i].more = map[string]string{"granularity": "day"}
	}
	halfDays := slices.Clone(periods)
	halfDays[0].name, halfDays[0].description = "half_a_day", "Who was there in the last 12 hours of two days, and what they did."
	halfDays[1].description = "The same hours with programs and each renewal as a session, in euros."
	// Who counts as a person is nothing to decisions about consent.
	decided := []request{
		{"two_days", "What was decided in two days.", last, byDay[0].more},
		{"hours", "The same by hours.", last, nil},
		{"nobody", periods[2].description, periods[2].question, byDay[0].more},
	}
	tests := []request{{"hero", "The test of the landing page, since it began.", all, map[string]string{"controlVariantId": month.Control}}}
	return map[string][]request{
		"overview_analytics": periods, "sum_primitives": periods, "timeseries_primitives": byDay,
		"audience_breakdown": periods, "conversions_breakdown": periods, "ab_test_result": tests, "ab_test_winner": tests,
		"realtime_overview": halfDays, "attribution_first_touch": periods, "traffic_overview": byDay, "consent_rates": decided,
	}
}

func (r request) parameters(endpoint string) map[string]string {
	p := r.question.parameters()
	switch {
	case strings.HasPrefix(endpoint, "ab_test"):
		p = testParameters(r.question, month.Test, nil)
	case endpoint == "realtime_overview":
		p = realtimeParameters(r.question, r.question.period.end, 12*60)
	case endpoint == "traffic_overview", endpoint == "consent_rates":
		delete(p, "conversionEventId")
	case strings.HasSuffix(endpoint, "_primitives"):
		p["eventIds"] = strings.Join(customs, ",")
	}
	maps.Copy(p, r.more)
	return p
}

// yaml is the request as a test file has it, with what is answered.
func (r request) yaml(parameters map[string]string, result string) string {
	values := make(url.Values)
	for name, value := range parameters {
		values.Set(name, value)
	}
	text := fmt.Sprintf("- name: %s\n  description: %s\n  expected_http_status: 200\n  parameters: %s\n", r.name, r.description, values.Encode())
	if result = strings.TrimSpace(result); result == "" {
		return text + "  expected_result: ''\n"
	}
	return text + "  expected_result: |\n    " + strings.ReplaceAll(result, "\n", "\n    ") + "\n"
}

// TestFixturesAndTheirTestsAreUpToDate: what is kept for tb is what the
// generator makes and the engine answers, and those answers are true.
func TestFixturesAndTheirTestsAreUpToDate(t *testing.T) {
	const root = "../../tinybird"
	truth := fixture()
	c := open(t)
	rows := make(map[string][]byte)
	for _, batch := range truth.Batches(fixtureSeed) {
		if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
			t.Fatal(err)
		}
		for _, row := range batch.Rows {
			rows[batch.Datasource] = append(append(rows[batch.Datasource], row...), '\n')
		}
	}
	size := 0
	want := make(map[string]string)
	for datasource, text := range rows {
		want[filepath.Join(root, "fixtures", datasource+".ndjson")] = string(text)
		size += len(text)
	}
	if size > 400<<10 {
		t.Errorf("fixtures have %d bytes", size)
	}
	project, err := LoadProject(root)
	if err != nil {
		t.Fatal(err)
	}
	all := requests(truth)
	for _, endpoint := range project.Endpoints() {
		if len(all[endpoint]) == 0 {
			t.Errorf("endpoint %s has no test for tb: add some to requests", endpoint)
		}
		var tests []string
		for _, r := range all[endpoint] {
			parameters := r.parameters(endpoint)
			sql, err := project.Compile(endpoint, parameters)
			if err != nil {
				t.Fatal(err)
			}
			result, err := c.query(sql + "\nSETTINGS output_format_json_quote_64bit_integers = 0")
			if err != nil {
				t.Fatalf("%s: %v", endpoint, err)
			}
			tests = append(tests, r.yaml(parameters, result))
			if check := endToEnd[endpoint]; check != nil {
				t.Run(endpoint+", "+r.name, func(t *testing.T) { check(t, c, r.question) })
			}
		}
		want[filepath.Join(root, "tests", endpoint+".yaml")] = strings.Join(tests, "\n")
	}
	compareFiles(t, want, root)
}

// compareFiles compares files with what they should be, or writes them; no
// other may be in their folders.
func compareFiles(t *testing.T, want map[string]string, root string) {
	t.Helper()
	for _, folder := range []string{"fixtures", "tests"} {
		if *update {
			if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		files, err := filepath.Glob(filepath.Join(root, folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if _, known := want[file]; !known {
				t.Errorf("%s is nobody's: delete it", file)
			}
		}
	}
	for file, text := range want {
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, []byte(text)) {
			t.Errorf("%s is not what it should be (%v): go test -run Fixtures -update writes it", file, err)
		}
	}
}
