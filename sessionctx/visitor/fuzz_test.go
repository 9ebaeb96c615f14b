package visitor

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
)

// checkFacts fails unless f keeps what the package promises of any request.
func checkFacts(tb testing.TB, f *sessionctx.Facts) {
	tb.Helper()
	checkVocabulary(tb, f.Device)
	if f.Bot.Score < 1 || f.Bot.Score > 99 {
		tb.Errorf("score %d", f.Bot.Score)
	}
	texts := []struct {
		what, text string
		max        int
	}{
		{"user agent", f.UserAgent, 512}, {"language", f.Language, 35}, {"host", f.Host, 259}, {"URI", f.URI, 1024},
		{"utm_source", f.Touch.UTM.Source, 128}, {"utm_medium", f.Touch.UTM.Medium, 128}, {"utm_campaign", f.Touch.UTM.Campaign, 128},
		{"utm_term", f.Touch.UTM.Term, 128}, {"utm_content", f.Touch.UTM.Content, 128}, {"ref", f.Touch.Ref, 128},
		{"source", f.Touch.Source, 128}, {"referrer", f.Touch.Referrer, 256}, {"landing page", f.Touch.LandingPage, 256},
		{"fetch site", f.Fetch.Site, 32}, {"city", f.Geo.City, 128},
	}
	for _, c := range f.Touch.ClickIDs {
		texts = append(texts, struct {
			what, text string
			max        int
		}{"click id", c.Value, 256})
	}
	if len(f.Touch.ClickIDs) > 3 {
		tb.Errorf("%d click ids", len(f.Touch.ClickIDs))
	}
	for _, t := range texts {
		if len(t.text) > t.max || !utf8.ValidString(t.text) || strings.ContainsFunc(t.text, unicode.IsControl) {
			tb.Errorf("%s: %d bytes, %.60q", t.what, len(t.text), t.text)
		}
	}
	checkGeo(tb, &f.Geo, f.Geo.Known())
	if f.Host == "" || strings.ContainsAny(f.Host, `<>"'/\ @?#%`) {
		tb.Errorf("host %q", f.Host)
	}
}

func FuzzUserAgent(f *testing.F) {
	for _, a := range realAgents {
		f.Add(a.ua, a.platform, a.mobile, a.brands, fullList, "4g")
	}
	f.Add(uaGooglebot, `"Android"`, "?1", `"Chromium"`, `"Chromium";v="`, "slow-2g")
	f.Add("Version/Edg/Edge/Mini Chrome/.", "\"", "?", `"Opera";v="`, `"Google Chrome";v=".0.`, "5g")
	var rd Reader
	f.Fuzz(func(t *testing.T, ua, platform, mobile, brands, versions, network string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Header: http.Header{
			"User-Agent": {ua}, "Sec-Ch-Ua-Platform": {platform}, "Sec-Ch-Ua-Mobile": {mobile}, "Sec-Ch-Ua": {brands},
			"Sec-Ch-Ua-Full-Version-List": {versions}, "Ect": {network}, "Sec-Fetch-Dest": {"document"},
		}}
		facts := rd.Read(Request{HTTP: r})
		checkFacts(t, &facts)
		if again := rd.Read(Request{HTTP: r}); again.Device != facts.Device {
			t.Errorf("%+v, then %+v", facts.Device, again.Device)
		}
		// What the browser says is told to nobody.
		answer := http.Header{"Critical-Ch": {"Sec-CH-UA-Model"}}
		AskHints(r, answer, true)
		Discards(r, answer)
		for name := range strings.SplitSeq(answer.Get("Accept-Ch"), ", ") {
			if name != "" && !slices.ContainsFunc(pageHints, func(h hint) bool { return h.name == name }) {
				t.Errorf("asks for %q", name)
			}
		}
	})
}

func FuzzAcceptLanguage(f *testing.F) {
	for _, s := range []string{"de-DE,de;q=0.9", "*;q=0", "x-;q=1e-9,,;", "\xff", "en-US-u-ca-buddhist", "zh-min-nan", "de_x_a", "sl-rozaj-1994"} {
		f.Add(s)
	}
	var rd Reader
	st := rd.state()
	f.Fuzz(func(t *testing.T, header string) {
		tag := st.language(header)
		if tag == "" || len(tag) > maxLanguageTag || strings.ContainsFunc(tag, func(r rune) bool { return r > 127 || !isAlnum(byte(r)) && r != '-' }) {
			t.Errorf("%q", tag)
		}
		var unknown language.ValueError // well-formed all the same
		if _, err := language.Parse(tag); err != nil && !errors.As(err, &unknown) {
			t.Errorf("%q is no tag: %v", tag, err)
		}
		member := tag == defaultLanguage
		for part := range strings.SplitSeq(header, ",") {
			sent, _, _ := strings.Cut(part, ";")
			member = member || strings.ReplaceAll(strings.TrimSpace(sent), "_", "-") == tag
		}
		if !member {
			t.Errorf("%q is none of %q", tag, header)
		}
		if again := st.language(header); again != tag {
			t.Errorf("%q, then %q", tag, again)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("/p", "utm_source=a&gclid=b&ScCid=%zz")
	f.Add("/", "yclid=\x00&ref=%00")
	f.Add("/%C3%BC", "utm%5Fsource=%00+%E2%80%A8&&&=&ref")
	var rd Reader
	f.Fuzz(func(t *testing.T, path, query string) {
		facts := rd.Read(Request{HTTP: &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}})
		checkFacts(t, &facts)
		// What is reduced stays as it is when reduced again.
		once := rd.CampaignURL("https://h.example/x?" + query)
		if twice := rd.CampaignURL(once); twice != once {
			t.Errorf("%q, then %q", once, twice)
		}
	})
}

func FuzzReferer(f *testing.F) {
	for _, s := range []string{"https://www.google.com/", "android-app://x/", "http://a@b:c", "//x", "https://[::1]:99/a?b#c", "a:b"} {
		f.Add(s)
	}
	var rd Reader
	f.Fuzz(func(t *testing.T, referer string) {
		facts := rd.Read(Request{HTTP: &http.Request{Method: "GET", Host: "own.example", URL: &url.URL{Path: "/"}, Header: http.Header{"Referer": {referer}}}})
		checkFacts(t, &facts)
		if strings.ContainsAny(facts.Touch.Referrer, "?#") {
			t.Errorf("%q", facts.Touch.Referrer)
		}
		u := CampaignURL(referer, nil)
		if len(u) > maxRowURL || !utf8.ValidString(u) || strings.Contains(u, "#") {
			t.Errorf("%q", u)
		}
		rd.TouchFromURL(referer, noon)
	})
}

// checkGeo fails unless a source's answer keeps what is promised of places.
func checkGeo(tb testing.TB, g *sessionctx.Geo, known bool) {
	tb.Helper()
	if known != g.Known() {
		tb.Errorf("known %v: %+v", known, *g)
	}
	if i := countryIndex(g.Country); g.Country != "" && (i < 0 || countries[i].continent == "" || g.Continent == "") {
		tb.Errorf("country %q, continent %q", g.Country, g.Continent)
	}
	if g.Continent != "" && continentCode(g.Continent) != g.Continent {
		tb.Errorf("continent %q", g.Continent)
	}
	if len(g.RegionCode) > 3 || len(g.Timezone) > 64 || len(g.Latitude) > 24 || len(g.Longitude) > 24 {
		tb.Errorf("%+v", *g)
	}
	for _, s := range []string{g.Region, g.RegionCode, g.City, g.Timezone, g.Latitude, g.Longitude} {
		if len(s) > maxPlaceName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			tb.Errorf("%q", s)
		}
	}
}

func FuzzGeoHeaders(f *testing.F) {
	f.Add("DE", "BY", "M%C3%BCnchen", "EU", "Europe/Berlin", "48.1")
	f.Add("XX", "US-CA", "%", "EUROPE", "..", "-1e9")
	var all []*Headers
	for _, layout := range HeaderLayouts() {
		h, err := NamedHeaders(layout)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, h)
	}
	f.Fuzz(func(t *testing.T, country, region, city, continent, zone, degrees string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Header: http.Header{}}
		values := map[geoField]string{
			geoCountry: country, geoRegion: city, geoRegionCode: region, geoCity: city, geoContinent: continent,
			geoTimezone: zone, geoLatitude: degrees, geoLongitude: degrees, geoEdge: region,
		}
		for _, h := range all {
			for _, field := range h.fields {
				r.Header[field.name] = []string{values[field.field]}
			}
			g, ok := h.Locate(r, true, netip.Addr{})
			checkGeo(t, &g, ok)
		}
	})
}

// FuzzMMDB: a file of any bytes is refused, or tells places that keep what is
// promised; nothing panics, and nothing goes on for ever.
func FuzzMMDB(f *testing.F) {
	for _, recordSize := range []int{24, 28, 32} {
		f.Add(geodb.DB{RecordSize: recordSize, Places: map[string]geodb.Record{
			"192.0.2.0/24": geodb.Munich(), "2001:db8::/32": geodb.Country("FR"),
		}}.Bytes(f))
	}
	f.Add(geodb.DB{IPVersion: 4, Places: map[string]geodb.Record{
		"192.0.2.0/24": {"country_code": "AT", "state1": "Tyrol", "city": "Innsbruck", "timezone": "Europe/Vienna"},
	}}.Bytes(f))
	f.Fuzz(func(t *testing.T, file []byte) { lookInto(t, file) })
}

// FuzzRead: whatever comes as a request, what is read of it keeps what the
// package promises, from a trusted proxy and from anybody.
func FuzzRead(f *testing.F) {
	for _, headers := range browsers {
		f.Add([]byte("GET "+targets["paid"]+" HTTP/1.1\r\nHost: lp.example.com\r\n"+strings.ReplaceAll(headers+"\n"+fromCloudflare, "\n", "\r\n")+"\r\n\r\n"), "2001:db8::1")
	}
	f.Add([]byte("HEAD //x?%zz&utm_source=\xff HTTP/1.0\r\nHost: [fe80::1%25eth0]:99999\r\n\r\n"), "fe80::1%eth0")
	f.Add([]byte("GET http://a@b:c/ HTTP/1.1\r\nHost: \xc3\xbc.example\r\nCF-IPCountry: DE\r\nCF-IPCountry: US\r\nCF-IPCity: \\u00c3\r\nX-Forwarded-Host: a,b\r\n\r\n"), "::ffff:192.0.2.1")
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost:\r\nVia: 1.1 x\r\nX-Forwarded-Proto: HTTPS, http\r\nReferer: ://\x80\r\n\r\n"), "@")
	var sources []Geography
	for _, layout := range HeaderLayouts() {
		h, err := NamedHeaders(layout)
		if err != nil {
			f.Fatal(err)
		}
		sources = append(sources, h)
	}
	rd := &Reader{AlsoEU: []string{"GB"}, Geo: append(sources, openMMDB(f, geodb.DB{Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Munich()}}))}
	f.Fuzz(func(t *testing.T, text []byte, address string) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		ip, _ := netip.ParseAddr(address)
		for _, trusted := range []bool{false, true} {
			q := Request{HTTP: r, ClientIP: ip, TrustedProxy: trusted, Now: noon}
			facts := rd.Read(q)
			checkFacts(t, &facts)
			if facts.ClientIP.Zone() != "" || facts.ClientIP.Is4In6() {
				t.Errorf("address %s", facts.ClientIP)
			}
			if again := rd.Read(q); !reflect.DeepEqual(again, facts) {
				t.Errorf("read twice: %+v, then %+v", facts, again)
			}
		}
	})
}

// FuzzCustomHeaders: an operator's layout is refused, or reads any value.
func FuzzCustomHeaders(f *testing.F) {
	f.Add("country", "X-Country", "city", "X-City", "DE", "M%C3%BCnchen")
	f.Add("country", "x", "country", "y", "", "%")
	f.Add("timezone", "\x00", "planet", "", "Local", "\xff")
	f.Fuzz(func(t *testing.T, field1, name1, field2, name2, value1, value2 string) {
		h, err := CustomHeaders(map[string]string{field1: name1, field2: name2})
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Header: http.Header{}}
		r.Header.Set(name1, value1)
		r.Header.Set(name2, value2)
		g, ok := h.Locate(r, true, netip.Addr{})
		checkGeo(t, &g, ok)
		if g, ok := h.Locate(r, false, netip.Addr{}); ok || g != (sessionctx.Geo{}) {
			t.Errorf("believed from an untrusted peer: %+v", g)
		}
	})
}
