// Package documents holds HTML documents that others wrote: the hard ones of
// html5lib's tests, and real pages. Both come from the cache of Go's modules.
package documents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Document is a whole HTML document.
type Document struct {
	Name string
	HTML string
	// Scripting has the values of the parser's scripting flag for which the
	// document is of interest.
	Scripting []bool
}

// HTML5Lib are the whole documents of html5lib's tree construction tests, as
// they come with golang.org/x/net. Their names are those of the files, with the
// number of the test.
func HTML5Lib(tb testing.TB) []Document {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/net").Output()
	if err != nil {
		tb.Fatalf("asking go for the directory of golang.org/x/net: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "html", "testdata")
	var documents []Document
	for _, pattern := range []string{"go/*.dat", "html5lib-tests/tree-construction/*.dat", "html5lib-tests/tree-construction/*/*.dat"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			tb.Fatalf("golang.org/x/net has no %s in %s (%v): its tests have moved", pattern, dir, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				tb.Fatal(err)
			}
			name, err := filepath.Rel(dir, file)
			if err != nil {
				tb.Fatal(err)
			}
			name = strings.TrimPrefix(filepath.ToSlash(name), "html5lib-tests/tree-construction/")
			documents = append(documents, parseDat(name, string(b))...)
		}
	}
	return documents
}

// parseDat reads a file of tests; those of fragments are left out.
func parseDat(name, text string) (documents []Document) {
	number := 0
	for part := range strings.SplitSeq("\n"+text, "\n#data\n") {
		doc, rest, found := strings.Cut("\n"+part, "\n#errors\n")
		if !found {
			continue
		}
		number++
		conditions, _, _ := strings.Cut(rest, "\n#document\n")
		lines := strings.Split(conditions, "\n")
		if slices.Contains(lines, "#document-fragment") {
			continue
		}
		scripting := []bool{true, false}
		switch {
		case slices.Contains(lines, "#script-on"):
			scripting = []bool{true}
		case slices.Contains(lines, "#script-off"):
			scripting = []bool{false}
		}
		documents = append(documents, Document{
			Name:      fmt.Sprintf("%s:%d", name, number),
			HTML:      strings.TrimPrefix(doc, "\n"),
			Scripting: scripting,
		})
	}
	return documents
}
