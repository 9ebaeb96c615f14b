package month

import (
	"encoding/json"
	"math/rand/v2"
	"time"
)

// Batch is rows of one datasource that go out in one request.
type Batch struct {
	Datasource string
	Rows       [][]byte
}

// Batches are the rows of a month as they may reach Tinybird: in any order, one
// batch in eight twice, one event in thirty once more with a later time, its
// row id kept, some sessions as two nodes saw them. The seed decides which; the truth is the same for all seeds.
func (t *Truth) Batches(seed uint64) []Batch {
	r := rand.New(rand.NewPCG(seed, 2))
	var sessions, events [][]byte
	for _, v := range t.Visits {
		for _, s := range v.Rows() {
			sessions = append(sessions, encode(s.row()))
			if p := v.Person; !p.VerifiedBot && p.BotScore > 0 && p.BotScore < 99 {
				sessions = append(sessions, encode(s.seenBetter()))
			}
		}
		for _, e := range v.Events() {
			events = append(events, encode(e.row(e.At, e.Sequence)))
			if r.IntN(30) == 0 {
				later := e.At.Add(time.Duration(1+r.IntN(90*60*1000)) * time.Millisecond)
				events = append(events, encode(e.row(later, e.Sequence+100)))
			}
		}
	}
	batches := append(cut(r, "session_v1", sessions), cut(r, "events_v1", events)...)
	r.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	var pages [][]byte
	for _, p := range t.Pages {
		pages = append(pages, encode(p.row()))
	}
	batches = append(batches, again(cut(r, "traffic_v1", pages))...)
	var decisions [][]byte
	for _, d := range t.Decisions {
		decisions = append(decisions, encode(d.row("active", d.Given)))
		if d.EndedAs != "" {
			decisions = append(decisions, encode(d.row(d.EndedAs, d.Ended)))
		}
	}
	return append(batches, again(cut(r, "consents_v1", decisions))...)
}

// cut shuffles rows into batches, some of which come twice.
func cut(r *rand.Rand, datasource string, rows [][]byte) []Batch {
	r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	var batches []Batch
	for len(rows) > 0 {
		n := min(500+r.IntN(1500), len(rows))
		batches = append(batches, Batch{datasource, rows[:n]})
		if r.IntN(8) == 0 {
			batches = append(batches, Batch{datasource, rows[:n]})
		}
		rows = rows[n:]
	}
	return batches
}

// again adds the first batch once more: there are too few of some datasources for
// chance to send one twice.
func again(batches []Batch) []Batch {
	if len(batches) == 0 {
		return nil
	}
	return append(batches, batches[0])
}

func encode(row map[string]any) []byte {
	line, err := json.Marshal(row)
	if err != nil {
		panic(err) // made of strings and finite numbers
	}
	return line
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t Tenant) row(row map[string]any) {
	row["workspace_id"], row["project_id"], row["campaign_id"] = t.Workspace, t.Project, t.Campaign
	row["campaign_environment"], row["environment"] = t.CampaignEnvironment, t.Environment
}

func (s *Session) row() map[string]any {
	p, line := s.Visit.Person, s.Visit.Sessions[0]
	row := map[string]any{
		"timestamp": stamp(s.At), "row_id": "row_" + s.ID, "session_id": s.ID, "user_id": s.User,
		"landing_page_id": null(s.LandingPage), "segment_id": null(s.Segment),
		"ab_test_id": null(s.Test), "ab_test_variant_id": null(s.Variant),
		"utm_source": null(s.Touch.Source), "utm_medium": null(s.Touch.Medium), "utm_campaign": null(s.Touch.Campaign),
		"utm_term": null(s.Touch.Term), "utm_content": null(s.Touch.Content), "ref": null(s.Touch.Ref), "source": null(s.Touch.Own),
		"country": p.Country, "city": s.City, "region": "Unknown", "region_code": nil, "continent": p.Continent,
		"timezone": null(p.Zone), "is_eu_country": flag(p.Continent == "EU"),
		"device_type": p.Device, "device_os": p.OS, "browser": p.Browser, "browser_version": nil,
		"is_mobile": flag(p.Device == "mobile"), "connection_type": "unknown",
		"referrer": null(s.Touch.Referrer), "user_agent": "Mozilla/5.0", "language": null(p.Language),
		"bot_score": p.BotScore, "is_corporate_proxy": 0, "is_verified_bot": flag(p.VerifiedBot), "is_ssl": 1,
		"domain_type": "custom", "user_hostname": "lp.example.com", "is_returning": flag(s.Returning), "uri": "/winter",
		"is_renewal": flag(s.Renewal > 0), "renewal_count": s.Renewal,
		"original_session_id": line.ID, "original_timestamp": stamp(line.At),
		"visitor_day": null(s.VisitorDay), "attribution_source": s.FirstSource,
		"original_utm_source": null(s.First.Source), "original_utm_medium": null(s.First.Medium),
		"original_utm_campaign": null(s.First.Campaign), "original_utm_term": null(s.First.Term), "original_utm_content": null(s.First.Content),
		"original_ref": null(s.First.Ref), "original_source": null(s.First.Own),
		"original_referrer": null(s.First.Referrer), "original_landing_page": null(s.First.LandingPage),
		"other_click_ids": nil,
	}
	for _, name := range []string{"gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id", "epik", "sc_cid"} {
		row[name] = nil
	}
	s.Visit.Tenant.row(row)
	return row
}

// seenBetter is the same session's row as another node made it, to which the
// browser showed itself more like a person's and somewhere else. The worse score
// is the one that counts.
func (s *Session) seenBetter() map[string]any {
	row := s.row()
	row["bot_score"], row["city"] = 99, "Elsewhere"
	return row
}

// row is the event's row as it says it happened then.
func (e *Event) row(at time.Time, sequence int) map[string]any {
	s := e.Session
	row := map[string]any{
		"timestamp": stamp(at), "id": "id_" + s.ID + stamp(e.At), "row_id": "row_" + s.ID + stamp(e.At) + e.ID,
		"event_id": e.ID, "event_value": e.Value, "event_value_currency": e.Currency, "event_value_type": "static",
		"event_type": e.Type, "event_placement": "internal", "user_id": s.User, "session_id": s.ID,
		"landing_page_id": s.LandingPage, "segment_id": null(s.Segment),
		"ab_test_id": null(s.Test), "ab_test_variant_id": null(s.Variant),
		"form_id": nil, "clicked_element": nil, "clicked_url": nil, "page_load_time": nil, "dom_ready_time": nil,
		"scroll_percentage": nil, "time_on_page": nil, "session_event_sequence": sequence, "metadata": nil,
		"page_url": "https://lp.example.com/winter", "referrer_url": nil, "viewport_width": nil, "viewport_height": nil,
	}
	if e.TimeOnPage >= 0 {
		row["time_on_page"] = e.TimeOnPage
	}
	if e.External {
		row["event_placement"] = "external"
	}
	s.Visit.Tenant.row(row)
	return row
}
