package caddymodule_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What README.md lists has to be all that the code has. The lists are taken
// from the code's text: whoever adds to one is sent to the README.
func TestREADMENamesAll(t *testing.T) {
	readme := read(t, "../README.md")
	for _, list := range []struct {
		of      string
		files   string // pattern
		names   string // expression whose first group is a name
		written string // how the README writes it, %s being the name
		atLeast int
	}{
		{"routes", "api.go", `(?m)^\t"([a-z/.-]+)":\s+\{method: http\.Method`, "| `%s` | ", 10},
		{"refusals", "*.go", `(?:\brefuse\([^"\n]*|\bbusy\(|\bcode: )"([a-z_]+)"`, "`%s`", 20},
		{"metrics", "metrics*.go", `(?:counters?\(|gauge\(|\bof\(|metricsPrefix \+ )"([a-z_]+)"`, "| `%s` | ", 30},
		{"outcomes of pages", "../sessionctx/inject/reason.go", `Reason = "([a-z_]+)"`, "`%s`", 20},
		{"further outcomes", "page.go", `inject\.Reason\("([a-z_]+)"\)`, "`%s`", 4},
		{"warnings", "status.go", `Code: "([a-z_]+)"`, "`%s`", 6},
		{"findings of doctor", "doctor*.go", `(?:d\.found\(level[A-Za-z]+, |code, remedy := )"([a-z_]+)"`, "| `%s` | ", 15},
		{"variables", "variables.go", `(?:set\(|vars\[)"session\.([a-z_.]+[a-z])"`, "`%s`", 25},
		{"guest modules", "*.go", `"session_context\.(?:stores|sinks|geo)\.([a-z]+)"`, "`%s`", 6},
		{"dependencies", "../go.mod", `(?m)^\t(?:github\.com/)?([^\s]+) v[^\s]+$`, "| %s | ", 15},
	} {
		t.Run(list.of, func(t *testing.T) {
			files, err := filepath.Glob(list.files)
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, f := range files {
				if strings.HasSuffix(f, "_test.go") {
					continue
				}
				for _, m := range regexp.MustCompile(list.names).FindAllStringSubmatch(read(t, f), -1) {
					names[m[1]] = true
				}
			}
			if len(names) < list.atLeast {
				t.Errorf("only %d found, %d are known to exist: the expression no longer fits the code", len(names), list.atLeast)
			}
			for name := range names {
				if !strings.Contains(readme, strings.Replace(list.written, "%s", name, 1)) {
					t.Errorf("README.md does not name %s", name)
				}
			}
		})
	}
}

// The table of dependencies has no row that no go.mod asks for directly,
// but for what is no Go module or only brings test data.
func TestREADMENamesNoDependencyTooMany(t *testing.T) {
	nested, err := filepath.Glob("../*/*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var direct [][]string
	for _, f := range append(nested, "../go.mod") {
		direct = append(direct, regexp.MustCompile(`(?m)^(?:\t|require )(?:github\.com/)?([^\s]+) v[^\s]+$`).FindAllStringSubmatch(read(t, f), -1)...)
	}
	_, table, _ := strings.Cut(read(t, "../README.md"), "\n## Dependencies\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| ([^\s|]+) (\(npm\) )?\| (.+) \|$`).FindAllStringSubmatch(table, -1)
	if len(rows) < 20 {
		t.Fatalf("only %d rows are found", len(rows))
	}
	for _, row := range rows {
		if row[1] == "module" || row[2] != "" || strings.Contains(row[3], "test data") {
			continue
		}
		if !slices.ContainsFunc(direct, func(m []string) bool { return m[1] == row[1] }) {
			t.Errorf("README.md has a row for %s, which no go.mod asks for directly", row[1])
		}
	}
}

// Each block of options is asked for what it knows, by one that it does not.
func TestREADMENamesEveryOption(t *testing.T) {
	readme := read(t, "../README.md")
	known := regexp.MustCompile(`: known are ([a-z_, ]+), at `)
	for name, text := range map[string]string{
		"global option":       "{\n\tsession_context {\n\t\t?\n\t}\n}\n",
		"store redis":         "{\n\tsession_context {\n\t\tstore redis redis://a {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"sink file":           "{\n\tsession_context {\n\t\tsink file {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"sink tinybird":       "{\n\tsession_context {\n\t\tsink tinybird {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"sink kafka":          "{\n\tsession_context {\n\t\tsink kafka a:1 {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"outbox":              "{\n\tsession_context {\n\t\toutbox {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"bots":                "{\n\tsession_context {\n\t\tbots {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"keys":                "{\n\tsession_context {\n\t\tkeys {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"directive":           ":80 {\n\tsession_context {\n\t\t?\n\t}\n}\n",
		"consent":             ":80 {\n\tsession_context {\n\t\tconsent {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"segment":             ":80 {\n\tsession_context {\n\t\tsegment all {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"ab_test":             ":80 {\n\tsession_context {\n\t\tab_test hero {\n\t\t\t?\n\t\t}\n\t}\n}\n",
		"variant":             ":80 {\n\tsession_context {\n\t\tab_test hero {\n\t\t\tvariant a 1 {\n\t\t\t\t?\n\t\t\t}\n\t\t}\n\t}\n}\n",
		"session_context_api": ":80 {\n\tsession_context_api {\n\t\t?\n\t}\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryAdapt(text)
			if err == nil {
				t.Fatal("an unknown option is taken")
			}
			m := known.FindStringSubmatch(err.Error())
			if m == nil {
				t.Fatalf("the error names no options: %v", err)
			}
			for option := range strings.SplitSeq(m[1], ", ") {
				if !regexp.MustCompile(`(?m)^\t*` + option + `\b`).MatchString(readme) {
					if name == "session_context_api" && strings.Contains(readme, "{ "+option+" <") {
						continue
					}
					t.Errorf("README.md has no line for the option %s", option)
				}
			}
		})
	}
}

func TestREADMEShowsTheJSONOfItsFirstBlock(t *testing.T) {
	blocks := readmeBlocks(t)
	if len(blocks) == 0 {
		t.Fatal("README.md has no block ```caddyfile")
	}
	want := "```json\n" + string(indent(t, adapt(t, blocks[0].caddyfile))) + "\n```\n"
	if !strings.Contains(read(t, "../README.md"), want) {
		t.Errorf("README.md should have\n%s", want)
	}
}
