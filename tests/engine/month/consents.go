package month

import (
	"math/rand/v2"
	"time"
)

// Decision is a record of consents_v1: two rows if it has ended.
type Decision struct {
	Tenant                           Tenant
	ID, Subject, Domain              string
	Segment, Country                 string
	Analytics, Marketing, Functional bool
	Proof, Source, Policy            string
	Given, Expires                   time.Time
	EndedAs                          string // withdrawn, expired, or empty
	Ended                            time.Time
}

// Proven says that the subject's own browser decided.
func (d *Decision) Proven() bool { return d.Proof != "ids" && d.Proof != "subject" }

// Granted says that it was a yes to anything.
func (d *Decision) Granted() bool { return d.Analytics || d.Marketing || d.Functional }

// consents adds what visitors decided, with randomness of its own.
func (t *Truth) consents(seed uint64) {
	m := &maker{rand: rand.New(rand.NewPCG(seed, 4)), truth: t}
	for _, v := range t.Visits {
		if !m.chance(0.5) {
			continue
		}
		s := v.Sessions[0]
		var former *Decision
		at := s.At
		domain := pick(m, "lp.example.com", "lp.example.com", "www.example.com")
		subject := m.id("subject") // who decides in two visits is another there
		for range 1 + max(0, m.rand.IntN(7)-3) {
			d := &Decision{
				Tenant: v.Tenant, ID: m.id("consent"), Subject: subject, Domain: domain,
				Segment: s.Segment, Country: v.Person.Country, Given: at,
				Expires: at.AddDate(0, 0, pick(m, 1, 365, 365, 365)),
				Proof:   pick(m, "token", "token", "token", "cookie", "visitor", "ids", "subject"),
				Source:  pick(m, "banner", "banner", "settings", "unspecified"),
				Policy:  pick(m, "2026-1", "2026-2", "2026-2", ""),
			}
			if former != nil && m.chance(0.2) {
				// Elsewhere, on a node whose clock was behind: of the same moment, and
				// its id sorts first.
				d.Given, d.Expires = former.Given, former.Given.AddDate(1, 0, 0)
				d.ID, former.ID = former.ID, d.ID
			}
			switch m.rand.IntN(4) {
			case 0:
			case 1:
				d.Analytics = true
			case 2:
				d.Analytics, d.Functional = m.chance(0.7), m.chance(0.7)
			default:
				d.Analytics, d.Marketing, d.Functional = true, true, true
			}
			if former != nil {
				former.EndedAs, former.Ended = "withdrawn", d.Given
				if !d.Given.Before(former.Expires) {
					former.EndedAs, former.Ended = "expired", former.Expires
				}
			}
			t.Decisions = append(t.Decisions, d)
			former, at = d, d.Given.Add(time.Duration(3+m.rand.IntN(6*24*60))*time.Minute)
		}
	}
}

func (d *Decision) row(status string, at time.Time) map[string]any {
	row := map[string]any{
		"timestamp": stamp(at), "row_id": "row_" + d.ID + status, "consent_id": d.ID,
		"subject_id": d.Subject, "session_id": nil, "segment_id": null(d.Segment), "domain": d.Domain,
		"essential": 1, "analytics": flag(d.Analytics), "marketing": flag(d.Marketing), "functional": flag(d.Functional),
		"status": status, "proof": d.Proof, "policy_version": null(d.Policy), "source": d.Source, "ip": nil,
		"user_agent": "Mozilla/5.0", "country": d.Country, "language": nil,
		"given_at": stamp(d.Given), "expires_at": stamp(d.Expires),
	}
	d.Tenant.row(row)
	return row
}
