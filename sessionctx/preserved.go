package sessionctx

// ClientTouches reads the touches that clients report, by the rules that hold
// for those that the server sees itself.
type ClientTouches struct {
	// ClickIDs are the names of click ids that are taken.
	ClickIDs []string
	// LandingPage reduces a page's URL to its path and campaign parameters.
	LandingPage func(pageURL string) string
	// Referrer reduces a referrer to its origin and path; it is empty for one
	// that counts as none.
	Referrer func(referrer string) string
}

// Preserved reads what a client kept of a visitor's touches in the body's
// preserved_attribution, for when the server's own record is lost. It is the
// client's word and marked as such. A first touch from before the attribution
// window (and text that is no touch) is not taken. now is in Unix ms.
func (r *ClientTouches) Preserved(b Body, c *Campaign, now int64) (Attribution, bool) {
	p := b.Object("preserved_attribution")
	original := p.Object("original")
	if original == nil {
		return Attribution{}, false
	}
	a := FirstTouch(r.touch(original, now))
	a.Source = AttributionClient
	if t, ok := original.Integer("timestamp", now); ok && t > 0 {
		a.Original.Time, a.Current.Time = t, t
	}
	if a.over(c, now) {
		return Attribution{}, false
	}
	if current := p.Object("current"); current != nil {
		a = a.Then(r.touch(current, now))
	}
	return a, true
}

// Current reads the touch that led to the page which makes the call: of
// session/track, or of the reference client's renew.
func (r *ClientTouches) Current(b Body, now int64) Touch {
	t := r.touch(b, now)
	if u := b.Object("current_url_utm"); u != nil && t.Empty() {
		t = r.touch(u, now)
		t.Referrer = r.referrer(b, "current_referrer")
	}
	return t
}

func (r *ClientTouches) touch(b Body, now int64) Touch {
	t := Touch{
		Time: now,
		UTM: UTM{
			Source:   b.Text("utm_source", MaxParam),
			Medium:   b.Text("utm_medium", MaxParam),
			Campaign: b.Text("utm_campaign", MaxParam),
			Term:     b.Text("utm_term", MaxParam),
			Content:  b.Text("utm_content", MaxParam),
		},
		Ref:      b.Text("ref", MaxParam),
		Source:   b.Text("source", MaxParam),
		Referrer: r.referrer(b, "referrer"),
	}
	for _, name := range [...]string{"landingPage", "uri"} {
		if page := b.Text(name, maxEventURL); page != "" {
			t.LandingPage = r.LandingPage(page)
			break
		}
	}
	for _, name := range r.ClickIDs {
		if v := b.Text(name, MaxClickID); v != "" && len(t.ClickIDs) < MaxClickIDs {
			t.ClickIDs = append(t.ClickIDs, ClickID{Name: name, Value: v})
		}
	}
	return t.Clean()
}

func (r *ClientTouches) referrer(b Body, name string) string {
	if v := b.Text(name, maxEventURL); v != "" {
		return r.Referrer(v)
	}
	return ""
}
