package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// askingSite asks everybody for consent. Its rate limits are out of the way.
const askingSite = `
SITE {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		rate_limit 100000 100000
		consent {
			require always
			localization on
		}
		OPTIONS
		segment everyone
	}
	header >Agreed "{session.consent.required} {session.consent.analytics}"
	root DIR/www
	file_server
}
`

func asking(options ...string) string {
	return strings.Replace(askingSite, "OPTIONS", strings.Join(options, "\n\t\t"), 1)
}

func startAsking(t testing.TB, app string, options ...string) *caddy {
	t.Helper()
	return startLanding(t, globals(app)+asking(options...))
}

var (
	allPurposes = map[string]any{"essential": true, "analytics": true, "marketing": true, "functional": true}
	noPurposes  = map[string]any{"essential": true, "analytics": false, "marketing": false, "functional": false}
)

// consents is what the reference manager posts: no session, no token.
func (c *sessionContext) consents(purposes map[string]any) map[string]any {
	return map[string]any{
		"workspace_id": c.WorkspaceID, "project_id": c.ProjectID, "campaign_id": c.CampaignID, "subject_id": c.UserID,
		"domain": "127.0.0.1", "purposes": purposes, "expires_in_days": 365,
	}
}

// setBy are the names of the cookies that an answer sets, and of those that it
// removes.
func setBy(t testing.TB, h http.Header) (set, removed []string) {
	t.Helper()
	set, removed = []string{}, []string{}
	for _, line := range h.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("attributes of %s", line)
		}
		if c.MaxAge < 0 || c.MaxAge == 0 && c.Value == "" {
			removed = append(removed, c.Name)
		} else {
			set = append(set, c.Name)
		}
	}
	slices.Sort(set)
	slices.Sort(removed)
	return set, removed
}

const choiceName = "fb_choice_ws_1"

var identityNames = []string{"fb_attribution_cmp_1", "fb_session_cmp_1", "fb_user_ws_1"}

func wantSet(t testing.TB, what string, h http.Header, set, removed []string) {
	t.Helper()
	gotSet, gotRemoved := setBy(t, h)
	slices.Sort(set)
	slices.Sort(removed)
	if !slices.Equal(gotSet, set) || !slices.Equal(gotRemoved, removed) {
		t.Errorf("%s: sets %v and removes %v, want %v and %v", what, gotSet, gotRemoved, set, removed)
	}
}

// TestConsentByEveryProof: what a decision does to the browser that it came
// from depends on what proves it, and never on what it says of itself.
func TestConsentByEveryProof(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb), "allow_origin https://partner.example")
	granted := append([]string{choiceName}, identityNames...)
	for _, tt := range []struct {
		name   string
		before bool // the browser has agreed before
		body   func(s, other *sessionContext) map[string]any
		header []string
		proof  string
		// what a yes and a no set; a no removes what was there
		yes, no []string
		removes bool
	}{
		{"token", false, func(s, _ *sessionContext) map[string]any { return map[string]any{"token": s.Session.Token} }, nil, "token", granted, []string{choiceName}, false},
		{"token beside what the reference sends", false, func(s, _ *sessionContext) map[string]any { return with(s.consents(nil), "token", s.Session.Token) }, nil, "token", granted, []string{choiceName}, false},
		{"session cookie", true, func(s, _ *sessionContext) map[string]any { return s.consents(nil) }, nil, "cookie", []string{choiceName}, []string{choiceName}, true},
		{"token of a browser that agreed", true, func(s, _ *sessionContext) map[string]any { return map[string]any{"token": s.Session.Token} }, nil, "token", []string{choiceName}, []string{choiceName}, true},
		{"ids", false, func(s, _ *sessionContext) map[string]any {
			return with(s.consents(nil), "session_id", s.Session.SessionID)
		}, nil, "ids", nil, nil, false},
		{"subject alone", false, func(s, _ *sessionContext) map[string]any { return s.consents(nil) }, nil, "subject", nil, nil, false},
		{"another's subject, from a browser that agreed", true, func(_, other *sessionContext) map[string]any { return other.consents(nil) }, nil, "subject", nil, nil, false},
		{"token from another site", false, func(s, _ *sessionContext) map[string]any { return map[string]any{"token": s.Session.Token} },
			[]string{"Origin", "https://partner.example", "Sec-Fetch-Site", "cross-site"}, "token", nil, nil, false},
		{"cookie from another site", true, func(s, _ *sessionContext) map[string]any { return s.consents(nil) },
			[]string{"Origin", "https://partner.example", "Sec-Fetch-Site", "cross-site"}, "subject", nil, nil, false},
	} {
		for _, purposes := range []map[string]any{allPurposes, noPurposes} {
			t.Run(fmt.Sprintf("%s says %v", tt.name, purposes["analytics"]), func(t *testing.T) {
				v := newVisitor(t, c.site, desktop, true)
				other := newVisitor(t, c.site, iPhone, false).visit("/")
				s := v.visit("/")
				if tt.before {
					v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": allPurposes, "source": "earlier"}).ok(t)
					s = v.visit("/")
				}
				a := v.post("consent/record", with(tt.body(s, other), "purposes", purposes), tt.header...).ok(t)
				set, removed := tt.no, []string{}
				if purposes["analytics"] == true {
					set = tt.yes
				} else if tt.removes {
					removed = slices.Clone(identityNames)
				}
				wantSet(t, "the answer", a.header, slices.Clone(set), removed)
				id, _ := a.Data["consent_id"].(string)
				var top map[string]any
				if err := json.Unmarshal(a.body, &top); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(id, "consent_") || top["consent_id"] != id || top["expires_at"] != a.Data["expires_at"] || top["token"] != nil || a.Data["token"] != nil {
					t.Errorf("answer %s", a.body)
				}
				at, err := time.Parse(time.RFC3339, fmt.Sprint(top["expires_at"]))
				if err != nil || time.Until(at).Round(24*time.Hour) != 365*24*time.Hour {
					t.Errorf("expires at %v", top["expires_at"])
				}
				row := consentRow(t, tb, id, "active")
				subject, session := s.UserID, any(nil)
				if tt.name == "another's subject, from a browser that agreed" {
					subject = other.UserID
				}
				if tt.proof != "subject" {
					session = s.Session.SessionID
				}
				expect(t, "row", row, map[string]any{"proof": tt.proof, "subject_id": subject, "session_id": session, "status": "active", "campaign_id": "cmp_1", "ip": nil})

				// What the browser carries decides from now on.
				allowed := tt.yes != nil && purposes["analytics"] == true || tt.before && (tt.no == nil || purposes["analytics"] == true)
				res, body := v.page("/")
				next := parseContext(t, body)
				if next.Consent["analytics"] != allowed || next.Consent["required"] != true || res.Header.Get("Agreed") != fmt.Sprintf("true %v", allowed) {
					t.Errorf("the next page: consent %v, variables %q, want analytics %v", next.Consent, res.Header.Get("Agreed"), allowed)
				}
				if allowed && (next.UserID != s.UserID || next.Session.SessionID != s.Session.SessionID) {
					t.Error("the next page is another user's or session's")
				}
				if next.GDPRSettings["isEnabled"] != true || next.GDPRSettings["isRequiredConsent"] != true || next.GDPRSettings["isLocalizationEnabled"] != true {
					t.Errorf("gdprSettings %v", next.GDPRSettings)
				}
			})
		}
	}
}

// consentRow waits for the row that says a record has the status.
func consentRow(t testing.TB, tb *standin.Server, id, status string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, 20*time.Second, "row of "+id+" "+status, func() error {
		rows, _ := tb.Distinct("consents_v1")
		for _, r := range rows {
			if r["consent_id"] == id && r["status"] == status {
				found = r
				return nil
			}
		}
		return fmt.Errorf("%d other rows", len(rows))
	})
	return found
}

// TestTogglingConsent: yes, no and yes again leave one session with one row,
// three records of which one is active, and the same identity.
func TestTogglingConsent(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb))
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/?utm_source=ad")
	token := map[string]any{"token": s.Session.Token}
	v.post("events/session/init", token).ok(t)
	var ids []string
	for _, purposes := range []map[string]any{allPurposes, noPurposes, allPurposes} {
		a := v.post("consent/record", with(token, "purposes", purposes)).ok(t)
		ids = append(ids, a.Data["consent_id"].(string))
		current := v.call("GET", "consent/record?campaign_id=cmp_1&subject_id="+s.UserID, nil, "Authorization", "Bearer "+s.Session.Token).ok(t)
		got := current.Data["consent"].(map[string]any)
		if got["id"] != ids[len(ids)-1] || got["status"] != "active" || got["purposes"].(map[string]any)["analytics"] != purposes["analytics"] {
			t.Errorf("the current record is %v", got)
		}
		// An older client sends its first sign of life again.
		v.post("events/session/init", s.ids()).ok(t)
		v.post("events/session/track", s.ids()).ok(t)
	}
	if ids[0] == ids[1] || ids[1] == ids[2] || ids[0] == ids[2] {
		t.Errorf("records %v", ids)
	}
	for id, status := range map[string]string{ids[0]: "withdrawn", ids[1]: "withdrawn", ids[2]: "active"} {
		consentRow(t, tb, id, status)
	}
	for i, analytics := range []int{1, 0, 1} {
		expect(t, "record", consentRow(t, tb, ids[i], "active"), map[string]any{"analytics": analytics, "segment_id": "everyone", "session_id": s.Session.SessionID})
	}
	if rows := waitRows(t, tb, "consents_v1", 5); len(rows) != 5 {
		t.Errorf("%d consent rows, want 3 of records and 2 of their ends", len(rows))
	}
	if rows := waitRows(t, tb, "session_v1", 1); len(rows) != 1 || rows[0]["utm_source"] != "ad" {
		t.Errorf("%d session rows", len(rows))
	}
	if next := v.visit("/"); next.Session.SessionID != s.Session.SessionID || next.UserID != s.UserID {
		t.Error("the next page is another session")
	}
}

// TestARefusalIsKeptByTheBrowser: after a no the page sets nothing, whatever a
// reference cookie says; and an older client, which has no proof left, can
// still change the visitor's mind.
func TestARefusalIsKeptByTheBrowser(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "")
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": allPurposes}).ok(t)
	reference := "frbzz_uid=1; frbzz_session_cmp_1=%7B%7D; frbzz_attr_cmp_1=%7B%7D"
	a := v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": noPurposes}, "Cookie", reference).ok(t)
	wantSet(t, "a no", a.header, []string{choiceName}, append([]string{"frbzz_uid", "frbzz_session_cmp_1", "frbzz_attr_cmp_1"}, identityNames...))
	yes := `frbzz_consent=%7B%22preferences%22%3A%7B%22analytics%22%3Atrue%7D%2C%22hasUserInteracted%22%3Atrue%2C%22timestamp%22%3A99999999999999%2C%22version%22%3A1%7D`
	res, body := v.page("/", "Cookie", yes)
	wantSet(t, "the next page", res.Header, nil, nil)
	next := parseContext(t, body)
	if next.Consent["source"] != "choice" || next.Consent["analytics"] != false {
		t.Errorf("consent %v", next.Consent)
	}

	a = v.post("consent/record", next.consents(allPurposes)).ok(t)
	wantSet(t, "a new yes of an older client", a.header, []string{choiceName}, nil)
	if again := v.visit("/"); again.Consent["analytics"] != true || again.Consent["source"] != "choice" || len(v.cookieNames()) != 4 {
		t.Errorf("consent %v, cookies %v", again.Consent, v.cookieNames())
	}
}

// TestAMessyReferenceCookieMeansNo: JSON that is not percent-encoded is no
// cookie to net/http, and must not be overlooked.
func TestAMessyReferenceCookieMeansNo(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+strings.Replace(asking(), "require always", "respect gpc", 1))
	v := newVisitor(t, c.site, desktop, false)
	for name, tt := range map[string]struct {
		cookie    string
		analytics bool
	}{
		"none":                 {"other=1", true},
		"JSON as it is":        {`frbzz_consent={"preferences":{"analytics":false},"hasUserInteracted":true,"version":1}`, false},
		"a yes as it is":       {`frbzz_consent={"preferences":{"analytics":true},"hasUserInteracted":true,"version":1}`, true},
		"in quotes":            {`frbzz_consent="%7B%22preferences%22%3A%7B%22analytics%22%3Atrue%7D%2C%22hasUserInteracted%22%3Atrue%2C%22version%22%3A1%7D"`, true},
		"bytes beyond ASCII":   {"frbzz_consent=\xff\xfe", false},
		"a name that is alike": {"xfrbzz_consent={}; frbzz_consent_x={}", true},
	} {
		if s := v.visit("/", "Cookie", tt.cookie); s.Consent["analytics"] != tt.analytics {
			t.Errorf("%s: consent %v", name, s.Consent)
		}
	}
}

// TestConsentAtOnce: equal decisions that come together are one record; what
// differs makes one line of records, of which one is active.
func TestConsentAtOnce(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb))
	v := newVisitor(t, c.site, desktop, false)
	post := func(bodies ...map[string]any) map[string]bool {
		ids, mu := map[string]bool{}, sync.Mutex{}
		var wg sync.WaitGroup
		for _, b := range bodies {
			wg.Go(func() {
				a, err := v.tryCall("POST", "consent/record", b)
				if err != nil || a.status != 200 {
					t.Errorf("%v %+v", err, a)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[a.Data["consent_id"].(string)] = true
			})
		}
		wg.Wait()
		return ids
	}
	var same, different []map[string]any
	for i := range 20 {
		same = append(same, map[string]any{"token": "", "purposes": allPurposes})
		different = append(different, map[string]any{"policy_version": fmt.Sprint(i), "purposes": allPurposes})
	}
	fill := func(list []map[string]any, s *sessionContext) {
		for _, b := range list {
			b["token"] = s.Session.Token
		}
	}
	one, many := v.visit("/"), v.visit("/")
	fill(same, one)
	fill(different, many)
	if ids := post(same...); len(ids) != 1 {
		t.Errorf("20 equal decisions at once are %d records", len(ids))
	}
	ids := post(different...)
	if len(ids) != 20 {
		t.Fatalf("20 different decisions are %d records", len(ids))
	}
	current := v.call("GET", "consent/record?campaign_id=cmp_1", nil, "Authorization", "Bearer "+many.Session.Token).ok(t)
	newest := current.Data["consent"].(map[string]any)["id"].(string)
	waitRows(t, tb, "consents_v1", 1+20+19)
	active, withdrawn := map[any]bool{}, map[any]bool{}
	for _, r := range waitRows(t, tb, "consents_v1", 1+20+19) {
		if r["subject_id"] == many.UserID {
			map[any]map[any]bool{"active": active, "withdrawn": withdrawn}[r["status"]][r["consent_id"]] = true
		}
	}
	if len(active) != 20 || len(withdrawn) != 19 || withdrawn[newest] || !ids[newest] {
		t.Errorf("%d records, %d withdrawn, the newest withdrawn: %v", len(active), len(withdrawn), withdrawn[newest])
	}
}

// TestConsentIsReadByItsOwnerOnly: the ids that stand in rows and logs tell
// nothing of what somebody agreed to.
func TestConsentIsReadByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "")
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	route := "consent/record?campaign_id=cmp_1&subject_id=" + s.UserID
	bearer := []string{"Authorization", "Bearer " + s.Session.Token}
	if a := v.call("GET", route, nil, bearer...); a.status != 404 || a.Code != "consent_not_found" {
		t.Errorf("before the first: %d %s", a.status, a.body)
	}
	v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": allPurposes, "domain": "Shop.Example.com"}).ok(t)
	want := map[string]any{"workspace_id": "ws_1", "project_id": "pr_1", "campaign_id": "cmp_1", "subject_id": s.UserID, "domain": "shop.example.com", "status": "active", "proof": "token"}
	for name, a := range map[string]*answer{
		"with the token":                v.call("GET", route, nil, bearer...),
		"with the token in the query":   v.call("GET", route+"&token="+s.Session.Token, nil),
		"with the cookie":               v.call("GET", route, nil),
		"with the cookie and no ids":    v.call("GET", "consent/record", nil),
		"of that domain":                v.call("GET", route+"&domain=shop.example.com", nil),
		"of that domain, spelled oddly": v.call("GET", route+"&domain=SHOP.example.com.", nil),
	} {
		a.ok(t)
		var top struct{ Consent map[string]any }
		if err := json.Unmarshal(a.body, &top); err != nil {
			t.Fatal(err)
		}
		expect(t, name, top.Consent, want)
		given, expires := top.Consent["given_at"].(float64), top.Consent["expires_at"].(float64)
		if expires-given != 365*24*60*60 || time.Since(time.Unix(int64(given), 0)) > time.Hour {
			t.Errorf("%s: given %v, expires %v: want Unix seconds", name, given, expires)
		}
	}
	stranger := newVisitor(t, c.site, iPhone, true)
	t2 := stranger.visit("/")
	for name, tt := range map[string]struct {
		a      *answer
		status int
		code   string
	}{
		"ids alone":           {stranger.call("GET", route+"&session_id="+s.Session.SessionID, nil), 401, "invalid_session"},
		"another's token":     {stranger.call("GET", route, nil, "Authorization", "Bearer "+t2.Session.Token), 403, "user_mismatch"},
		"a forged token":      {stranger.call("GET", route, nil, "Authorization", "Bearer x"), 401, "invalid_session"},
		"no campaign":         {v.call("GET", "consent/record?campaign_id=cmp_9", nil), 403, "unknown_campaign"},
		"another campaign":    {v.call("GET", "consent/record?campaign_id=cmp_9", nil, bearer...), 403, "campaign_mismatch"},
		"another domain":      {v.call("GET", route+"&domain=127.0.0.1", nil), 404, "consent_not_found"},
		"no domain":           {v.call("GET", route+"&domain=a%20b", nil), 400, "invalid_consent"},
		"from another origin": {v.call("GET", route, nil, "Origin", "https://evil.example"), 403, "origin_not_allowed"},
	} {
		if tt.a.status != tt.status || tt.a.Code != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, tt.a.status, tt.a.body, tt.status, tt.code)
		}
	}
}

// TestBadConsent: each refusal has its code, sets no cookie and makes no row.
func TestBadConsent(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startAsking(t, tinybirdSink(tb))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	good := s.consents(allPurposes)
	for _, tt := range []struct {
		name   string
		body   any
		status int
		code   string
	}{
		{"no subject", with(good, "subject_id", ""), 400, "missing_field"},
		{"no domain", with(good, "domain", nil), 400, "missing_field"},
		{"no purposes", with(good, "purposes", nil), 400, "invalid_consent"},
		{"a yes as text", with(good, "purposes", with(allPurposes, "analytics", "true")), 400, "invalid_consent"},
		{"no days", with(good, "expires_in_days", 0), 400, "invalid_consent"},
		{"days without end", with(good, "expires_in_days", 1e12), 400, "invalid_consent"},
		{"a domain that is none", with(good, "domain", "<script>"), 400, "invalid_consent"},
		{"a purpose that occurs twice", `{"token":"t","purposes":{"analytics":false,"analytics":true,"marketing":true,"functional":true}}`, 400, "invalid_consent"},
		{"a field that occurs twice", `{"token":"t","token":"u"}`, 400, "invalid_json"},
		{"a subject made up by the client", with(good, "subject_id", "be61e4bd-e73f-841c-91ed-1a1dfbc545f7"), 401, "invalid_session"},
		{"a subject that is no UUID", with(good, "subject_id", "me"), 401, "invalid_session"},
		{"a session made up by the client", with(good, "session_id", "01a20fe8-43a8-8b12-ae9b-0e0db65de970"), 401, "invalid_session"},
		{"a forged token", with(good, "token", "x"), 401, "invalid_session"},
		{"a token that is an object", with(good, "token", map[string]any{}), 401, "invalid_session"},
		{"a token with another subject", with(good, "token", s.Session.Token, "subject_id", "x"), 403, "user_mismatch"},
		{"a token with another campaign", with(good, "token", s.Session.Token, "campaign_id", "x"), 403, "campaign_mismatch"},
		{"another workspace", with(good, "workspace_id", "ws_2"), 403, "campaign_mismatch"},
		{"another project", with(good, "token", s.Session.Token, "project_id", "pr_2"), 403, "campaign_mismatch"},
		{"an unknown campaign", with(good, "campaign_id", "cmp_9"), 403, "unknown_campaign"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := v.post("consent/record", tt.body)
			if a.status != tt.status || a.Code != tt.code || a.Error == "" || a.Success {
				t.Errorf("%d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			wantSet(t, "the refusal", a.header, nil, nil)
		})
	}
	if a := v.call("PUT", "consent/record", good); a.status != 405 || a.header.Get("Allow") != "POST, GET, OPTIONS" {
		t.Errorf("PUT: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	// One that is right comes after them; had they made rows, those were first.
	a := v.post("consent/record", good).ok(t)
	consentRow(t, tb, a.Data["consent_id"].(string), "active")
	if rows := waitRows(t, tb, "consents_v1", 1); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
	if strings.Contains(c.log.String(), `"level":"error"`) {
		t.Error("a client's fault is logged as an error")
	}
}

// TestConsentAfterTheSession: who decides long after the page was loaded is
// heard all the same, by an old token and by the user cookie alone.
func TestConsentAfterTheSession(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "session_duration 1s")
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": allPurposes}).ok(t)
	eventually(t, 10*time.Second, "the session cookie goes", func() error {
		if slices.Contains(v.cookieNames(), "fb_session_cmp_1") {
			return fmt.Errorf("cookies %v", v.cookieNames())
		}
		return nil
	})
	a := v.post("consent/record", s.consents(noPurposes)).ok(t)
	wantSet(t, "a no by the user cookie", a.header, []string{choiceName}, []string{"fb_attribution_cmp_1", "fb_user_ws_1"})
	a = v.post("consent/record", map[string]any{"token": s.Session.Token, "purposes": allPurposes}).ok(t)
	wantSet(t, "a yes by the old token", a.header, []string{choiceName, "fb_attribution_cmp_1", "fb_user_ws_1"}, nil)
	if next := v.visit("/"); next.UserID != s.UserID {
		t.Error("the next page is another user's")
	}
}

// TestCookielessCampaignsSetNoChoice: such a campaign never sets a cookie, but
// takes away those that are there.
func TestCookielessCampaignsSetNoChoice(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "", "identity cookieless")
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	token := map[string]any{"token": s.Session.Token}
	wantSet(t, "a yes", v.post("consent/record", with(token, "purposes", allPurposes)).ok(t).header, nil, nil)
	wantSet(t, "a no", v.post("consent/record", with(token, "purposes", noPurposes), "Cookie", "frbzz_uid=1").ok(t).header, nil, []string{"frbzz_uid"})
}

// TestTheChoiceRulesOverAWorkspace: a no on one campaign's page removes the
// cookies of the others of its workspace, and of no other workspace.
func TestTheChoiceRulesOverAWorkspace(t *testing.T) {
	t.Parallel()
	site := "\nSITE {\n"
	for _, path := range []string{"a", "b", "x"} {
		workspace := "ws_1"
		if path == "x" {
			workspace = "ws_x"
		}
		site += fmt.Sprintf("\thandle /%[1]s/* {\n\t\tsession_context {\n\t\t\tworkspace %[2]s\n\t\t\tproject pr_1\n\t\t\tcampaign cmp_%[1]s\n\t\t\tconsent {\n\t\t\t\trequire always\n\t\t\t}\n\t\t}\n\t\tfile_server {\n\t\t\troot DIR/www\n\t\t}\n\t}\n", path, workspace)
	}
	c := newCaddy(t)
	for _, path := range []string{"a", "b", "x"} {
		writePage(t, c, path+"/index.html", plainPage)
	}
	c.write(globals("") + site + "\tsession_context_api\n}\n")
	c.start()
	v := newVisitor(t, c.site, desktop, true)
	for _, path := range []string{"/a/", "/x/"} {
		v.post("consent/record", map[string]any{"token": v.visit(path).Session.Token, "purposes": allPurposes}).ok(t)
	}
	b := v.visit("/b/")
	if b.Consent["analytics"] != true || b.Consent["source"] != "choice" {
		t.Errorf("the choice made on one campaign's page is not known on another's: %v", b.Consent)
	}
	a := v.post("consent/record", map[string]any{"token": b.Session.Token, "purposes": noPurposes}).ok(t)
	wantSet(t, "a no", a.header, []string{choiceName}, []string{"fb_user_ws_1", "fb_session_cmp_a", "fb_session_cmp_b", "fb_attribution_cmp_a", "fb_attribution_cmp_b"})
	left := v.cookieNames()
	slices.Sort(left)
	if want := []string{"fb_attribution_cmp_x", "fb_choice_ws_1", "fb_choice_ws_x", "fb_session_cmp_x", "fb_user_ws_x"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

// TestStoreIP: the network of a decision is kept if the operator says so.
func TestStoreIP(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(tinybirdSink(tb))+strings.Replace(asking(), "localization on", "store_ip", 1))
	v := newVisitor(t, c.site, desktop, false)
	a := v.post("consent/record", map[string]any{"token": v.visit("/").Session.Token, "purposes": noPurposes, "policy_version": "7", "source": "settings"}).ok(t)
	expect(t, "row", consentRow(t, tb, a.Data["consent_id"].(string), "active"),
		map[string]any{"ip": "127.0.0.0", "policy_version": "7", "source": "settings", "domain": "127.0.0.1", "user_agent": desktop})
}

// TestConsentWithoutTheStore: the record's row is evidence enough; only the
// history is lost.
func TestConsentWithoutTheStore(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	if err := os.Mkdir(c.path("no-store"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.write(globals("\t\tstore embedded DIR/no-store\n"+tinybirdSink(tb)) + asking())
	c.start()
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	token := map[string]any{"token": s.Session.Token}
	a := v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	wantSet(t, "a yes", a.header, append([]string{choiceName}, identityNames...), nil)
	consentRow(t, tb, a.Data["consent_id"].(string), "active")
	a = v.post("consent/record", with(token, "purposes", noPurposes)).ok(t)
	wantSet(t, "a no", a.header, []string{choiceName}, slices.Clone(identityNames))
	consentRow(t, tb, a.Data["consent_id"].(string), "active")
	get := v.call("GET", "consent/record?campaign_id=cmp_1", nil, "Authorization", "Bearer "+s.Session.Token)
	if get.status != 503 || get.Code != "store_unavailable" || get.header.Get("Retry-After") == "" {
		t.Errorf("GET: %d %s", get.status, get.body)
	}
}

// TestConsentWithAFullOutbox: a no that can't be recorded holds all the same;
// a yes that nothing would prove does not.
func TestConsentWithAFullOutbox(t *testing.T) {
	t.Parallel()
	c := startAsking(t, "\t\tsink tinybird {\n\t\t\turl http://"+freeAddr(t)+"\n\t\t\ttoken t\n\t\t}\n\t\toutbox {\n\t\t\tmax_disk 32MiB\n\t\t}")
	v := newVisitor(t, c.site, desktop, true)
	s := v.visit("/")
	token := map[string]any{"token": s.Session.Token}
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)

	filler := newVisitor(t, c.site, desktop, false)
	f := filler.visit("/")
	var events []any
	for range 55 {
		events = append(events, map[string]any{"event_id": "a", "event_type": "system", "metadata": strings.Repeat("x", 4000)})
	}
	// In ever smaller steps, down to the last row.
	for _, fill := range []func() *answer{
		func() *answer {
			return filler.post("events/batch-track", map[string]any{"token": f.Session.Token, "events": events})
		},
		func() *answer {
			return filler.post("events/track", with(events[0].(map[string]any), "token", f.Session.Token))
		},
		func() *answer {
			return filler.post("events/track", map[string]any{"token": f.Session.Token, "event_id": "a", "event_type": "system"})
		},
	} {
		n := 0
		for fill().status != 503 {
			if n++; n > 2000 {
				t.Fatal("the outbox is never full")
			}
		}
	}

	if text := `"rows could not be made durable: clients are told to try again","error":"outbox is full: `; !strings.Contains(c.log.String(), text) {
		t.Errorf("the log does not say %s", text)
	}
	a := v.post("consent/record", with(token, "purposes", noPurposes))
	if a.status != 503 || a.Code != "outbox_full" || a.header.Get("Retry-After") == "" {
		t.Errorf("a no: %d %s", a.status, a.body)
	}
	wantSet(t, "a no", a.header, []string{choiceName}, slices.Clone(identityNames))
	if next := v.visit("/"); next.Consent["analytics"] != false || next.Consent["source"] != "choice" {
		t.Errorf("consent %v", next.Consent)
	}
	a = v.post("consent/record", with(token, "purposes", allPurposes))
	if a.status != 503 || a.Code != "outbox_full" {
		t.Errorf("a yes: %d %s", a.status, a.body)
	}
	wantSet(t, "a yes", a.header, nil, nil)
}

// TestConsentSurvivesAKill: what was answered is on disk, history and row.
func TestConsentSurvivesAKill(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	tb.Fail("", standin.Fault{Status: 503}, -1)
	c := startAsking(t, tinybirdSink(tb))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	token := map[string]any{"token": s.Session.Token}
	v.post("consent/record", with(token, "purposes", allPurposes)).ok(t)
	a := v.post("consent/record", with(token, "purposes", noPurposes)).ok(t)
	id := a.Data["consent_id"].(string)
	c.kill()
	tb.Heal("")
	c.start()
	consentRow(t, tb, id, "active")
	again := v.post("consent/record", with(token, "purposes", noPurposes)).ok(t)
	if again.Data["consent_id"] != id || again.Data["expires_at"] != a.Data["expires_at"] {
		t.Errorf("a retry after a crash is another record: %s, then %s", a.body, again.body)
	}
	get := v.call("GET", "consent/record?campaign_id=cmp_1", nil, "Authorization", "Bearer "+s.Session.Token).ok(t)
	if got := get.Data["consent"].(map[string]any); got["id"] != id {
		t.Errorf("the current record is %v", got)
	}
	if rows := waitRows(t, tb, "consents_v1", 3); len(rows) != 3 {
		t.Errorf("%d rows, want two records and one end", len(rows))
	}
}
