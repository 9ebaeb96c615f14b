package visitor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func TestWhoComesFromWithin(t *testing.T) {
	own := NewHosts([]string{"www.example.com", "*.example.org"}).Contain
	for _, tt := range []struct {
		name, referer, site string
		want                bool
	}{
		{"a typed address", "", "none", false},
		{"an old browser that says nothing", "", "", false},
		{"a click inside the site", "https://lp.example.net/a", "same-origin", true},
		{"a click inside a site that sends no Referer", "", "same-origin", true},
		{"another of the operator's hosts", "https://www.example.com/", "cross-site", true},
		{"a host below a domain of the operator", "https://a.b.example.org/", "cross-site", true},
		{"that domain itself is not named", "https://example.org/", "cross-site", false},
		{"back from a payment provider", "https://www.paypal.com/checkoutnow", "cross-site", true},
		{"back from a provider with a dot at its end", "https://www.paypal.com./", "cross-site", true},
		{"back from a card's bank", "https://secure7.arcot.com/", "cross-site", true},
		{"back from a sign-in", "https://appleid.apple.com/", "cross-site", true},
		{"another site", "https://news.example/", "cross-site", false},
		{"another site without Referer", "", "cross-site", false},
		{"an app", "android-app://com.paypal.android/", "cross-site", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = "lp.example.net"
			for name, v := range map[string]string{"Referer": tt.referer, "Sec-Fetch-Site": tt.site} {
				if v != "" {
					r.Header.Set(name, v)
				}
			}
			var rd Reader
			f := rd.Read(Request{HTTP: r, OwnHosts: own})
			if f.FromWithin != tt.want {
				t.Errorf("from within: %v", f.FromWithin)
			}
			if f.FromWithin && f.Touch.Referrer != "" {
				t.Errorf("referrer %q", f.Touch.Referrer)
			}
		})
	}
}

func TestDefaultListsAreWhatTheirChecksWant(t *testing.T) {
	if err := CheckParams(DefaultClickIDs(), nil); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, d := range DefaultIgnoreReferrers() {
		if err := CheckHost(d); err != nil {
			t.Error(err)
		}
		if seen[d] || d[0] == '*' {
			t.Errorf("%s stands twice, or has a wildcard", d)
		}
		seen[d] = true
	}
	// Every column of the rows is filled by a parameter that is read.
	var rd Reader
	touches := rd.ClientTouches("h", nil)
	for _, column := range sessionctx.ClickIDColumns {
		if !strings.Contains(" "+strings.Join(touches.ClickIDs, " ")+" ", " "+column+" ") {
			t.Errorf("nothing is read into the column %s", column)
		}
	}
}

func TestHosts(t *testing.T) {
	h := NewHosts([]string{"A.example", "*.b.example", "", "*", "x:1", "http://y"})
	for host, want := range map[string]bool{
		"a.example": true, "b.a.example": false, "b.example": false, "c.b.example": true, "d.c.b.example": true,
		"xb.example": false, "": false, "x": false, "y": false, ".b.example": true, "example": false,
	} {
		if got := h.Contain(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestClientsTouchesFollowTheReadersLists(t *testing.T) {
	rd := Reader{ClickIDs: []string{"AwClid"}, KeepParams: []string{"plan"}}
	touches := rd.ClientTouches("lp.example.net:8443", NewHosts([]string{"www.example.com"}).Contain)
	body, err := sessionctx.ParseBody([]byte(`{"aw_clid":"1","gclid":"2","landingPage":"https://lp.example.net/a?plan=p&email=x&ref=r#f","referrer":"https://news.example/b?email=x"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := sessionctx.Touch{Time: 5, LandingPage: "/a?ref=r&plan=p", Referrer: "https://news.example/b", ClickIDs: []sessionctx.ClickID{{Name: "aw_clid", Value: "1"}}}
	if got := touches.Current(body, 5); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, r := range []string{"https://lp.example.net/", "https://www.example.com/x", "https://www.paypal.com/", "javascript:x"} {
		if got := touches.Referrer(r); got != "" {
			t.Errorf("%s: %q", r, got)
		}
	}
}

// Names that pass the check are read, and are keys of the context as they are.
func FuzzClickIDs(f *testing.F) {
	f.Add("tblci", "plan", "tblci=a&plan=b")
	f.Add("AwClid", "x.y", "aw_clid=%00a&AWCLID=b&X.Y=%3C")
	f.Add("__proto__", "", "__proto__=1")
	f.Fuzz(func(t *testing.T, name, keep, query string) {
		ids := append(DefaultClickIDs(), name)
		if CheckParams(ids, []string{keep}) != nil {
			return
		}
		rd := Reader{ClickIDs: ids, KeepParams: []string{keep}}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/", RawQuery: name + "=fuzzed&" + query}, Header: http.Header{}}
		facts := rd.Read(Request{HTTP: r})
		checkFacts(t, &facts)
		if len(facts.Touch.ClickIDs) == 0 || facts.Touch.ClickIDs[0].Value != "fuzzed" {
			t.Errorf("%q is not read: %+v", name, facts.Touch)
		}
		for _, c := range facts.Touch.ClickIDs {
			if quoted, err := json.Marshal(c.Name); err != nil || string(quoted) != `"`+c.Name+`"` {
				t.Errorf("%q can't be a key", c.Name)
			}
		}
		once := rd.CampaignURL("https://h.example/x?" + query)
		if twice := rd.CampaignURL(once); twice != once {
			t.Errorf("%q, then %q", once, twice)
		}
	})
}

func FuzzHosts(f *testing.F) {
	for _, s := range []string{"www.example.com", "*.example.com", "*", "a..b", "[::1]", "x:1", "é.example", "-"} {
		f.Add(s, "a."+s)
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		h := NewHosts([]string{pattern})
		if CheckHost(pattern) == nil && pattern[0] != '*' && !h.Contain(pattern) {
			t.Errorf("%q does not contain itself", pattern)
		}
		if h.Contain(host) && !strings.HasSuffix(strings.ToLower(host), strings.TrimPrefix(strings.ToLower(pattern), "*")) {
			t.Errorf("%q contains %q", pattern, host)
		}
	})
}
