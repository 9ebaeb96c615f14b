// Command build bundles the browser runtime by esbuild:
//
//	build            writes the scripts of dist
//	build check      says whether these are what the sources give
//	build tests DIR  bundles test/*.test.ts for Node.js into DIR
//	build package    writes dist/npm, which `npm pack` takes
//	build page ENTRY FILE
//	                 bundles a page's script, with the packages beside it
//
// It is a module of its own, so that who builds Caddy needs no esbuild.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// client is the directory that this one is in.
const client = ".."

func run(args []string) error {
	what := ""
	if len(args) > 0 {
		what = args[0]
	}
	switch {
	case what == "" || what == "check" && len(args) == 1:
		for _, name := range scripts {
			code, err := bundle(name)
			if err != nil {
				return err
			}
			output := filepath.Join(client, "dist", name+".js")
			if what == "" {
				if err := os.WriteFile(output, code, 0o644); err != nil {
					return err
				}
				continue
			}
			committed, err := os.ReadFile(output)
			if err != nil {
				return err
			}
			if !bytes.Equal(code, committed) {
				return fmt.Errorf("%s is not what the sources give: run `go run .` in client/build", output)
			}
		}
		return nil
	case what == "tests" && len(args) == 2:
		return tests(args[1])
	case what == "package" && len(args) == 1:
		return writePackage(filepath.Join(client, "dist", "npm"))
	case what == "page" && len(args) == 3:
		return bundlePage(args[1], args[2])
	}
	return fmt.Errorf("unknown arguments %q: give none, `check`, `tests <directory>`, `package`, or `page <entry> <file>`", args)
}

// scripts are what servers give out, by their names in src and in dist.
var scripts = []string{"runtime", "runtime-links", "runtime-idle", "frbzztrack"}

// bundle gives a script with all that it imports as one file: a module in the
// language of Safari 15, or, for what other sites include, a plain script in one
// that all visitors of theirs speak.
func bundle(name string) ([]byte, error) {
	format, target, engines := api.FormatESModule, api.ES2021, []api.Engine{{Name: api.EngineSafari, Version: "15"}}
	if name == "frbzztrack" {
		format, target, engines = api.FormatIIFE, api.ES2017, nil
	}
	res := api.Build(api.BuildOptions{
		EntryPoints:       []string{filepath.Join(client, "src", name+".ts")},
		Bundle:            true,
		Plugins:           []api.Plugin{withoutRandomness},
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Format:            format,
		Target:            target,
		Engines:           engines,
		LegalComments:     api.LegalCommentsNone,
		Define:            decorates(name != "runtime"),
		LogLevel:          api.LogLevelWarning,
	})
	if len(res.Errors) > 0 {
		return nil, fmt.Errorf("%s has errors", name)
	}
	return res.OutputFiles[0].Contents, nil
}

// decorates says whether links may be decorated where a script runs: what each
// page loads has no byte to spare for what it doesn't do.
func decorates(may bool) map[string]string {
	return map[string]string{"decorates": strconv.FormatBool(may)}
}

// withoutRandomness numbers web-vitals' metrics within their page, where the
// library would draw a number: nothing but an event's uuid is random here.
var withoutRandomness = api.Plugin{Name: "without randomness", Setup: func(b api.PluginBuild) {
	b.OnLoad(api.OnLoadOptions{Filter: `web-vitals.*generateUniqueID\.js$`}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
		code := "let n = 0; export const generateUniqueID = () => Math.round(performance.timeOrigin) + '-' + ++n;"
		return api.OnLoadResult{Contents: &code}, nil
	})
}}

// tests bundles each test by itself; Node.js runs what it gives.
func tests(dir string) error {
	entries, err := filepath.Glob(filepath.Join(client, "test", "*.test.ts"))
	if err != nil {
		return err
	}
	res := api.Build(api.BuildOptions{
		EntryPoints:  entries,
		Bundle:       true,
		Format:       api.FormatESModule,
		Platform:     api.PlatformNode,
		Define:       decorates(true),
		OutExtension: map[string]string{".js": ".mjs"},
		Outdir:       dir,
		Write:        true,
		LogLevel:     api.LogLevelWarning,
	})
	if len(res.Errors) > 0 {
		return errors.New("the tests have errors")
	}
	return nil
}
