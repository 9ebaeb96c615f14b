package schema

import (
	"fmt"
	"strings"
)

// Parse reads a datasource file. It knows the part of the format that landing
// datasources use: DESCRIPTION and SCHEMA blocks, TOKEN lines, ENGINE settings.
// Anything else is an error, so that a typing mistake cannot go unnoticed until
// a deployment.
//
// The result checks types only; the vocabularies belong to Load.
func Parse(name string, text []byte) (*Datasource, error) {
	d := &Datasource{Name: name}
	if err := d.read(string(text)); err != nil {
		return nil, fmt.Errorf("parsing datasource %s: %w", name, err)
	}
	if err := d.bind(nil, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// read goes through the file line by line. A block begins with "NAME >" and
// goes on for as long as lines are indented or blank.
func (d *Datasource) read(text string) error {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	seen := make(map[string]bool)
	for i := 0; i < len(lines); {
		line := strings.TrimRight(lines[i], " \t")
		if line == "" || line[0] == '#' {
			i++
			continue
		}
		at := i + 1
		keyword, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if keyword != "TOKEN" {
			if seen[keyword] {
				return fmt.Errorf("line %d: %s a second time", at, keyword)
			}
			seen[keyword] = true
		}
		i++
		if rest == ">" {
			start := i
			for i < len(lines) && (strings.TrimSpace(lines[i]) == "" || lines[i][0] == ' ' || lines[i][0] == '\t') {
				i++
			}
			if err := d.block(keyword, lines[start:i], start+1); err != nil {
				return err
			}
			continue
		}
		if err := d.setting(keyword, rest); err != nil {
			return fmt.Errorf("line %d: %w", at, err)
		}
	}
	if len(d.Columns) == 0 {
		return fmt.Errorf("no SCHEMA")
	}
	return nil
}

// block takes a DESCRIPTION or SCHEMA block, whose first line is number at.
func (d *Datasource) block(keyword string, lines []string, at int) error {
	switch keyword {
	case "DESCRIPTION":
		trimmed := make([]string, len(lines))
		for i, line := range lines {
			trimmed[i] = strings.TrimSpace(line)
		}
		d.Description = strings.TrimSpace(strings.Join(trimmed, "\n"))
		return nil
	case "SCHEMA":
		return d.schema(lines, at)
	default:
		return fmt.Errorf("line %d: unknown block %s", at-1, keyword)
	}
}

// schema takes the columns: one a line, each but the last with a comma.
func (d *Datasource) schema(lines []string, at int) error {
	names := make(map[string]bool)
	open := false
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(d.Columns) > 0 && !open {
			return fmt.Errorf("line %d: no comma before this column", at+i)
		}
		line, open = strings.CutSuffix(line, ",")
		c, err := parseColumn(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", at+i, err)
		}
		if names[c.Name] {
			return fmt.Errorf("line %d: column %s a second time", at+i, c.Name)
		}
		names[c.Name] = true
		d.Columns = append(d.Columns, c)
	}
	if open {
		return fmt.Errorf("line %d: a comma after the last column", at+len(lines)-1)
	}
	return nil
}

// parseColumn reads: `name` Type `json:$.path` [DEFAULT expression]
func parseColumn(line string) (Column, error) {
	parts := strings.SplitN(line, "`", 5)
	if len(parts) != 5 || parts[0] != "" {
		return Column{}, fmt.Errorf("column %q is not of the form `name` Type `json:$.path`", line)
	}
	c := Column{Name: parts[1]}
	if !isName(c.Name) {
		return Column{}, fmt.Errorf("column name %q is not a plain name", c.Name)
	}
	var err error
	if c.Type, err = parseType(strings.TrimSpace(parts[2])); err != nil {
		return Column{}, fmt.Errorf("column %s: %w", c.Name, err)
	}
	path, ok := strings.CutPrefix(parts[3], "json:$.")
	if !ok {
		return Column{}, fmt.Errorf("column %s: path %q has no json:$. before it", c.Name, parts[3])
	}
	c.Path = strings.Split(path, ".")
	for _, key := range c.Path {
		if !isName(key) {
			return Column{}, fmt.Errorf("column %s: path %q is not made of plain names", c.Name, parts[3])
		}
	}
	rest := strings.TrimSpace(parts[4])
	if rest == "" {
		return c, nil
	}
	expression, ok := strings.CutPrefix(rest, "DEFAULT ")
	if c.Default = strings.TrimSpace(expression); !ok || c.Default == "" {
		return Column{}, fmt.Errorf("column %s: %q is not a DEFAULT", c.Name, rest)
	}
	return c, nil
}

// setting takes a line that stands alone.
func (d *Datasource) setting(keyword, value string) error {
	if keyword == "TOKEN" {
		name, scope, _ := strings.Cut(value, " ")
		name, scope = strings.Trim(name, `"`), strings.TrimSpace(scope)
		if name == "" || scope != "APPEND" && scope != "READ" {
			return fmt.Errorf("a token needs a name and APPEND or READ, not %q", value)
		}
		d.Tokens = append(d.Tokens, Token{Name: name, Scope: scope})
		return nil
	}
	target := map[string]*string{
		"ENGINE":               &d.Engine,
		"ENGINE_PARTITION_KEY": &d.PartitionKey,
		"ENGINE_SORTING_KEY":   &d.SortingKey,
		"ENGINE_TTL":           &d.TTL,
	}[keyword]
	if target == nil {
		return fmt.Errorf("unknown setting %s", keyword)
	}
	if len(value) < 3 || value[0] != '"' || value[len(value)-1] != '"' {
		return fmt.Errorf("%s needs a quoted value, not %q", keyword, value)
	}
	*target = value[1 : len(value)-1]
	return nil
}

// isName reports whether s is a plain identifier.
func isName(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' {
			return false
		}
	}
	return true
}

// isAlnum reports whether c is an ASCII letter or digit.
func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
