package visitor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// errUnsettled is a file that changed while it was read.
var errUnsettled = errors.New("file changed while it was read")

// MMDB is a Geography that looks addresses up in a MaxMind DB file (.mmdb) of
// cities or countries, as MaxMind and DB-IP publish them. The file is held in
// memory, not mapped: it may be replaced, rewritten or removed at any time, and
// a replacement that can't be read leaves the former one in force. Look-ups
// take no lock.
type MMDB struct {
	path    string
	current atomic.Pointer[database]

	reading sync.Mutex
	refused fileState // that could not be read, so as not to try it again
}

// database is one state of the file.
type database struct {
	reader *maxminddb.Reader
	flat   bool
	file   fileState
	places placeCache
}

// fileState tells one state of a file from another.
type fileState struct {
	size    int64
	modTime time.Time
	file    os.FileInfo // for the identity of a file replaced by renaming
	missing bool
}

func (a fileState) equal(b fileState) bool {
	return a.size == b.size && a.modTime.Equal(b.modTime) && a.missing == b.missing &&
		(a.file == nil || b.file == nil || os.SameFile(a.file, b.file))
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
	d, err := readDatabase(path)
	if err != nil {
		return nil, fmt.Errorf("reading geo database %s: %w", path, err)
	}
	m := &MMDB{path: path}
	m.current.Store(d)
	return m, nil
}

// Info describes the database in force.
func (m *MMDB) Info() MMDBInfo {
	d := m.current.Load()
	return MMDBInfo{
		Type:  d.reader.Metadata.DatabaseType,
		Built: d.reader.Metadata.BuildTime(),
		Size:  d.file.size,
	}
}

// Refresh reads the file again if it has changed, and reports whether a new
// database is in force. On error the former one stays, and the same file is not
// tried, nor its absence reported, a second time. A file that is being written
// is left for later.
func (m *MMDB) Refresh() (changed bool, err error) {
	m.reading.Lock()
	defer m.reading.Unlock()
	now, err := stat(m.path)
	if now.equal(m.refused) {
		return false, nil
	}
	m.refused = fileState{}
	if now.equal(m.current.Load().file) {
		return false, nil
	}
	if err == nil {
		var d *database
		if d, err = readDatabase(m.path); err == nil {
			m.current.Store(d)
			return true, nil
		}
		if errors.Is(err, errUnsettled) {
			return false, nil
		}
	}
	m.refused = now
	return false, fmt.Errorf("reading geo database %s: %w", m.path, err)
}

// Watch looks at the file every so often, until ctx ends, and refreshes the
// database once the file has changed and then kept still for one interval.
// report is called with nil for each new database in force, else with the
// error.
func (m *MMDB) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	seen := m.current.Load().file
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, _ := stat(m.path)
		settled := now.equal(seen)
		seen = now
		if !settled {
			continue
		}
		if changed, err := m.Refresh(); changed || err != nil {
			report(err)
		}
	}
}

// Locate implements Geography.
func (m *MMDB) Locate(_ *http.Request, _ bool, ip netip.Addr) (sessionctx.Geo, bool) {
	if !ip.IsValid() {
		return sessionctx.Geo{}, false
	}
	d := m.current.Load()
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

// readDatabase reads the whole file, which must stay the same meanwhile. A
// file cut short has lost its metadata, which stand at the end, and is refused.
func readDatabase(path string) (*database, error) {
	before, err := stat(path)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	after, err := stat(path)
	if err != nil {
		return nil, err
	}
	if !before.equal(after) || int64(len(data)) != after.size {
		return nil, errUnsettled
	}
	d, err := openDatabase(data)
	if err != nil {
		return nil, err
	}
	d.file = after
	return d, nil
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

func stat(path string) (fileState, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return fileState{missing: true}, err
	}
	return fileState{size: fi.Size(), modTime: fi.ModTime(), file: fi}, nil
}
