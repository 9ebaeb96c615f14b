package schema

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"unicode/utf8"
)

// The walk in check.go says what a good row is, and why another one is none.
// quick knows the form only that rows have when our code writes them: no blanks,
// no \u escapes, the same order of keys each time. Such a row it takes in one
// pass, without looking up a key. Whatever else it meets it leaves to the walk:
// it never refuses a row, and takes none that the walk would not.
type quick struct {
	scanner
	seen seen
}

// takes reports whether a row is good; false means that the walk has to say.
func (p *plan) takes(row []byte) bool {
	q := quick{scanner: scanner{row: row}}
	return q.object(p.root) && q.pos == len(row) && q.seen.covers(&p.required)
}

// guess is the key that followed at this place in the row before. It may be
// wrong, and costs a look-up then.
type guess = atomic.Pointer[node]

func (q *quick) object(n *node) bool {
	if q.peek() != '{' {
		return false
	}
	q.pos++
	next := &n.first
	for {
		child := next.Load()
		if child == nil || !q.key(child) {
			if child = q.lookUp(n); child == nil {
				return false
			}
			next.Store(child)
		}
		if q.seen.has(child.index) {
			return false
		}
		q.seen.add(child.index)
		if child.column == nil {
			if !q.object(child) {
				return false
			}
		} else if !q.value(child) {
			return false
		}
		next = &child.next
		c := q.peek()
		q.pos++
		if c != ',' {
			return c == '}'
		}
	}
}

// key takes the node's key with its colon, if that is what follows.
func (q *quick) key(n *node) bool {
	end := q.pos + len(n.quoted)
	if end > len(q.row) || string(q.row[q.pos:end]) != n.quoted {
		return false
	}
	q.pos = end
	return true
}

// lookUp takes a key with its colon and returns its node, nil if there is none.
func (q *quick) lookUp(n *node) *node {
	if q.peek() != '"' {
		return nil
	}
	text, escaped, ok := q.string()
	if !ok || escaped || q.peek() != ':' {
		return nil
	}
	q.pos++
	return n.children[string(text)]
}

func (q *quick) value(n *node) bool {
	t := &n.column.Type
	switch c := q.peek(); {
	case c == '"':
		text, escaped, ok := q.string()
		switch {
		case !ok:
			return false
		case t.Family == Time:
			return isTime(text) // an escape makes it no time
		case t.Family != String:
			return false
		}
		return n.rule == nil || !escaped && n.rule.text(text)
	case c == 'n':
		end := q.pos + len("null")
		if end > len(q.row) || string(q.row[q.pos:end]) != "null" {
			return false
		}
		q.pos = end
		return t.Nullable || n.column.Default != ""
	case c >= '0' && c <= '9' && t.Family == Uint:
		v, ok := q.uint()
		return ok && v <= t.maxUint() && (n.rule == nil || n.rule.within(float64(v)))
	case (c == '-' || c >= '0' && c <= '9') && (t.Family == Float || t.Family == Int):
		text, whole, err := q.number()
		return err == nil && t.takesNumber(text, whole, n.rule)
	}
	return false
}

// uint takes the digits of a number of 18 at most. That no fraction or exponent
// follows is for the caller, who wants a comma or the end.
func (q *quick) uint() (v uint64, ok bool) {
	start := q.pos
	for q.pos < len(q.row) {
		d := q.row[q.pos] - '0'
		if d > 9 {
			break
		}
		v = v*10 + uint64(d)
		q.pos++
	}
	n := q.pos - start
	return v, n == 1 || n <= 18 && q.row[start] != '0'
}

// string takes a string and returns what stands between its quotes; escaped
// says that this has escapes in it.
func (q *quick) string() (text []byte, escaped, ok bool) {
	start := q.pos + 1
	ascii := true
	for i := start; ; {
		i = plainUntil(q.row, i)
		if i >= len(q.row) {
			return nil, false, false
		}
		switch c := q.row[i]; {
		case c == '"':
			q.pos = i + 1
			text = q.row[start:i]
			return text, escaped, ascii || utf8.Valid(text)
		case c >= utf8.RuneSelf:
			ascii = false
			i++
		case c != '\\' || i+1 == len(q.row):
			return nil, false, false
		default:
			switch q.row[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			default:
				return nil, false, false
			}
			escaped = true
			i += 2
		}
	}
}

// plainUntil returns where, from i on, the first byte stands that a string can't
// have as it is, or that is not ASCII; len(b) if there is none. It looks at
// eight bytes at a time: x-1 &^ x has a byte's high bit where the byte is zero,
// and in no byte below the first that is.
func plainUntil(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for ; i+8 <= len(b); i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		quote, slash := v^ones*'"', v^ones*'\\'
		stop := v | (v-ones*' ')&^v | (quote-ones)&^quote | (slash-ones)&^slash
		if stop &= highs; stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}
