package schema

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// RowError says why a row would not arrive as meant.
type RowError struct {
	// Datasource is where the row was to go.
	Datasource string
	// Column is the column concerned, empty if it is not about one.
	Column string
	// Path is the JSON path of the key concerned.
	Path string
	// Got is the value found, cut to 64 bytes; or what is wrong, where no value
	// is.
	Got string
	// Want is what would be right.
	Want string
}

// Error names all of it on one line.
func (e *RowError) Error() string {
	var b strings.Builder
	b.WriteString("row for ")
	b.WriteString(e.Datasource)
	if e.Column != "" {
		b.WriteString(", column ")
		b.WriteString(e.Column)
	}
	b.WriteString(" (")
	b.WriteString(e.Path)
	b.WriteString("): got ")
	b.WriteString(e.Got)
	b.WriteString(", want ")
	b.WriteString(e.Want)
	return b.String()
}

// Outline is Error without what was found, which may be a visitor's: for logs and
// lists. A key that no column takes is not named either.
func (e *RowError) Outline() string {
	if e.Column == "" {
		return "row for " + e.Datasource + ": want " + e.Want
	}
	return "row for " + e.Datasource + ", column " + e.Column + " (" + e.Path + "): want " + e.Want
}

// excerptLimit keeps user agents and other long values out of logs.
const excerptLimit = 64

// excerpt makes a value fit for a log line: short, valid UTF-8, nothing that a
// terminal would act on.
func excerpt(raw []byte) string {
	cut := len(raw) > excerptLimit
	if cut {
		raw = raw[:excerptLimit]
	}
	var b strings.Builder
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		switch {
		case r == utf8.RuneError && n == 1 && cut && !utf8.FullRune(raw):
			raw = nil // a rune that was cut in two
			continue
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			b.WriteRune(unicode.ReplacementChar)
		default:
			b.WriteRune(r)
		}
		raw = raw[n:]
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}
