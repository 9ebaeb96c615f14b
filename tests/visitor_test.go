package tests

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Agents that visitors of the tests use.
const (
	iPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
	desktop = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)

// visitor is a browser as far as HTTP goes.
type visitor struct {
	t      testing.TB
	site   string
	host   string // what the site is called, where that is not its address
	agent  string
	client *http.Client
}

// origin is what its pages' origin is.
func (v *visitor) origin() string {
	if v.host != "" {
		return "http://" + v.host
	}
	return v.site
}

// newVisitor has a cookie jar if cookies is true.
func newVisitor(t testing.TB, site, agent string, cookies bool) *visitor {
	v := &visitor{t: t, site: site, agent: agent, client: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cookies {
		v.client.Jar, _ = cookiejar.New(nil)
	}
	return v
}

// sessionContext is the injected document, as pages see it.
type sessionContext struct {
	UserID, WorkspaceID, ProjectID, CampaignID, LandingPageID string
	SegmentID, ABTestID, ABTestVariantID                      *string
	ABTests                                                   []struct{ TestID, VariantID string }
	Session                                                   struct {
		SessionID, Token, OriginalSessionID string
		CreatedAt, ExpiresAt                int64
		OriginalTimestamp                   int64
		RenewalCount                        int
	}
	ServerTime  int64
	APIBaseURL  string
	Attribution struct {
		Source            string
		Original, Current map[string]any
	}
	Consent             map[string]any
	GDPRSettings        map[string]any
	CampaignEnvironment string
	BotDetection        map[string]any
}

var contextPattern = regexp.MustCompile(`<script data-session-context="[^>]*>(?:document\.currentScript\.(?:previousSibling\.)?removeAttribute\("nonce"\);)*window\.__FIREBUZZ_SESSION_CONTEXT__=(\{.*?\});window\.dispatchEvent`)

// page asks for a page as a browser that navigates.
func (v *visitor) page(path string, header ...string) (*http.Response, string) {
	v.t.Helper()
	res, body, err := v.tryPage(path, header...)
	if err != nil {
		v.t.Fatal(err)
	}
	return res, body
}

// tryPage is page where the server may be gone.
func (v *visitor) tryPage(path string, header ...string) (*http.Response, string, error) {
	req, err := http.NewRequest("GET", v.site+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.Host = v.host
	req.Header.Set("User-Agent", v.agent)
	req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	req.Header.Set("Accept-Language", "de-DE,de;q=0.9,en;q=0.8")
	req.Header.Set("Sec-Fetch-Site", "none")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	req.Header.Set("Sec-Fetch-User", "?1")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := v.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// visit is page for one that must have its context.
func (v *visitor) visit(path string, header ...string) *sessionContext {
	v.t.Helper()
	res, body := v.page(path, header...)
	if res.StatusCode != 200 {
		v.t.Fatalf("page %s: status %d\n%s", path, res.StatusCode, body)
	}
	return parseContext(v.t, body)
}

func parseContext(t testing.TB, body string) *sessionContext {
	t.Helper()
	m := contextPattern.FindAllStringSubmatch(body, -1)
	if len(m) != 1 {
		t.Fatalf("the page has %d contexts:\n%s", len(m), body)
	}
	c := &sessionContext{}
	if err := json.Unmarshal([]byte(m[0][1]), c); err != nil {
		t.Fatalf("the context is not JSON: %v\n%s", err, m[0][1])
	}
	return c
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte

	Success bool           `json:"success"`
	Data    map[string]any `json:"data"`
	Error   string         `json:"error"`
	Code    string         `json:"code"`
}

// post calls the API as the page's script does. body is JSON text or a value.
func (v *visitor) post(route string, body any, header ...string) *answer {
	v.t.Helper()
	return v.call("POST", route, body, header...)
}

func (v *visitor) call(method, route string, body any, header ...string) *answer {
	v.t.Helper()
	a, err := v.tryCall(method, route, body, header...)
	if err != nil {
		v.t.Fatal(err)
	}
	return a
}

// tryCall is call where the server may be gone.
func (v *visitor) tryCall(method, route string, body any, header ...string) (*answer, error) {
	var b []byte
	switch body := body.(type) {
	case nil:
	case string:
		b = []byte(body)
	case []byte:
		b = body
	default:
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequest(method, v.site+"/client-api/v1/"+route, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Host = v.host
	req.Header.Set("User-Agent", v.agent)
	req.Header.Set("Accept-Language", "de-DE,de;q=0.9,en;q=0.8")
	if method == "POST" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", v.origin())
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	if len(a.body) > 0 && strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(a.body, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// ok fails the test unless the call succeeded.
func (a *answer) ok(t testing.TB) *answer {
	t.Helper()
	if a.status != 200 || !a.Success {
		t.Fatalf("the API refused: %d %s", a.status, a.body)
	}
	return a
}

// ids are a session's ids as the reference client sends them.
func (c *sessionContext) ids() map[string]any {
	return map[string]any{
		"session_id": c.Session.SessionID, "user_id": c.UserID, "campaign_id": c.CampaignID,
		"workspace_id": c.WorkspaceID, "project_id": c.ProjectID, "landing_page_id": c.LandingPageID,
	}
}

// with returns a copy of m with more in it.
func with(m map[string]any, kv ...any) map[string]any {
	out := make(map[string]any, len(m)+len(kv)/2)
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i].(string)] = kv[i+1]
	}
	return out
}

// cookieNames are those in the visitor's jar.
func (v *visitor) cookieNames() []string {
	u, _ := url.Parse(v.site)
	var names []string
	for _, c := range v.client.Jar.Cookies(u) {
		names = append(names, c.Name)
	}
	return names
}

// cookies is the header that the visitor's browser sends now.
func (v *visitor) cookies() string {
	u, _ := url.Parse(v.site)
	var pairs []string
	for _, c := range v.client.Jar.Cookies(u) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// setCookie puts a cookie into a browser's jar; an empty value takes it out.
func setCookie(jar http.CookieJar, site *url.URL, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/"}
	if value == "" {
		c.MaxAge = -1
	}
	jar.SetCookies(site, []*http.Cookie{c})
}
