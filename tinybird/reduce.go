package schema

import "bytes"

// ReferenceRows returns a body of rows, one a line, with the reference system's
// columns only, which an existing workspace of it takes: a line for a line, each
// value as it stood, in the order in which it stood. It is a function of the
// body alone, so that what is sent again is the same to the byte.
//
// Rows that Check takes come out as rows that CheckReference takes. Of others it
// may return an error, which is a *RowError.
func (d *Datasource) ReferenceRows(body []byte) ([]byte, error) {
	if d.reference == nil {
		return nil, d.CheckReference(nil)
	}
	out := make([]byte, 0, len(body))
	for line := range bytes.Lines(body) {
		row := bytes.TrimSuffix(line, []byte("\n"))
		r := reducer{scanner: scanner{row: row}, out: out}
		if err := r.object(d.reference.root); err != nil {
			return nil, &RowError{Datasource: d.Name, Path: "$", Got: err.Error(), Want: "a row"}
		}
		out = append(r.out, line[len(row):]...)
	}
	return out, nil
}

// reducer is one pass over one row, from which it copies what a plan has.
type reducer struct {
	scanner
	out []byte
}

func (r *reducer) object(n *node) error {
	if err := r.take('{'); err != nil {
		return err
	}
	r.out = append(r.out, '{')
	if r.take('}') == nil {
		r.out = append(r.out, '}')
		return nil
	}
	for kept := false; ; {
		if _, err := r.next(); err != nil {
			return err
		}
		start := r.pos
		key, err := r.text()
		if err != nil {
			return err
		}
		child := n.children[string(key)]
		if child != nil {
			if kept {
				r.out = append(r.out, ',')
			}
			kept = true
			r.out = append(r.out, r.row[start:r.pos]...)
			r.out = append(r.out, ':')
		}
		if err := r.take(':'); err != nil {
			return err
		}
		if err := r.value(child); err != nil {
			return err
		}
		if r.take(',') == nil {
			continue
		}
		if err := r.take('}'); err != nil {
			return err
		}
		r.out = append(r.out, '}')
		return nil
	}
}

// value takes a value, and copies it if it has a node.
func (r *reducer) value(n *node) error {
	if n != nil && n.column == nil {
		return r.object(n)
	}
	if _, err := r.next(); err != nil {
		return err
	}
	start := r.pos
	if err := r.skip(); err != nil {
		return err
	}
	if n != nil {
		r.out = append(r.out, r.row[start:r.pos]...)
	}
	return nil
}

// skip takes a value of any kind. What is wrong inside of it is for Check to say.
func (r *reducer) skip() error {
	for depth := 0; ; {
		switch c := r.peek(); c {
		case 0:
			return errEnd
		case '"':
			if _, err := r.text(); err != nil {
				return err
			}
		case '{', '[':
			depth++
			r.pos++
		case '}', ']':
			depth--
			r.pos++
		default:
			for c != 0 && bytes.IndexByte(delimiters, c) < 0 {
				r.pos++
				c = r.peek()
			}
			if depth > 0 && bytes.IndexByte(between, c) >= 0 && c != 0 {
				r.pos++
			}
		}
		if depth <= 0 {
			return nil
		}
	}
}

var (
	between    = []byte(",: \t")
	delimiters = []byte(",: \t{}[]\"")
)
