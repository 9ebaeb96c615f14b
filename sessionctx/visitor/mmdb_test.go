package visitor

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func munich() map[string]any {
	return map[string]any{
		"continent":    map[string]any{"code": "EU"},
		"country":      map[string]any{"iso_code": "DE", "is_in_european_union": true},
		"subdivisions": []any{map[string]any{"iso_code": "BY", "names": map[string]any{"en": "Bavaria", "de": "Bayern"}}},
		"city":         map[string]any{"names": map[string]any{"en": "Munich", "de": "München"}},
		"location":     map[string]any{"latitude": 48.1374, "longitude": 11.5755, "time_zone": "Europe/Berlin"},
	}
}

func countryRecord(code string) map[string]any {
	return map[string]any{"country": map[string]any{"iso_code": code}}
}

func TestMMDBLocates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	newMMDBWriter("GeoLite2-City").
		add("192.0.2.0/24", munich()).
		add("2001:db8::/32", countryRecord("FR")).
		add("198.51.100.0/24", map[string]any{"registered_country": map[string]any{"iso_code": "CH"}}).
		add("203.0.113.0/25", map[string]any{
			"country":      map[string]any{"iso_code": "US"},
			"subdivisions": []any{map[string]any{"names": map[string]any{"en": "California"}}},
		}).
		add("203.0.113.128/25", map[string]any{"continent": map[string]any{"code": "AS"}}).
		add("10.0.0.0/8", countryRecord("ZZ")).
		write(t, path)
	m, err := OpenMMDB(path)
	if err != nil {
		t.Fatal(err)
	}
	if i := m.Info(); i.Type != "GeoLite2-City" || i.Built.Unix() != 1_700_000_000 || i.Size == 0 {
		t.Errorf("Info() = %+v", i)
	}
	for _, c := range []struct {
		name, ip string
		known    bool
		geo      sessionctx.Geo
	}{
		{"a city", "192.0.2.7", true, sessionctx.Geo{Country: "DE", Region: "Bavaria", RegionCode: "BY", City: "Munich", Continent: "EU", Timezone: "Europe/Berlin", Latitude: "48.1374", Longitude: "11.5755", IsEU: true}},
		{"an IPv4-mapped address", "::ffff:192.0.2.7", true, sessionctx.Geo{Country: "DE", Region: "Bavaria", RegionCode: "BY", City: "Munich", Continent: "EU", Timezone: "Europe/Berlin", Latitude: "48.1374", Longitude: "11.5755", IsEU: true}},
		{"IPv6, country only: continent and EU follow", "2001:db8::1", true, sessionctx.Geo{Country: "FR", Continent: "EU", IsEU: true}},
		{"a zone is ignored", "2001:db8::1%eth0", true, sessionctx.Geo{Country: "FR", Continent: "EU", IsEU: true}},
		{"registered country as last resort", "198.51.100.1", true, sessionctx.Geo{Country: "CH", Continent: "EU"}},
		{"California by its name", "203.0.113.1", true, sessionctx.Geo{Country: "US", Region: "California", RegionCode: "CA", Continent: "NA"}},
		{"continent only is not known", "203.0.113.129", false, sessionctx.Geo{Continent: "AS"}},
		{"a code that is no country", "10.1.2.3", false, sessionctx.Geo{}},
		{"an address in no network", "8.8.8.8", false, sessionctx.Geo{}},
	} {
		for range 2 { // cold and from the cache
			geo, known := m.Locate(nil, false, netip.MustParseAddr(c.ip))
			if geo != c.geo || known != c.known {
				t.Errorf("%s: %+v, %v", c.name, geo, known)
			}
		}
	}
	if _, known := m.Locate(nil, true, netip.Addr{}); known {
		t.Error("the zero address (UNIX socket) is somewhere")
	}
	if i, err := CheckMMDB(path); err != nil || i.Type != "GeoLite2-City" {
		t.Errorf("CheckMMDB: %+v, %v", i, err)
	}
}

func TestMMDBFlatLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flat.mmdb")
	newMMDBWriter("dbip-city").add("192.0.2.0/24", map[string]any{
		"country_code": "AT", "state1": "Tyrol", "city": "Inns\x00bruck", "timezone": "Europe/Vienna",
	}).write(t, path)
	m, err := OpenMMDB(path)
	if err != nil {
		t.Fatal(err)
	}
	geo, ok := m.Locate(nil, false, netip.MustParseAddr("192.0.2.1"))
	want := sessionctx.Geo{Country: "AT", Region: "Tyrol", City: "Innsbruck", Timezone: "Europe/Vienna", Continent: "EU", IsEU: true}
	if !ok || geo != want {
		t.Errorf("%+v, %v", geo, ok)
	}
}

func TestMMDBRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	asn := filepath.Join(dir, "asn.mmdb")
	newMMDBWriter("GeoLite2-ASN").add("192.0.2.0/24", map[string]any{"autonomous_system_number": uint32(64496)}).write(t, asn)
	text := filepath.Join(dir, "text.mmdb")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{asn, text, filepath.Join(dir, "missing.mmdb"), dir} {
		if _, err := OpenMMDB(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v does not name the file", path, err)
		}
	}
	if _, err := CheckMMDB(text); err == nil {
		t.Error("CheckMMDB takes a text file")
	}
}

func TestMMDBReplacementCutShortKeepsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	newMMDBWriter("X-Country").add("192.0.2.0/24", countryRecord("DE")).write(t, path)
	m, err := OpenMMDB(path)
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr("192.0.2.1")
	whole := newMMDBWriter("X-Country").add("192.0.2.0/24", countryRecord("FR")).bytes()
	for _, n := range []int{0, 1, 100, len(whole) / 2, len(whole) - 40, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.Reload(); err == nil {
			t.Errorf("a file cut at %d of %d bytes was taken", n, len(whole))
		}
		if g, _ := m.Locate(nil, false, ip); g.Country != "DE" {
			t.Fatalf("after a bad reload the country is %q", g.Country)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(); err != nil {
		t.Fatal(err)
	}
	if g, _ := m.Locate(nil, false, ip); g.Country != "FR" {
		t.Errorf("after a good reload the country is %q", g.Country)
	}
}

func TestMMDBWatchSwapsUnderLookups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	newMMDBWriter("X-Country").add("192.0.2.0/24", countryRecord("DE")).write(t, path)
	m, err := OpenMMDB(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan error, 16)
	var wg sync.WaitGroup
	wg.Go(func() { m.Watch(ctx, 2*time.Millisecond, func(err error) { reports <- err }) })
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if g, ok := m.Locate(nil, false, netip.MustParseAddr("192.0.2.1")); !ok || len(g.Country) != 2 {
					t.Error("a look-up during a swap found nothing")
					return
				}
			}
		})
	}
	next := func() error {
		select {
		case err := <-reports:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("no report")
			return nil
		}
	}
	for _, code := range []string{"FR", "US", "JP"} {
		newMMDBWriter("X-Country").add("192.0.2.0/24", countryRecord(code)).write(t, path)
		if err := next(); err != nil {
			t.Fatal(err)
		}
		if g, _ := m.Locate(nil, false, netip.MustParseAddr("192.0.2.1")); g.Country != code {
			t.Errorf("country %q, want %s", g.Country, code)
		}
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if next() == nil {
		t.Error("a torn file was taken")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if g, _ := m.Locate(nil, false, netip.MustParseAddr("192.0.2.1")); g.Country != "JP" {
		t.Errorf("country %q after the file went", g.Country)
	}
	cancel()
	wg.Wait()
}

func TestMMDBDamageNeverPanics(t *testing.T) {
	whole := newMMDBWriter("GeoLite2-City").add("192.0.2.0/24", munich()).add("2001:db8::/32", munich()).bytes()
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	for i := 0; i < len(whole); i += 7 {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 0xff
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMMDB(path)
		if err != nil {
			continue
		}
		m.Locate(nil, false, netip.MustParseAddr("192.0.2.1"))
		m.Locate(nil, false, netip.MustParseAddr("2001:db8::1"))
	}
}

func BenchmarkMMDB(b *testing.B) {
	path := filepath.Join(b.TempDir(), "city.mmdb")
	newMMDBWriter("GeoLite2-City").add("192.0.2.0/24", munich()).write(b, path)
	m, err := OpenMMDB(path)
	if err != nil {
		b.Fatal(err)
	}
	ip := netip.MustParseAddr("192.0.2.7")
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Locate(nil, false, ip)
		}
	})
	b.Run("decoded", func(b *testing.B) {
		d := m.current.Load()
		b.ReportAllocs()
		for b.Loop() {
			d.decode(d.reader.Lookup(ip))
		}
	})
}
