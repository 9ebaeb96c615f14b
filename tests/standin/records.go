package standin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"
)

// Batch is one request that came in.
type Batch struct {
	Datasource string
	Method     string
	Query      url.Values
	Header     http.Header
	// Started is when the request's header was read, Answered when it was known
	// what to answer: before any pause of a fault, so that a request that hangs
	// is seen.
	Started, Answered time.Time
	// WireBytes and WireSHA256 are the body as it was sent; PlainBytes and
	// PlainSHA256 the same without its gzip. The hashes are hex, and empty where
	// the body was not read, or could not be unpacked.
	WireBytes, PlainBytes   int
	WireSHA256, PlainSHA256 string
	// Rows and Quarantined are how many rows this request put in and how many
	// into quarantine.
	Rows, Quarantined int
	// Committed says that the rows are in, whatever was answered.
	Committed bool
	// Duplicate says that the bytes were known and so ignored (WithDeduplication).
	Duplicate bool
	// Fault says that a programmed fault acted.
	Fault bool
	// Status is what was answered; 0 means that the connection was broken.
	Status int
}

// describe notes the body.
func (b *Batch) describe(body, plain []byte) {
	b.WireBytes, b.PlainBytes = len(body), len(plain)
	b.WireSHA256 = hash(body)
	if plain != nil {
		b.PlainSHA256 = hash(plain)
	}
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (s *Server) record(b Batch) {
	b.Answered = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	s.notify()
}

// Batches returns the requests to a datasource in the order of their answers,
// or all if the name is empty.
func (s *Server) Batches(datasource string) []Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Batch
	for _, b := range s.batches {
		if datasource == "" || b.Datasource == datasource {
			list = append(list, b)
		}
	}
	return list
}

// Count returns how many rows a datasource has, duplicates counted.
func (s *Server) Count(datasource string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows[datasource])
}

// RawRows returns the rows of a datasource as they came, in their order. They
// must not be changed.
func (s *Server) RawRows(datasource string) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.rows[datasource]...)
}

// Rows returns the rows of a datasource in their order, duplicates and all,
// with numbers as json.Number and nested objects as map[string]any.
func (s *Server) Rows(datasource string) []map[string]any {
	raw := s.RawRows(datasource)
	rows := make([]map[string]any, len(raw))
	for i, row := range raw {
		decoder := json.NewDecoder(bytes.NewReader(row))
		decoder.UseNumber()
		if err := decoder.Decode(&rows[i]); err != nil {
			panic(fmt.Sprintf("a row that was checked does not parse: %v", err))
		}
	}
	return rows
}

// Conflict is a row id that came with rows which differ.
type Conflict struct {
	Datasource string
	ID         string
	First      map[string]any
	Later      map[string]any
}

// Error names the columns that differ.
func (c Conflict) Error() string {
	var differ []string
	for key, v := range c.First {
		if !reflect.DeepEqual(v, c.Later[key]) {
			differ = append(differ, fmt.Sprintf("%s: %v, then %v", key, v, c.Later[key]))
		}
	}
	slices.Sort(differ)
	return fmt.Sprintf("%s %s: one id, different rows: %v", c.Datasource, c.ID, differ)
}

// Distinct returns one row an id, the first, as the endpoints read them, and
// the ids that came again with other content. Since a retry sends the same
// bytes, and an id is made of what it stands for, there should be none.
func (s *Server) Distinct(datasource string) ([]map[string]any, []Conflict) {
	var rows []map[string]any
	var conflicts []Conflict
	first := make(map[string]map[string]any)
	for _, row := range s.Rows(datasource) {
		id := s.rowID(datasource, row)
		known, ok := first[id]
		switch {
		case !ok:
			first[id] = row
			rows = append(rows, row)
		case !reflect.DeepEqual(known, row):
			conflicts = append(conflicts, Conflict{Datasource: datasource, ID: id, First: known, Later: row})
		}
	}
	return rows, conflicts
}

// rowID returns what makes a row one. Rows of the reference have no row_id, but
// in each of its datasources something that serves.
func (s *Server) rowID(datasource string, row map[string]any) string {
	key := "row_id"
	if s.reference {
		key = map[string]string{"session_v1": "session_id", "events_v1": "id", "traffic_v1": "request_id"}[datasource]
	}
	id, _ := row[key].(string)
	return id
}
