package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// drive keeps the truth of what visitors do to a Caddy. It is made of what was
// done and of what the answers said, never of rows; but when exactly an event
// was received nobody outside knows, so that is read from its row and held
// against when the call was made.
type drive struct {
	mu       sync.Mutex
	sessions map[string]*month.Session // all that pages and answers named
	visits   []*month.Visit            // all lines, whether they gave a sign of life or not
	lived    map[*month.Session]bool
	marks    map[string]*moment
	count    int
	pages    []*sentPage
	// decisions of one subject are in their order.
	decisions []*sentDecision
	programs  map[*month.Person]bool
}

// moment is when a call brought events with one mark.
type moment struct {
	events   []*month.Event
	from, to time.Time
}

func newDrive() *drive {
	return &drive{
		sessions: make(map[string]*month.Session), lived: make(map[*month.Session]bool),
		marks: make(map[string]*moment), programs: make(map[*month.Person]bool),
	}
}

func (d *drive) sent(p *sentPage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = append(d.pages, p)
}

func (d *drive) decided(decision *month.Decision, from time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decisions = append(d.decisions, &sentDecision{decision, from, time.Now()})
}

func (d *drive) session(id string) *month.Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
}

func (d *drive) mark() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	return "m" + strconv.Itoa(d.count)
}

// begin notes the first session of a line. It is no visit before it lives.
func (d *drive) begin(b *browser, s *month.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Visit = &month.Visit{Tenant: b.at.Tenant, Person: b.person, Sessions: []*month.Session{s}}
	d.visits = append(d.visits, s.Visit)
	d.sessions[s.ID] = s
}

// renew notes a session that succeeds another of its line.
func (d *drive) renew(next *month.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next.Visit.Sessions = append(next.Visit.Sessions, next)
	d.sessions[next.ID] = next
}

// live notes a sign of life, which makes the session's row.
func (d *drive) live(s *month.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lived[s] = true
}

func (d *drive) happened(mark string, e *month.Event, from, to time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.Session.Events = append(e.Session.Events, e)
	if d.marks[mark] == nil {
		d.marks[mark] = &moment{from: from, to: to}
	}
	d.marks[mark].events = append(d.marks[mark].events, e)
}

// truth is what is to be seen of all that: lines that gave a sign of life, with
// those of their sessions that did.
func (d *drive) truth(start time.Time) *month.Truth {
	truth := &month.Truth{Start: start.UTC().Truncate(24 * time.Hour), End: time.Now().UTC()}
	for _, v := range d.visits {
		first := v.Sessions[0]
		lived := slices.DeleteFunc(v.Sessions, func(s *month.Session) bool { return !d.lived[s] })
		if len(lived) == 0 {
			continue
		}
		if v.FirstLost = lived[0] != first; v.FirstLost {
			lived = append([]*month.Session{first}, lived...)
		}
		v.Sessions = lived
		truth.Visits = append(truth.Visits, v)
	}
	return truth
}

// receive reads from the events' rows when they were received, and says what
// is wrong with these: one that is missing, or too many, of another session, or
// received when nobody had sent it.
func (d *drive) receive(t *testing.T, rows []map[string]any) {
	t.Helper()
	type receipt struct {
		at       time.Time
		sequence int64
		session  any
	}
	receipts := make(map[string][]receipt)
	for _, row := range rows {
		var metadata struct{ Mark string }
		text, _ := row["metadata"].(string)
		if err := json.Unmarshal([]byte(text), &metadata); err != nil {
			t.Fatalf("metadata %q: %v", text, err)
		}
		mark := metadata.Mark
		if row["event_placement"] == "external" {
			mark = strings.TrimPrefix(row["page_url"].(string), elsewhere)
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z", row["timestamp"].(string))
		if err != nil {
			t.Fatal(err)
		}
		sequence, _ := row["session_event_sequence"].(json.Number).Int64()
		receipts[mark] = append(receipts[mark], receipt{at, sequence, row["session_id"]})
	}
	last, elsewheres := make(map[*month.Session]int64), 0
	for i := range d.count {
		mark := "m" + strconv.Itoa(i+1)
		m, got := d.marks[mark], receipts[mark]
		delete(receipts, mark)
		if m == nil || len(got) != len(m.events) {
			t.Errorf("event %s has %d rows: %v", mark, len(got), m)
			continue
		}
		slices.SortFunc(got, func(a, b receipt) int { return int(a.sequence - b.sequence) })
		for i, e := range m.events {
			e.At, e.Sequence = got[i].at, int(got[i].sequence)
			if e.At.Before(m.from.Truncate(time.Millisecond)) || e.At.After(m.to) {
				t.Errorf("event %s was received at %v, sent from %v to %v", mark, e.At, m.from, m.to)
			}
			if e.External {
				elsewheres++
				if got[i].session != e.Session.ID || e.Sequence != 0 {
					t.Errorf("conversion %s is %d of session %v, want 0 of %s", mark, e.Sequence, got[i].session, e.Session.ID)
				}
				continue
			}
			if got[i].session != e.Session.ID || got[i].sequence <= last[e.Session] {
				t.Errorf("event %s is %d of session %v, want one after %d of %s", mark, e.Sequence, got[i].session, last[e.Session], e.Session.ID)
			}
			last[e.Session] = got[i].sequence
		}
	}
	if elsewheres < 20 {
		t.Errorf("only %d conversions on other sites", elsewheres)
	}
	if len(receipts) > 0 {
		t.Errorf("events that nobody sent: %v", receipts)
	}
}

// caddyfile is the Caddy that is driven. brief is how long sessions last where
// some are to end.
func (d *drive) caddyfile(tb *standin.Server, places map[string]*place, brief string) func(admin, dir string) string {
	return func(admin, _ string) string {
		text := "{\n\tadmin " + admin + `
	auto_https off
	persist_config off
	servers {
		trusted_proxies static private_ranges
	}
	session_context {
		sink tinybird {
			url ` + tb.URL + `
			token ` + standin.DefaultToken + `
		}
		geo headers cloudflare
		bots {
			verify off
		}
	}
}
(landing) {
	@mobile vars session.device.type mobile
	session_context {
		workspace {args[0]}
		project pr_1
		campaign {args[1]}
		landing_page lp_1
		rate_limit 100000 100000
		segment mobile @mobile {
			landing_page lp_2
		}
		segment everyone
		{block}
	}
	rewrite /missing /nothing
	handle /nothing {
		respond "<!doctype html><title>Gone</title>" 404
	}
	handle {
		header Content-Type text/html
		respond "<!doctype html><html><head><title>Landing</title></head><body>Hello</body></html>"
	}
}
`
		for name, options := range map[string]string{
			"main":    "ab_test hero {\n\t\t\tvariant plain 50\n\t\t\tvariant bold 50\n\t\t}",
			"preview": "campaign_environment preview\n\t\tab_test hero {\n\t\t\tvariant plain 50\n\t\t\tvariant bold 50\n\t\t}",
			"asking":  "consent {\n\t\t\trequire always\n\t\t}",
			"brief":   "visit page\n\t\tsession_duration " + brief,
		} {
			p := places[name]
			text += fmt.Sprintf("%s {\n\timport landing %s %s {\n\t\t%s\n\t}\n}\n", p.url, p.Workspace, p.Campaign, options)
		}
		return text
	}
}
