package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// When exactly a page was sent or a decision taken only the server knows. That is
// read from the row, and held against when the visitor asked; all else that is
// true of it is known without the row, which is held to that.

// sentPage is a page and between which moments it was asked for.
type sentPage struct {
	*month.Page
	from, to time.Time
}

// sentDecision is a decision and between which moments it was told.
type sentDecision struct {
	*month.Decision
	from, to time.Time
}

// within says that a row's time is one at which something was under way.
func within(at, from, to time.Time) bool {
	return !at.Before(from.Truncate(time.Millisecond)) && !at.After(to)
}

// rowTime is a row's column that holds a time.
func rowTime(t *testing.T, row map[string]any, column string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(row[column]))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// receivePages holds traffic against each page that was sent, as what it was
// sent, and puts the pages into the truth. A session's pages come one after the
// other; those that no visitor got to know a session of are known by who asked.
func (d *drive) receivePages(t *testing.T, truth *month.Truth, rows []map[string]any) {
	t.Helper()
	told := make(map[string]bool)
	for _, p := range d.pages {
		told[p.SessionID] = true
	}
	got := make(map[string][]map[string]any)
	for _, row := range rows {
		session := fmt.Sprint(row["session_id"])
		if !told[session] {
			device := row["device"].(map[string]any)
			session = fmt.Sprint(device["type"], device["os"], device["browser"])
		}
		key := fmt.Sprintln(session, row["purpose"], row["status"], row["counted"], row["workspace_id"], row["project_id"], row["campaign_id"],
			row["campaign_environment"], row["environment"])
		got[key] = append(got[key], row)
	}
	for _, rows := range got {
		slices.SortFunc(rows, func(a, b map[string]any) int { return rowTime(t, a, "timestamp").Compare(rowTime(t, b, "timestamp")) })
	}
	slices.SortFunc(d.pages, func(a, b *sentPage) int { return a.to.Compare(b.to) })
	for _, p := range d.pages {
		session, counted := p.SessionID, 0
		if session == "" {
			session = p.Person.Device + p.Person.OS + p.Person.Browser
		}
		if p.Counted {
			counted = 1
		}
		key := fmt.Sprintln(session, p.Purpose, p.Status, counted, p.Tenant.Workspace, p.Tenant.Project, p.Tenant.Campaign,
			p.Tenant.CampaignEnvironment, p.Tenant.Environment)
		// The earliest that may be it: who was answered first takes first.
		i := slices.IndexFunc(got[key], func(row map[string]any) bool { return within(rowTime(t, row, "timestamp"), p.from, p.to) })
		if i < 0 {
			t.Errorf("a page that was asked for from %v to %v has no row of that time, of %d: %s", p.from, p.to, len(got[key]), key)
			continue
		}
		row := got[key][i]
		got[key] = slices.Delete(got[key], i, i+1)
		p.ID, p.At, p.SessionID = fmt.Sprint(row["request_id"]), rowTime(t, row, "timestamp"), fmt.Sprint(row["session_id"])
		truth.Pages = append(truth.Pages, p.Page)
	}
	for key, rows := range got {
		if len(rows) > 0 {
			t.Errorf("%d pages that nobody asked for: %s", len(rows), key)
		}
	}
}

// receiveDecisions holds records of consent against each decision and its end,
// and puts the decisions into the truth.
func (d *drive) receiveDecisions(t *testing.T, truth *month.Truth, rows []map[string]any) {
	t.Helper()
	got := make(map[string]map[string]any)
	for _, row := range rows {
		key := fmt.Sprint(row["consent_id"], " ", row["status"])
		if got[key] != nil {
			t.Errorf("two rows of %s", key)
		}
		got[key] = row
	}
	for _, s := range d.decisions {
		row := got[s.ID+" active"]
		delete(got, s.ID+" active")
		if row == nil {
			t.Errorf("decision %+v has no row", *s.Decision)
			continue
		}
		s.Given, s.Expires = rowTime(t, row, "given_at"), rowTime(t, row, "expires_at")
		if !within(s.Given, s.from, s.to) || !s.Expires.Equal(s.Given.AddDate(0, 0, 365)) || !rowTime(t, row, "timestamp").Equal(s.Given) {
			t.Errorf("decision %s was given at %v and expires at %v, want from %v to %v: %v", s.ID, s.Given, s.Expires, s.from, s.to, row)
		}
		if row["subject_id"] != s.Subject || row["proof"] != s.Proof || row["campaign_id"] != s.Tenant.Campaign {
			t.Errorf("decision %+v is %v", *s.Decision, row)
		}
		truth.Decisions = append(truth.Decisions, s.Decision)
		if s.EndedAs == "" {
			continue
		}
		end := got[s.ID+" "+s.EndedAs]
		delete(got, s.ID+" "+s.EndedAs)
		if end == nil {
			t.Errorf("decision %s was %s, and has no row of that", s.ID, s.EndedAs)
			continue
		}
		if s.Ended = rowTime(t, end, "timestamp"); s.Ended.Before(s.Given) {
			t.Errorf("decision %s of %v ended at %v", s.ID, s.Given, s.Ended)
		}
	}
	if len(got) > 0 {
		t.Errorf("records of decisions that nobody took, or ends of such that last: %v", got)
	}
}
