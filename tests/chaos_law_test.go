package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// found is what became of all rows.
type found struct {
	events   map[string][]eventRow // by uuid
	sessions map[string]map[string]bool
	letters  map[string]int // rows by kind of dead letter
}

// eventRow is what the law looks at.
type eventRow struct {
	RowID    string `json:"row_id"`
	Session  string `json:"session_id"`
	Sequence int64  `json:"session_event_sequence"`
	Metadata string `json:"metadata"`
	// Timestamp is when it was received.
	Timestamp time.Time `json:"timestamp"`
}

func (f *found) event(x *chaos, text []byte) {
	var row eventRow
	var meta struct{ UUID string }
	if err := errors.Join(json.Unmarshal(text, &row), json.Unmarshal([]byte(row.Metadata), &meta)); err != nil {
		x.t.Errorf("an event's row can't be read: %v: %s", err, text)
		return
	}
	f.events[meta.UUID] = append(f.events[meta.UUID], row)
}

func (f *found) session(x *chaos, text []byte) {
	var row struct {
		Session string `json:"session_id"`
	}
	if err := json.Unmarshal(text, &row); err != nil {
		x.t.Errorf("a session's row can't be read: %v: %s", err, text)
		return
	}
	if f.sessions[row.Session] == nil {
		f.sessions[row.Session] = map[string]bool{}
	}
	f.sessions[row.Session][string(bytes.TrimSpace(text))] = true
}

// collect reads a sink, its dead letters and what is left on disk.
func (x *chaos) collect(s *chaosSink) *found {
	f := &found{events: map[string][]eventRow{}, sessions: map[string]map[string]bool{}, letters: map[string]int{}}
	take := map[string]func(*chaos, []byte){"events_v1": f.event, "session_v1": f.session}
	box, err := outbox.Open(s.dir, outbox.Options{})
	if err != nil {
		x.t.Fatal(err)
	}
	defer box.Close()
	for _, l := range box.DeadLetters() {
		f.letters[l.Kind] += l.Rows
		text, err := box.ReadDeadLetter(l.ID)
		if err != nil {
			x.t.Fatal(err)
		}
		if one := take[l.Datasource]; one != nil && l.Kind != outbox.LetterDamaged {
			for row := range bytes.Lines(text) {
				one(x, row)
			}
		}
	}
	for ds, one := range take {
		left, err := box.Peek(ds, 1<<30)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, row := range append(left, s.tb.RawRows(ds)...) {
			one(x, row)
		}
	}
	return f
}

// forgotten reports whether a number may have been given to both: the process
// died before the store, which writes behind, had kept that the first got it.
func (x *chaos) forgotten(a, b eventRow) bool {
	if b.Timestamp.Before(a.Timestamp) {
		a, b = b, a
	}
	for _, kill := range x.kills {
		if since := kill.Sub(a.Timestamp); since > -time.Millisecond && since < 3*time.Second && b.Timestamp.After(kill.Add(-time.Second)) {
			return true
		}
	}
	return false
}

// check is the law, for each sink.
func (x *chaos) check() {
	for _, s := range x.sinks {
		x.checkSink(s)
	}
}

// mayDrop is what Caddy logs when a mirror drops rows, as it does on a disk
// that is full: it never makes the API refuse.
const mayDrop = "a mirror has no room on the disk"

func (x *chaos) checkSink(s *chaosSink) {
	t := x.t
	f := x.collect(s)
	l := &x.ledger
	wrong := func(format string, args ...any) { t.Errorf(s.name+" sink: "+format, args...) }
	dropping, dropped := s != x.sinks[0] && x.c.log.count(mayDrop) > 0, 0
	used := map[string]map[int64]eventRow{} // session → sequence → the row with it
	for uuid, e := range l.events {
		rows := f.events[uuid]
		switch {
		case e.acked && len(rows) == 0 && dropping:
			dropped++
			continue
		case e.acked && len(rows) == 0:
			wrong("event %s was acknowledged and is lost", uuid)
		case !e.acked && !e.open && len(rows) > 0:
			wrong("event %s was refused each time and is there", uuid)
		}
		numbers := map[int64]bool{}
		for _, row := range rows {
			if row.RowID != rows[0].RowID {
				wrong("event %s has two row ids, %s and %s", uuid, rows[0].RowID, row.RowID)
			}
			if row.Session != e.session {
				wrong("event %s of session %s is in session %s", uuid, e.session, row.Session)
			}
			numbers[row.Sequence] = true
			if row.Sequence == 0 {
				continue // the store was not open yet
			}
			if used[row.Session] == nil {
				used[row.Session] = map[int64]eventRow{}
			}
			if other, ok := used[row.Session][row.Sequence]; ok && other.RowID != row.RowID && !x.forgotten(other, row) {
				wrong("two events of session %s have the number %d: %+v and %+v", row.Session, row.Sequence, other, row)
			}
			used[row.Session][row.Sequence] = row
		}
		for _, n := range e.sequences {
			if !numbers[n] {
				wrong("event %s was answered the number %d, which none of its rows has: %v", uuid, n, numbers)
			}
		}
	}
	for uuid := range f.events {
		if l.events[uuid] == nil {
			wrong("event %q is there and was never sent", uuid)
		}
	}
	for id, e := range l.sessions {
		switch rows := f.sessions[id]; {
		case e.acked && len(rows) == 0 && dropping:
			dropped++
		case e.acked && len(rows) == 0:
			wrong("session %s was acknowledged and has no row", id)
		case len(rows) > 1:
			var all []string
			for row := range rows {
				all = append(all, row)
			}
			wrong("session %s has %d different rows:\n%s", id, len(rows), strings.Join(all, "\n"))
		}
	}
	for _, text := range s.front.wrong {
		wrong("bytes: %s", text)
	}
	if n := f.letters[outbox.LetterDamaged]; n > 0 {
		wrong("%d damaged lines, though nobody damaged any", n)
	}
	if dropped > len(l.events)/2 {
		wrong("%d rows were dropped of %d: the run shows nothing of it", dropped, len(l.events))
	}
	t.Logf("%s sink: %d events and sessions dropped; dead letters %v; %d bodies, %d of them sent more than once", s.name, dropped, f.letters, len(s.front.bodies), s.front.repeats())
}
