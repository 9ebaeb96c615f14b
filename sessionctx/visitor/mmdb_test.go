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
	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
)

// inMunich is what a visitor's Geo is by the record geodb.Munich.
var inMunich = sessionctx.Geo{
	Country: "DE", Region: "Bavaria", RegionCode: "BY", City: "Munich", Continent: "EU",
	Timezone: "Europe/Berlin", Latitude: "48.1374", Longitude: "11.5755", IsEU: true,
}

// oneCountry is a database in which 192.0.2.0/24 is somewhere.
func oneCountry(code string) geodb.DB {
	return geodb.DB{Type: "X-Country", Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Country(code)}}
}

func openMMDB(tb testing.TB, db geodb.DB) *MMDB {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "geo.mmdb")
	db.Write(tb, path)
	m, err := OpenMMDB(path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestMMDBLocates(t *testing.T) {
	m := openMMDB(t, geodb.DB{Places: map[string]geodb.Record{
		"192.0.2.0/24":    geodb.Munich(),
		"2001:db8::/32":   geodb.Country("FR"),
		"198.51.100.0/24": {"registered_country": geodb.Record{"iso_code": "CH"}},
		"203.0.113.0/25": {
			"country":      geodb.Record{"iso_code": "US"},
			"subdivisions": []any{geodb.Record{"names": geodb.Record{"en": "California"}}},
		},
		"203.0.113.128/25": {"continent": geodb.Record{"code": "AS"}},
		"10.0.0.0/8":       geodb.Country("ZZ"),
	}})
	if i := m.Info(); i.Type != "GeoLite2-City" || i.Built.Unix() != geodb.Built || i.Size == 0 {
		t.Errorf("Info() = %+v", i)
	}
	for _, c := range []struct {
		name, ip string
		known    bool
		geo      sessionctx.Geo
	}{
		{"a city", "192.0.2.7", true, inMunich},
		{"an IPv4-mapped address", "::ffff:192.0.2.7", true, inMunich},
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
}

func TestMMDBLayouts(t *testing.T) {
	flat := geodb.Record{"country_code": "AT", "state1": "Tyrol", "city": "Inns\x00bruck", "timezone": "Europe/Vienna"}
	innsbruck := sessionctx.Geo{Country: "AT", Region: "Tyrol", City: "Innsbruck", Timezone: "Europe/Vienna", Continent: "EU", IsEU: true}
	germany := sessionctx.Geo{Country: "DE", Continent: "EU", IsEU: true}
	for _, c := range []struct {
		name, dbType string
		ipVersion    int
		record       geodb.Record
		want         sessionctx.Geo
	}{
		{"City", "GeoLite2-City", 6, geodb.Munich(), inMunich},
		{"City of IPv4 alone", "GeoIP2-City", 4, geodb.Munich(), inMunich},
		{"Country", "GeoLite2-Country", 6, geodb.Country("DE"), germany},
		{"Country of IPv4 alone", "DBIP-Country-Lite", 4, geodb.Country("DE"), germany},
		{"flat", "dbip-city", 6, flat, innsbruck},
		{"flat of IPv4 alone", "dbip-city-ipv4", 4, flat, innsbruck},
	} {
		for _, recordSize := range []int{24, 28, 32} {
			m := openMMDB(t, geodb.DB{
				Type: c.dbType, IPVersion: c.ipVersion, RecordSize: recordSize,
				// The last network of all has to be found by the search for the layout.
				Places: map[string]geodb.Record{"255.255.255.0/24": c.record},
			})
			if got, ok := m.Locate(nil, false, netip.MustParseAddr("255.255.255.255")); !ok || got != c.want {
				t.Errorf("%s, records of %d bits: %+v, %v", c.name, recordSize, got, ok)
			}
			if c.ipVersion == 4 {
				if got, ok := m.Locate(nil, false, netip.MustParseAddr("2001:db8::1")); ok || got != (sessionctx.Geo{}) {
					t.Errorf("%s: an IPv6 address is in %+v", c.name, got)
				}
			}
		}
	}
}

func TestMMDBRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	asn := filepath.Join(dir, "asn.mmdb")
	geodb.DB{Type: "GeoLite2-ASN", Places: map[string]geodb.Record{
		"192.0.2.0/24": {"autonomous_system_number": uint32(64496)},
	}}.Write(t, asn)
	text := filepath.Join(dir, "text.mmdb")
	writeFile(t, text, []byte(strings.Repeat("no database ", 1000)))
	for _, path := range []string{asn, text, filepath.Join(dir, "missing.mmdb"), dir} {
		if _, err := OpenMMDB(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v does not name the file", path, err)
		}
	}
}

// TestMMDBEndsOnATreeThatDoesNot: both sides of each node lead to the next, so
// that 2^100 empty networks stand in a file of a few hundred bytes.
func TestMMDBEndsOnATreeThatDoesNot(t *testing.T) {
	whole := geodb.DB{RecordSize: 24, Places: map[string]geodb.Record{"2001:db8::/100": geodb.Country("DE")}}.Bytes(t)
	d, err := openDatabase(whole)
	if err != nil {
		t.Fatal(err)
	}
	const nodes = 100
	for i := range uint(nodes) {
		next := i + 1
		if next == nodes {
			next = d.reader.Metadata.NodeCount // which means nothing
		}
		copy(whole[i*6:], []byte{0, byte(next >> 8), byte(next), 0, byte(next >> 8), byte(next)})
	}
	path := filepath.Join(t.TempDir(), "deep.mmdb")
	writeFile(t, path, whole)
	done := make(chan error, 1)
	go func() {
		m, err := OpenMMDB(path)
		if err == nil {
			m.Locate(nil, false, netip.MustParseAddr("2001:db8::1"))
		}
		done <- err
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the file is still being looked at")
	}
}

func writeFile(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// TestMMDBChangesAreTakenOrLeftWhole takes one file through what can happen to
// it. Rewritten in place, it is the same file with another content.
func TestMMDBChangesAreTakenOrLeftWhole(t *testing.T) {
	m := openMMDB(t, oneCountry("DE"))
	whole := oneCountry("FR").Bytes(t)
	ip := netip.MustParseAddr("192.0.2.1")
	step := func(what, country string, wantChanged, wantErr bool) {
		t.Helper()
		changed, err := m.Refresh()
		if changed != wantChanged || (err != nil) != wantErr {
			t.Errorf("%s: changed %v, error %v", what, changed, err)
		}
		if err != nil && !strings.Contains(err.Error(), m.path) {
			t.Errorf("%s: the error does not name the file: %v", what, err)
		}
		if changed, err := m.Refresh(); changed || err != nil {
			t.Errorf("%s, a second time: changed %v, error %v", what, changed, err)
		}
		if g, _ := m.Locate(nil, false, ip); g.Country != country {
			t.Fatalf("%s: the country is %q", what, g.Country)
		}
	}
	step("untouched", "DE", false, false)
	for _, n := range []int{0, 1, 100, len(whole) / 2, len(whole) - 40, len(whole) - 1} {
		writeFile(t, m.path, whole[:n])
		step("cut short", "DE", false, true)
	}
	writeFile(t, m.path, whole)
	step("rewritten in place", "FR", true, false)
	oneCountry("US").Write(t, m.path)
	step("replaced by renaming", "US", true, false)
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	step("gone", "US", false, true)
	oneCountry("US").Write(t, m.path)
	step("there again", "US", true, false)
	if err := os.Rename(m.path, m.path+".aside"); err != nil {
		t.Fatal(err)
	}
	step("moved aside", "US", false, true)
	if err := os.Rename(m.path+".aside", m.path); err != nil {
		t.Fatal(err)
	}
	step("moved back", "US", false, false)
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	step("gone once more", "US", false, true)
	oneCountry("JP").Write(t, m.path)
	step("another one there", "JP", true, false)
}

func TestMMDBWatchSwapsUnderLookups(t *testing.T) {
	m := openMMDB(t, oneCountry("DE"))
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan error, 16)
	var wg sync.WaitGroup
	// Two, as for a moment at a reload.
	for range 2 {
		wg.Go(func() { m.Watch(ctx, 2*time.Millisecond, func(err error) { reports <- err }) })
	}
	ip := netip.MustParseAddr("192.0.2.1")
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if g, ok := m.Locate(nil, false, ip); !ok || len(g.Country) != 2 {
					t.Error("a look-up during a swap found nothing")
					return
				}
			}
		})
	}
	next := func() error {
		t.Helper()
		select {
		case err := <-reports:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("no report")
			return nil
		}
	}
	country := func(want string) {
		t.Helper()
		if g, _ := m.Locate(nil, false, ip); g.Country != want {
			t.Errorf("country %q, want %s", g.Country, want)
		}
	}
	for _, code := range []string{"FR", "US", "JP"} {
		oneCountry(code).Write(t, m.path)
		if err := next(); err != nil {
			t.Fatal(err)
		}
		country(code)
	}
	writeFile(t, m.path, []byte("torn"))
	if next() == nil {
		t.Error("a torn file was taken")
	}
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	if next() == nil {
		t.Error("nobody says that the file is gone")
	}
	country("JP")
	oneCountry("DE").Write(t, m.path)
	if err := next(); err != nil {
		t.Error(err)
	}
	country("DE")
	cancel()
	wg.Wait()
	if len(reports) > 0 {
		t.Errorf("reported twice: %v", <-reports)
	}
}

// Many pages look up while files come and go: each finds what the one file or
// the other says, whole.
func TestFilesAreSwappedUnderManyLookUps(t *testing.T) {
	m := openMMDB(t, oneCountry("DE"))
	list := filepath.Join(t.TempDir(), "ranges.txt")
	in, out := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	writeFile(t, list, []byte("192.0.2.0/24\n"))
	f := NewRangeFile(list)
	if _, err := f.Refresh(); err != nil {
		t.Fatal(err)
	}
	rd := Reader{Geo: []Geography{m}, Datacenters: f}
	var asking sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 64 {
		asking.Go(func() {
			for ctx.Err() == nil {
				g := rd.Read(Request{HTTP: browserRequest("https://lp.example.com/", uaChromeWin), ClientIP: in}).Geo
				if g.Country != "DE" && g.Country != "FR" || !g.IsEU || g.Continent != "EU" {
					t.Errorf("a place out of two files: %+v", g)
					return
				}
				if r := f.get(); r.set.Contains(in) == r.set.Contains(out) {
					t.Error("ranges out of two files")
					return
				}
			}
		})
	}
	for i := range 50 {
		oneCountry([]string{"FR", "DE"}[i%2]).Write(t, m.path)
		writeFile(t, list, []byte([]string{"198.51.100.0/24 # other\n", "192.0.2.0/24\n"}[i%2]))
		for _, refresh := range []func() (bool, error){m.Refresh, f.Refresh} {
			if changed, err := refresh(); !changed || err != nil {
				t.Errorf("swap %d: changed %v, %v", i, changed, err)
			}
		}
	}
	cancel()
	asking.Wait()
}

func TestARangeFileIsWatched(t *testing.T) {
	list := filepath.Join(t.TempDir(), "ranges.txt")
	write := func(text string, second int64) {
		t.Helper()
		writeFile(t, list, []byte(text))
		if err := os.Chtimes(list, time.Unix(second, 0), time.Unix(second, 0)); err != nil {
			t.Fatal(err)
		}
	}
	write("192.0.2.0/24\n", 1)
	f := NewRangeFile(list)
	if _, err := f.Refresh(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan error, 16)
	var watching sync.WaitGroup
	watching.Go(func() { f.Watch(ctx, 2*time.Millisecond, func(err error) { reports <- err }) })
	write("198.51.100.0/24\n203.0.113.0/24\n", 2)
	if err := <-reports; err != nil || f.Lines() != 2 {
		t.Errorf("%d lines in force, %v", f.Lines(), err)
	}
	write("nonsense\n", 3)
	if err := <-reports; err == nil || !strings.Contains(err.Error(), list+": line 1") {
		t.Errorf("a bad file: %v", err)
	}
	cancel()
	watching.Wait()
	if len(reports) > 0 {
		t.Errorf("reported twice: %v", <-reports)
	}
}

func TestMMDBDamageNeverPanics(t *testing.T) {
	whole := geodb.DB{Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Munich(), "2001:db8::/32": geodb.Munich()}}.Bytes(t)
	for i := 0; i < len(whole); i += 7 {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 0xff
		lookInto(t, bad)
	}
}

// lookInto asks a database of any bytes for places, and checks them.
func lookInto(tb testing.TB, file []byte) {
	tb.Helper()
	d, err := openDatabase(file)
	if err != nil {
		return
	}
	m := &MMDB{}
	m.current.Store(&keptState[database]{is: d})
	for _, ip := range []string{"192.0.2.1", "2001:db8::1", "0.0.0.0", "255.255.255.255", "::", "2002:c000:201::"} {
		g, ok := m.Locate(nil, false, netip.MustParseAddr(ip))
		checkGeo(tb, &g, ok)
	}
}

func BenchmarkMMDB(b *testing.B) {
	m := openMMDB(b, geodb.DB{Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Munich()}})
	ip := netip.MustParseAddr("192.0.2.7")
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Locate(nil, false, ip)
		}
	})
	b.Run("decoded", func(b *testing.B) {
		d := m.get()
		b.ReportAllocs()
		for b.Loop() {
			d.decode(d.reader.Lookup(ip))
		}
	})
}
