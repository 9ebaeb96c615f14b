package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// place is a site of the driven Caddy: one campaign.
type place struct {
	month.Tenant
	url string
	// byPage: a session is a visit by its page, not by the page's script.
	byPage bool
	// cookies are set on whoever has not been asked.
	cookies bool
	// tested: the campaign splits its visitors.
	tested bool
}

// browser is one visitor as far as HTTP goes, and what the truth says of them.
type browser struct {
	t      testing.TB
	d      *drive
	at     *place
	person *month.Person
	header http.Header // of every request
	client *http.Client
	// key is what a visitor without cookies is counted by; empty for who is not.
	key string
	// keyed counts the sessions that have the key.
	keyed int
	// known: the browser has a cookie that names its user.
	known bool
	// agreed: cookies may be set. decision is the last one about that.
	agreed   bool
	decision *month.Decision
	// cookie is that of a session which will end.
	cookie *http.Cookie
	// doc is the last page's context, now its session.
	doc pageContext
	now *month.Session
	// clickID is the last click id that was given out, and clickOf its session.
	clickID, clickOf string
	// first is the visitor's first touch, once it is known by cookies.
	first *month.Touch
}

// pageContext is the injected document.
type pageContext struct {
	UserID, WorkspaceID, ProjectID, CampaignID, LandingPageID string
	SegmentID, ABTestID, ABTestVariantID                      *string
	Session                                                   struct {
		SessionID, Token, OriginalSessionID string
		CreatedAt, ExpiresAt                int64
		RenewalCount                        int
	}
	BotDetection struct{ Score float64 }
}

var contextPattern = regexp.MustCompile(`window\.__FIREBUZZ_SESSION_CONTEXT__=(\{.*?\});window\.dispatchEvent`)

func newBrowser(t testing.TB, d *drive, at *place, person *month.Person, header map[string]string, keepsCookies bool) *browser {
	b := &browser{t: t, d: d, at: at, person: person, header: make(http.Header), agreed: at.cookies, client: &http.Client{
		Timeout:       60 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if keepsCookies {
		b.client.Jar, _ = cookiejar.New(nil)
	}
	for name, value := range header {
		b.header.Set(name, value)
	}
	b.key = header["X-Forwarded-For"] + " " + header["User-Agent"]
	return b
}

// send sends a request with what every request of the browser has.
func (b *browser) send(method, target string, body []byte, header ...string) (*http.Response, []byte) {
	b.t.Helper()
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	maps.Copy(req.Header, b.header)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, text
}

var navigation = []string{"Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}

// page asks for a page, and says what kind of request that is. It reads the
// context and notes the page, and does nothing else with either; what was told to
// nobody is of no session.
func (b *browser) page(path, purpose string, header ...string) *month.Page {
	b.t.Helper()
	person := *b.person
	p := &month.Page{Tenant: b.at.Tenant, Person: &person, Purpose: purpose}
	p.Segment, p.LandingPage = b.shown()
	from := time.Now()
	res, body := b.send("GET", b.at.url+path, nil, append(navigation[:len(navigation):len(navigation)], header...)...)
	if b.at.CampaignEnvironment == "production" { // previews write no traffic
		b.d.sent(&sentPage{p, from, time.Now()})
	}
	p.Status = res.StatusCode
	p.Counted = purpose == "navigate" && p.Status == http.StatusOK
	b.doc = pageContext{}
	m := contextPattern.FindSubmatch(body)
	switch {
	case res.StatusCode != 200 && m == nil:
		return p
	case m == nil:
		b.t.Fatalf("page %s has no context: %d\n%s", path, res.StatusCode, body)
	}
	if err := json.Unmarshal(m[1], &b.doc); err != nil {
		b.t.Fatalf("the context is not JSON: %v\n%s", err, m[1])
	}
	if b.doc.WorkspaceID != b.at.Workspace || b.doc.ProjectID != b.at.Project || b.doc.CampaignID != b.at.Campaign {
		b.t.Errorf("page %s is of %s, %s, %s, want %+v", path, b.doc.WorkspaceID, b.doc.ProjectID, b.doc.CampaignID, b.at.Tenant)
	}
	p.SessionID, person.BotScore = b.doc.Session.SessionID, b.doc.BotDetection.Score
	return p
}

// shown are the segment and the landing page that the visitor gets.
func (b *browser) shown() (segment, landingPage string) {
	if b.person.Device == "mobile" {
		return "mobile", "lp_2"
	}
	return "everyone", "lp_1"
}

// arrive opens a page that begins a session, by way of touch.
func (b *browser) arrive(touch month.Touch, header ...string) {
	b.t.Helper()
	b.fetch(touch, "navigate", header...)
	if b.at.byPage {
		b.live()
	}
}

// fetch is arrive for a page that may never be looked at.
func (b *browser) fetch(touch month.Touch, purpose string, header ...string) {
	b.t.Helper()
	if touch.Referrer != "" {
		header = append(header, "Referer", touch.Referrer, "Sec-Fetch-Site", "cross-site")
	}
	had := b.now
	p := b.page(touch.LandingPage, purpose, header...)
	if b.d.session(b.doc.Session.SessionID) != nil {
		b.t.Fatalf("session %s goes on, want a new one", b.doc.Session.SessionID)
	}
	if b.known != (had != nil && had.User == b.doc.UserID) {
		b.t.Fatalf("user %s, before %+v, known %v", b.doc.UserID, had, b.known)
	}
	s := b.session()
	s.Touch, s.First, s.Returning = touch, touch, b.known
	if b.known && b.first != nil {
		s.First = *b.first
	}
	s.Segment, s.LandingPage = b.shown()
	p.Session, p.Referrer = s, touch.Referrer
	if orEmpty(b.doc.SegmentID) != s.Segment || b.doc.LandingPageID != s.LandingPage {
		b.t.Errorf("segment %s, landing page %s, want %s, %s", orEmpty(b.doc.SegmentID), b.doc.LandingPageID, s.Segment, s.LandingPage)
	}
	s.Test, s.Variant = orEmpty(b.doc.ABTestID), orEmpty(b.doc.ABTestVariantID)
	if b.at.tested != (s.Test == month.Test) || b.at.tested != (s.Variant == month.Control || s.Variant == "bold") {
		b.t.Errorf("test %q, variant %q", s.Test, s.Variant)
	}
	if b.known && had.Variant != s.Variant {
		b.t.Errorf("variant %s, before %s", s.Variant, had.Variant)
	}
	b.d.begin(b, s)
	b.now = s
	if purpose == "navigate" && b.agreed && b.client.Jar != nil {
		b.known, b.first = true, &s.First
	}
}

// session is the last page's, as its context has it.
func (b *browser) session() *month.Session {
	if b.person.BotScore = b.doc.BotDetection.Score; (b.person.BotScore < 6) != b.d.programs[b.person] {
		b.t.Errorf("%s scores %v", b.header.Get("User-Agent"), b.person.BotScore)
	}
	s := &month.Session{
		ID: b.doc.Session.SessionID, User: b.doc.UserID, City: b.person.City, At: time.UnixMilli(b.doc.Session.CreatedAt).UTC(),
		Renewal: b.doc.Session.RenewalCount, FirstSource: "server",
	}
	if !b.agreed && b.key != "" {
		b.keyed++
		s.VisitorDay = b.key + s.At.Format(time.DateOnly)
	}
	return s
}

// goOn opens a further page by a link in the one before. It is of the same
// session if cookies say so, or if the visitor has the only session of the day's
// key; else it begins one of a new user.
func (b *browser) goOn(path string) {
	b.t.Helper()
	if !b.agreed && (b.key == "" || b.keyed != 1) {
		b.fetch(month.Touch{LandingPage: path}, "navigate", b.fromWithin()...)
		return
	}
	b.page(path, "navigate", b.fromWithin()...).Session = b.now
	if b.doc.Session.SessionID != b.now.ID || b.doc.UserID != b.now.User {
		b.t.Errorf("page %s is of session %s, want %s", path, b.doc.Session.SessionID, b.now.ID)
	}
}

// fromWithin are the headers of a link that is followed on the last page.
func (b *browser) fromWithin() []string {
	return []string{"Sec-Fetch-Site", "same-origin", "Referer", b.at.url + b.now.Touch.LandingPage}
}

// sessionCookie is the cookie of the session, as far as the browser keeps it.
func (b *browser) sessionCookie() *http.Cookie {
	u, _ := url.Parse(b.at.url)
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == "fb_session_"+b.at.Campaign {
			return c
		}
	}
	return nil
}

// leave ends the session as far as the browser knows: its cookie is over.
func (b *browser) leave() {
	u, _ := url.Parse(b.at.url)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "fb_session_" + b.at.Campaign, Path: "/", MaxAge: -1}})
}

// succeed makes the session that the line goes on with, as an answer named it.
func (b *browser) succeed(id string, at int64) {
	next := *b.now
	next.ID, next.At, next.Renewal, next.Events = id, time.UnixMilli(at).UTC(), b.now.Renewal+1, nil
	if next.VisitorDay != "" {
		next.VisitorDay = b.key + next.At.Format(time.DateOnly)
	}
	b.d.renew(&next)
	b.now = &next
}

// live is the session's first sign of life, or a later one: it has a row.
func (b *browser) live() { b.d.live(b.now) }

// reply is what the API answered.
type reply struct {
	status  int
	Success bool
	Data    map[string]any
	Code    string
	body    []byte
}

// post calls the API as a page's script does.
func (b *browser) post(route string, body map[string]any, header ...string) reply {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	res, answer := b.send("POST", b.at.url+"/client-api/v1/"+route, text, append([]string{
		"Content-Type", "application/json", "Origin", b.at.url,
		"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty",
	}, header...)...)
	r := reply{status: res.StatusCode, body: answer}
	if err := json.Unmarshal(answer, &r); err != nil {
		b.t.Fatalf("%s: %d %s: %v", route, res.StatusCode, answer, err)
	}
	return r
}

// must is post for a call that succeeds.
func (b *browser) must(route string, body map[string]any, header ...string) reply {
	b.t.Helper()
	r := b.post(route, body, header...)
	if r.status != 200 || !r.Success {
		b.t.Fatalf("%s: %d %s", route, r.status, r.body)
	}
	if id, ok := r.Data["click_id"].(string); ok {
		b.clickID, b.clickOf = id, fmt.Sprint(r.Data["session_id"])
	}
	return r
}

// ids is how the reference client names its session.
func (b *browser) ids() map[string]any {
	return map[string]any{
		"session_id": b.now.ID, "user_id": b.now.User, "campaign_id": b.at.Campaign, "workspace_id": b.at.Workspace,
		"project_id": b.at.Project, "landing_page_id": b.now.LandingPage, "campaign_environment": b.at.CampaignEnvironment,
	}
}

func with(m map[string]any, more map[string]any) map[string]any {
	all := make(map[string]any, len(m)+len(more))
	maps.Copy(all, m)
	maps.Copy(all, more)
	return all
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// landing is the touch's page, with the parameters that its link has.
func landing(path string, touch month.Touch, more ...string) month.Touch {
	q := url.Values{}
	for name, value := range map[string]string{
		"utm_source": touch.Source, "utm_medium": touch.Medium, "utm_campaign": touch.Campaign, "ref": touch.Ref, "source": touch.Own,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	touch.LandingPage = path
	if len(q) > 0 {
		touch.LandingPage += "?" + q.Encode()
	}
	return touch
}

// act is an event on its way: what the page says, and what is true of it.
type act struct {
	body  map[string]any
	event month.Event
	mark  string
}

// does makes an event. seconds is the time on the page, -1 for none.
func (b *browser) does(id, kind string, value float64, currency string, seconds int) act {
	a := act{mark: b.d.mark(), event: month.Event{ID: id, Type: kind, Value: value, Currency: currency, TimeOnPage: seconds}}
	a.body = map[string]any{
		"event_id": id, "event_type": kind, "event_value": value, "event_value_currency": currency,
		"metadata": fmt.Sprintf(`{"mark":%q}`, a.mark), "page_url": b.at.url + strings.SplitN(b.now.Touch.LandingPage, "?", 2)[0],
	}
	if seconds >= 0 {
		a.body["time_on_page"] = seconds
	}
	return a
}

// sent notes that the acts were taken, in that order, between two moments.
func (b *browser) sent(from time.Time, acts ...act) {
	to := time.Now()
	b.live()
	for _, a := range acts {
		e := a.event
		e.Session = b.now
		b.d.happened(a.mark, &e, from, to)
	}
}
