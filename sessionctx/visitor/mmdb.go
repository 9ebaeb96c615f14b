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
// memory, not mapped: it may be replaced or rewritten at any time, and a
// replacement that can't be read leaves the former one in force. Look-ups take
// no lock.
type MMDB struct {
	path    string
	current atomic.Pointer[database]
	reload  sync.Mutex // held while a new file is read
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
}

func (a fileState) equal(b fileState) bool {
	return a.size == b.size && a.modTime.Equal(b.modTime) &&
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

// CheckMMDB reports what database a file holds, without keeping it: what can
// be said when a configuration is checked.
func CheckMMDB(path string) (MMDBInfo, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return MMDBInfo{}, fmt.Errorf("checking geo database: %w", err)
	}
	r, err := maxminddb.Open(path)
	if err != nil {
		return MMDBInfo{}, fmt.Errorf("checking geo database %s: %w", path, err)
	}
	defer r.Close()
	return info(r, fi.Size()), nil
}

// OpenMMDB reads a database into memory.
func OpenMMDB(path string) (*MMDB, error) {
	m := &MMDB{path: path}
	if err := m.Reload(); err != nil {
		return nil, err
	}
	return m, nil
}

// Info describes the database in force.
func (m *MMDB) Info() MMDBInfo {
	d := m.current.Load()
	return info(d.reader, d.file.size)
}

// Reload reads the file again and puts it in force. On error the former
// database stays.
func (m *MMDB) Reload() error {
	m.reload.Lock()
	defer m.reload.Unlock()
	d, err := readDatabase(m.path)
	if err != nil {
		return fmt.Errorf("reading geo database %s: %w", m.path, err)
	}
	m.current.Store(d)
	return nil
}

// Watch looks at the file every so often, until ctx ends, and reloads it once
// it has changed and then kept still for one interval. report, if not nil, is
// called after each attempt: with nil for a new database in force, else with
// the error; a file that can't be read is not tried again until it changes.
func (m *MMDB) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	seen, tried := m.current.Load().file, fileState{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := stat(m.path)
		if err != nil {
			// Gone for a moment, or for good: the one in memory serves.
			continue
		}
		settled := now.equal(seen)
		seen = now
		if !settled || now.equal(m.current.Load().file) || now.equal(tried) {
			continue
		}
		err = m.Reload()
		if errors.Is(err, errUnsettled) {
			continue
		}
		tried = now
		if report != nil {
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
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, err
	}
	d := &database{reader: r, file: after}
	if d.flat, err = flatLayout(r); err != nil {
		return nil, err
	}
	return d, nil
}

func stat(path string) (fileState, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	return fileState{fi.Size(), fi.ModTime(), fi}, nil
}

func info(r *maxminddb.Reader, size int64) MMDBInfo {
	return MMDBInfo{Type: r.Metadata.DatabaseType, Built: r.Metadata.BuildTime(), Size: size}
}
