package sessionctx

import (
	"math"
	"strconv"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// What a byte of a text may be in a JSON string without an escape.
const (
	plainInJSON   = 1 << iota
	plainInScript // and in a script element
)

var plain = func() (table [256]byte) {
	for c := range byte(utf8.RuneSelf) {
		switch c {
		case '"', '\\', 0x7f:
		case '<', '>', '&', '\'':
			table[c] = plainInJSON
		default:
			if c >= 0x20 {
				table[c] = plainInJSON | plainInScript
			}
		}
	}
	return table
}()

// appendString appends s as a JSON string (RFC 8259). With script, the string
// is pure ASCII and safe inside a script element of HTML and of XHTML: `<`,
// `>`, `&` and everything beyond ASCII are escaped, U+2028 and U+2029 among
// them.
func appendString(b []byte, s string, script bool) []byte {
	want := byte(plainInJSON)
	if script {
		want = plainInScript
	}
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c]&want != 0 {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !script && r != utf8.RuneError {
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		if !script {
			b = utf8.AppendRune(b, utf8.RuneError)
		} else if r >= 0x10000 {
			r -= 0x10000
			b = appendUnit(b, 0xd800+r>>10)
			b = appendUnit(b, 0xdc00+r&0x3ff)
		} else {
			b = appendUnit(b, r)
		}
		i += n
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendUnit appends a UTF-16 code unit as an escape.
func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

// object builds a JSON object by appending.
type object struct {
	b      []byte
	script bool
}

func (o *object) open()  { o.b = append(o.b, '{') }
func (o *object) close() { o.b = append(o.b, '}') }

func (o *object) key(k string) {
	b := o.b
	if n := len(b); n > 0 && b[n-1] != '{' && b[n-1] != '[' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, k...)
	o.b = append(b, '"', ':')
}

func (o *object) str(k, v string) {
	o.key(k)
	o.b = appendString(o.b, v, o.script)
}

// opt writes nothing for an empty value.
func (o *object) opt(k, v string) {
	if v != "" {
		o.str(k, v)
	}
}

// orNull writes null for an empty value.
func (o *object) orNull(k, v string) {
	if v == "" {
		o.null(k)
		return
	}
	o.str(k, v)
}

func (o *object) null(k string) {
	o.key(k)
	o.b = append(o.b, "null"...)
}

func (o *object) int(k string, v int64) {
	o.key(k)
	o.b = strconv.AppendInt(o.b, v, 10)
}

func (o *object) float(k string, v float64) {
	o.key(k)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	o.b = strconv.AppendFloat(o.b, v, 'g', -1, 64)
}

func (o *object) bool(k string, v bool) {
	o.key(k)
	o.b = strconv.AppendBool(o.b, v)
}

// flag writes a boolean as the datasources want it: 0 or 1.
func (o *object) flag(k string, v bool) {
	n := int64(0)
	if v {
		n = 1
	}
	o.int(k, n)
}
