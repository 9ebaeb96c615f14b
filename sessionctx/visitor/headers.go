package visitor

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// maxPlaceName caps names of cities and regions.
const maxPlaceName = 128

// geoField is a field of Geo that a header can hold.
type geoField uint8

const (
	geoCountry geoField = iota
	geoRegion
	geoRegionCode
	geoCity
	geoContinent
	geoTimezone
	geoLatitude
	geoLongitude
	geoEdge // an edge location's code, of which only the continent is used
)

// geoFields are the names of the fields in a custom layout.
var geoFields = map[string]geoField{
	"country": geoCountry, "region": geoRegion, "region_code": geoRegionCode, "city": geoCity,
	"continent": geoContinent, "timezone": geoTimezone, "latitude": geoLatitude, "longitude": geoLongitude,
}

// layouts are the headers of each CDN, after its own documentation:
//
// Cloudflare sends the country by default and the rest with the managed
// transform "Add visitor location headers". CloudFront sends those that the
// origin request policy names, Vercel all, both percent-encoded. Fastly's are
// those of a request setting with "geo headers"; a VCL of one's own is a
// custom layout. Fly sends no place of the visitor but the edge location that
// took the connection: of that only the continent is used, since the nearest
// edge may be abroad and consent rules hang on the country.
var layouts = map[string]map[string]geoField{
	"cloudflare": {
		"CF-IPCountry": geoCountry, "CF-Region": geoRegion, "CF-Region-Code": geoRegionCode, "CF-IPCity": geoCity,
		"CF-IPContinent": geoContinent, "CF-Timezone": geoTimezone,
		"CF-IPLatitude": geoLatitude, "CF-IPLongitude": geoLongitude,
	},
	"cloudfront": {
		"CloudFront-Viewer-Country": geoCountry, "CloudFront-Viewer-Country-Region-Name": geoRegion,
		"CloudFront-Viewer-Country-Region": geoRegionCode, "CloudFront-Viewer-City": geoCity,
		"CloudFront-Viewer-Time-Zone": geoTimezone,
		"CloudFront-Viewer-Latitude":  geoLatitude, "CloudFront-Viewer-Longitude": geoLongitude,
	},
	"fastly": {
		"Fastly-Geo-Country": geoCountry, "Fastly-Geo-Region": geoRegionCode, "Fastly-Geo-City": geoCity,
	},
	"fly": {"Fly-Region": geoEdge},
	"vercel": {
		"X-Vercel-IP-Country": geoCountry, "X-Vercel-IP-Country-Region": geoRegionCode, "X-Vercel-IP-City": geoCity,
		"X-Vercel-IP-Continent": geoContinent, "X-Vercel-IP-Timezone": geoTimezone,
		"X-Vercel-IP-Latitude": geoLatitude, "X-Vercel-IP-Longitude": geoLongitude,
	},
}

// Headers is a Geography that believes headers which a CDN adds, where the
// request came through a trusted proxy. A CDN must be set up to add (and so
// overwrite) all headers of its layout: one that it doesn't send, a visitor
// can.
type Headers struct {
	fields []headerField
	// lead is the one that any request through the CDN brings.
	lead   string
	decode func(string) string // of names; nil leaves them as they are
}

type headerField struct {
	name  string // canonical
	field geoField
}

// HeaderLayouts returns the names that NamedHeaders knows.
func HeaderLayouts() []string { return slices.Sorted(maps.Keys(layouts)) }

// HeaderFields returns the field names that CustomHeaders knows.
func HeaderFields() []string { return slices.Sorted(maps.Keys(geoFields)) }

// NamedHeaders returns the layout of a CDN.
func NamedHeaders(layout string) (*Headers, error) {
	fields, ok := layouts[layout]
	if !ok {
		return nil, fmt.Errorf("unknown geo header layout %q; known are %s", layout, strings.Join(HeaderLayouts(), ", "))
	}
	h := &Headers{}
	switch layout {
	case "cloudfront", "vercel":
		h.decode = percentDecoded
	case "cloudflare":
		h.decode = hexDecoded
	}
	for name, field := range fields {
		h.add(name, field)
	}
	return h, nil
}

// CustomHeaders returns a layout of the operator's own: header names by field.
// It must name the country's. Values may be percent-encoded.
func CustomHeaders(headers map[string]string) (*Headers, error) {
	h := &Headers{decode: percentDecoded}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		field, ok := geoFields[name]
		if !ok {
			return nil, fmt.Errorf("unknown geo field %q; known are %s", name, strings.Join(HeaderFields(), ", "))
		}
		if header := headers[name]; !headerName(header) {
			return nil, fmt.Errorf("geo field %s: %q is not a header name", name, header)
		}
		h.add(headers[name], field)
	}
	if headers["country"] == "" {
		return nil, fmt.Errorf("geo headers need one for the field country")
	}
	return h, nil
}

func (h *Headers) add(name string, field geoField) {
	name = http.CanonicalHeaderKey(name)
	h.fields = append(h.fields, headerField{name, field})
	if field == geoCountry || field == geoEdge {
		h.lead = name
	}
}

// Sent reports whether r brings what any request through the CDN does.
func (h *Headers) Sent(r *http.Request) bool { return len(r.Header[h.lead]) > 0 }

// Locate implements Geography.
func (h *Headers) Locate(r *http.Request, trusted bool, _ netip.Addr) (sessionctx.Geo, bool) {
	var g sessionctx.Geo
	if !trusted {
		return g, false
	}
	for _, f := range h.fields {
		v := unanimous(r.Header[f.name])
		if v == "" || len(v) > 4*maxPlaceName {
			continue
		}
		switch f.field {
		case geoCountry:
			g.Country = v
		case geoRegion:
			g.Region = h.placeName(v)
		case geoRegionCode:
			g.RegionCode = regionCode(v)
		case geoCity:
			g.City = h.placeName(v)
		case geoContinent:
			g.Continent = v
		case geoTimezone:
			g.Timezone = timezone(h.text(v))
		case geoLatitude:
			g.Latitude = degrees(v, 90)
		case geoLongitude:
			g.Longitude = degrees(v, 180)
		case geoEdge:
			g.Continent = flyContinents[strings.ToLower(v)]
		}
	}
	ok := completeGeo(&g)
	return g, ok
}

// unanimous is what all lines of a header say. Of lines that differ one may be
// the visitor's, which a proxy left in its place: none of them counts.
func unanimous(values []string) string {
	if len(values) == 0 {
		return ""
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return ""
		}
	}
	return values[0]
}

func (h *Headers) placeName(v string) string {
	v = strings.TrimSpace(sessionctx.CleanText(h.text(v), maxPlaceName))
	if v == "?" || v == "-" { // what some CDNs write for unknown
		return ""
	}
	return v
}

func (h *Headers) text(v string) string {
	if h.decode == nil {
		return v
	}
	return h.decode(v)
}

// percentDecoded decodes percent escapes only: a plus sign stays one.
func percentDecoded(v string) string {
	if strings.IndexByte(v, '%') < 0 {
		return v
	}
	return unescape(strings.ReplaceAll(v, "+", "%2B"), len(v))
}

// hexDecoded decodes \u00c3, which Cloudflare documents for a byte of UTF-8
// beyond ASCII. What was seen of it sends the bytes as they are.
func hexDecoded(v string) string {
	const prefix = `\u00`
	if !strings.Contains(v, prefix) {
		return v
	}
	b := make([]byte, 0, len(v))
	for len(v) > 0 {
		if len(v) >= len(prefix)+2 && v[:len(prefix)] == prefix {
			if n, err := strconv.ParseUint(v[len(prefix):len(prefix)+2], 16, 8); err == nil {
				b, v = append(b, byte(n)), v[len(prefix)+2:]
				continue
			}
		}
		b, v = append(b, v[0]), v[1:]
	}
	return string(b)
}

// regionCode is an ISO 3166-2 code without its country: one to three letters
// and digits.
func regionCode(v string) string {
	if len(v) > 3 && v[2] == '-' {
		v = v[3:]
	}
	if len(v) > 3 {
		return ""
	}
	for i := 0; i < len(v); i++ {
		if !isAlnum(v[i]) {
			return ""
		}
	}
	return strings.ToUpper(v)
}

// timezone passes what looks like an IANA name. Whether the zone exists is for
// who computes with it.
func timezone(v string) string {
	if len(v) > 64 || v == "" || !isLetter(v[0]) {
		return ""
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; !isAlnum(c) && c != '/' && c != '_' && c != '-' && c != '+' {
			return ""
		}
	}
	return v
}

// degrees passes a decimal number between -limit and limit.
func degrees(v string, limit float64) string {
	if len(v) > 24 {
		return ""
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; (c < '0' || c > '9') && c != '.' && !(i == 0 && c == '-') {
			return ""
		}
	}
	if d, err := strconv.ParseFloat(v, 64); err != nil || d < -limit || d > limit {
		return ""
	}
	return v
}

// headerName reports whether s can be a header's name.
func headerName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// flyContinents are the edge locations of Fly, by airport.
var flyContinents = map[string]string{
	"ams": "EU", "arn": "EU", "cdg": "EU", "fra": "EU", "lhr": "EU", "mad": "EU", "otp": "EU", "waw": "EU",
	"atl": "NA", "bos": "NA", "den": "NA", "dfw": "NA", "ewr": "NA", "gdl": "NA", "iad": "NA", "lax": "NA",
	"mia": "NA", "ord": "NA", "phx": "NA", "qro": "NA", "sea": "NA", "sjc": "NA", "yul": "NA", "yyz": "NA",
	"bog": "SA", "eze": "SA", "gig": "SA", "gru": "SA", "scl": "SA",
	"bom": "AS", "hkg": "AS", "nrt": "AS", "sin": "AS", "syd": "OC", "jnb": "AF",
}
