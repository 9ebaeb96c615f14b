package visitor

import (
	"errors"
	"net/netip"
	"strconv"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// nestedRecord is the layout of MaxMind's City and Country databases, and of
// DB-IP's, which leave some fields out.
type nestedRecord struct {
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Country           nestedCountry `maxminddb:"country"`
	RegisteredCountry nestedCountry `maxminddb:"registered_country"`
	Subdivisions      []struct {
		ISOCode string `maxminddb:"iso_code"`
		Names   names  `maxminddb:"names"`
	} `maxminddb:"subdivisions"`
	City struct {
		Names names `maxminddb:"names"`
	} `maxminddb:"city"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
		TimeZone  string   `maxminddb:"time_zone"`
	} `maxminddb:"location"`
}

type nestedCountry struct {
	ISOCode string `maxminddb:"iso_code"`
}

type names struct {
	English string `maxminddb:"en"`
}

// flatRecord is the layout of databases made from DB-IP's and others' tables:
// one level, text only.
type flatRecord struct {
	CountryCode   string `maxminddb:"country_code"`
	ContinentCode string `maxminddb:"continent_code"`
	Region        string `maxminddb:"state1"`
	City          string `maxminddb:"city"`
	Timezone      string `maxminddb:"timezone"`
}

// errLayout is a database of something else, such as autonomous systems.
var errLayout = errors.New("holds neither cities nor countries")

// Bounds on the search for a record that tells a database's layout: networks
// walked over, with or without a record, and records looked at. The reader's
// own walk over all networks has none, and would not end on a file whose tree
// was made for that.
const (
	maxLayoutNetworks = 4096
	maxLayoutRecords  = 1000
)

// flatLayout looks at the first record that tells which layout a database
// has. One without any record is taken for nested: it knows nothing anyway.
func flatLayout(r *maxminddb.Reader) (bool, error) {
	addr, more := netip.IPv6Unspecified(), true
	if r.Metadata.IPVersion == 4 {
		addr = netip.IPv4Unspecified()
	}
	looked := 0
	for range maxLayoutNetworks {
		if !more || looked == maxLayoutRecords {
			break
		}
		found := r.Lookup(addr)
		if err := found.Err(); err != nil {
			return false, err
		}
		addr, more = addrAfter(found.Prefix())
		if !found.Found() {
			continue
		}
		looked++
		var record map[string]any
		if err := found.Decode(&record); err != nil {
			return false, err
		}
		if _, ok := record["country_code"]; ok {
			return true, nil
		}
		for _, field := range []string{"country", "registered_country", "continent", "city", "location"} {
			if _, ok := record[field].(map[string]any); ok {
				return false, nil
			}
		}
	}
	if looked > 0 {
		return false, errLayout
	}
	return false, nil
}

// addrAfter is the first address behind a network, if there is one.
func addrAfter(network netip.Prefix) (netip.Addr, bool) {
	b := network.Masked().Addr().AsSlice()
	for i := network.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, ok := netip.AddrFromSlice(b)
	next := last.Next()
	return next, ok && next.IsValid()
}

// decode reads one record. A damaged one is an unknown place.
func (d *database) decode(found maxminddb.Result) (sessionctx.Geo, bool) {
	var g sessionctx.Geo
	if d.flat {
		var r flatRecord
		if found.Decode(&r) != nil {
			return sessionctx.Geo{}, false
		}
		g = sessionctx.Geo{
			Country: r.CountryCode, Continent: r.ContinentCode, Region: r.Region, City: r.City,
			Timezone: timezone(r.Timezone),
		}
	} else {
		var r nestedRecord
		if found.Decode(&r) != nil {
			return sessionctx.Geo{}, false
		}
		g = r.geo()
	}
	g.Region = sessionctx.CleanText(g.Region, maxPlaceName)
	g.City = sessionctx.CleanText(g.City, maxPlaceName)
	ok := completeGeo(&g)
	return g, ok
}

func (r *nestedRecord) geo() sessionctx.Geo {
	g := sessionctx.Geo{
		Country:   r.Country.ISOCode,
		Continent: r.Continent.Code,
		City:      r.City.Names.English,
		Timezone:  timezone(r.Location.TimeZone),
	}
	if g.Country == "" {
		// Where nobody knows the place of a network, the country of its
		// owner is the best guess.
		g.Country = r.RegisteredCountry.ISOCode
	}
	if len(r.Subdivisions) > 0 {
		g.Region = r.Subdivisions[0].Names.English
		g.RegionCode = regionCode(r.Subdivisions[0].ISOCode)
	}
	if lat, long := r.Location.Latitude, r.Location.Longitude; lat != nil && long != nil {
		g.Latitude = degrees(strconv.FormatFloat(*lat, 'f', -1, 64), 90)
		g.Longitude = degrees(strconv.FormatFloat(*long, 'f', -1, 64), 180)
	}
	return g
}
