package tests

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestAttributionFromAdToReturn goes the way of one who buys: an ad, a yes to
// cookies, a payment provider and back, a renewal, a visit of later days, a
// lost cookie, and the end of the window. Durations are of seconds, so that
// the days of a visitor pass while the test waits for them.
func TestAttributionFromAdToReturn(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	for _, p := range []string{"index.html", "offer/index.html", "thanks/index.html"} {
		writePage(t, c, p, plainPage)
	}
	c.write(globals(tinybirdSink(tb)+"\n\t\tclick_ids add tblci\n\t\turl_params keep plan") + `
SITE {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		session_duration 3s
		attribution_window 25s
		own_hosts www.shop.example
		consent {
			require always
		}
	}
	root DIR/www
	file_server
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, true)
	here, _ := url.Parse(c.site)
	original := func(what string, s *sessionContext, want any) {
		t.Helper()
		if s.Attribution.Original["utm_campaign"] != want || s.Attribution.Original["landingPage"] != "/offer/?utm_source=google&utm_campaign=spring&gclid=Cj0&tblci=tb&plan=pro" && want != nil {
			t.Errorf("%s: the first touch is %v", what, s.Attribution.Original)
		}
	}
	ended := func(s *sessionContext) {
		t.Helper()
		eventually(t, 20*time.Second, "the session ends", func() error {
			if time.Now().UnixMilli() <= s.Session.ExpiresAt+1100 { // cookies live whole seconds
				return errors.New("it lives")
			}
			return nil
		})
	}

	// The ad; consent is asked for, so no cookie goes with the page.
	ad := v.visit("/offer/?utm_source=google&utm_campaign=spring&gclid=Cj0&tblci=tb&plan=pro&email=a@b.c", "Referer", "https://www.google.com/", "Sec-Fetch-Site", "cross-site")
	original("the ad", ad, "spring")
	if n := v.cookieNames(); len(n) != 0 {
		t.Fatalf("cookies before consent: %v", n)
	}
	yes := `%7B%22preferences%22%3A%7B%22analytics%22%3Atrue%7D%2C%22hasUserInteracted%22%3Atrue%2C%22timestamp%22%3A1%2C%22version%22%3A1%7D`
	jar := v.client.Jar
	setCookie(jar, here, "frbzz_consent", yes)
	v.post("events/session/init", map[string]any{"token": ad.Session.Token}).ok(t)
	if n := len(v.cookieNames()); n != 4 {
		t.Fatalf("a yes leaves cookies %v", v.cookieNames())
	}

	// To the payment provider; the session ends there.
	ended(ad)
	back := v.visit("/thanks/?session=cs_1", "Referer", "https://checkout.stripe.com/c/pay", "Sec-Fetch-Site", "cross-site")
	original("back from the provider", back, "spring")
	if back.UserID != ad.UserID || back.Session.SessionID == ad.Session.SessionID || back.Attribution.Current != nil {
		t.Errorf("back from the provider: user %s, was %s; current touch %v", back.UserID, ad.UserID, back.Attribution.Current)
	}
	v.post("events/session/init", map[string]any{"token": back.Session.Token}).ok(t)

	// The page stays open beyond its session, and renews.
	ended(back)
	renewed := v.post("events/session/renew", map[string]any{"token": back.Session.Token}).ok(t).Data
	if renewed["attribution_preserved"] != true {
		t.Errorf("renewal %v", renewed)
	}

	// Another campaign, much later.
	eventually(t, 20*time.Second, "the renewed session ends", func() error {
		if float64(time.Now().UnixMilli()) <= renewed["expires_at"].(float64)+1100 {
			return errors.New("it lives")
		}
		return nil
	})
	mail := v.visit("/?utm_campaign=mail", "Referer", "https://www.shop.example/account")
	original("the next visit", mail, "spring")
	if cur := mail.Attribution.Current; cur["utm_campaign"] != "mail" || cur["referrer"] != nil {
		t.Errorf("the next visit's touch is %v", cur)
	}
	v.post("events/session/init", map[string]any{"token": mail.Session.Token}).ok(t)

	// The attribution cookie is lost in the middle of the session: nobody
	// takes the ad that comes now for the first. A client knows better.
	setCookie(jar, here, "fb_attribution_cmp_1", "")
	lost := v.visit("/?utm_campaign=display", "Referer", "https://news.example/", "Sec-Fetch-Site", "cross-site")
	original("a lost cookie", lost, nil)
	if lost.Attribution.Source != "lost" || lost.Session.SessionID != mail.Session.SessionID || lost.Attribution.Current["utm_campaign"] != "display" {
		t.Errorf("a lost cookie: %+v", lost)
	}
	v.post("events/session/renew", map[string]any{"token": lost.Session.Token, "preserved_attribution": map[string]any{"original": map[string]any{
		"utm_campaign": strings.Repeat("<", 500), "landingPage": "https://x/\u0000?email=a", "timestamp": "1e400", "gclid": []int{1},
	}}}).ok(t)
	told := v.visit("/")
	if told.Attribution.Source != "client" || told.Attribution.Original["utm_campaign"] != strings.Repeat("<", 128) {
		t.Errorf("what the client preserved came to %v of %s", told.Attribution.Original, told.Attribution.Source)
	}

	rows := byID(t, waitRows(t, tb, "session_v1", 4), "session_id")
	spring := map[string]any{
		"original_utm_source": "google", "original_utm_campaign": "spring", "original_referrer": "https://www.google.com/",
		"original_landing_page": "/offer/?utm_source=google&utm_campaign=spring&gclid=Cj0&tblci=tb&plan=pro", "attribution_source": "server",
	}
	for what, id := range map[string]string{
		"the ad": ad.Session.SessionID, "back": back.Session.SessionID, "renewed": renewed["session_id"].(string), "the mail": mail.Session.SessionID,
	} {
		expect(t, what, rows[id], spring)
	}
	expect(t, "the ad", rows[ad.Session.SessionID], map[string]any{"gclid": "Cj0", "other_click_ids": `{"tblci":"tb"}`, "is_returning": 0})
	expect(t, "back", rows[back.Session.SessionID], map[string]any{"utm_campaign": "spring", "referrer": "https://www.google.com/", "is_returning": 1})
	expect(t, "the mail", rows[mail.Session.SessionID], map[string]any{"utm_campaign": "mail", "referrer": nil})

	// The window ends: what comes now is a first touch.
	ended(told)
	eventually(t, 40*time.Second, "the window ends", func() error {
		if float64(time.Now().UnixMilli()) <= ad.Attribution.Original["timestamp"].(float64)+26_000 {
			return errors.New("it lasts")
		}
		return nil
	})
	after := v.visit("/?utm_campaign=autumn")
	if after.UserID != ad.UserID || after.Attribution.Original["utm_campaign"] != "autumn" || after.Attribution.Source != "" {
		t.Errorf("after the window: %+v", after)
	}
}

// TestALostFirstTouchIsFoundInTheStore: a new visitor's state is kept until the
// browser has shown that it keeps cookies; a page's first call finds it.
func TestALostFirstTouchIsFoundInTheStore(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+landing("30m"))
	v := newVisitor(t, c.site, desktop, true)
	here, _ := url.Parse(c.site)
	first := v.visit("/?utm_campaign=spring")
	setCookie(v.client.Jar, here, "fb_attribution_cmp_1", "")
	page := v.visit("/?utm_campaign=autumn")
	if page.Attribution.Source != "lost" || page.Session.SessionID != first.Session.SessionID {
		t.Fatalf("got %+v", page)
	}
	v.post("events/session/init", map[string]any{"token": page.Session.Token}).ok(t)
	expect(t, "session", waitRows(t, tb, "session_v1", 1)[0], map[string]any{
		"original_utm_campaign": "spring", "utm_campaign": "autumn", "attribution_source": "server",
	})
	if next := v.visit("/"); next.Attribution.Source != "" || next.Attribution.Original["utm_campaign"] != "spring" || next.Attribution.Current["utm_campaign"] != "autumn" {
		t.Errorf("the next page has %+v", next.Attribution)
	}
}

// TestOtherSitesOfTheCampaignAreNoReferrers: only those that really have it.
func TestOtherSitesOfTheCampaignAreNoReferrers(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	const site = " {\n\tsession_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign CAMPAIGN\n\t}\n\troot DIR/www\n\tfile_server\n}\n"
	c.write(globals("") +
		"http://127.0.0.1:PORT, http://www.twin.example:PORT" + strings.Replace(site, "CAMPAIGN", "cmp_1", 1) +
		"http://*.wild.example:PORT" + strings.Replace(site, "CAMPAIGN", "cmp_1", 1) +
		"http://neighbour.example:PORT" + strings.Replace(site, "CAMPAIGN", "cmp_2", 1))
	c.start()
	for referer, want := range map[string]any{
		"https://www.twin.example/a": nil, "https://a.wild.example/": nil, c.site + "/a": nil,
		"https://neighbour.example/": "https://neighbour.example/", "https://twin.example/": "https://twin.example/",
	} {
		s := newVisitor(t, c.site, desktop, false).visit("/", "Referer", referer)
		if got := s.Attribution.Original["referrer"]; got != want {
			t.Errorf("from %s: referrer %v, want %v", referer, got, want)
		}
	}
}
