package visitor

import (
	"maps"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func TestHeaderLayouts(t *testing.T) {
	for _, c := range []struct {
		name, layout string
		headers      map[string]string
		known        bool
		geo          sessionctx.Geo
	}{
		{"cloudflare with visitor location headers", "cloudflare", map[string]string{
			"CF-IPCountry": "DE", "CF-Region": "Bavaria", "CF-Region-Code": "BY", "CF-IPCity": "Würzburg", "CF-IPContinent": "EU",
			"CF-Timezone": "Europe/Berlin", "CF-IPLatitude": "49.79", "CF-IPLongitude": "9.95",
		}, true, sessionctx.Geo{Country: "DE", Region: "Bavaria", RegionCode: "BY", City: "Würzburg", Continent: "EU", Timezone: "Europe/Berlin", Latitude: "49.79", Longitude: "9.95", IsEU: true}},
		{"cloudflare, bytes of UTF-8 written as its documentation says", "cloudflare", map[string]string{
			"CF-IPCountry": "BR", "CF-IPCity": `S\u00c3\u00a3o Paulo\u00`, "CF-Region": `\u00xx \u0000\u00FF`,
		}, true, sessionctx.Geo{Country: "BR", City: `São Paulo\u00`, Region: `\u00xx`, Continent: "SA"}},
		{"cloudflare, country only", "cloudflare", map[string]string{"CF-IPCountry": "jp"}, true, sessionctx.Geo{Country: "JP", Continent: "AS"}},
		{"cloudflare, unknown", "cloudflare", map[string]string{"CF-IPCountry": "XX"}, false, sessionctx.Geo{}},
		{"cloudflare, Tor", "cloudflare", map[string]string{"CF-IPCountry": "T1", "CF-IPCity": "Nowhere"}, false, sessionctx.Geo{}},
		{"cloudfront, percent-encoded", "cloudfront", map[string]string{
			"CloudFront-Viewer-Country": "BR", "CloudFront-Viewer-Country-Region": "SP", "CloudFront-Viewer-Country-Region-Name": "S%C3%A3o%20Paulo",
			"CloudFront-Viewer-City": "S%C3%A3o+Paulo", "CloudFront-Viewer-Time-Zone": "America/Sao_Paulo",
			"CloudFront-Viewer-Latitude": "-23.55", "CloudFront-Viewer-Longitude": "-46.64",
		}, true, sessionctx.Geo{Country: "BR", Region: "São Paulo", RegionCode: "SP", City: "São+Paulo", Continent: "SA", Timezone: "America/Sao_Paulo", Latitude: "-23.55", Longitude: "-46.64"}},
		{"fastly", "fastly", map[string]string{"Fastly-Geo-Country": "GB", "Fastly-Geo-Region": "ENG", "Fastly-Geo-City": "London"}, true,
			sessionctx.Geo{Country: "GB", RegionCode: "ENG", City: "London", Continent: "EU"}},
		{"fastly, unknown", "fastly", map[string]string{"Fastly-Geo-Country": "?", "Fastly-Geo-City": "?"}, false, sessionctx.Geo{}},
		{"a list", "fastly", map[string]string{"Fastly-Geo-Country": "GB, US"}, false, sessionctx.Geo{}},
		{"fly knows the continent only", "fly", map[string]string{"Fly-Region": "lhr"}, false, sessionctx.Geo{Continent: "EU"}},
		{"vercel", "vercel", map[string]string{
			"X-Vercel-IP-Country": "US", "X-Vercel-IP-Country-Region": "CA", "X-Vercel-IP-City": "San%20Jos%C3%A9", "X-Vercel-IP-Continent": "NA",
			"X-Vercel-IP-Timezone": "America/Los_Angeles", "X-Vercel-IP-Latitude": "37.3", "X-Vercel-IP-Longitude": "-121.9",
		}, true, sessionctx.Geo{Country: "US", RegionCode: "CA", City: "San José", Continent: "NA", Timezone: "America/Los_Angeles", Latitude: "37.3", Longitude: "-121.9"}},
		{"bad values of good fields are left out", "cloudflare", map[string]string{
			"CF-IPCountry": "FR", "CF-Region-Code": "<script>", "CF-IPCity": "\xff\xfeA\x01B", "CF-IPContinent": "Europe",
			"CF-Timezone": "../../etc/passwd", "CF-IPLatitude": "1e9", "CF-IPLongitude": "181",
		}, true, sessionctx.Geo{Country: "FR", City: "AB", Continent: "EU", IsEU: true}},
		{"absurd size", "cloudflare", map[string]string{"CF-IPCountry": strings.Repeat("DE", 1e5), "CF-IPCity": strings.Repeat("x", 1e6)}, false, sessionctx.Geo{}},
		{"nothing", "vercel", nil, false, sessionctx.Geo{}},
	} {
		h, err := NamedHeaders(c.layout)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		for k, v := range c.headers {
			r.Header.Set(k, v)
		}
		geo, known := h.Locate(r, true, netip.Addr{})
		if geo != c.geo || known != c.known {
			t.Errorf("%s: %+v, %v", c.name, geo, known)
		}
		if geo, known := h.Locate(r, false, netip.Addr{}); known || geo != (sessionctx.Geo{}) {
			t.Errorf("%s: believed from an untrusted peer: %+v", c.name, geo)
		}
	}
}

func TestHeadersThatContradictThemselvesAreNotBelieved(t *testing.T) {
	h, err := NamedHeaders("cloudflare")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name            string
		countries, city []string
		want            sessionctx.Geo
	}{
		{"two countries", []string{"DE", "US"}, nil, sessionctx.Geo{}},
		{"one, and an empty one", []string{"", "US"}, nil, sessionctx.Geo{}},
		{"the same twice", []string{"US", "US"}, nil, sessionctx.Geo{Country: "US", Continent: "NA"}},
		{"two cities", []string{"US"}, []string{"Boston", "Austin"}, sessionctx.Geo{Country: "US", Continent: "NA"}},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Cf-Ipcountry"], r.Header["Cf-Ipcity"] = c.countries, c.city
		if got, ok := h.Locate(r, true, netip.Addr{}); got != c.want || ok != got.Known() {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

func TestHeadersTellWhetherTheCDNSentThem(t *testing.T) {
	for _, layout := range HeaderLayouts() {
		h, err := NamedHeaders(layout)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		if h.Sent(r) {
			t.Errorf("%s: sent by a request without headers", layout)
		}
		lead := 0
		for _, f := range h.fields {
			r.Header = map[string][]string{f.name: {"DE"}}
			if h.Sent(r) {
				lead++
			}
		}
		if lead != 1 {
			t.Errorf("%s: %d headers tell that it was sent", layout, lead)
		}
	}
}

func TestCustomHeaders(t *testing.T) {
	h, err := CustomHeaders(map[string]string{"country": "x-geo-country", "region_code": "X-Geo-State"})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Geo-Country", "US")
	r.Header.Set("X-Geo-State", "US-CA")
	if g, ok := h.Locate(r, true, netip.Addr{}); !ok || !g.IsCalifornian() {
		t.Errorf("%+v, %v", g, ok)
	}
	for name, m := range map[string]map[string]string{
		"no country":        {"city": "X-City"},
		"unknown field":     {"country": "X-C", "planet": "X-P"},
		"not a header name": {"country": "X C"},
		"empty":             {},
	} {
		if _, err := CustomHeaders(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NamedHeaders("akamai"); err == nil || !strings.Contains(err.Error(), "cloudflare, cloudfront, fastly, fly, vercel") {
		t.Errorf("error %v does not name the layouts", err)
	}
}

func TestCountryTable(t *testing.T) {
	seen := map[string]string{}
	for continent, codes := range maps.All(countriesByContinent) {
		for code := range strings.FieldsSeq(codes) {
			if other, twice := seen[code]; twice {
				t.Errorf("%s is in %s and %s", code, other, continent)
			}
			seen[code] = continent
		}
	}
	if len(seen) != 250 { // 249 of ISO 3166-1 and XK
		t.Errorf("%d countries", len(seen))
	}
	eu := strings.Fields(euCountries)
	if len(eu) != 27+7 {
		t.Errorf("%d codes in the EU", len(eu))
	}
	for _, code := range eu {
		if seen[code] == "" {
			t.Errorf("%s is no country", code)
		}
	}
	for _, code := range []string{"GB", "CH", "NO", "IS", "US", "TR", "UA"} {
		g := sessionctx.Geo{Country: code}
		if !completeGeo(&g) || g.IsEU {
			t.Errorf("%s: %+v", code, g)
		}
	}
}
