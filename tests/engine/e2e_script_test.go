package engine

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// stranger makes up a visitor: where they are, with what, from which address.
func (d *drive) stranger(t testing.TB, r *mathrand.Rand, at *place, number int, keepsCookies bool) *browser {
	machines := []struct{ device, os, browser, agent string }{
		{"mobile", "iOS", "Safari", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"},
		{"mobile", "Android", "Chrome", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36"},
		{"desktop", "Windows", "Chrome", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		{"desktop", "Windows", "Edge", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0"},
		{"desktop", "macOS", "Safari", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15"},
		{"desktop", "Linux", "Firefox", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"},
	}
	towns := []struct{ country, city, sent, continent, zone, language string }{
		{"DE", "München", "München", "EU", "Europe/Berlin", "de-DE"},
		{"DE", "Halle", "Halle", "EU", "Europe/Berlin", "de-DE"},
		{"US", "Halle", "Halle", "NA", "America/New_York", "en-US"},
		{"US", "New York", "New York", "NA", "America/New_York", "en-US"},
		{"Unknown", "Unknown", "", "Unknown", "", "en-US"}, // what counts where a browser says nothing
	}
	with, in := machines[r.IntN(len(machines))], towns[r.IntN(len(towns))]
	person := &month.Person{
		Country: in.country, City: in.city, Continent: in.continent, Zone: in.zone, Language: in.language,
		Device: with.device, OS: with.os, Browser: with.browser,
	}
	header := map[string]string{"User-Agent": with.agent, "X-Forwarded-For": fmt.Sprintf("203.0.%d.%d", number/250, 1+number%250)}
	if in.sent != "" {
		header["CF-IPCountry"], header["CF-IPCity"], header["CF-IPContinent"], header["CF-Timezone"] = in.country, in.sent, in.continent, in.zone
		header["Accept-Language"] = in.language + ",en;q=0.5"
	}
	return newBrowser(t, d, at, person, header, keepsCookies)
}

// link is by what a visitor comes.
func link(r *mathrand.Rand) month.Touch {
	touches := []month.Touch{
		landing("/winter", month.Touch{Source: "google", Medium: "cpc", Campaign: "winter", Referrer: "https://www.google.com/"}, "gclid", fmt.Sprintf("g%08x", r.Uint32())),
		landing("/winter", month.Touch{Source: "facebook", Medium: "paid", Campaign: "winter", Referrer: "https://l.facebook.com/l.php"}, "fbclid", fmt.Sprintf("f%08x", r.Uint32())),
		landing("/", month.Touch{Source: "letter", Medium: "email", Ref: "friend"}),
		landing("/winter", month.Touch{Own: "partner", Referrer: "https://partner.example/a"}),
		landing("/", month.Touch{Referrer: "https://news.example:8443/story"}),
		landing("/", month.Touch{}),
	}
	return touches[r.IntN(len(touches))]
}

// byToken is how the module's own runtime calls.
func (b *browser) byToken() map[string]any { return map[string]any{"token": b.doc.Session.Token} }

// begins are the events of a page's beginning, as the reference client sends
// them.
func (b *browser) begins(r *mathrand.Rand) []act {
	acts := []act{
		b.does("dom-ready", "system", 1, "USD", 0), b.does("page-load", "system", 1, "USD", -1), b.does("page-view", "engagement", 1, "USD", -1),
	}
	if r.IntN(2) == 0 {
		acts = append(acts, b.does("scroll-threshold-50", "engagement", 1, "USD", r.IntN(40)))
	}
	if r.IntN(4) == 0 {
		acts = append(acts, b.does("external-link-click", "engagement", 1, "USD", -1))
	}
	return acts
}

// batch sends acts in one call. more is what proves the session.
func (b *browser) batch(proof map[string]any, inEvents map[string]any, acts ...act) {
	b.t.Helper()
	var events []any
	for _, a := range acts {
		events = append(events, with(a.body, inEvents))
	}
	from := time.Now()
	got := b.must("events/batch-track", with(proof, map[string]any{"events": events}))
	b.sent(from, acts...)
	if got.Data["processed_events"] != float64(len(acts)) {
		b.t.Errorf("batch of %d: %s", len(acts), got.body)
	}
}

// track sends one act in a call of its own.
func (b *browser) track(proof map[string]any, a act) {
	b.t.Helper()
	from := time.Now()
	b.must("events/track", with(a.body, proof))
	b.sent(from, a)
}

// shops buys, more often where the variant is bold.
func (b *browser) shops(r *mathrand.Rand, proof map[string]any) {
	b.t.Helper()
	chance := 0.3
	if b.now.Test == month.Test {
		chance = map[string]float64{month.Control: 0.1, "bold": 0.9}[b.now.Variant]
	}
	if r.Float64() < chance {
		for range 1 + r.IntN(2) {
			prices := []float64{9.99, 10, 49.9, 120.5, 800, 2500}
			a := b.does(month.Conversion, "conversion", prices[r.IntN(len(prices))], []string{"USD", "USD", "EUR"}[r.IntN(3)], r.IntN(60))
			b.track(proof, a)
			if r.IntN(3) == 0 { // the answer was lost: sent once more
				b.must("events/track", with(a.body, proof))
			}
		}
	}
	if r.IntN(4) == 0 {
		b.track(proof, b.does("signup", "conversion", float64(r.IntN(5000))/100, "USD", r.IntN(60)))
	}
	if r.IntN(5) == 0 {
		b.track(proof, b.does("form-submission", "conversion", 5, "USD", -1))
	}
	if b.clickOf == b.now.ID && r.IntN(3) == 0 {
		b.buysElsewhere(r)
	}
}

// buysElsewhere follows a link to a shop, whose page or server tells what was
// bought there.
func (b *browser) buysElsewhere(r *mathrand.Rand) {
	b.t.Helper()
	prices := []float64{15, 49.9, 640}
	a := b.does(month.Conversion, "conversion", prices[r.IntN(len(prices))], []string{"USD", "EUR"}[r.IntN(2)], -1)
	a.event.External = true
	body := map[string]any{
		"click_id": b.clickID, "event_id": a.event.ID, "event_value": a.event.Value, "event_value_currency": a.event.Currency,
		"event_uuid": "order " + a.mark, "page_url": elsewhere + a.mark,
	}
	from := time.Now()
	for range 1 + r.IntN(2) { // its page of thanks may be loaded again
		b.must("events/external-track", body, "Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site")
	}
	b.sent(from, a)
}

// elsewhere is what the pages of the shop begin with; then comes the mark.
const elsewhere = "https://shop.example/"

// ownClient is a visit whose page has the module's runtime: token, batches,
// uuids.
func (b *browser) ownClient(r *mathrand.Rand) {
	b.t.Helper()
	b.must("events/session/init", b.byToken())
	b.live()
	b.must("events/session/track", b.byToken())
	acts := b.begins(r)
	for i := range acts {
		acts[i].body["event_uuid"] = "u" + acts[i].mark
	}
	b.batch(b.byToken(), nil, acts...)
	b.shops(r, b.byToken())
	if r.IntN(2) == 0 {
		b.goOn("/winter")
		b.track(b.byToken(), b.does("page-view", "engagement", 1, "USD", -1))
	}
	if r.IntN(3) > 0 {
		b.track(b.byToken(), b.does("page-unload", "system", 1, "USD", r.IntN(200)))
	}
}

// referenceClient is a visit whose page has the reference client: ids only,
// each event with its session alone.
func (b *browser) referenceClient(r *mathrand.Rand) {
	b.t.Helper()
	b.must("events/session/init", b.ids())
	b.live()
	b.must("events/session/track", with(b.ids(), map[string]any{
		"timestamp": time.Now().UTC().Format(time.RFC3339), "segment_id": "forged", "country": "Unknown", "bot_score": 99, "is_renewal": 0,
	}))
	session := map[string]any{"session_id": b.now.ID, "ab_test_variant_id": "forged"}
	acts := b.begins(r)
	b.batch(nil, session, acts...)
	if r.IntN(2) == 0 { // a beacon that came through twice
		var events []any
		for _, a := range acts {
			events = append(events, with(a.body, session))
		}
		b.must("events/batch-track", map[string]any{"events": events})
	}
	b.shops(r, session)
	if r.IntN(3) == 0 { // two clicks in one batch are two
		a := b.does("external-link-click", "engagement", 1, "USD", -1)
		b.batch(nil, session, a, a)
	}
	if r.IntN(3) > 0 {
		b.batch(nil, session, b.does("page-unload", "system", 1, "USD", r.IntN(200)))
	}
}

// comesBack visits again after the session's end, by another way.
func (b *browser) comesBack(r *mathrand.Rand) {
	b.t.Helper()
	b.leave()
	b.arrive(link(r))
	if r.IntN(2) == 0 {
		b.ownClient(r)
	} else {
		b.referenceClient(r)
	}
}

// decides answers the question about cookies.
func (b *browser) decides(r *mathrand.Rand, analytics bool) {
	b.t.Helper()
	proof, body := "visitor", map[string]any{"subject_id": b.now.User}
	if b.agreed {
		proof = "cookie"
	}
	if r.IntN(2) == 0 {
		proof, body["token"] = "token", b.doc.Session.Token
	}
	decision := b.tells(proof, body, analytics)
	b.live()
	if b.decision != nil {
		b.decision.EndedAs = "withdrawn"
	}
	b.decision = decision
	b.agreed = analytics
	b.known, b.first = analytics, nil
	if analytics {
		b.first = &b.now.First
	} else {
		b.key = "" // who refuses is not counted by a key either
	}
}

// tells has a decision recorded.
func (b *browser) tells(proof string, body map[string]any, analytics bool, header ...string) *month.Decision {
	b.t.Helper()
	from := time.Now()
	got := b.must("consent/record", with(body, map[string]any{
		"workspace_id": b.at.Workspace, "project_id": b.at.Project, "campaign_id": b.at.Campaign,
		"domain": "127.0.0.1", "expires_in_days": 365, "source": "banner", "policy_version": "2026-11",
		"purposes": map[string]any{"essential": true, "analytics": analytics, "marketing": false, "functional": analytics},
	}), header...)
	decision := &month.Decision{
		Tenant: b.at.Tenant, ID: got.Data["consent_id"].(string), Subject: b.now.User, Domain: "127.0.0.1",
		Segment: b.now.Segment, Country: b.person.Country, Analytics: analytics, Functional: analytics,
		Proof: proof, Source: "banner", Policy: "2026-11",
	}
	b.d.decided(decision, from)
	return decision
}

// isAsked is a visitor of the site that asks for consent.
func (b *browser) isAsked(r *mathrand.Rand) {
	b.t.Helper()
	b.arrive(link(r))
	b.ownClient(r)
	switch r.IntN(4) {
	case 0: // does not answer, and comes again: the day's key is all that is known
		// Somebody else who got to know the ids decides nothing.
		b.tells("ids", map[string]any{"session_id": b.now.ID, "subject_id": b.now.User}, true, "X-Forwarded-For", "198.51.100.1")
		b.arrive(link(r))
		b.ownClient(r)
	case 1:
		b.decides(r, false)
		b.arrive(link(r))
		b.ownClient(r)
	default:
		b.decides(r, true)
		b.goOn("/winter")
		b.track(b.byToken(), b.does("page-view", "engagement", 1, "USD", -1))
		b.comesBack(r)
		if r.IntN(2) == 0 {
			b.decides(r, false)
			b.arrive(link(r))
			b.ownClient(r)
		}
	}
}

// robot is a program that names itself, and runs scripts.
func (b *browser) robot(r *mathrand.Rand) {
	b.t.Helper()
	b.person.Device, b.person.OS, b.person.Browser = "unknown", "Unknown", "Unknown"
	b.header.Set("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
	b.d.mu.Lock()
	b.d.programs[b.person] = true
	b.d.mu.Unlock()
	b.arrive(landing("/", month.Touch{}))
	b.referenceClient(r)
}

// noVisits are requests that come to nothing, and one that is looked at late.
func (b *browser) noVisits(r *mathrand.Rand) {
	b.t.Helper()
	if res, _ := b.send("HEAD", b.at.url+"/", nil, navigation...); res.StatusCode != http.StatusOK {
		b.t.Errorf("HEAD: %d", res.StatusCode)
	}
	b.fetch(link(r), "prefetch", "Sec-Purpose", "prefetch")
	b.page("/missing", "navigate")
	b.now = nil
	b.fetch(link(r), "prerender", "Sec-Purpose", "prefetch;prerender")
	b.ownClientLate(r)
}

// ownClientLate is a page that was prerendered, and whose script calls once it
// is shown.
func (b *browser) ownClientLate(r *mathrand.Rand) {
	b.t.Helper()
	b.must("events/session/init", b.byToken(), "Sec-Purpose", "prefetch;prerender")
	if r.IntN(2) == 0 {
		return // it never is
	}
	b.must("events/session/init", b.byToken())
	b.live()
	b.track(b.byToken(), b.does("page-view", "engagement", 1, "USD", -1))
}

// isLate renews a session that ended before anybody had heard of it: one that
// began so long ago, as this server would have made it then.
func (b *browser) isLate(r *mathrand.Rand, ring *sessionctx.Ring, ago time.Duration, byIDs bool) {
	b.t.Helper()
	campaign := sessionctx.CampaignRef{ID: b.at.Campaign, Environment: sessionctx.Production}
	created := time.Now().Add(-ago).UnixMilli()
	user, err := ring.NewUserID(rand.Reader, created, b.at.Workspace)
	if err != nil {
		b.t.Fatal(err)
	}
	id, err := ring.NewSessionID(rand.Reader, created, campaign, user)
	if err != nil {
		b.t.Fatal(err)
	}
	came := landing("/winter", month.Touch{Source: "google", Medium: "cpc", Campaign: "brand"})
	touch := sessionctx.Touch{Time: created, UTM: sessionctx.UTM{Source: came.Source, Medium: came.Medium, Campaign: came.Campaign}, LandingPage: came.LandingPage}
	made := sessionctx.Session{
		ID: id, UserID: user, Campaign: campaign, CreatedAt: created, ExpiresAt: created + (30 * time.Minute).Milliseconds(),
		OriginalID: id, OriginalAt: created, SegmentID: "everyone", LandingPageID: "lp_1",
		Assignments: []sessionctx.Assignment{{TestID: month.Test, VariantID: "bold"}},
		Attribution: sessionctx.FirstTouch(touch),
	}
	b.doc.Session.Token = ring.SealToken(&made, created)
	b.person.BotScore = 99
	b.now = &month.Session{
		ID: id, User: user, City: b.person.City, At: time.UnixMilli(created).UTC(), Touch: came, First: came, FirstSource: "server",
		Segment: "everyone", LandingPage: "lp_1", Test: month.Test, Variant: "bold",
	}
	b.d.begin(b, b.now)
	if !byIDs {
		b.renewsByToken()
		b.track(b.byToken(), b.does("page-view", "engagement", 1, "USD", -1))
		b.shops(r, b.byToken())
		return
	}
	// What the server does not know any more the client tells, as far as it may.
	b.now.FirstSource, b.now.Segment, b.now.First.LandingPage = "client", "", ""
	b.renewsByIDs(map[string]any{
		"landing_page_id": "lp_1", "ab_test_id": month.Test, "ab_test_variant_id": "bold", "segment_id": "forged",
		"preserved_attribution": map[string]any{"original": map[string]any{
			"utm_source": came.Source, "utm_medium": came.Medium, "utm_campaign": came.Campaign, "timestamp": created,
		}},
	})
	b.track(b.ids(), b.does("page-view", "engagement", 1, "USD", -1))
}

// renewsByToken renews the session that there is.
func (b *browser) renewsByToken() {
	b.t.Helper()
	if refused := b.post("events/track", with(b.unwanted(), b.byToken())); refused.status != http.StatusConflict || refused.Code != "session_expired" {
		b.t.Fatalf("an event by an expired token: %d %s", refused.status, refused.body)
	}
	got := b.must("events/session/renew", b.byToken())
	b.doc.Session.Token = got.Data["token"].(string)
	b.succeed(got.Data["session_id"].(string), int64(got.Data["created_at"].(float64)))
	b.live()
	again := b.must("events/session/renew", b.byToken())
	if again.Data["session_id"] != b.now.ID || again.Data["renewal_count"] != float64(b.now.Renewal) {
		b.t.Errorf("renewed to %s, then %s", b.now.ID, again.body)
	}
}

// renewsByPage opens a page with the cookie of the session that has ended, which
// a browser still sends: for the rest of a second, or while its clock is behind.
func (b *browser) renewsByPage() {
	b.t.Helper()
	u, _ := url.Parse(b.at.url)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: b.cookie.Name, Value: b.cookie.Value, Path: "/"}})
	p := b.page("/winter", "navigate", b.fromWithin()...)
	if b.doc.Session.OriginalSessionID != b.now.ID || b.doc.Session.RenewalCount != 1 || b.doc.UserID != b.now.User {
		b.t.Errorf("the page after session %s of %s is of %+v", b.now.ID, b.now.User, b.doc)
	}
	b.succeed(b.doc.Session.SessionID, b.doc.Session.CreatedAt)
	p.Session = b.now
	b.live()
}

// unwanted is an event that will not be taken.
func (b *browser) unwanted() map[string]any {
	return map[string]any{"event_id": "refused", "event_type": "system"}
}

// renewsByIDs renews as the reference client's page does. The answer says when
// the session ends; it lasts half an hour.
func (b *browser) renewsByIDs(more map[string]any) {
	b.t.Helper()
	body := with(b.ids(), map[string]any{"old_session_id": b.now.ID, "current_url_utm": map[string]any{}, "current_referrer": ""})
	delete(body, "session_id")
	got := b.must("events/session/renew", with(body, more))
	if got.Data["token"] != nil || got.Data["user_id"] != b.now.User {
		b.t.Errorf("renewing by ids: %s", got.body)
	}
	b.succeed(got.Data["session_id"].(string), int64(got.Data["expires_at"].(float64))-(30*time.Minute).Milliseconds())
	b.live()
}
