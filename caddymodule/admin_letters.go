package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// shownLetter is a dead letter or a parked batch as operators see it.
type shownLetter struct {
	ID         string    `json:"id"`
	Datasource string    `json:"datasource"`
	Kind       string    `json:"kind"`
	Rows       int       `json:"rows"` // damaged lines, in a letter of that kind
	Bytes      int64     `json:"bytes"`
	Since      time.Time `json:"since"` // UTC
	Reason     string    `json:"reason"`
}

func shown(l outbox.Letter) shownLetter {
	return shownLetter{
		ID: l.ID, Datasource: l.Datasource, Kind: l.Kind, Rows: l.Rows, Bytes: l.Bytes,
		Since: l.At.UTC().Truncate(time.Second), Reason: withoutSecrets(l.Reason),
	}
}

// shownRow is a row; fault says why it would not arrive as meant, if so.
type shownRow struct {
	Row   json.RawMessage `json:"row"`
	Fault string          `json:"fault,omitempty"`
}

// jsonOrText is a row as it is, or its text where it is no JSON.
func jsonOrText(row []byte) json.RawMessage {
	if json.Valid(row) {
		return row
	}
	text, _ := json.Marshal(strings.ToValidUTF8(string(row), "\ufffd")) // strings always encode
	return text
}

// maxLettersShown bounds a list: a letter a row can make tens of thousands.
const maxLettersShown = 1000

// letterList is the answer to a list, oldest first.
type letterList struct {
	Letters []shownLetter `json:"letters"`
	// More counts those that are not listed.
	More int `json:"more"`
}

func listLetters(box *outbox.Outbox, r *http.Request) (any, error) {
	q := r.URL.Query()
	list, err := chosen(box, q.Get("datasource"), q.Get("kind"))
	if err != nil {
		return nil, err
	}
	more := max(0, len(list)-maxLettersShown)
	out := letterList{[]shownLetter{}, more}
	for _, l := range list[:len(list)-more] {
		out.Letters = append(out.Letters, shown(l))
	}
	return out, nil
}

// letterKinds are those that a letter may be of.
var letterKinds = []string{
	outbox.LetterRefused, outbox.LetterTooLarge, outbox.LetterPartial, outbox.LetterCopy,
	outbox.LetterUnconfirmed, outbox.LetterInvalid, outbox.LetterDamaged, outbox.LetterParked,
}

// chosen are the letters of a datasource and a kind; empty means any.
func chosen(box *outbox.Outbox, datasource, kind string) (list []outbox.Letter, err error) {
	if kind != "" && !slices.Contains(letterKinds, kind) {
		return nil, refuse(http.StatusBadRequest, "unknown_kind", "no letter is of kind %q: known are %s", kind, strings.Join(letterKinds, ", "))
	}
	if datasource != "" {
		if err := knownDatasource(box, datasource); err != nil {
			return nil, err
		}
	}
	for _, l := range box.DeadLetters() {
		if (datasource == "" || l.Datasource == datasource) && (kind == "" || l.Kind == kind) {
			list = append(list, l)
		}
	}
	return list, nil
}

func noLetter(id string) error { return fmt.Errorf("%w: %q", outbox.ErrNoLetter, id) }

// letterContent is the answer to show.
type letterContent struct {
	Letter shownLetter `json:"letter"`
	Rows   []shownRow  `json:"rows"`
	// More counts the rows that are not shown.
	More int `json:"more"`
}

func showLetter(box *outbox.Outbox, r *http.Request) (any, error) {
	n, err := rowsWanted(r)
	if err != nil {
		return nil, err
	}
	id := r.URL.Query().Get("id")
	if id == "" {
		return nil, refuse(http.StatusBadRequest, "missing_id", "no letter is named: give the id that the list shows")
	}
	var of *outbox.Letter
	for _, l := range box.DeadLetters() {
		if l.ID == id {
			of = &l
			break
		}
	}
	text, err := box.ReadDeadLetter(id)
	if err == nil && of == nil {
		err = noLetter(id) // it came after the list
	}
	if err != nil {
		return nil, err
	}
	if r.URL.Query().Get("download") == "true" {
		return download{strings.ReplaceAll(id, "/", "-") + ".ndjson", "application/x-ndjson", text}, nil
	}
	out := letterContent{Letter: shown(*of), Rows: []shownRow{}}
	for line := range bytes.Lines(text) {
		if len(out.Rows) == n {
			out.More++
			continue
		}
		row := bytes.TrimSuffix(line, []byte("\n"))
		s := shownRow{Row: jsonOrText(row)}
		if of.Kind != outbox.LetterDamaged {
			if err := checkRow(outbox.Row{Datasource: of.Datasource, JSON: row}); err != nil {
				s.Fault = err.Error()
			}
		}
		out.Rows = append(out.Rows, s)
	}
	return out, nil
}

// letterOrder names letters: one by its id, or all, of a datasource or a kind
// where these are given.
type letterOrder struct {
	ID         string `json:"id,omitempty"`
	All        bool   `json:"all,omitempty"`
	Datasource string `json:"datasource,omitempty"`
	Kind       string `json:"kind,omitempty"`
}

// letterOutcome is the answer to an order.
type letterOutcome struct {
	// Done are the letters that are sent again, or deleted.
	Done []shownLetter `json:"done"`
	// Left are those that an order for all left where they are, and why.
	Left []leftLetter `json:"left"`
}

type leftLetter struct {
	shownLetter
	Why string `json:"why"`
}

// letters reads an order and finds what it is about.
func (o *letterOrder) letters(box *outbox.Outbox, r *http.Request) ([]outbox.Letter, error) {
	if err := readOrder(r, o, `{"id": "<id>"} or {"all": true, "datasource": "<name>", "kind": "<kind>"}`); err != nil {
		return nil, err
	}
	switch {
	case o.ID == "" && !o.All:
		return nil, refuse(http.StatusBadRequest, "missing_id", "no letter is named: give an id that the list shows, or all")
	case o.ID != "" && (o.All || o.Datasource != "" || o.Kind != ""):
		return nil, refuse(http.StatusBadRequest, "ambiguous_order", "an id stands beside all, datasource or kind: give the one or the others")
	}
	if o.All {
		return chosen(box, o.Datasource, o.Kind)
	}
	for _, l := range box.DeadLetters() {
		if l.ID == o.ID {
			return []outbox.Letter{l}, nil
		}
	}
	return nil, noLetter(o.ID)
}

func resendLetters(box *outbox.Outbox, r *http.Request) (any, error) {
	var o letterOrder
	list, err := o.letters(box, r)
	if err != nil {
		return nil, err
	}
	return carryOut(list, &o, box.Requeue, func(l outbox.Letter) string {
		if o.ID == "" && o.Kind == "" {
			return harmInResending(box, l)
		}
		return ""
	})
}

func deleteLetters(box *outbox.Outbox, r *http.Request) (any, error) {
	var o letterOrder
	list, err := o.letters(box, r)
	if err != nil {
		return nil, err
	}
	return carryOut(list, &o, box.DeleteDeadLetter, func(outbox.Letter) string { return "" })
}

// carryOut does an order's work letter by letter. Of an order for all, what
// can't be done to one doesn't keep the others from it.
func carryOut(list []outbox.Letter, o *letterOrder, do func(id string) error, leave func(outbox.Letter) string) (any, error) {
	out := letterOutcome{[]shownLetter{}, []leftLetter{}}
	for _, l := range list {
		why := leave(l)
		if why == "" {
			err := do(l.ID)
			if err == nil {
				out.Done = append(out.Done, shown(l))
				continue
			}
			if o.ID != "" {
				return nil, err
			}
			why = withoutSecrets(err.Error())
		}
		out.Left = append(out.Left, leftLetter{shown(l), why})
	}
	return out, nil
}

// harmInResending says why an order for letters of all kinds leaves this one;
// empty if it does not.
func harmInResending(box *outbox.Outbox, l outbox.Letter) string {
	const byName = "; name its id or its kind to send it all the same"
	switch l.Kind {
	case outbox.LetterPartial:
		return "the sink has a part of it, which may come twice" + byName
	case outbox.LetterCopy:
		return "the sink has taken it: the rows that are right would come twice" + byName
	case outbox.LetterUnconfirmed:
		return "the sink may have it, and it would come twice" + byName
	case outbox.LetterDamaged:
		return "it holds damaged lines, not rows: show it, then delete it"
	case outbox.LetterInvalid:
		text, err := box.ReadDeadLetter(l.ID)
		if err != nil {
			return withoutSecrets(err.Error())
		}
		for line := range bytes.Lines(text) {
			if err := checkRow(outbox.Row{Datasource: l.Datasource, JSON: bytes.TrimSuffix(line, []byte("\n"))}); err != nil {
				return "it still would not arrive as meant: " + outline(err) + byName
			}
		}
	}
	return ""
}
