package sessionctx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Body is a JSON object from a browser. Names are matched exactly; values are
// read with coercion, since what older clients send is not always of the type
// that the column wants, and a conversion with an odd field is still one.
//
// It refers to the bytes that it was read from. Text taken out of it doesn't.
type Body []field

// field is a field's name without its quotes and escapes, and its JSON value.
type field struct{ name, value []byte }

// fewFields is up to how many fields looking at each for a name is cheaper
// than a map of them.
const fewFields = 32

// ParseBody reads one JSON object. The error says what is wrong in terms of
// the request; it quotes no values.
func ParseBody(b []byte) (Body, error) {
	i := skipSpace(b, 0)
	if byteAt(b, i) != '{' {
		if !json.Valid(b) {
			return nil, bodyError(b[i:])
		}
		return nil, errors.New("body is not a JSON object")
	}
	fields := bodyFields{list: make(Body, 0, 16)}
	end := scanObject(b, i, 1, fields.add)
	switch {
	case end == noJSON || skipSpace(b, end) < len(b):
		return nil, bodyError(b[i:])
	case fields.err != nil:
		return nil, fields.err
	}
	return fields.list, nil
}

// bodyFields gathers the fields of a body.
type bodyFields struct {
	list  Body
	names map[string]bool // of more than a few
	err   error           // what is wrong with the first that can't be taken
}

func (f *bodyFields) add(quoted, value []byte) {
	name, ok := unquote(quoted)
	switch {
	case f.err != nil:
		return
	case !ok:
		f.err = errors.New("body is not valid JSON")
		return
	}
	if len(f.list) == fewFields {
		f.names = make(map[string]bool, 4*fewFields)
		for _, known := range f.list {
			f.names[string(known.name)] = true
		}
	}
	if f.names[string(name)] || f.names == nil && f.list.Raw(string(name)) != nil {
		f.err = fmt.Errorf("field %q occurs twice", CleanText(string(name), 64))
		return
	}
	if f.names != nil {
		f.names[string(name)] = true
	}
	f.list = append(f.list, field{name, value})
}

// Raw is the field's JSON value as it came, nil if it is missing.
func (b Body) Raw(name string) json.RawMessage {
	for i := range b {
		if string(b[i].name) == name {
			return b[i].value
		}
	}
	return nil
}

// unquote is the value of a JSON string: a part of it, where that has no
// escapes.
func unquote(quoted []byte) ([]byte, bool) {
	inner := quoted[1 : len(quoted)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			err := json.Unmarshal(quoted, &s)
			return []byte(s), err == nil
		}
	}
	return inner, true
}

// text is the value of a JSON string, as a copy.
func text(quoted []byte) (string, bool) {
	b, ok := unquote(quoted)
	return string(b), ok
}

// bodyError says why b is not valid JSON.
func bodyError(b []byte) error {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, new(json.RawMessage)); !errors.As(err, &syntax) {
		return errors.New("body is not valid JSON")
	}
	switch {
	case syntax.Offset >= int64(len(b)) && strings.Contains(syntax.Error(), "end of JSON"):
		return errors.New("body ends before its JSON object does")
	case strings.Contains(syntax.Error(), "after top-level value"):
		return errors.New("body has text after its JSON object")
	}
	return fmt.Errorf("body is not valid JSON at byte %d", syntax.Offset)
}

// Has reports whether the field is there with a value other than null.
func (b Body) Has(name string) bool {
	v := b.Raw(name)
	return v != nil && string(v) != "null"
}

// Text is the field as text of at most max bytes; numbers and booleans become
// their JSON text. Missing, null, objects and arrays are "".
func (b Body) Text(name string, max int) string {
	v := b.Raw(name)
	if len(v) == 0 {
		return ""
	}
	switch v[0] {
	case '"':
		s, ok := text(v)
		if !ok {
			return ""
		}
		return CleanText(s, max)
	case '{', '[', 'n':
		return ""
	}
	return CleanText(string(v), max)
}

// JSONText is the field as text; an object or array becomes its JSON text.
// What is longer than max bytes is cut.
func (b Body) JSONText(name string, max int) string {
	if v := b.Raw(name); len(v) > 0 && (v[0] == '{' || v[0] == '[') {
		var compact bytes.Buffer
		if json.Compact(&compact, v) != nil {
			return ""
		}
		return CleanText(compact.String(), max)
	}
	return b.Text(name, max)
}

// Number is the field as a finite number; text that reads as one counts.
func (b Body) Number(name string) (float64, bool) {
	v := b.Raw(name)
	if len(v) == 0 {
		return 0, false
	}
	s := string(v)
	if v[0] == '"' {
		var ok bool
		if s, ok = text(v); !ok {
			return 0, false
		}
		s = strings.TrimSpace(s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// Integer is the field rounded and clamped to 0 … max.
func (b Body) Integer(name string, max int64) (int64, bool) {
	f, ok := b.Number(name)
	if !ok {
		return 0, false
	}
	f = math.Round(f)
	if f <= 0 {
		return 0, true
	}
	if f >= float64(max) {
		return max, true
	}
	return int64(f), true
}

// Object is the field as an object; nil if it is none.
func (b Body) Object(name string) Body {
	v := b.Raw(name)
	if len(v) == 0 || v[0] != '{' {
		return nil
	}
	o, err := ParseBody(v)
	if err != nil {
		return nil
	}
	return o
}
