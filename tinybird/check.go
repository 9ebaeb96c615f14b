package schema

import (
	"errors"
	"math"
	"strconv"
)

// Check reports whether a row, one JSON object on one line, would arrive in
// every column as meant. The error is a *RowError.
//
// Every column's key must be there; null only where the column is Nullable or
// has a DEFAULT; each value must be of the column's type, in its range and its
// vocabulary; whole numbers are written without fraction or exponent; strings
// are valid UTF-8 without lone surrogates; no key stands twice, and none that
// no column takes.
//
// It is meant to run on every row that leaves. One that is good, in the form that
// our code writes, costs no allocation.
func (d *Datasource) Check(row []byte) error { return d.check(d.full, row) }

// CheckReference is Check for a row that has the reference system's columns and
// no others, as an existing workspace of it takes them.
func (d *Datasource) CheckReference(row []byte) error {
	if d.reference == nil {
		return &RowError{Datasource: d.Name, Path: "$", Got: "a row", Want: "none: the reference has no such datasource"}
	}
	return d.check(d.reference, row)
}

func (d *Datasource) check(p *plan, row []byte) error {
	if p.takes(row) {
		return nil
	}
	return d.walk(p, row)
}

func (d *Datasource) walk(p *plan, row []byte) error {
	w := walk{datasource: d.Name, plan: p, scanner: scanner{row: row}}
	if err := w.object(p.root); err != nil {
		return err
	}
	if _, err := w.next(); err == nil {
		return w.wrong(p.root, w.pos, "nothing after the object")
	}
	if n := p.missing(&w.seen); n != nil {
		return w.fail(n, "no such key", n.want)
	}
	return nil
}

// walk is one pass over one row.
type walk struct {
	scanner
	datasource string
	plan       *plan
	seen       seen
}

func (w *walk) object(n *node) error {
	if w.take('{') != nil {
		return w.wrong(n, w.pos, n.want)
	}
	if c, _ := w.next(); c == '}' {
		w.pos++
		return nil
	}
	for {
		if err := w.member(n); err != nil {
			return err
		}
		c, err := w.next()
		switch {
		case err == nil && c == ',':
			w.pos++
		case err == nil && c == '}':
			w.pos++
			return nil
		default:
			return w.wrong(n, w.pos, "a comma or the end of the object")
		}
	}
}

// member takes one key and its value.
func (w *walk) member(n *node) error {
	if _, err := w.next(); err != nil {
		return w.broken(n, w.pos, err, "a key")
	}
	start := w.pos
	key, err := w.text()
	if err != nil {
		return w.broken(n, start, err, "a key")
	}
	child, ok := n.children[string(key)]
	if !ok {
		return &RowError{
			Datasource: w.datasource,
			Path:       n.path + "." + excerpt(key),
			Got:        "a key that no column takes",
			Want:       "no such key",
		}
	}
	if w.seen.has(child.index) {
		return w.fail(child, "the key a second time", "it once")
	}
	w.seen.add(child.index)
	if w.take(':') != nil {
		return w.wrong(child, w.pos, "a colon after the key")
	}
	c, err := w.next()
	if err != nil {
		return w.broken(child, w.pos, err, child.want)
	}
	if child.column == nil {
		return w.object(child)
	}
	return w.value(child, c)
}

// value takes a column's value, which begins with c.
func (w *walk) value(n *node, c byte) error {
	start := w.pos
	t := &n.column.Type
	switch {
	case c == '"' && (t.Family == String || t.Family == Time):
		text, err := w.text()
		if err != nil {
			return w.broken(n, start, err, n.want)
		}
		if !t.takesText(text) || n.rule != nil && !n.rule.text(text) {
			return w.wrong(n, start, n.want)
		}
	case (c == '-' || c >= '0' && c <= '9') && t.Family != String && t.Family != Time:
		text, whole, err := w.number()
		if err != nil {
			return w.broken(n, start, err, n.want)
		}
		if !t.takesNumber(text, whole, n.rule) {
			return w.wrong(n, start, n.want)
		}
	case c == 'n' && w.literal("null") == nil:
		if !t.Nullable && n.column.Default == "" {
			return w.wrong(n, start, n.want)
		}
	default:
		return w.wrong(n, start, n.want)
	}
	return nil
}

// takesText reports whether a string fits the type.
func (t *Type) takesText(text []byte) bool { return t.Family == String || isTime(text) }

// takesNumber reports whether a number fits the type and the rule.
func (t *Type) takesNumber(text []byte, whole bool, r *rule) bool {
	switch t.Family {
	case Uint:
		if !whole {
			return false
		}
		v, err := strconv.ParseUint(string(text), 10, t.Bits)
		return err == nil && (r == nil || r.within(float64(v)))
	case Int:
		if !whole {
			return false
		}
		_, err := strconv.ParseInt(string(text), 10, t.Bits)
		return err == nil
	default:
		// Out of range is an error and ±Inf, never a silent cut.
		v, err := strconv.ParseFloat(string(text), t.Bits)
		return err == nil && !math.IsInf(v, 0) && (r == nil || r.within(v))
	}
}

func (r *rule) within(v float64) bool { return v >= r.low && v <= r.high }

// isTime reports whether b is in TimeLayout, a date of the calendar, and in the
// years 2000 to 2299: earlier is an unset clock, later does not fit the type.
func isTime(b []byte) bool {
	if len(b) != len(TimeLayout) {
		return false
	}
	for i, c := range b {
		if want := TimeLayout[i]; want >= '0' && want <= '9' {
			if c < '0' || c > '9' {
				return false
			}
		} else if c != want {
			return false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	return year >= 2000 && year <= 2299 && month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month) &&
		two(11) < 24 && two(14) < 60 && two(17) < 60
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}

// wrong is the error of a value that begins at start.
func (w *walk) wrong(n *node, start int, want string) error {
	got := "the end of the row"
	if start < len(w.row) {
		got = excerpt(w.row[start:w.valueEnd(start)])
	}
	return w.fail(n, got, want)
}

// broken is the error of a value that is not JSON, or not text.
func (w *walk) broken(n *node, start int, err error, want string) error {
	if errors.Is(err, errEnd) || start >= len(w.row) {
		return w.fail(n, errEnd.Error(), want)
	}
	return w.fail(n, err.Error()+" in "+excerpt(w.row[start:w.valueEnd(start)]), want)
}

func (w *walk) fail(n *node, got, want string) error {
	e := &RowError{Datasource: w.datasource, Path: n.path, Got: got, Want: want}
	if n.column != nil {
		e.Column = n.column.Name
	}
	return e
}

// valueEnd finds where the value that begins at start ends: where the scanner
// is, if it took the value, else at the next comma or bracket, or a few bytes
// on. It only serves messages.
func (w *walk) valueEnd(start int) int {
	if w.pos > start {
		return w.pos
	}
	end := start + 1
	for end < len(w.row) && end-start <= excerptLimit {
		switch w.row[end] {
		case ',', '}':
			return end
		}
		end++
	}
	return end
}
