package schema

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// The scanner reads JSON tokens in place. encoding/json is not used because it
// hides what must be seen here: it takes duplicate keys, and replaces lone
// surrogates and broken UTF-8 with U+FFFD.

var (
	errSyntax    = errors.New("broken JSON")
	errEnd       = errors.New("the end of the row")
	errUTF8      = errors.New("broken UTF-8")
	errSurrogate = errors.New("a lone surrogate")
	errControl   = errors.New("a bare control character")
)

type scanner struct {
	row []byte
	pos int
}

// next skips blanks and returns the byte that follows, without taking it. Line
// breaks are not blanks: a row is one line.
func (s *scanner) next() (byte, error) {
	for s.pos < len(s.row) {
		c := s.row[s.pos]
		if c != ' ' && c != '\t' {
			return c, nil
		}
		s.pos++
	}
	return 0, errEnd
}

// take takes c, after blanks.
func (s *scanner) take(c byte) error {
	got, err := s.next()
	if err != nil {
		return err
	}
	if got != c {
		return errSyntax
	}
	s.pos++
	return nil
}

// literal takes null, true or false.
func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.row[s.pos:], []byte(word)) {
		return errSyntax
	}
	s.pos += len(word)
	return nil
}

// number takes a number and returns its text, and whether it is written as a
// whole one.
func (s *scanner) number() (text []byte, whole bool, err error) {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	zero := s.peek() == '0'
	first := s.pos
	if !s.digits() || zero && s.pos > first+1 {
		return nil, false, errSyntax
	}
	whole = true
	if s.peek() == '.' {
		s.pos++
		whole = false
		if !s.digits() {
			return nil, false, errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		whole = false
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return nil, false, errSyntax
		}
	}
	return s.row[start:s.pos], whole, nil
}

func (s *scanner) peek() byte {
	if s.pos < len(s.row) {
		return s.row[s.pos]
	}
	return 0
}

// digits takes at least one digit, or reports false.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.row) && s.row[s.pos] >= '0' && s.row[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// text takes a string and returns it decoded. Without escapes, which is nearly
// always, that is a slice of the row.
func (s *scanner) text() ([]byte, error) {
	if err := s.take('"'); err != nil {
		return nil, err
	}
	start := s.pos
	ascii := true
	for s.pos < len(s.row) {
		switch c := s.row[s.pos]; {
		case c == '"':
			text := s.row[start:s.pos]
			if !ascii && !utf8.Valid(text) {
				return nil, errUTF8
			}
			s.pos++
			return text, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, errControl
		case c >= utf8.RuneSelf:
			ascii = false
		}
		s.pos++
	}
	return nil, errEnd
}

// escaped goes on with a string at its first escape.
func (s *scanner) escaped(start int) ([]byte, error) {
	out := bytes.Clone(s.row[start:s.pos])
	for s.pos < len(s.row) {
		c := s.row[s.pos]
		switch {
		case c == '"':
			s.pos++
			if !utf8.Valid(out) {
				return nil, errUTF8
			}
			return out, nil
		case c < ' ':
			return nil, errControl
		case c != '\\':
			out = append(out, c)
			s.pos++
		default:
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return nil, errEnd
}

// escape takes one escape, which is two \u for a pair of surrogates.
func (s *scanner) escape() (rune, error) {
	s.pos++ // the backslash
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
	default:
		return 0, errSyntax
	}
	high, err := s.hex()
	if err != nil || high < 0xd800 || high > 0xdfff {
		return high, err
	}
	if high > 0xdbff || s.peek() != '\\' {
		return 0, errSurrogate
	}
	s.pos++
	if s.peek() != 'u' {
		return 0, errSurrogate
	}
	s.pos++
	low, err := s.hex()
	if err != nil {
		return 0, err
	}
	if low < 0xdc00 || low > 0xdfff {
		return 0, errSurrogate
	}
	return (high-0xd800)<<10 + (low - 0xdc00) + 0x10000, nil
}

// hex takes the four digits of a \u escape.
func (s *scanner) hex() (rune, error) {
	if len(s.row)-s.pos < 4 {
		return 0, errSyntax
	}
	var r rune
	for _, c := range s.row[s.pos : s.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, errSyntax
		}
	}
	s.pos += 4
	return r, nil
}
