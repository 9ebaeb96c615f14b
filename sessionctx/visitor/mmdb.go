package visitor

import (
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// MMDB is a Geography that looks addresses up in a MaxMind DB file (.mmdb) of
// cities or countries, as MaxMind and DB-IP publish them. The file is held in
// memory, not mapped: it may be replaced, rewritten or removed at any time, and
// a replacement that can't be read leaves the former one in force. Look-ups
// take no lock.
type MMDB struct{ keptFile[database] }

// database is one state of the file.
type database struct {
	reader *maxminddb.Reader
	flat   bool
	places placeCache
}

// MMDBInfo describes a database.
type MMDBInfo struct {
	// Type is the publisher's name of the layout ("GeoLite2-City").
	Type string
	// Built is when the publisher made it.
	Built time.Time
	// Size is the file's, in bytes.
	Size int64
}

// OpenMMDB reads a database into memory.
func OpenMMDB(path string) (*MMDB, error) {
	m := &MMDB{keptFile[database]{path: path, what: "geo database", read: readDatabase}}
	if _, err := m.Refresh(); err != nil {
		return nil, err
	}
	return m, nil
}

// Info describes the database in force.
func (m *MMDB) Info() MMDBInfo {
	s := m.current.Load()
	return MMDBInfo{
		Type:  s.is.reader.Metadata.DatabaseType,
		Built: s.is.reader.Metadata.BuildTime(),
		Size:  s.file.size,
	}
}

// Locate implements Geography.
func (m *MMDB) Locate(_ *http.Request, _ bool, ip netip.Addr) (sessionctx.Geo, bool) {
	if !ip.IsValid() {
		return sessionctx.Geo{}, false
	}
	d := m.get()
	found := d.reader.Lookup(ip.Unmap().WithZone(""))
	if !found.Found() {
		return sessionctx.Geo{}, false
	}
	// Networks share records: a country database has some 250 of them.
	offset := found.Offset()
	p := d.places.get(offset)
	if p == nil {
		p = &place{offset: offset}
		p.geo, p.known = d.decode(found)
		d.places.put(p)
	}
	return p.geo, p.known
}

// readDatabase reads the whole file. One cut short has lost its metadata, which
// stand at the end, and is refused.
func readDatabase(path string) (*database, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return openDatabase(data)
}

func openDatabase(data []byte) (*database, error) {
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, err
	}
	flat, err := flatLayout(r)
	if err != nil {
		return nil, err
	}
	return &database{reader: r, flat: flat}, nil
}
