package month

import (
	"fmt"
	"math/rand/v2"
	"time"
	_ "time/tzdata" // the zones that visitors live in
)

// The tenants: the one that is asked for, and others whose rows differ from its
// rows in one column each.
var (
	Main        = Tenant{"ws_1", "pr_1", "cmp_1", "production", "production"}
	Preview     = Tenant{"ws_1", "pr_1", "cmp_1", "preview", "production"}
	Development = Tenant{"ws_1", "pr_1", "cmp_1", "production", "dev"}
	OtherTenant = Tenant{"ws_2", "pr_1", "cmp_1", "production", "production"}
	OtherOne    = Tenant{"ws_1", "pr_2", "cmp_1", "production", "production"}
	OtherPage   = Tenant{"ws_1", "pr_1", "cmp_2", "production", "production"}
)

// The A/B test. Its control is not the variant whose id comes first.
const (
	Test       = "hero"
	Control    = "plain"
	Conversion = "purchase"
)

// converts is how likely a visit buys, by variant; "" is outside the test.
var converts = map[string]float64{"": 0.12, Control: 0.10, "bold": 0.17, "calm": 0.10}

const (
	days    = 31
	session = 30 * time.Minute
)

// Make makes a month that begins at start, which is 00:00 UTC of some day, with
// about that many visits of the main tenant. The same seed gives the same month.
func Make(seed uint64, start time.Time, visits int) *Truth {
	m := &maker{
		rand:  rand.New(rand.NewPCG(seed, 1)),
		truth: &Truth{Start: start, End: start.AddDate(0, 0, days)},
	}
	for range visits * 2 / 3 {
		m.people = append(m.people, m.person())
	}
	for range visits {
		m.visit(Main, m.people[m.rand.IntN(len(m.people))], m.moment())
	}
	for _, tenant := range []Tenant{Preview, Development, OtherTenant, OtherOne, OtherPage} {
		for range visits / 20 {
			m.visit(tenant, m.people[m.rand.IntN(len(m.people))], m.moment())
		}
	}
	// Where periods end and begin, to the millisecond.
	for day := range days {
		midnight := start.AddDate(0, 0, day)
		m.visit(Main, m.person(), midnight)
		m.visit(Main, m.person(), midnight.AddDate(0, 0, 1).Add(-time.Millisecond))
	}
	m.truth.traffic(seed)
	m.truth.consents(seed)
	return m.truth
}

type maker struct {
	rand   *rand.Rand
	truth  *Truth
	people []*Person
	ids    int
}

func (m *maker) id(kind string) string {
	m.ids++
	return fmt.Sprintf("%s_%06d_%08x", kind, m.ids, m.rand.Uint32())
}

func (m *maker) chance(p float64) bool { return m.rand.Float64() < p }

func pick[T any](m *maker, from ...T) T { return from[m.rand.IntN(len(from))] }

func (m *maker) person() *Person {
	p := &Person{User: m.id("user"), Cookieless: m.chance(0.35), BotScore: 99}
	type place struct{ country, city, continent, zone, language string }
	at := pick(m,
		place{"DE", "München", "EU", "Europe/Berlin", "de-DE"},
		place{"DE", "Berlin", "EU", "Europe/Berlin", "de-DE"},
		place{"DE", "Halle", "EU", "Europe/Berlin", "en"},
		place{"US", "New York", "NA", "America/New_York", "en-US"},
		place{"US", "Halle", "NA", "America/New_York", "en-US"},
		place{"Unknown", "Unknown", "Unknown", "", ""},
	)
	p.Country, p.City, p.Continent, p.Zone, p.Language = at.country, at.city, at.continent, at.zone, at.language
	type machine struct{ device, os, browser string }
	with := pick(m,
		machine{"mobile", "iOS", "Safari"}, machine{"mobile", "Android", "Chrome"},
		machine{"desktop", "Windows", "Chrome"}, machine{"desktop", "Windows", "Edge"},
		machine{"desktop", "macOS", "Safari"}, machine{"tablet", "Android", "Chrome"},
		machine{"desktop", "Linux", "Firefox"}, machine{"unknown", "Unknown", "Unknown"},
	)
	p.Device, p.OS, p.Browser = with.device, with.os, with.browser
	switch n := m.rand.IntN(100); {
	case n < 3:
		p.BotScore, p.VerifiedBot = 1, true
	case n < 4: // verified, and no score says so
		p.BotScore, p.VerifiedBot = 64, true
	case n < 7:
		p.BotScore = 2
	case n < 10:
		p.BotScore = 0
	case n < 20:
		p.BotScore = 6 + float64(m.rand.IntN(40))
	}
	return p
}

// moment is when somebody comes: by day, in one of the two zones.
func (m *maker) moment() time.Time {
	zone, _ := time.LoadLocation(pick(m, "Europe/Berlin", "America/New_York"))
	day := m.truth.Start.AddDate(0, 0, m.rand.IntN(days))
	hour := 7 + m.rand.IntN(16)
	if m.chance(0.1) {
		hour = m.rand.IntN(24)
	}
	local := time.Date(day.Year(), day.Month(), day.Day(), hour, m.rand.IntN(60), m.rand.IntN(60), m.rand.IntN(1000)*1e6, zone)
	return local.UTC()
}

func (m *maker) touch() Touch {
	return pick(m,
		Touch{Source: "google", Medium: "cpc", Campaign: "winter", Term: "skis", Referrer: "https://www.google.com/", LandingPage: "/winter?utm_source=google&gclid=abc&gbraid=1"},
		Touch{Source: "google", Medium: "cpc", Campaign: "brand", Content: "b", Referrer: "https://www.google.com/", LandingPage: "/brand?utm_source=google&gclid=abd"},
		Touch{Source: "facebook", Medium: "paid", Campaign: "winter", Referrer: "https://l.facebook.com/l.php", LandingPage: "/winter?ScCid=x&utm_source=facebook&fbclid=y&other=z"},
		Touch{Source: "letter", Medium: "email", Ref: "friend", LandingPage: "/winter"},
		Touch{Own: "partner", Ref: "friend", Source: "letter", Referrer: "https://partner.example/a?domain=other.example", LandingPage: "/winter?source=partner"},
		Touch{Referrer: "https://news.example:8443/story", LandingPage: "/winter"},
		Touch{LandingPage: "/winter"}, Touch{LandingPage: "/winter"},
	)
}

// visit adds one visit, with its renewals and what is done in it.
func (m *maker) visit(tenant Tenant, person *Person, at time.Time) {
	v := &Visit{Tenant: tenant, Person: person}
	first := &Session{
		Visit: v, ID: m.id("session"), User: person.User, City: person.City, At: at, Touch: m.touch(), FirstSource: "server",
		LandingPage: pick(m, "lp_1", "lp_1", "lp_2", ""),
		Segment:     map[string]string{"mobile": "mobile", "desktop": "everyone", "tablet": "everyone"}[person.Device],
	}
	first.First = first.Touch
	if person.Cookieless {
		// A new user each time; the day's key is what two visits share.
		first.User = m.id("user")
		first.VisitorDay = fmt.Sprintf("day_%s_%s", person.User, at.Format("0102"))
	} else {
		first.Returning = person.visitedBefore
		person.visitedBefore = true
	}
	if first.Returning {
		first.First = m.touch()
		switch n := m.rand.IntN(10); n {
		case 0:
			first.FirstSource, first.First = "lost", Touch{}
		case 1:
			first.FirstSource = "client"
		}
	}
	if m.chance(0.8) {
		first.Test, first.Variant = Test, pick(m, Control, "bold", "calm")
	} else if m.chance(0.3) {
		first.Test, first.Variant = "footer", pick(m, Control, "bold")
	}
	v.Sessions = []*Session{first}
	if m.chance(0.15) {
		for n := range 1 + m.rand.IntN(3) {
			next := *first
			next.ID, next.Renewal, next.Events = m.id("session"), n+1, nil
			next.At = at.Add(time.Duration(n+1) * session)
			if m.chance(0.5) {
				next.City = "On the train"
			}
			if person.Cookieless {
				next.VisitorDay = fmt.Sprintf("day_%s_%s", person.User, next.At.Format("0102"))
			}
			v.Sessions = append(v.Sessions, &next)
		}
		v.FirstLost = m.chance(0.1)
	}
	for i, s := range v.Sessions {
		if i > 0 || !v.FirstLost { // what has sent an event has a row
			m.events(s, i == 0)
		}
	}
	m.truth.Visits = append(m.truth.Visits, v)
}
