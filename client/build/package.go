package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

// writePackage makes the directory what `npm pack` takes: the package once as
// ES modules and once as CommonJS, each with types. The two directories say by
// a package.json of their own which they are; so the same types serve both.
func writePackage(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, format := range []struct {
		dir, kind string
		format    api.Format
	}{
		{"esm", "module", api.FormatESModule},
		{"cjs", "commonjs", api.FormatCommonJS},
	} {
		out := filepath.Join(dir, format.dir)
		if err := bundlePackage(out, format.format); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, "package.json"), fmt.Appendf(nil, "{\"type\":%q,\"sideEffects\":false}\n", format.kind), 0o644); err != nil {
			return err
		}
		if err := writeTypes(out); err != nil {
			return err
		}
	}
	for _, name := range []string{"package.json", "README.md", "../LICENSE"} {
		b, err := os.ReadFile(filepath.Join(client, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundlePackage bundles index and react, readable: who bundles a page minifies
// it. React's part takes the session from index, so that a page that has both
// loads it once.
func bundlePackage(dir string, format api.Format) error {
	for _, entry := range []struct {
		name, banner string
	}{
		{"index", ""},
		// Frameworks that render on a server must know that hooks are for browsers.
		{"react", `"use client";`},
	} {
		res := api.Build(api.BuildOptions{
			EntryPoints: []string{filepath.Join(client, "src", entry.name+".ts")},
			Bundle:      true,
			External:    []string{"react"},
			Plugins:     []api.Plugin{compiledIndex},
			Format:      format,
			Define:      decorates(true),
			Banner:      map[string]string{"js": entry.banner},
			Target:      api.ES2020,
			Outdir:      dir,
			Write:       true,
			LogLevel:    api.LogLevelWarning,
		})
		if len(res.Errors) > 0 {
			return errors.New("the package has errors")
		}
	}
	return nil
}

// compiledIndex names index as it lies in the package.
var compiledIndex = api.Plugin{Name: "compiled-index", Setup: func(b api.PluginBuild) {
	b.OnResolve(api.OnResolveOptions{Filter: `^\./index\.ts$`}, func(api.OnResolveArgs) (api.OnResolveResult, error) {
		return api.OnResolveResult{Path: "./index.js", External: true}, nil
	})
}}

// writeTypes writes the declarations of index and react, and of what they name.
func writeTypes(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tsc := exec.Command("node_modules/.bin/tsc", "--project", "tsconfig.types.json", "--outDir", dir)
	tsc.Dir = client
	if out, err := tsc.CombinedOutput(); err != nil {
		return fmt.Errorf("tsc: %w (npm ci in client installs it)\n%s", err, out)
	}
	return nil
}

// bundlePage bundles a page's script with the packages that are installed where
// it lies; the tests do to the package what sites do.
func bundlePage(entry, output string) error {
	res := api.Build(api.BuildOptions{
		EntryPoints: []string{entry},
		Bundle:      true,
		Format:      api.FormatIIFE,
		JSX:         api.JSXAutomatic,
		JSXDev:      true,
		Define:      map[string]string{"process.env.NODE_ENV": `"development"`},
		Target:      api.ES2021,
		Outfile:     output,
		Write:       true,
		LogLevel:    api.LogLevelWarning,
	})
	if len(res.Errors) > 0 {
		return fmt.Errorf("%s has errors", entry)
	}
	return nil
}
