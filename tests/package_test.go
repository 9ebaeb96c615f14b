package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// packClient builds the package, packs it, and gives the tarball. It lies in a
// directory that git ignores.
var packClient = sync.OnceValues(func() (string, error) {
	for _, step := range [][]string{
		{"build", "go", "run", ".", "package"},
		{"dist/npm", "npm", "pack", "--silent", "--offline", "--ignore-scripts"},
	} {
		cmd := exec.Command(step[1], step[2:]...)
		cmd.Dir = filepath.Join("../client", step[0])
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w (make setup installs what it needs)\n%s", step[1:], err, out)
		}
	}
	tarballs, err := filepath.Glob("../client/dist/npm/*.tgz")
	if err != nil || len(tarballs) != 1 {
		return "", fmt.Errorf("npm pack made %q: %v", tarballs, err)
	}
	return filepath.Abs(tarballs[0])
})

// reacts are the versions that the package is for, by the node_modules that
// hold them.
var reacts = map[string]string{"18": "package/node_modules", "19": "../client/node_modules"}

// project is a directory in which the tarball is installed, and a React.
func project(t *testing.T, react string) string {
	t.Helper()
	tarball, err := packClient()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "package.json"), `{"name": "site", "private": true}`)
	runIn(t, dir, "npm", "install", "--offline", "--no-audit", "--no-fund", "--cache", filepath.Join(dir, "cache"), tarball)
	for _, name := range []string{"react", "react-dom", "scheduler", "loose-envify", "js-tokens"} {
		from := filepath.Join(reacts[react], name)
		if _, err := os.Stat(from); err != nil && react == "19" {
			continue // the last two are 18's alone
		}
		if err := os.CopyFS(filepath.Join(dir, "node_modules", name), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runIn runs a command in the directory and gives what it printed.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPackageOnServers: Node.js takes the package by import and by require, and
// a server renders with it, in both versions of React.
func TestPackageOnServers(t *testing.T) {
	t.Parallel()
	for react := range reacts {
		t.Run("React "+react, func(t *testing.T) {
			t.Parallel()
			dir := project(t, react)
			write(t, filepath.Join(dir, "server.test.mjs"), mustRead(t, "package/server.test.mjs"))
			out := runIn(t, dir, "node", "--test", "server.test.mjs")
			if !strings.Contains(out, "React "+react+".") || !strings.Contains(out, "pass 4") {
				t.Errorf("not all tests ran, with React %s:\n%s", react, out)
			}
		})
	}
}

// TestPackageTypes: TypeScript finds the types in each way to resolve modules,
// from ES modules and from CommonJS.
func TestPackageTypes(t *testing.T) {
	t.Parallel()
	dir := project(t, "19")
	installTypes(t, dir)
	for _, extension := range []string{"mts", "cts", "ts"} {
		write(t, filepath.Join(dir, "types."+extension), mustRead(t, "package/types.mts"))
	}
	tsc := absolute(t, "../client/node_modules/.bin/tsc")
	for resolution, module := range map[string]string{"bundler": "esnext", "node16": "node16", "nodenext": "nodenext"} {
		files := []string{"types.mts", "types.cts"}
		if resolution == "bundler" {
			files = []string{"types.ts"}
		}
		// Not skipLibCheck: the declarations themselves are checked.
		runIn(t, dir, tsc, append([]string{"--noEmit", "--strict", "--ignoreConfig", "--types", "", "--module", module, "--moduleResolution", resolution}, files...)...)
	}
}

// installTypes puts React's types into the project.
func installTypes(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"@types/react", "csstype"} {
		if err := os.CopyFS(filepath.Join(dir, "node_modules", name), os.DirFS(filepath.Join("../client/node_modules", name))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPackageIsSound asks the programs that know what consumers trip over.
func TestPackageIsSound(t *testing.T) {
	t.Parallel()
	tarball, err := packClient()
	if err != nil {
		t.Fatal(err)
	}
	bin := absolute(t, "package/node_modules/.bin")
	runIn(t, t.TempDir(), bin+"/publint", "--strict", "--pack", "false", absolute(t, "../client/dist/npm"))
	// Without Node.js 10's resolution, which knows no exports.
	runIn(t, t.TempDir(), bin+"/attw", "--profile", "node16", "--format", "ascii", tarball)
}

// TestPackageDocs: what docs/client.md shows of the package compiles.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	dir := project(t, "19")
	installTypes(t, dir)
	doc := mustRead(t, "../docs/client.md")
	var files []string
	for i, m := range regexp.MustCompile("(?s)```(tsx?)\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		name := fmt.Sprintf("example%d.%s", i, m[1])
		write(t, filepath.Join(dir, name), m[2])
		files = append(files, name)
	}
	if len(files) != 2 {
		t.Fatalf("docs/client.md has examples %q, want one in TypeScript and one with JSX", files)
	}
	tsc := absolute(t, "../client/node_modules/.bin/tsc")
	runIn(t, dir, tsc, append([]string{"--noEmit", "--strict", "--ignoreConfig", "--types", "", "--jsx", "react-jsx", "--module", "esnext", "--moduleResolution", "bundler"}, files...)...)
}
