package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddytest"

	_ "github.com/firebuzz/caddy-sessionctx/caddymodule"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is a Caddyfile whose JSON is written down in testdata/adapt.
type golden struct {
	name      string // of the golden file, without .json
	caddyfile string
	// unloadable are lines that need a file: it is loaded without them.
	unloadable []string
}

// goldens are all Caddyfiles that we show to anybody.
func goldens(t *testing.T) []golden {
	t.Helper()
	gs := []golden{
		{name: "example", caddyfile: read(t, "../Caddyfile.example")},
		{
			name:       "everything",
			caddyfile:  read(t, "testdata/adapt/everything.caddyfile"),
			unloadable: []string{"geo mmdb /path/city.mmdb", "datacenters /path/datacenters.txt", "corporate_proxies /path/proxies.txt"},
		},
	}
	blocks := readmeBlocks(t)
	if len(blocks) == 0 {
		t.Fatal("README.md has no block ```caddyfile")
	}
	return append(gs, blocks...)
}

var (
	headingPattern = regexp.MustCompile("^#+ +(.+)$")
	slugPattern    = regexp.MustCompile("[^a-z0-9]+")
)

// readmeBlocks are the fenced blocks of README.md that say they are
// Caddyfiles, named for the heading that they stand under.
func readmeBlocks(t *testing.T) []golden {
	t.Helper()
	var out []golden
	var block *strings.Builder
	heading, inCode, count := "", false, map[string]int{}
	for line := range strings.Lines(read(t, "../README.md")) {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case block != nil && text == "```":
			name := "readme-" + strings.Trim(slugPattern.ReplaceAllString(strings.ToLower(heading), "-"), "-")
			if count[name]++; count[name] > 1 {
				name = fmt.Sprintf("%s-%d", name, count[name])
			}
			out = append(out, golden{name: name, caddyfile: block.String()})
			block = nil
		case block != nil:
			block.WriteString(line)
		case text == "```caddyfile":
			block = &strings.Builder{}
		case strings.HasPrefix(text, "```"):
			inCode = !inCode
		case !inCode:
			if m := headingPattern.FindStringSubmatch(text); m != nil {
				heading = m[1]
			}
		}
	}
	if block != nil {
		t.Fatalf("README.md: the block under %q does not end", heading)
	}
	return out
}

func TestShownCaddyfilesAdaptToTheirGoldenJSON(t *testing.T) {
	known := map[string]bool{}
	for _, g := range goldens(t) {
		path := filepath.Join("testdata/adapt", g.name+".json")
		known[path] = true
		t.Run(g.name, func(t *testing.T) {
			if *update {
				if err := os.WriteFile(path, append(indent(t, adapt(t, g.caddyfile)), '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			caddytest.AssertAdapt(t, g.caddyfile, "caddyfile", strings.TrimSuffix(read(t, path), "\n"))
		})
	}
	files, err := filepath.Glob("testdata/adapt/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if known[path] {
			continue
		}
		if *update {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			continue
		}
		t.Errorf("%s belongs to no Caddyfile that is shown: remove it, or run go test -run Golden -update", path)
	}
}

func TestShownCaddyfilesAreFormatted(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			if want := string(caddyfile.Format([]byte(g.caddyfile))); want != g.caddyfile {
				t.Errorf("caddy fmt would change it to\n%s", want)
			}
		})
	}
}

// Loading is what `caddy validate` does: it must succeed, and must not leave a
// file behind, since it may run as another user beside the server.
func TestShownCaddyfilesLoadWithoutMakingAFile(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			text := g.caddyfile
			for _, line := range g.unloadable {
				if !strings.Contains(text, line+"\n") {
					t.Fatalf("no line %q to leave out", line)
				}
				text = strings.Replace(text, line+"\n", "\n", 1)
			}
			home := ownHome(t)
			t.Setenv("TINYBIRD_TOKEN", "p.test")
			t.Setenv("KAFKA_PASSWORD", "secret")
			if err := validate(t, text); err != nil {
				t.Fatal(err)
			}
			if made := filesIn(t, home); len(made) > 0 {
				t.Errorf("validating made %q", made)
			}
		})
	}
}

// ownHome gives the test Caddy directories of its own.
func ownHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", filepath.Join(home, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	before := caddy.DefaultStorage.Path
	caddy.DefaultStorage.Path = caddy.AppDataDir()
	t.Cleanup(func() { caddy.DefaultStorage.Path = before })
	return home
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func validate(t *testing.T, text string) error {
	t.Helper()
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapt(t, text), &cfg); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(cfg)
}

func adapt(t *testing.T, text string) []byte {
	t.Helper()
	got, err := tryAdapt(text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryAdapt(text string) ([]byte, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	if adapter == nil {
		return nil, errors.New("no Caddyfile adapter")
	}
	got, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return got, err
}

func indent(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
