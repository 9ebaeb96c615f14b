package visitor

import (
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

var noon = time.UnixMilli(1_764_019_067_000)

func TestTouch(t *testing.T) {
	type T = sessionctx.Touch
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name, url string
		want      T
	}{
		{"no query", "/welcome", T{LandingPage: "/welcome"}},
		{"all campaign parameters, in the fixed order", "/p?source=s&ref=r&utm_content=c&utm_term=t&utm_campaign=ca&utm_medium=m&utm_source=g&x=1",
			T{UTM: sessionctx.UTM{Source: "g", Medium: "m", Campaign: "ca", Term: "t", Content: "c"}, Ref: "r", Source: "s",
				LandingPage: "/p?utm_source=g&utm_medium=m&utm_campaign=ca&utm_term=t&utm_content=c&ref=r&source=s"}},
		{"names in any case", "/?UTM_Source=g&GCLID=1", T{UTM: sessionctx.UTM{Source: "g"}, ClickIDs: []sessionctx.ClickID{{Name: "gclid", Value: "1"}}, LandingPage: "/?utm_source=g&gclid=1"}},
		{"Snapchat's id", "/?ScCid=abc", T{ClickIDs: []sessionctx.ClickID{{Name: "sc_cid", Value: "abc"}}, LandingPage: "/?ScCid=abc"}},
		{"Snapchat's id by its column", "/?sc_cid=abc", T{ClickIDs: []sessionctx.ClickID{{Name: "sc_cid", Value: "abc"}}, LandingPage: "/?ScCid=abc"}},
		{"click ids in the URL's order, three at most", "/?wbraid=1&fbclid=2&gclid=3&msclkid=4",
			T{ClickIDs: []sessionctx.ClickID{{Name: "wbraid", Value: "1"}, {Name: "fbclid", Value: "2"}, {Name: "gclid", Value: "3"}},
				LandingPage: "/?gclid=3&wbraid=1&fbclid=2&msclkid=4"}},
		{"decoded in the field, encoded in the URL", "/?utm_campaign=Sommer+%26%20Sonne%C3%A4", T{UTM: sessionctx.UTM{Campaign: "Sommer & Sonneä"}, LandingPage: "/?utm_campaign=Sommer+%26%20Sonne%C3%A4"}},
		{"an escaped name", "/?utm%5Fsource=g", T{UTM: sessionctx.UTM{Source: "g"}, LandingPage: "/?utm_source=g"}},
		{"the first of two", "/?ref=a&ref=b", T{Ref: "a", LandingPage: "/?ref=a"}},
		{"empty values don't count", "/?ref=&ref=b&utm_source", T{Ref: "b", LandingPage: "/?ref=b"}},
		{"broken escapes stay", "/?ref=100%&source=%zz%4", T{Ref: "100%", Source: "%zz%4", LandingPage: "/?ref=100%&source=%zz%4"}},
		{"control characters go", "/?ref=a%00b%0d%0ac%E2%80%A8d", T{Ref: "abcd", LandingPage: "/?ref=a%00b%0d%0ac%E2%80%A8d"}},
		{"not UTF-8", "/?ref=a%FFb", T{Ref: "ab", LandingPage: "/?ref=a%FFb"}},
		{"values of which nothing is left", "/?gclid=%00&ref=%0d%0a&source=\x00", T{LandingPage: "/?ref=%0d%0a&gclid=%00"}},
		{"placeholders stay text", "/?ref={env.SECRET}", T{Ref: "{env.SECRET}", LandingPage: "/?ref={env.SECRET}"}},
		{"capped; what does not fit the landing page is left out whole", "/?utm_source=" + long + "&gclid=1&ref=" + long,
			T{UTM: sessionctx.UTM{Source: long[:128]}, Ref: long[:128], ClickIDs: []sessionctx.ClickID{{Name: "gclid", Value: "1"}}, LandingPage: "/?gclid=1"}},
		{"google's other parameters stay in the URL", "/?utm_id=7&page=2", T{LandingPage: "/?utm_id=7"}},
		{"personal parameters go", "/reset?email=a@b.c&token=secret", T{LandingPage: "/reset"}},
	} {
		u := &url.URL{}
		u.Path, u.RawQuery, _ = strings.Cut(c.url, "?")
		r := httptest.NewRequest("GET", "/index.html", nil)
		var rd Reader
		got := rd.Read(Request{HTTP: r, OriginalURL: u, Now: noon}).Touch
		c.want.Time = noon.UnixMilli()
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
		if got := rd.TouchFromURL("https://lp.example.com"+c.url+"#frag", noon); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s, from a URL:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestTouchReadsTheOriginalURL(t *testing.T) {
	r := httptest.NewRequest("GET", "/rewritten?utm_source=inner", nil)
	original, _ := url.Parse("/s%C3%BCd/%2Fx?utm_source=outer")
	var rd Reader
	f := rd.Read(Request{HTTP: r, OriginalURL: original})
	if f.URI != "/s%C3%BCd/%2Fx" || f.Touch.UTM.Source != "outer" || f.Touch.LandingPage != "/s%C3%BCd/%2Fx?utm_source=outer" {
		t.Errorf("%q %+v", f.URI, f.Touch)
	}
	if f := rd.Read(Request{HTTP: r}); f.URI != "/rewritten" || f.Touch.UTM.Source != "inner" {
		t.Errorf("without an original: %q %+v", f.URI, f.Touch)
	}
}

func TestOwnParameters(t *testing.T) {
	rd := Reader{ClickIDs: []string{"AwClid"}, KeepParams: []string{"Plan", "gclid", "ref"}}
	got := rd.TouchFromURL("/?plan=pro&awclid=9&gclid=1&fbclid=2&ref=x", noon)
	want := sessionctx.Touch{Time: noon.UnixMilli(), Ref: "x", ClickIDs: []sessionctx.ClickID{{Name: "aw_clid", Value: "9"}},
		LandingPage: "/?ref=x&AwClid=9&Plan=pro&gclid=1"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestAbsurdQueries(t *testing.T) {
	var rd Reader
	for _, q := range []string{
		strings.Repeat("&", 1e6), strings.Repeat("a=b&", 1e6), strings.Repeat("utm_source=x&", 1e5),
		"utm_source=" + strings.Repeat("%41", 1e6), strings.Repeat("u", 1e6) + "=1", "ref=" + strings.Repeat("ü", 1e5),
		strings.Repeat("%", 1e6),
	} {
		got := rd.TouchFromURL("/?"+q, noon)
		if len(got.UTM.Source) > 128 || len(got.Ref) > 128 || len(got.LandingPage) > 256 || !utf8.ValidString(got.Ref) {
			t.Errorf("%.30s…: %+v", q, got)
		}
	}
	path := "/" + strings.Repeat("%C3%BC", 1e5)
	if got := rd.TouchFromURL(path, noon).LandingPage; len(got) > 256 || strings.HasSuffix(got, "%") || strings.HasSuffix(got, "%C") {
		t.Errorf("landing page %q", got)
	}
}

func TestIrrelevantParametersCostNothing(t *testing.T) {
	s := newParamSet(defaultClickIDs, nil)
	q := "page=2&sort=price&email=a%40b.c&UTM_SOURC=x&" + strings.Repeat("p%41ram=v&", 50)
	if n := testing.AllocsPerRun(100, func() {
		var f found
		s.scan(q, &f)
		if f.n != 0 {
			t.Fatal("found something")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReferrer(t *testing.T) {
	var rd Reader
	own := NewHosts([]string{"*.example.com"}).Contain
	strict := Reader{IgnoreReferrers: []string{}}
	for _, c := range []struct{ name, header, want string }{
		{"none", "", ""},
		{"an origin", "https://www.google.com/", "https://www.google.com/"},
		{"path, without query and fragment", "https://news.example.org/a/b?q=secret#x", "https://news.example.org/a/b"},
		{"without path", "https://news.example.org", "https://news.example.org"},
		{"user and password go", "https://u:p@news.example.org/a", "https://news.example.org/a"},
		{"this host", "https://lp.example.org/other?x", ""},
		{"this host on another port and scheme", "http://LP.example.org:8080/", ""},
		{"another of ours", "https://shop.example.com/", ""},
		{"a payment provider", "https://www.paypal.com/checkout", ""},
		{"a sign-in provider", "https://accounts.google.com/o/oauth2", ""},
		{"a name that only ends like one", "https://notpaypal.com/", "https://notpaypal.com/"},
		{"an app", "android-app://com.google.android.gm/", "android-app://com.google.android.gm/"},
		{"about:blank", "about:blank", ""},
		{"script", "javascript:alert(1)", ""},
		{"data", "data:text/html,x", ""},
		{"a path alone", "/a/b", ""},
		{"another scheme", "ftp://files.example.org/", ""},
		{"a host that is none", "https://<script>/", ""},
		{"an empty host", "https:///x", ""},
		{"IPv6", "http://[2001:db8::1]:8080/x?y", "http://[2001:db8::1]:8080/x"},
		{"control characters", "https://news.example.org/a\x00b", "https://news.example.org/ab"},
		{"not UTF-8", "https://news.example.org/a\xffb", "https://news.example.org/ab"},
		{"absurd size", "https://news.example.org/" + strings.Repeat("a", 1e6), "https://news.example.org/" + strings.Repeat("a", 231)},
		{"cut before an escape", "https://news.example.org/" + strings.Repeat("a", 230) + "%20b", "https://news.example.org/" + strings.Repeat("a", 230)},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = "lp.example.org:443"
		r.Header.Set("Referer", c.header)
		if got := rd.Read(Request{HTTP: r, OwnHosts: own}).Touch.Referrer; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Referer", "https://www.paypal.com/")
	if got := strict.Read(Request{HTTP: r}).Touch.Referrer; got == "" {
		t.Error("an empty list ignores something")
	}
}

func TestCampaignURL(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"nothing", "", ""},
		{"a page", "https://lp.example.com/a", "https://lp.example.com/a"},
		{"no path", "https://lp.example.com", "https://lp.example.com"},
		{"parameters", "https://lp.example.com/a?b=1&gclid=x&email=y&utm_source=z#f", "https://lp.example.com/a?utm_source=z&gclid=x"},
		{"kept", "https://lp.example.com/a?PLAN=pro&seat=2", "https://lp.example.com/a?plan=pro"},
		{"fragment first", "https://lp.example.com/a#b?utm_source=c", "https://lp.example.com/a"},
		{"user info", "https://me:pw@lp.example.com/a?ref=r", "https://lp.example.com/a?ref=r"},
		{"user info with a slash in the path", "https://me@lp.example.com/a@b", "https://lp.example.com/a@b"},
		{"backslashes", `https://me@evil.example\@lp.example.com`, `https://evil.example\@lp.example.com`},
		{"a path", "/a/b?x=1&ref=2", "/a/b?ref=2"},
		{"no scheme", "//cdn.example.com/a?x", "//cdn.example.com/a"},
		{"mail", "mailto:somebody@example.com", "mailto:"},
		{"telephone", "tel:+49891234", "tel:"},
		{"script", "javascript:alert(document.cookie)", "javascript:"},
		{"blanks first", "  https://lp.example.com/a?x=1", "https://lp.example.com/a"},
		{"absurd", "https://lp.example.com/" + strings.Repeat("a", 1e6), "https://lp.example.com/" + strings.Repeat("a", 1024-23)},
	} {
		if got := CampaignURL(c.url, []string{"plan"}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	rd := Reader{KeepParams: []string{"plan"}}
	if got := rd.CampaignURL("/a?plan=x&y=1"); got != "/a?plan=x" {
		t.Errorf("reader's: %q", got)
	}
	if got := CampaignURL("/a?plan=x&fbclid=1", nil); got != "/a?fbclid=1" {
		t.Errorf("without a list: %q", got)
	}
}
