// Package month makes up a month of a landing page's visitors, from a seed: who
// came, what they did, and the rows that the module would deliver about it.
//
// What is true stands in Truth, and figures are computed from that. Rows say
// the same and more: batches that were sent twice, events that were tried again
// minutes later, rows out of order, rows of other tenants. A figure that comes
// out of a database full of such rows is right if it equals the one from Truth.
package month

import "time"

// Tenant is whose rows they are; every endpoint filters by all five.
type Tenant struct {
	Workspace, Project, Campaign, CampaignEnvironment, Environment string
}

// Truth is what happened.
type Truth struct {
	// Start is 00:00 UTC of the first day, End 00:00 after the last.
	Start, End time.Time
	Visits     []*Visit
	// Pages are what the server sent, to visitors and others.
	Pages []*Page
	// Decisions are about consent, those of one subject in their order.
	Decisions []*Decision
}

// Visit is one line of sessions: the first, and those that renewed it.
type Visit struct {
	Tenant   Tenant
	Person   *Person
	Sessions []*Session
	// FirstLost says that the first session has no row: its page was never
	// looked at until it had to be renewed.
	FirstLost bool
}

// Start is when the visit began.
func (v *Visit) Start() time.Time { return v.Sessions[0].At }

// Rows are the sessions that have a row.
func (v *Visit) Rows() []*Session {
	if v.FirstLost {
		return v.Sessions[1:]
	}
	return v.Sessions
}

// Events are those of all of the visit's sessions.
func (v *Visit) Events() []*Event {
	var all []*Event
	for _, s := range v.Sessions {
		all = append(all, s.Events...)
	}
	return all
}

// Person is a browser and where it is.
type Person struct {
	User                          string // the user id, where the browser keeps cookies
	Cookieless                    bool
	Country, City, Continent      string
	Zone                          string // IANA name; empty if not known
	Device, OS, Browser, Language string
	BotScore                      float64
	VerifiedBot                   bool
	visitedBefore                 bool
}

// Program says that the visitor is none: a verified crawler, or a program that
// names itself. 0 is an unknown score.
func (p *Person) Program() bool {
	return p.VerifiedBot || p.BotScore > 0 && p.BotScore < 6
}

// Session is a row of session_v1.
type Session struct {
	Visit      *Visit
	ID, User   string
	VisitorDay string // empty for visitors with cookies
	City       string
	At         time.Time
	Renewal    int
	Returning  bool
	Touch      Touch
	First      Touch
	// FirstSource is server, client or lost.
	FirstSource          string
	LandingPage, Segment string
	Test, Variant        string
	Events               []*Event
}

// Visitor is by what unique visitors are counted.
func (s *Session) Visitor() string {
	if s.VisitorDay != "" {
		return s.VisitorDay
	}
	return s.User
}

// Touch is where a visitor came from. Empty is null.
type Touch struct {
	Source, Medium, Campaign, Term, Content string // utm_*
	Ref, Own                                string // ref and source
	Referrer, LandingPage                   string
}

// Event is a row of events_v1.
type Event struct {
	Session  *Session
	ID, Type string
	At       time.Time
	Sequence int // 0 for external ones
	Value    float64
	Currency string
	// TimeOnPage is in seconds, -1 for null.
	TimeOnPage int
	External   bool
}
