package visitor

import (
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

const (
	// maxQuery is how much of a query is looked at. Servers refuse longer
	// request lines long before.
	maxQuery = 16 << 10
	// maxFound is how many campaign parameters of one URL are kept.
	maxFound = 24
)

// found holds the campaign parameters of one query, first occurrences only,
// in the order of the URL. Values are as they stand there, still encoded.
type found struct {
	n    int
	hits [maxFound]hit
}

type hit struct {
	param int
	value string
}

// scan looks through a raw query. Parameters that are not of the set cost a
// look at their name and nothing else.
func (s *paramSet) scan(query string, out *found) {
	query = cut(query, maxQuery)
	for query != "" && out.n < maxFound {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if value == "" {
			continue
		}
		if i, ok := s.lookup(name); ok && !out.has(i) {
			out.hits[out.n] = hit{i, value}
			out.n++
		}
	}
}

func (f *found) has(param int) bool {
	for _, h := range f.hits[:f.n] {
		if h.param == param {
			return true
		}
	}
	return false
}

// appendQuery appends the parameters in the set's order, each whole or not at
// all, so that the URL stays within max bytes.
func (s *paramSet) appendQuery(b *strings.Builder, f *found, max int) {
	sep := byte('?')
	last := -1
	for range f.n {
		next := -1
		for i, h := range f.hits[:f.n] {
			if h.param > last && (next < 0 || h.param < f.hits[next].param) {
				next = i
			}
		}
		h := f.hits[next]
		last = h.param
		name := s.list[h.param].wire
		value := sessionctx.CleanText(h.value, len(h.value))
		if value == "" || b.Len()+len(name)+len(value)+2 > max {
			continue
		}
		b.WriteByte(sep)
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(value)
		sep = '&'
	}
}

// unescape decodes a query value, of which max bytes are wanted. What is no
// escape stays as it is: a visitor's link is never refused for it.
func unescape(s string, max int) string {
	s = cut(s, 3*max)
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s):
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi < 16 && lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}
