package schema

import (
	"fmt"
	"strings"
)

// Datasource is one parsed datasource file. It is immutable.
type Datasource struct {
	// Name is the file's name without its extension.
	Name string
	// Description is the text of the DESCRIPTION block.
	Description string
	// Columns stand in the order of the file.
	Columns []Column
	// Tokens are the TOKEN lines: a name and a scope each.
	Tokens []Token
	// Engine, PartitionKey, SortingKey and TTL are the ENGINE settings, without
	// their quotes.
	Engine, PartitionKey, SortingKey, TTL string

	full      *plan
	reference *plan
}

// Column is one line of a SCHEMA block.
type Column struct {
	Name string
	// Path is the JSON path as keys: $.geo.city is ["geo", "city"].
	Path []string
	Type Type
	// Default is the expression after DEFAULT, empty if there is none. A column
	// that has one takes it for null and for a missing key.
	Default string
	// Reference says that the reference system's datasource of this name has
	// the column too.
	Reference bool
}

// JSONPath returns the path as a datasource file writes it.
func (c Column) JSONPath() string { return "$." + strings.Join(c.Path, ".") }

// Token is a TOKEN line: deploying the file makes a token of that name and
// gives it the scope.
type Token struct {
	Name  string
	Scope string
}

// Column returns the column of that name.
func (d *Datasource) Column(name string) (Column, bool) {
	for _, c := range d.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// HasReference reports whether the reference system has a datasource of this
// name, that is whether CheckReference can succeed.
func (d *Datasource) HasReference() bool { return d.reference != nil }

// bind attaches to a freshly parsed datasource what its file cannot say: which
// columns are the reference's, and what the values of columns must look like.
// It refuses names of columns that do not exist, so that neither list can
// silently fall behind the files.
func (d *Datasource) bind(reference []string, rules map[string]rule) error {
	index := make(map[string]int, len(d.Columns))
	for i, c := range d.Columns {
		index[c.Name] = i
	}
	for _, name := range reference {
		i, ok := index[name]
		if !ok {
			return fmt.Errorf("datasource %s: the reference's column %s is missing", d.Name, name)
		}
		d.Columns[i].Reference = true
	}
	for name, r := range rules {
		i, ok := index[name]
		if !ok {
			return fmt.Errorf("datasource %s: there is a rule for the unknown column %s", d.Name, name)
		}
		if family := d.Columns[i].Type.Family; family != r.family {
			return fmt.Errorf("datasource %s: the rule of column %s is for %s, the column is %s", d.Name, name, r.family, family)
		}
	}
	var err error
	if d.full, err = compile(d.Columns, rules); err != nil {
		return fmt.Errorf("datasource %s: %w", d.Name, err)
	}
	if len(reference) == 0 {
		return nil
	}
	var columns []Column
	for _, c := range d.Columns {
		if c.Reference {
			columns = append(columns, c)
		}
	}
	if d.reference, err = compile(columns, rules); err != nil {
		return fmt.Errorf("datasource %s, the reference's columns: %w", d.Name, err)
	}
	return nil
}
