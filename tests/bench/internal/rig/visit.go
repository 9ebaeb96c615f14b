package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// EverythingOn is a session_context directive with all that a page can cost:
// segments with a matcher, an A/B test, rows. more are further lines of it.
func EverythingOn(more string) string {
	return `	@mobile vars session.device.type mobile
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		rate_limit 100000000 100000000
		segment mobile @mobile
		segment everyone
		ab_test hero {
			variant control 50
			variant bold 50
		}
		` + more + `
	}
`
}

// Agent is the browser that all requests come from.
const Agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"

// Query is that of a paid visit.
const Query = "?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0KCQiA"

// PageHeader is that of a browser's navigation from a search; by somebody new
// if there are no cookies.
func PageHeader(cookies string) http.Header {
	h := http.Header{
		"User-Agent":      {Agent},
		"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		"Accept-Language": {"en-US,en;q=0.9"},
		"Accept-Encoding": {"gzip, deflate, br, zstd"},
		"Sec-Fetch-Site":  {"cross-site"},
		"Sec-Fetch-Mode":  {"navigate"},
		"Sec-Fetch-Dest":  {"document"},
		"Referer":         {"https://www.google.com/"},
	}
	if cookies != "" {
		h.Set("Cookie", cookies)
	}
	return h
}

// GetPage asks for a page as a browser does.
func GetPage(addr, path, cookies string) (*http.Response, []byte, error) {
	req, err := http.NewRequest("GET", "http://"+addr+path+Query, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header = PageHeader(cookies)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("page %s of %s: %s", path, addr, res.Status)
	}
	return res, body, err
}

// Visitor is somebody who has seen a page.
type Visitor struct{ SessionID, Token, Cookies string }

var (
	sessionPattern = regexp.MustCompile(`"sessionId":"([^"]+)"`)
	tokenPattern   = regexp.MustCompile(`"token":("[^"]+")`)
)

// ReadVisitor takes from a page what its script would.
func ReadVisitor(res *http.Response, page []byte) (v Visitor, err error) {
	id, token := sessionPattern.FindSubmatch(page), tokenPattern.FindSubmatch(page)
	if id == nil || token == nil {
		return v, fmt.Errorf("the page %s has no session id or token", res.Request.URL)
	}
	v.SessionID = string(id[1])
	var all []string
	for _, c := range res.Cookies() {
		all = append(all, c.Name+"="+c.Value)
	}
	v.Cookies = strings.Join(all, "; ")
	return v, json.Unmarshal(token[1], &v.Token)
}

// Visit opens a page as somebody new.
func Visit(addr, path string) (Visitor, error) {
	res, page, err := GetPage(addr, path, "")
	if err != nil {
		return Visitor{}, err
	}
	return ReadVisitor(res, page)
}
