package visitor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// fixed is a Geography with one answer.
type fixed struct {
	geo sessionctx.Geo
	ok  bool
}

func (f fixed) Locate(*http.Request, bool, netip.Addr) (sessionctx.Geo, bool) { return f.geo, f.ok }

func TestFirstGeographyThatKnowsWins(t *testing.T) {
	fr := fixed{sessionctx.Geo{Country: "fr"}, true}
	us := fixed{sessionctx.Geo{Country: "US"}, true}
	none := fixed{sessionctx.Geo{Continent: "as"}, false}
	liar := fixed{sessionctx.Geo{Country: "XX", City: "x"}, true}
	for _, c := range []struct {
		name string
		geo  []Geography
		want sessionctx.Geo
	}{
		{"none configured", nil, sessionctx.Geo{}},
		{"the first", []Geography{fr, us}, sessionctx.Geo{Country: "FR", Continent: "EU", IsEU: true}},
		{"the first that knows", []Geography{none, us}, sessionctx.Geo{Country: "US", Continent: "NA"}},
		{"a country that is none is not known", []Geography{liar, us}, sessionctx.Geo{Country: "US", Continent: "NA"}},
		{"nobody knows: the continent remains", []Geography{liar, none}, sessionctx.Geo{Continent: "AS"}},
	} {
		rd := Reader{Geo: c.geo}
		if got := rd.Read(Request{HTTP: httptest.NewRequest("GET", "/", nil)}).Geo; got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestWhatCountsAsTheEU(t *testing.T) {
	for _, c := range []struct {
		words  string
		inside string
		not    string
	}{
		{"", "DE FR GF AX", "NO IS LI GB CH US"},
		{"eea", "DE NO IS LI", "GB CH US"},
		{"EEA gb Ch", "DE NO IS LI GB CH", "US"},
		{"br", "DE BR", "NO US"},
	} {
		also, err := EUIncludes(strings.Fields(c.words))
		if err != nil {
			t.Fatal(err)
		}
		for _, country := range strings.Fields(c.inside + " " + c.not) {
			rd := Reader{AlsoEU: also, Geo: []Geography{fixed{sessionctx.Geo{Country: country}, true}}}
			g := rd.Read(Request{HTTP: httptest.NewRequest("GET", "/", nil)}).Geo
			if want := strings.Contains(c.inside, country); g.IsEU != want {
				t.Errorf("eu_includes %s: %s is in the EU: %v", c.words, country, g.IsEU)
			}
		}
		rd := Reader{AlsoEU: also}
		if rd.Read(Request{HTTP: httptest.NewRequest("GET", "/", nil)}).Geo.IsEU {
			t.Errorf("eu_includes %s: an unknown country is in the EU", c.words)
		}
	}
	for _, word := range []string{"", "uk", "XX", "europe", "D", "d1"} {
		if _, err := EUIncludes([]string{"eea", word}); err == nil || !strings.Contains(err.Error(), `"`+word+`"`) {
			t.Errorf("%q: error %v does not name it", word, err)
		}
	}
}

func TestClientAddress(t *testing.T) {
	var rd Reader
	for in, want := range map[string]string{"::ffff:192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::1", "2001:db8::1": "2001:db8::1"} {
		f := rd.Read(Request{HTTP: httptest.NewRequest("GET", "/", nil), ClientIP: netip.MustParseAddr(in)})
		if f.ClientIP.String() != want {
			t.Errorf("%s: %s", in, f.ClientIP)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "@" // a UNIX socket
	if f := rd.Read(Request{HTTP: r}); f.ClientIP.IsValid() {
		t.Errorf("UNIX socket: %s", f.ClientIP)
	}
}

func TestSpoofedHeadersOfAnUntrustedPeer(t *testing.T) {
	cdn, err := NamedHeaders("cloudflare")
	if err != nil {
		t.Fatal(err)
	}
	rd := Reader{Geo: []Geography{cdn}}
	r := httptest.NewRequest("GET", "http://lp.example.com/", nil)
	r.Header.Set("CF-IPCountry", "DE")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Host", "evil.example")
	r.Header.Set("X-Forwarded-For", "192.0.2.99")
	f := rd.Read(Request{HTTP: r, ClientIP: netip.MustParseAddr("198.51.100.1")})
	if f.Geo != (sessionctx.Geo{}) || f.Origin() != "http://lp.example.com" || f.ClientIP.String() != "198.51.100.1" {
		t.Errorf("believed: %+v %s %s", f.Geo, f.Origin(), f.ClientIP)
	}
	f = rd.Read(Request{HTTP: r, TrustedProxy: true})
	if f.Geo.Country != "DE" || f.Origin() != "https://evil.example" {
		t.Errorf("trusted, not believed: %+v %s", f.Geo, f.Origin())
	}
}

func TestAbsurdHeaders(t *testing.T) {
	huge := strings.Repeat("\xff\x00A;=,&%", 1e5)
	r := httptest.NewRequest("GET", "/", nil)
	for _, name := range []string{
		"User-Agent", "Accept-Language", "Referer", "Sec-CH-UA", "Sec-CH-UA-Platform", "Sec-CH-UA-Mobile", "ECT",
		"Sec-Purpose", "Sec-Fetch-Site", "X-Forwarded-Host", "X-Forwarded-Proto",
	} {
		r.Header.Set(name, huge)
	}
	var rd Reader
	f := rd.Read(Request{HTTP: r, TrustedProxy: true})
	checkFacts(t, &f)
}

func TestReadIsSafeForManyGoroutines(t *testing.T) {
	rd := Reader{CacheSize: 64}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 300 {
				r := chromeRequest("https://lp.example.com/p?utm_source=x")
				r.Header.Set("User-Agent", fmt.Sprintf("%s Extra/%d", uaChromeWin, (i*j)%200))
				r.Header.Set("Accept-Language", fmt.Sprintf("de-DE;q=0.%d", 1+j%9))
				if f := rd.Read(Request{HTTP: r}); f.Device.OS != "Windows" || f.Language != "de-DE" {
					t.Errorf("%+v %s", f.Device, f.Language)
				}
			}
		})
	}
	wg.Wait()
	if n := rd.st.agents.len(); n > 64 {
		t.Errorf("%d agents remembered", n)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache[int, int](1024)
	c.put(-1, 7)
	for i := range 100_000 {
		c.put(i, i)
		if v, ok := c.get(-1); !ok || v != 7 {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
	}
	if n := c.len(); n > 1024 {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.get(0); ok {
		t.Error("the oldest key is still there")
	}
}

func BenchmarkAgent(b *testing.B) {
	var rd Reader
	st := rd.state()
	h := chromeRequest("/").Header
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			st.agent(uaChromeWin, h)
		}
	})
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newAgent(agentKey{userAgent: uaChromeWin})
		}
	})
}

func BenchmarkCampaignURL(b *testing.B) {
	var rd Reader
	b.ReportAllocs()
	for b.Loop() {
		rd.CampaignURL("https://lp.example.com/offer?utm_source=google&utm_medium=cpc&page=2&email=x")
	}
}
