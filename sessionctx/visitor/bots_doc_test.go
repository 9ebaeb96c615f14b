package visitor

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// docs/bots.md explains each number: it has a row for every constant, named as
// the constant is, and no other.
func TestTheDocumentHasEveryNumber(t *testing.T) {
	text, err := os.ReadFile("../../docs/bots.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	table := ""
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			table = ""
		case strings.Contains(line, "---"):
		case table == "":
			table, _, _ = strings.Cut(strings.TrimSpace(cells[0]), " ")
		case table == "score" || table == "penalty":
			rows[table+" "+strings.TrimSpace(cells[0])] = strings.TrimSpace(cells[1])
		}
	}

	file, err := parser.ParseFile(token.NewFileSet(), "bot.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			name, ok := documented(v.Names[0].Name)
			if !ok {
				continue
			}
			constants++
			value := v.Values[0].(*ast.BasicLit).Value
			if rows[name] != value {
				t.Errorf("docs/bots.md has %q for %q, it is %s", rows[name], name, value)
			}
			delete(rows, name)
		}
	}
	if constants < 18 {
		t.Errorf("only %d constants found", constants)
	}
	for name := range rows {
		t.Errorf("docs/bots.md explains %q, which is no more", name)
	}
}

// documented is how the document calls a constant: penaltyNoHints is the row
// "no hints" of the penalties.
func documented(constant string) (string, bool) {
	words := strings.FieldsFunc(regexp.MustCompile(`[A-Z]`).ReplaceAllString(constant, " $0"), unicode.IsSpace)
	name := strings.ToLower(strings.Join(words, " "))
	if rest, ok := strings.CutSuffix(name, " score"); ok {
		name = "score " + strings.TrimSuffix(rest, " score")
	}
	return name, strings.HasPrefix(name, "score ") || strings.HasPrefix(name, "penalty ")
}

// It also names every crawler that can be verified, and the form of its hosts.
func TestTheDocumentHasEveryCrawler(t *testing.T) {
	text, err := os.ReadFile("../../docs/bots.md")
	if err != nil {
		t.Fatal(err)
	}
	lower := strings.ToLower(string(text))
	for _, c := range crawlers {
		for _, w := range c.words {
			if !strings.Contains(lower, "`"+w+"`") {
				t.Errorf("docs/bots.md does not name %s", w)
			}
		}
		for _, h := range c.hosts {
			if form := fmt.Sprintf("`%s…%s`", h.prefix, h.domain); !strings.Contains(lower, form) {
				t.Errorf("docs/bots.md does not name %s", form)
			}
		}
	}
	for _, number := range []string{"4,096", "256", "1,000,000", fmt.Sprintf("more than %d versions", maxVersionGap)} {
		if !strings.Contains(string(text), number) {
			t.Errorf("docs/bots.md does not say %s", number)
		}
	}
	if verifyAnswers != 4096 || verifyQueue != 256 || maxRanges != 1_000_000 {
		t.Error("docs/bots.md has other bounds")
	}
}
