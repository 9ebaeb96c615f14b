package schema

import (
	"fmt"
	"slices"
)

// maxNodes bounds the keys of one datasource, so that which of them a row had
// fits into a fixed array and checking allocates nothing.
const maxNodes = 256

// plan is a tree of JSON keys, made once a datasource and walked for each row.
type plan struct {
	root     *node
	nodes    []*node
	required seen // the columns that a row must have
}

// node is one key: a column, or an object that holds further keys.
type node struct {
	index    int
	path     string
	children map[string]*node // nil for a column
	column   *Column          // nil for an object
	rule     *rule            // nil where the type says it all
	want     string

	quoted string // the key as it stands in a row, with its colon
	// first is the key that an object begins with, next the one that follows
	// this one, as far as the last row tells: see quick.
	first, next guess
}

// seen marks nodes by index.
type seen [maxNodes / 64]uint64

func (s *seen) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *seen) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// covers reports whether all that others marks is marked.
func (s *seen) covers(others *seen) bool {
	for i := range s {
		if others[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

func compile(columns []Column, rules map[string]rule) (*plan, error) {
	p := &plan{root: &node{path: "$", children: make(map[string]*node), want: "an object"}}
	for i := range columns {
		if err := p.add(&columns[i], rules); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plan) add(c *Column, rules map[string]rule) error {
	at := p.root
	for i, key := range c.Path {
		child, known := at.children[key]
		last := i == len(c.Path)-1
		switch {
		case !known && len(p.nodes) == maxNodes:
			return fmt.Errorf("more than %d keys", maxNodes)
		case !known:
			child = &node{index: len(p.nodes), path: at.path + "." + key, want: "an object", quoted: `"` + key + `":`}
			if !last {
				child.children = make(map[string]*node)
			}
			p.nodes = append(p.nodes, child)
			at.children[key] = child
		case last || child.column != nil:
			return fmt.Errorf("column %s: path %s is taken", c.Name, child.path)
		}
		at = child
	}
	at.column, at.want = c, c.Type.want()
	if c.Default == "" {
		p.required.add(at.index)
	}
	if r, ok := rules[c.Name]; ok {
		at.rule, at.want = &r, r.want
	}
	if c.Type.Nullable || c.Default != "" {
		at.want += " or null"
	}
	return nil
}

// missing returns the first column that a row must have and did not.
func (p *plan) missing(s *seen) *node {
	i := slices.IndexFunc(p.nodes, func(n *node) bool {
		return p.required.has(n.index) && !s.has(n.index)
	})
	if i < 0 {
		return nil
	}
	return p.nodes[i]
}
