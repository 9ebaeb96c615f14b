package documents

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The real pages are the test data of a library that finds the article in a
// page. The sum pins them; go.mod need not know them.
const (
	pagesModule = "codeberg.org/readeck/go-readability/v2@v2.1.3"
	pagesSum    = "h1:6SR63+o3nHiZT6Ntq2Px4nNd2eSfrtsDpdM4uL3id9c="
	pagesCount  = 134
)

// Pages are real pages, as their sites served them. Their names are those of
// the directories they lie in.
func Pages(tb testing.TB) []Document {
	tb.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", pagesModule)
	// Outside of any module, so that none is changed.
	cmd.Dir = tb.TempDir()
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil {
		tb.Fatalf("downloading %s: %v %s %v: is there a network, or a proxy in GOPROXY?", pagesModule, err, module.Error, jsonErr)
	}
	if module.Sum != pagesSum {
		tb.Fatalf("%s has the sum %s, want %s: it is not what was pinned", pagesModule, module.Sum, pagesSum)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, "test-pages", "*", "source.html"))
	if err != nil || len(files) != pagesCount {
		tb.Fatalf("%s has %d pages (%v), want %d", module.Dir, len(files), err, pagesCount)
	}
	pages := make([]Document, len(files))
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		pages[i] = Document{Name: filepath.Base(filepath.Dir(file)), HTML: string(b), Scripting: []bool{true}}
	}
	return pages
}
