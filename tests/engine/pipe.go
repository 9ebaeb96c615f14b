package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Project is the pipes of a Tinybird project, by name.
type Project struct {
	pipes map[string]*Pipe
}

// Pipe is one parsed .pipe file.
type Pipe struct {
	Name        string
	Description string
	Nodes       []Node
	// Endpoint says that the pipe is published; others are read by pipes only.
	Endpoint bool
	// Tokens are the names of tokens that may read the endpoint.
	Tokens []string
}

// Node is one query of a pipe. The last node's result is the pipe's.
type Node struct {
	Name        string
	Description string
	// SQL is a template if Template, else plain.
	SQL      string
	Template bool
}

// LoadProject reads the pipes in the folders pipes and endpoints of dir.
func LoadProject(dir string) (*Project, error) {
	p := &Project{pipes: make(map[string]*Pipe)}
	for _, folder := range []string{"pipes", "endpoints"} {
		files, err := filepath.Glob(filepath.Join(dir, folder, "*.pipe"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			name := strings.TrimSuffix(filepath.Base(file), ".pipe")
			pipe, err := parsePipe(name, string(text))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if pipe.Endpoint != (folder == "endpoints") {
				return nil, fmt.Errorf("%s: endpoints are in the folder endpoints, and nothing else is", file)
			}
			p.pipes[name] = pipe
		}
	}
	return p, nil
}

// Endpoints returns the names of the published pipes, sorted.
func (p *Project) Endpoints() []string {
	var names []string
	for name, pipe := range p.pipes {
		if pipe.Endpoint {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// parsePipe reads a pipe file: settings that begin at the margin, blocks that
// are indented.
func parsePipe(name, text string) (*Pipe, error) {
	pipe := &Pipe{Name: name}
	var node *Node
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.TrimSpace(line) == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			return nil, fmt.Errorf("line %d: indented, but in no block", i+1)
		}
		keyword, value, _ := strings.Cut(line, " ")
		value = strings.TrimSpace(value)
		block := ""
		if value == ">" {
			start := i + 1
			for i+1 < len(lines) && (strings.TrimSpace(lines[i+1]) == "" || lines[i+1][0] == ' ' || lines[i+1][0] == '\t') {
				i++
			}
			block = strings.TrimSpace(strings.Join(lines[start:i+1], "\n"))
		}
		switch keyword {
		case "DESCRIPTION":
			if node == nil {
				pipe.Description = block
			} else {
				node.Description = block
			}
		case "TOKEN":
			token, scope, _ := strings.Cut(value, " ")
			if scope != "READ" {
				return nil, fmt.Errorf("line %d: a pipe's token has the scope READ", i+1)
			}
			pipe.Tokens = append(pipe.Tokens, token)
		case "NODE":
			pipe.Nodes = append(pipe.Nodes, Node{Name: value})
			node = &pipe.Nodes[len(pipe.Nodes)-1]
		case "SQL":
			if node == nil || block == "" {
				return nil, fmt.Errorf("line %d: SQL without a node, or empty", i+1)
			}
			node.SQL, node.Template = strings.CutPrefix(block, "%")
		case "TYPE":
			if !strings.EqualFold(value, "endpoint") {
				return nil, fmt.Errorf("line %d: type %q is not one that this project uses", i+1, value)
			}
			pipe.Endpoint = true
		default:
			return nil, fmt.Errorf("line %d: unknown keyword %q", i+1, keyword)
		}
	}
	if len(pipe.Nodes) == 0 {
		return nil, fmt.Errorf("no NODE")
	}
	return pipe, nil
}

// reads finds what a query reads from: tables, nodes and pipes by name.
var reads = regexp.MustCompile(`(?i)\b(FROM|JOIN)(\s+)([a-z_][a-z0-9_]*)`)

// Compile renders an endpoint for one request's parameters into one query. A
// node becomes a common table expression, another pipe all of its nodes;
// parameters reach those by their names, as on Tinybird.
func (p *Project) Compile(endpoint string, parameters map[string]string) (string, error) {
	pipe, ok := p.pipes[endpoint]
	if !ok || !pipe.Endpoint {
		return "", fmt.Errorf("there is no endpoint %s", endpoint)
	}
	c := compiler{project: p, parameters: parameters, done: make(map[string]bool)}
	last, err := c.pipe(pipe)
	if err != nil {
		return "", err
	}
	return "WITH " + strings.Join(c.expressions, ",\n") + "\nSELECT * FROM " + last, nil
}

type compiler struct {
	project     *Project
	parameters  map[string]string
	done        map[string]bool // pipes whose expressions are there
	expressions []string
}

// pipe adds a pipe's nodes and returns the last one's name as an expression.
func (c *compiler) pipe(pipe *Pipe) (string, error) {
	name := func(node string) string { return pipe.Name + "__" + node }
	last := name(pipe.Nodes[len(pipe.Nodes)-1].Name)
	if c.done[pipe.Name] {
		return last, nil
	}
	c.done[pipe.Name] = true
	known := make(map[string]bool)
	for _, node := range pipe.Nodes {
		sql := node.SQL
		if node.Template {
			var err error
			if sql, err = Render(sql, c.parameters); err != nil {
				return "", fmt.Errorf("%s, node %s: %w", pipe.Name, node.Name, err)
			}
		}
		var failed error
		sql = reads.ReplaceAllStringFunc(sql, func(match string) string {
			parts := reads.FindStringSubmatch(match)
			table := parts[3]
			other, isPipe := c.project.pipes[table]
			switch {
			case known[table]:
				table = name(table)
			case isPipe:
				var err error
				if table, err = c.pipe(other); err != nil {
					failed = err
					return match
				}
			}
			return parts[1] + parts[2] + table
		})
		if failed != nil {
			return "", failed
		}
		c.expressions = append(c.expressions, name(node.Name)+" AS (\n"+strings.TrimSpace(sql)+"\n)")
		known[node.Name] = true
	}
	return last, nil
}
