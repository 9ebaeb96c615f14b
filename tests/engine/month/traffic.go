package month

import (
	"math/rand/v2"
	"time"
)

// Page is a row of traffic_v1: a page that the server sent.
type Page struct {
	Tenant  Tenant
	Person  *Person
	ID      string // the request's
	At      time.Time
	Session *Session // nil for one that never had a row
	// SessionID, LandingPage and Segment are what the server decided.
	SessionID, LandingPage, Segment string
	Purpose                         string
	Status                          int
	Counted, CorporateProxy         bool
	Referrer                        string
}

// traffic adds the pages of all visits, and those of programs and of browsers
// that fetched ahead, which no visit came of. It has randomness of its own, so
// that visits are what they were without it.
func (t *Truth) traffic(seed uint64) {
	m := &maker{rand: rand.New(rand.NewPCG(seed, 3)), truth: t}
	page := func(tenant Tenant, p *Person, s *Session, at time.Time) *Page {
		next := &Page{
			Tenant: tenant, Person: p, ID: m.id("request"), At: at, Session: s,
			Purpose: "navigate", Status: 200, CorporateProxy: m.chance(0.1),
		}
		if s != nil {
			next.SessionID, next.LandingPage, next.Segment, next.Referrer = s.ID, s.LandingPage, s.Segment, s.Touch.Referrer
		} else {
			next.SessionID, next.LandingPage = m.id("session"), "lp_1"
		}
		t.Pages = append(t.Pages, next)
		return next
	}
	for _, v := range t.Visits {
		for i, s := range v.Sessions {
			shown := s
			if i == 0 && v.FirstLost {
				copied := *s // has no row, and says what it was
				shown = &copied
			}
			if i == 0 && m.chance(0.05) { // asked for again with client hints
				page(v.Tenant, v.Person, shown, s.At).Purpose = "retried"
			}
			for n := range m.rand.IntN(4) {
				p := page(v.Tenant, v.Person, shown, s.At.Add(time.Duration(n)*time.Duration(1+m.rand.IntN(9*60*1000))*time.Millisecond))
				switch k := m.rand.IntN(40); {
				case k < 3:
					p.Status = pick(m, 404, 404, 500, 301)
				case k < 8:
					p.Purpose = pick(m, "prefetch", "prerender", "range", "iframe", "service-worker")
				}
				p.Counted = p.Purpose == "navigate" && p.Status == 200
			}
		}
	}
	for range len(t.Visits) / 4 {
		at := t.Start.Add(time.Duration(m.rand.IntN(days*24*3600)) * time.Second)
		tenant := pick(m, Main, Main, Main, Preview, Development, OtherTenant, OtherOne, OtherPage)
		p := m.person()
		switch m.rand.IntN(4) {
		case 0: // fetched ahead, never followed
			page(tenant, p, nil, at).Purpose = "prefetch"
			continue
		case 1:
			p.BotScore, p.VerifiedBot = 1, true
		case 2:
			p.BotScore, p.VerifiedBot = float64(1+m.rand.IntN(5)), false
		}
		page(tenant, p, nil, at).Counted = true // a program, or scripts switched off
	}
}

func (p *Page) row() map[string]any {
	who := p.Person
	row := map[string]any{
		"timestamp": stamp(p.At), "request_id": p.ID, "row_id": "row_" + p.ID,
		"landing_page_id": null(p.LandingPage), "session_id": p.SessionID, "segment_id": null(p.Segment),
		"status": p.Status, "purpose": p.Purpose, "counted": flag(p.Counted),
		"geo": map[string]any{
			"city": who.City, "continent": who.Continent, "country": null(who.Country), "is_eu_country": flag(who.Continent == "EU"),
			"latitude": nil, "longitude": nil, "region": "Unknown", "region_code": nil, "timezone": null(who.Zone),
		},
		"device": map[string]any{
			"type": who.Device, "os": who.OS, "browser": who.Browser, "browser_version": nil,
			"is_mobile": flag(who.Device == "mobile"), "connection_type": "unknown",
		},
		"localization": map[string]any{"language": null(who.Language)},
		"traffic":      map[string]any{"referrer": null(p.Referrer), "user_agent": "Mozilla/5.0"},
		"bot_score":    who.BotScore, "is_corporate_proxy": flag(p.CorporateProxy), "is_verified_bot": flag(who.VerifiedBot),
	}
	p.Tenant.row(row)
	return row
}
