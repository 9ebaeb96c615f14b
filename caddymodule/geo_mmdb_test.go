package caddymodule

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
)

func heldDatabase(t *testing.T, app *App) *visitor.MMDB {
	t.Helper()
	return app.reader.Geo[0].(*GeoMMDB).db
}

// holders is how many configs hold the database in memory.
func holders(path string) int {
	n, _ := geoDatabases.References(path)
	return n
}

func TestConfigsShareAGeoDatabase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "geo.mmdb")
	// Some 16 MB, of which the second record and all that follow are never
	// looked at.
	places := map[string]geodb.Record{"192.0.2.0/24": geodb.Munich()}
	for _, network := range []string{"198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/48", "2001:db8:2::/48"} {
		places[network] = geodb.Record{"country": geodb.Record{"iso_code": "FR"}, "x": strings.Repeat(network, 4<<20/len(network))}
	}
	geodb.DB{Places: places}.Write(t, path)

	first := heldDatabase(t, loadApp(t, dir, "geo mmdb "+path))
	size := first.Info().Size
	if size < 16<<20-1000 {
		t.Fatalf("the database has %d bytes", size)
	}
	before := heapInUse()
	for range 5 {
		if db := heldDatabase(t, loadApp(t, dir, "geo mmdb "+path)); db != first {
			t.Fatal("a reload reads the same file again")
		}
		if n := holders(path); n != 1 {
			t.Fatalf("%d configs hold the database", n)
		}
	}
	if after := heapInUse(); after > before+size/2 {
		t.Errorf("5 reloads with a database of %d bytes made the heap grow by %d", size, after-before)
	}

	// A config that is refused after the database was taken lets go of it.
	other := filepath.Join(dir, "other.mmdb")
	geodb.DB{Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Country("JP")}}.Write(t, other)
	for _, p := range []string{path, other} {
		if err := tryLoadApp(t, dir, "geo mmdb "+p, "segment odd {\n\t\t\tmatch expression `nonsense(`\n\t\t}"); err == nil || !strings.Contains(err.Error(), "segment odd") {
			t.Fatalf("the config was not refused: %v", err)
		}
	}
	if n := holders(path); n != 1 || holders(other) != 0 {
		t.Errorf("after refused reloads %d configs hold the database, %d the other", n, holders(other))
	}
	if g, ok := first.Locate(nil, false, netip.MustParseAddr("192.0.2.1")); !ok || g.City != "Munich" {
		t.Errorf("after refused reloads: %+v, %v", g, ok)
	}

	stopApp(t)
	if n := holders(path); n != 0 {
		t.Errorf("%d hold the database after Caddy has stopped", n)
	}
	// Requests that still run in the old handlers.
	if g, ok := first.Locate(nil, false, netip.MustParseAddr("192.0.2.1")); !ok || g.City != "Munich" {
		t.Errorf("after the stop: %+v, %v", g, ok)
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAReloadTakesAReplacedGeoDatabaseAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "geo.mmdb")
	country := func() string {
		g, _ := heldDatabase(t, activeApp(t)).Locate(nil, false, netip.MustParseAddr("192.0.2.1"))
		return g.Country
	}
	write := func(code string) {
		geodb.DB{Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Country(code)}}.Write(t, path)
	}
	if err := tryLoadApp(t, dir, "geo mmdb "+path, ""); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("a config whose database is missing: %v", err)
	}
	write("DE")
	loadApp(t, dir, "geo mmdb "+path)
	defer stopApp(t)
	write("FR")
	loadApp(t, dir, "geo mmdb "+path)
	if c := country(); c != "FR" {
		t.Errorf("country %q", c)
	}
	// No reload fails because an updater has just failed: what was read stays.
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	loadApp(t, dir, "geo mmdb "+path)
	if c := country(); c != "FR" {
		t.Errorf("country %q after a torn file", c)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	loadApp(t, dir, "geo mmdb "+path)
	if c := country(); c != "FR" {
		t.Errorf("country %q after the file went", c)
	}
}
