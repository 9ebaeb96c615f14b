package engine

import (
	"fmt"
	"regexp"
	"strings"
)

// Render renders a node's template for one request's parameters, as far as the
// project's pipes use Tinybird's templating language: {{ }} with the typed
// functions of functions.go, and {% if %}, {% elif %}, {% else %}, {% end %}
// over defined(), not, and, or, == and !=. Anything else is an error, so that a
// pipe cannot use what nobody has tested here.
func Render(template string, parameters map[string]string) (string, error) {
	r := renderer{parameters: parameters}
	rest := template
	for {
		at := strings.Index(rest, "{")
		for at >= 0 && !strings.HasPrefix(rest[at:], "{{") && !strings.HasPrefix(rest[at:], "{%") {
			next := strings.Index(rest[at+1:], "{")
			if next < 0 {
				at = -1
			} else {
				at += 1 + next
			}
		}
		if at < 0 {
			r.text(rest)
			break
		}
		r.text(rest[:at])
		closing := map[byte]string{'{': "}}", '%': "%}"}[rest[at+1]]
		inner, after, ok := strings.Cut(rest[at+2:], closing)
		if !ok {
			return "", fmt.Errorf("a %s that does not end", rest[at:at+2])
		}
		var err error
		if closing == "}}" {
			err = r.expression(inner)
		} else {
			err = r.statement(strings.TrimSpace(inner))
		}
		if err != nil {
			return "", err
		}
		rest = after
	}
	if len(r.branches) != 0 {
		return "", fmt.Errorf("an {%% if %%} without its {%% end %%}")
	}
	return r.out.String(), nil
}

type renderer struct {
	parameters map[string]string
	out        strings.Builder
	branches   []branch
}

// branch is an {% if %} that is open.
type branch struct {
	live  bool // what is in the branch goes out
	taken bool // this branch or an earlier one was the one
	outer bool // what stands around it goes out
}

func (r *renderer) live() bool {
	return len(r.branches) == 0 || r.branches[len(r.branches)-1].live
}

func (r *renderer) text(s string) {
	if r.live() {
		r.out.WriteString(s)
	}
}

func (r *renderer) expression(source string) error {
	if !r.live() {
		return nil
	}
	v, err := evaluate(source, r.parameters)
	if err != nil {
		return fmt.Errorf("{{%s}}: %w", source, err)
	}
	sql, err := v.sql()
	if err != nil {
		return fmt.Errorf("{{%s}}: %w", source, err)
	}
	r.out.WriteString(sql)
	return nil
}

func (r *renderer) statement(source string) error {
	keyword, condition, _ := strings.Cut(source, " ")
	if keyword == "if" {
		outer := r.live()
		r.branches = append(r.branches, branch{outer: outer})
		return r.decide(condition)
	}
	if len(r.branches) == 0 {
		return fmt.Errorf("{%% %s %%} without an {%% if %%}", source)
	}
	switch keyword {
	case "elif":
		return r.decide(condition)
	case "else":
		return r.decide("True")
	case "end":
		r.branches = r.branches[:len(r.branches)-1]
		return nil
	}
	return fmt.Errorf("{%% %s %%} is not a statement that is known here", source)
}

// decide says whether the branch that begins here goes out.
func (r *renderer) decide(condition string) error {
	b := &r.branches[len(r.branches)-1]
	b.live = false
	if !b.outer || b.taken {
		return nil
	}
	v, err := evaluate(condition, r.parameters)
	if err != nil {
		return fmt.Errorf("{%% if %s %%}: %w", condition, err)
	}
	b.live = v.truth()
	b.taken = b.live
	return nil
}

// tokens of expressions: names, strings, numbers, and marks.
var tokens = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*|'[^'\\]*'|"[^"\\]*"|-?[0-9]+(?:\.[0-9]+)?|==|!=|[(),=]|\S`)

// parser evaluates an expression while it reads it.
type parser struct {
	tokens     []string
	parameters map[string]string
}

func evaluate(source string, parameters map[string]string) (value, error) {
	p := &parser{tokens: tokens.FindAllString(source, -1), parameters: parameters}
	v, err := p.or()
	if err != nil {
		return value{}, err
	}
	if len(p.tokens) != 0 {
		return value{}, fmt.Errorf("%q is not understood here", p.tokens[0])
	}
	return v, nil
}

func (p *parser) take(token string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != token {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) or() (value, error) {
	left, err := p.and()
	for err == nil && p.take("or") {
		var right value
		right, err = p.and()
		if !left.truth() {
			left = right
		}
	}
	return left, err
}

func (p *parser) and() (value, error) {
	left, err := p.not()
	for err == nil && p.take("and") {
		var right value
		right, err = p.not()
		if left.truth() {
			left = right
		}
	}
	return left, err
}

func (p *parser) not() (value, error) {
	if p.take("not") {
		v, err := p.not()
		return boolean(!v.truth()), err
	}
	left, err := p.atom()
	for _, operator := range []string{"==", "!="} {
		if err == nil && p.take(operator) {
			var right value
			right, err = p.atom()
			equal := left.kind != missing && right.kind != missing && left.text == right.text
			return boolean(equal == (operator == "==")), err
		}
	}
	return left, err
}

func (p *parser) atom() (value, error) {
	if len(p.tokens) == 0 {
		return value{}, fmt.Errorf("the expression ends too soon")
	}
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	switch c := token[0]; {
	case token == "(":
		v, err := p.or()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a ( that does not end")
		}
		return v, err
	case token == "True" || token == "False":
		return boolean(token == "True"), nil
	case len(token) > 1 && (c == '\'' || c == '"'):
		return value{kind: text, text: token[1 : len(token)-1]}, nil
	case c >= '0' && c <= '9' || c == '-' && len(token) > 1:
		return value{kind: number, text: token}, nil
	case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		if p.take("(") {
			return p.call(token)
		}
		given, ok := p.parameters[token]
		if !ok {
			return value{kind: missing, text: token}, nil
		}
		return value{kind: text, text: given}, nil
	}
	return value{}, fmt.Errorf("%q is not understood here", token)
}

// call reads the arguments of a function, positional ones first, and calls it.
func (p *parser) call(name string) (value, error) {
	function, ok := functions[name]
	if !ok {
		return value{}, fmt.Errorf("%s() is not a function that is known here", name)
	}
	a := arguments{named: make(map[string]value)}
	for !p.take(")") {
		if len(a.positional)+len(a.named) > 0 && !p.take(",") {
			return value{}, fmt.Errorf("%s(): no comma between arguments", name)
		}
		key := ""
		if len(p.tokens) > 2 && p.tokens[1] == "=" {
			key = p.tokens[0]
			p.tokens = p.tokens[2:]
		}
		v, err := p.or()
		if err != nil {
			return value{}, err
		}
		if key != "" {
			a.named[key] = v
		} else {
			a.positional = append(a.positional, v)
		}
	}
	v, err := function(a)
	if err != nil {
		return value{}, fmt.Errorf("%s(): %w", name, err)
	}
	return v, nil
}
