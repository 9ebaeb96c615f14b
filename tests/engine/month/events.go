package month

import "time"

// events adds what is done in a session. The first session of a visit has its
// page's beginning.
func (m *maker) events(s *Session, first bool) {
	if m.chance(0.05) {
		return // left before the script could send anything
	}
	at := s.At
	add := func(id, kind string, seconds int) *Event {
		at = at.Add(time.Duration(50+m.rand.IntN(4000)) * time.Millisecond)
		e := &Event{
			Session: s, ID: id, Type: kind, At: at, Sequence: len(s.Events) + 1,
			Value: 1, Currency: "USD", TimeOnPage: seconds,
		}
		s.Events = append(s.Events, e)
		return e
	}
	spent := m.rand.IntN(3)
	if first {
		add("dom-ready", "system", 0)
		add("page-load", "system", -1)
	}
	for range 1 + m.rand.IntN(2) {
		add("page-view", "engagement", -1)
	}
	if m.chance(0.6) {
		spent += m.rand.IntN(200)
		add("scroll-threshold-50", "engagement", spent)
	}
	if m.chance(0.2) {
		add("external-link-click", "engagement", -1)
	}
	if m.chance(0.1) {
		e := add("form-submission", "conversion", spent)
		e.Value = 5
	}
	if m.chance(0.15) {
		e := add("video, watched", "engagement", spent)
		e.Value = float64(m.rand.IntN(500)) / 100
	}
	if m.chance(0.1) {
		e := add("signup", "conversion", spent)
		e.Value, e.Currency = float64(m.rand.IntN(5000))/100, pick(m, "USD", "USD", "EUR")
	}
	if m.chance(converts[s.Variant]) {
		for range 1 + m.rand.IntN(3) {
			m.purchase(add(Conversion, "conversion", spent))
		}
	}
	switch m.rand.IntN(4) {
	case 0: // the browser sent none
	case 1:
		add("page-unload", "system", -1)
	default:
		spent += m.rand.IntN(60)
		add("page-unload", "system", spent)
		if m.chance(0.2) { // a second page, left sooner
			add("page-view", "engagement", -1)
			add("page-unload", "system", spent/2)
		}
	}
	if m.chance(0.03) { // bought on another site, hours or days later
		e := add(Conversion, "conversion", -1)
		e.At = s.At.Add(time.Duration(1+m.rand.IntN(9*24*60)) * time.Minute)
		e.External, e.Sequence = true, 0
		m.purchase(e)
	}
}

func (m *maker) purchase(e *Event) {
	e.Value = pick(m, 0, 1, 9.99, 10, 10.01, 49.9, 75, 120.5, 800, 2500)
	e.Currency = pick(m, "USD", "USD", "USD", "EUR")
}
