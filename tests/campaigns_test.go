package tests

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// campaignsConfig is one host with campaigns of two workspaces under paths and
// a preview, another site of one of them, and the API on a host of its own. B
// and API stand for the addresses of these two.
const campaignsConfig = `
(b) {
	session_context ARGS {
		workspace ws_1
		project pr_1
		campaign cmp_b
		allow_origin SITE http://B
		segment b_only
	}
}
SITE {
	session_context /a/* {
		workspace ws_1
		project pr_1
		campaign cmp_a
		allow_origin SITE
		ab_test hero {
			variant control 50
			variant bold 50
			winner bold
		}
	}
	session_context /preview/* {
		workspace ws_1
		project pr_1
		campaign cmp_a
		campaign_environment preview
		allow_origin SITE
	}
	import b /b/*
	session_context /c/* {
		workspace ws_2
		project pr_2
		campaign cmp_c
		allow_origin SITE
	}
	session_context_api
	root DIR/www
	file_server
}
http://B {
	import b *
	root DIR/www
	file_server
}
http://API {
	session_context_api
}
`

// campaigns starts it. b and api are the other sites' URLs.
func campaigns(t *testing.T, tb *standin.Server) (c *caddy, b, api string) {
	c = newCaddy(t)
	for _, dir := range []string{"a", "b", "c", "preview"} {
		writePage(t, c, dir+"/index.html", plainPage)
	}
	addrB, addrAPI := freeAddr(t), freeAddr(t)
	config := strings.NewReplacer("http://B", "http://"+addrB, "http://API", "http://"+addrAPI, "ARGS", "{args[0]}").Replace(campaignsConfig)
	c.write(globals(tinybirdSink(tb)) + config)
	c.start()
	return c, "http://" + addrB, "http://" + addrAPI
}

// TestCampaignsOnOneHost: under their paths they are campaigns of their own;
// within a workspace they share the user, never sessions or first touches, and
// across workspaces nothing. A preview stands beside its production.
func TestCampaignsOnOneHost(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c, _, _ := campaigns(t, tb)
	v := newVisitor(t, c.site, desktop, true)
	pages := map[string]*sessionContext{}
	for _, name := range []string{"a", "b", "c", "preview"} {
		pages[name] = v.visit("/" + name + "/?utm_source=from_" + name)
	}
	a, b, other, preview := pages["a"], pages["b"], pages["c"], pages["preview"]
	if a.CampaignID != "cmp_a" || b.CampaignID != "cmp_b" || other.CampaignID != "cmp_c" || preview.CampaignID != "cmp_a" || preview.CampaignEnvironment != "preview" {
		t.Fatalf("campaigns %s, %s, %s, %s", a.CampaignID, b.CampaignID, other.CampaignID, preview.CampaignID)
	}
	if b.UserID != a.UserID || preview.UserID != a.UserID || other.UserID == a.UserID || other.WorkspaceID != "ws_2" {
		t.Errorf("users %s, %s, %s, %s", a.UserID, b.UserID, preview.UserID, other.UserID)
	}
	want := []string{"fb_attribution_cmp_a", "fb_attribution_cmp_a.preview", "fb_attribution_cmp_b", "fb_attribution_cmp_c",
		"fb_session_cmp_a", "fb_session_cmp_a.preview", "fb_session_cmp_b", "fb_session_cmp_c", "fb_user_ws_1", "fb_user_ws_2"}
	names := v.cookieNames()
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("cookies\n     %v\nwant %v", names, want)
	}
	seen := map[string]string{}
	for name, page := range pages {
		if twin := seen[page.Session.SessionID]; twin != "" {
			t.Errorf("%s and %s have one session", name, twin)
		}
		seen[page.Session.SessionID] = name
		again := v.visit("/" + name + "/")
		if again.Session.SessionID != page.Session.SessionID || again.Attribution.Original["utm_source"] == nil && again.Attribution.Original["utm"] == nil {
			t.Errorf("%s again: session %s, was %s; first touch %v", name, again.Session.SessionID, page.Session.SessionID, again.Attribution.Original)
		}
		if text := fmt.Sprint(again.Attribution.Original); !strings.Contains(text, "from_"+name) {
			t.Errorf("%s has the first touch %s", name, text)
		}
		v.post("events/session/init", map[string]any{"token": page.Session.Token}).ok(t)
		v.post("events/track", map[string]any{"token": page.Session.Token, "event_id": name, "event_type": "system"}).ok(t)
	}
	sessions := byID(t, waitRows(t, tb, "session_v1", 4), "session_id")
	events := byID(t, waitRows(t, tb, "events_v1", 4), "event_id")
	for name, page := range pages {
		expect(t, name, sessions[page.Session.SessionID], map[string]any{
			"campaign_id": page.CampaignID, "campaign_environment": page.CampaignEnvironment, "workspace_id": page.WorkspaceID,
			"user_id": page.UserID, "original_utm_source": "from_" + name,
		})
		expect(t, name, events[name], map[string]any{
			"session_id": page.Session.SessionID, "campaign_id": page.CampaignID, "campaign_environment": page.CampaignEnvironment,
		})
	}
	for _, row := range waitRows(t, tb, "traffic_v1", 6) {
		if row["session_id"] == preview.Session.SessionID {
			t.Error("a preview page is traffic")
		}
	}
}

// TestACallThatNamesNoCampaign: the session that a body names decides; a body
// that names none is taken where only one can be meant.
func TestACallThatNamesNoCampaign(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c, b, _ := campaigns(t, tb)
	v := newVisitor(t, c.site, desktop, true)
	event := func(id string) map[string]any { return map[string]any{"event_id": id, "event_type": "system"} }
	production := v.visit("/a/")
	v.post("events/track", event("alone")).ok(t)
	preview := v.visit("/preview/")
	if a := v.post("events/track", event("ambiguous")); a.status != 401 || a.Code != "invalid_session" {
		t.Errorf("with sessions of two campaigns: %d %s", a.status, a.body)
	}
	if a := v.post("events/track", with(event("ambiguous"), "campaign_id", "cmp_a")); a.status != 401 {
		t.Errorf("with sessions of two environments: %d %s", a.status, a.body)
	}
	v.post("events/track", with(event("production"), "session_id", production.Session.SessionID)).ok(t)
	v.post("events/track", with(event("preview"), "session_id", preview.Session.SessionID)).ok(t)

	// Cookies know no ports: this browser has them all, and the site decides.
	onB := &visitor{t: t, site: b, agent: desktop, client: v.client}
	page := onB.visit("/b/")
	onB.post("events/track", event("site")).ok(t)
	events := byID(t, waitRows(t, tb, "events_v1", 4), "event_id")
	for id, s := range map[string]*sessionContext{"alone": production, "production": production, "preview": preview, "site": page} {
		expect(t, id, events[id], map[string]any{"session_id": s.Session.SessionID, "campaign_environment": s.CampaignEnvironment})
	}
}

// TestTheAPIOnAHostOfItsOwn answers for every campaign, to the origins that
// each allows, and never sets a cookie there.
func TestTheAPIOnAHostOfItsOwn(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c, b, api := campaigns(t, tb)
	v := newVisitor(t, c.site, desktop, false)
	remote := newVisitor(t, api, desktop, true)
	from := func(origin string) []string { return []string{"Origin", origin, "Sec-Fetch-Site", "same-site"} }
	for _, name := range []string{"a", "b", "c", "preview"} {
		s := v.visit("/" + name + "/")
		body := map[string]any{"token": s.Session.Token, "event_id": name, "event_type": "system"}
		a := remote.post("events/track", body, from(c.site)...).ok(t)
		if a.header.Get("Access-Control-Allow-Origin") != c.site || len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: %v", name, a.header)
		}
		a = remote.post("events/session/renew", map[string]any{"token": s.Session.Token}, from(c.site)...).ok(t)
		if a.Data["session_id"] != s.Session.SessionID {
			t.Errorf("%s: renewing gave %s", name, a.body)
		}
		if a := remote.post("events/track", body, from("https://evil.example")...); a.status != 403 || a.Code != "origin_not_allowed" {
			t.Errorf("%s from elsewhere: %d %s", name, a.status, a.body)
		}
		// An origin that another campaign allows is not this one's.
		if a := remote.post("events/track", body, from(b)...); (a.status == 200) != (name == "b") {
			t.Errorf("%s from the other site: %d %s", name, a.status, a.body)
		}
		res := remote.call("GET", "session/context?campaign_id="+s.CampaignID+"&campaign_environment="+s.CampaignEnvironment, nil, from(c.site)...)
		if want := `"campaignEnvironment":"` + s.CampaignEnvironment + `"`; res.status != 200 || !strings.Contains(string(res.body), `"campaignId":"`+s.CampaignID+`"`) || !strings.Contains(string(res.body), want) {
			t.Errorf("%s: context %d %s", name, res.status, res.body)
		}
	}
	if a := remote.call("GET", "session/context?campaign_id=cmp_b&campaign_environment=preview", nil, from(c.site)...); a.status != 400 || a.Code != "unknown_campaign" {
		t.Errorf("a preview that does not exist: %d %s", a.status, a.body)
	}
	if rows := waitRows(t, tb, "events_v1", 4); len(rows) < 4 {
		t.Errorf("%d events", len(rows))
	}
}

// TestATokenAtAnotherCampaignsSite proves its own session there, whose rows
// are its campaign's, and brings no cookie of it to that host.
func TestATokenAtAnotherCampaignsSite(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c, b, _ := campaigns(t, tb)
	for name, workspace := range map[string]string{"a": "ws_1", "c": "ws_2"} {
		s := newVisitor(t, c.site, desktop, false).visit("/" + name + "/")
		v := newVisitor(t, b, desktop, true)
		body := map[string]any{"token": s.Session.Token, "event_id": name, "event_type": "system"}
		if a := v.post("events/track", body).ok(t); len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s without cookies: %q", name, a.header.Values("Set-Cookie"))
		}
		// A visitor of that site keeps the identity that it has.
		mine := v.visit("/b/")
		if a := v.post("events/track", with(body, "event_id", name+"2")).ok(t); len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s beside another user's cookies: %q", name, a.header.Values("Set-Cookie"))
		}
		if again := v.visit("/b/"); again.UserID != mine.UserID || again.Session.SessionID != mine.Session.SessionID {
			t.Errorf("%s changed the visitor of the other site", name)
		}
		if a := v.post("events/track", with(body, "campaign_id", "cmp_b")); a.status != 403 || a.Code != "campaign_mismatch" {
			t.Errorf("%s as the other campaign's: %d %s", name, a.status, a.body)
		}
		rows := byID(t, waitRows(t, tb, "events_v1", 2), "event_id")
		eventually(t, 10e9, "the events arrive", func() error {
			rows = byID(t, waitRows(t, tb, "events_v1", 2), "event_id")
			if rows[name] == nil || rows[name+"2"] == nil {
				return fmt.Errorf("only %d are here", len(rows))
			}
			return nil
		})
		for _, id := range []string{name, name + "2"} {
			expect(t, id, rows[id], map[string]any{"session_id": s.Session.SessionID, "campaign_id": "cmp_" + name, "workspace_id": workspace})
		}
	}
}

// TestCookiesUnderPathsWithoutAnAPIOfTheirOwn: where a catch-all campaign
// answers the API of one under a path, the visitor's cookies are kept fresh.
func TestCookiesUnderPathsWithoutAnAPIOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	writePage(t, c, "b/index.html", plainPage)
	c.write(globals("") + `
SITE {
	root DIR/www
	handle /b/* {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_b
		}
		file_server
	}
	handle {
		session_context {
			workspace ws_1
			project pr_1
			campaign cmp_a
		}
		file_server
	}
}
`)
	c.start()
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/b/")
	cookies := v.client.Jar
	v.client.Jar = nil
	var user string
	siteURL, _ := http.NewRequest("GET", c.site, nil)
	for _, ck := range cookies.Cookies(siteURL.URL) {
		if ck.Name == "fb_user_ws_1" {
			user = ck.Name + "=" + ck.Value
		}
	}
	a := v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}, "Cookie", user).ok(t)
	if got := setNames(a.header); !slices.Equal(got, []string{"fb_attribution_cmp_b", "fb_session_cmp_b"}) {
		t.Errorf("the call sets %v", got)
	}
}

// TestTwoHandlersOfOneCampaign: equal ones are one, and the error about
// different ones says what differs.
func TestTwoHandlersOfOneCampaign(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	site := func(addr, settings string) string {
		return "http://" + addr + " {\n\tsession_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign cmp_1\n" + settings + "\n\t}\n\trespond hello\n}\n"
	}
	for _, tt := range []struct {
		name, a, b string
		refused    []string
	}{
		{"equal", "\t\tlanding_page lp_1", "\t\tlanding_page lp_1", nil},
		{"another environment", "", "\t\tcampaign_environment preview", nil},
		{"another landing page", "\t\tlanding_page lp_1", "\t\tlanding_page lp_2",
			[]string{"campaign cmp_1 (production) stands twice with different settings", `landing_page is "lp_`, `"lp_1"`, `"lp_2"`}},
		{"another duration", "\t\tsession_duration 20m", "", []string{"session_duration is", "20m", "left out"}},
		{"an option in one of them", "", "\t\tdebug", []string{"debug is", "left out", "true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.write(globals("") + site(freeAddr(t), tt.a) + site(freeAddr(t), tt.b))
			out, err := c.command("validate", "--config", c.path("Caddyfile"), "--adapter", "caddyfile").CombinedOutput()
			if (err != nil) != (tt.refused != nil) {
				t.Fatalf("validate: %v\n%s", err, out)
			}
			for _, part := range tt.refused {
				if !strings.Contains(strings.ReplaceAll(string(out), `\"`, `"`), part) {
					t.Errorf("the error does not say %q:\n%s", part, out)
				}
			}
		})
	}
}
