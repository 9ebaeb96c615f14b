package standin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// counts is the body of an answer to rows that were taken.
type counts struct {
	Successful  int `json:"successful_rows"`
	Quarantined int `json:"quarantined_rows"`
}

// answer is what goes back.
type answer struct {
	status int
	body   []byte
}

func refuse(status int, format string, args ...any) answer {
	body, _ := json.Marshal(map[string]string{
		"error":         fmt.Sprintf(format, args...),
		"documentation": "https://docs.tinybird.co/api-reference/events-api",
	})
	return answer{status, body}
}

// ServeHTTP takes one request: reads it, applies the fault that is due, stores
// the rows, answers, and records all that.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v0/events" {
		send(w, refuse(http.StatusNotFound, "not found"))
		return
	}
	name := r.URL.Query().Get("name")
	b := Batch{Datasource: name, Started: time.Now(), Method: r.Method, Query: r.URL.Query(), Header: r.Header.Clone()}

	fault := s.due(name, nil, true)
	if fault != nil {
		b.Fault = true
		s.act(w, r, fault, answer{}, &b)
		return
	}
	body, plain, failed := s.read(r)
	b.describe(body, plain)
	reply := answer{}
	fault = s.due(name, plain, false)
	switch {
	case fault != nil && !fault.CommitFirst:
	case failed.status != 0:
		reply = failed
	default:
		reply = s.take(r, plain, &b)
	}
	if fault != nil {
		b.Fault = true
		s.act(w, r, fault, reply, &b)
		return
	}
	b.Status = reply.status
	s.record(b)
	send(w, reply)
}

// read reads the body and takes off its compression. It reads all of what a
// client sends before anything is refused, as a client that is still writing
// may not see an early answer.
func (s *Server) read(r *http.Request) (body, plain []byte, failed answer) {
	body, err := io.ReadAll(io.LimitReader(r.Body, s.maxBody+1))
	if err != nil {
		return body, nil, refuse(http.StatusBadRequest, "reading the body: %v", err)
	}
	if int64(len(body)) > s.maxBody {
		_, _ = io.Copy(io.Discard, r.Body)
		return body, nil, s.tooLarge()
	}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
		return body, body, answer{}
	case "gzip":
	default:
		return body, nil, refuse(http.StatusBadRequest, "content encoding %q is not known", encoding)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		plain, err = io.ReadAll(io.LimitReader(unpacked, s.maxBody+1))
	}
	if err != nil {
		return body, nil, refuse(http.StatusBadRequest, "unpacking the body: %v", err)
	}
	if int64(len(plain)) > s.maxBody {
		return body, nil, s.tooLarge()
	}
	return body, plain, answer{}
}

func (s *Server) tooLarge() answer {
	return refuse(http.StatusRequestEntityTooLarge, "a request may hold %d bytes", s.maxBody)
}

// take judges a request that arrived whole, and stores its rows.
func (s *Server) take(r *http.Request, plain []byte, b *Batch) answer {
	if r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "method not allowed")
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		return refuse(http.StatusForbidden, "invalid authentication token")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-ndjson" && kind != "application/json" {
		return refuse(http.StatusBadRequest, "content type %q is not known", r.Header.Get("Content-Type"))
	}
	ds, ok := s.schema.Datasource(b.Datasource)
	if !ok || s.reference && !ds.HasReference() {
		return refuse(http.StatusBadRequest, "there is no data source %q", b.Datasource)
	}
	good, bad := s.sort(ds, plain)
	if len(good)+len(bad) == 0 {
		return refuse(http.StatusBadRequest, "no rows")
	}
	result, err := s.store(ds.Name, plain, good, bad, b)
	if err != nil {
		return refuse(http.StatusInternalServerError, "inserting: %v", err)
	}
	status := http.StatusOK
	if b.Query.Get("wait") != "true" {
		status = http.StatusAccepted
	}
	body, _ := json.Marshal(result)
	return answer{status, body}
}

// sort holds each row of a body against the datasource.
func (s *Server) sort(ds *schema.Datasource, plain []byte) (good [][]byte, bad []Violation) {
	check := ds.Check
	if s.reference {
		check = ds.CheckReference
	}
	for row := range bytes.Lines(plain) {
		row = bytes.TrimRight(row, "\n")
		if len(bytes.TrimSpace(row)) == 0 {
			continue
		}
		if err := check(row); err != nil {
			bad = append(bad, Violation{Datasource: ds.Name, Row: row, Err: err})
			continue
		}
		good = append(good, row)
	}
	return good, bad
}

// store puts the rows of one batch in, unless it is there and duplicates are
// ignored.
func (s *Server) store(name string, plain []byte, good [][]byte, bad []Violation, b *Batch) (counts, error) {
	s.inserting.Lock()
	defer s.inserting.Unlock()
	hash := sha256.Sum256(append([]byte(name+"\n"), plain...))
	if s.deduplicate {
		s.mu.Lock()
		result, ok := s.known[hash]
		s.mu.Unlock()
		if ok {
			b.Duplicate = true
			return result, nil
		}
	}
	if s.sink != nil && len(good) > 0 {
		if err := s.sink(name, append(bytes.Join(good, []byte("\n")), '\n')); err != nil {
			return counts{}, err
		}
	}
	result := counts{Successful: len(good), Quarantined: len(bad)}
	b.Rows, b.Quarantined, b.Committed = len(good), len(bad), true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[name] = append(s.rows[name], good...)
	s.violations = append(s.violations, bad...)
	if s.deduplicate {
		s.known[hash] = result
	}
	s.notify()
	return result, nil
}

func send(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// Violation is a row that Tinybird would have put into quarantine, or taken and
// garbled.
type Violation struct {
	Datasource string
	Row        []byte
	Err        error
}

// Error says what is wrong with the row. The row itself is in Row.
func (v Violation) Error() string { return v.Err.Error() }

// Unwrap returns Err.
func (v Violation) Unwrap() error { return v.Err }

// Violations returns all violations so far. A test that calls it takes it upon
// itself to judge them: those returned no longer fail it at its end.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = len(s.violations)
	return append([]Violation(nil), s.violations...)
}

func (s *Server) untold() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.violations[s.told:]
}
