// Package geodb makes databases of places in MaxMind's format for tests.
package geodb

import (
	"bytes"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Record is what a database knows of a network: text, numbers, Record and
// []any.
type Record = map[string]any

// DB is a database to be made.
type DB struct {
	// Type is the publisher's name of the layout. Default: GeoLite2-City.
	Type string
	// IPVersion is 4 or 6 (default), RecordSize 24, 28 (default) or 32 bits.
	IPVersion, RecordSize int
	// Places are the records by network, reserved ones too.
	Places map[string]Record
}

// Built is when every database here was made, in Unix seconds.
const Built = 1_700_000_000

// Bytes are the database's file.
func (db DB) Bytes(tb testing.TB) []byte {
	tb.Helper()
	if db.Type == "" {
		db.Type = "GeoLite2-City"
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch: Built, DatabaseType: db.Type, IPVersion: db.IPVersion, RecordSize: db.RecordSize,
		Languages: []string{"de", "en"}, IncludeReservedNetworks: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, network := range slices.Sorted(maps.Keys(db.Places)) {
		_, ipnet, err := net.ParseCIDR(network)
		if err != nil {
			tb.Fatal(err)
		}
		if err := tree.Insert(ipnet, value(tb, db.Places[network])); err != nil {
			tb.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// Write puts the database at path as a careful updater does: by renaming.
func (db DB) Write(tb testing.TB, path string) {
	tb.Helper()
	tmp := filepath.Join(filepath.Dir(path), "new-"+filepath.Base(path))
	if err := os.WriteFile(tmp, db.Bytes(tb), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		tb.Fatal(err)
	}
}

func value(tb testing.TB, v any) mmdbtype.DataType {
	switch v := v.(type) {
	case string:
		return mmdbtype.String(v)
	case float64:
		return mmdbtype.Float64(v)
	case uint32:
		return mmdbtype.Uint32(v)
	case bool:
		return mmdbtype.Bool(v)
	case Record:
		m := mmdbtype.Map{}
		for key, item := range v {
			m[mmdbtype.String(key)] = value(tb, item)
		}
		return m
	case []any:
		var s mmdbtype.Slice
		for _, item := range v {
			s = append(s, value(tb, item))
		}
		return s
	}
	tb.Fatalf("no value of a database: %T", v)
	return nil
}

// Country is the record of a country database.
func Country(code string) Record {
	return Record{"country": Record{"iso_code": code}}
}

// Munich is a full record of a City database.
func Munich() Record {
	return Record{
		"continent":    Record{"code": "EU"},
		"country":      Record{"iso_code": "DE", "is_in_european_union": true},
		"subdivisions": []any{Record{"iso_code": "BY", "names": Record{"en": "Bavaria", "de": "Bayern"}}},
		"city":         Record{"names": Record{"en": "Munich", "de": "München"}},
		"location":     Record{"latitude": 48.1374, "longitude": 11.5755, "time_zone": "Europe/Berlin"},
	}
}
