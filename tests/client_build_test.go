package tests

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/client"
)

// TestClientIsWhatItsSourcesGive: the committed bundle is the sources', which
// are free of type errors.
func TestClientIsWhatItsSourcesGive(t *testing.T) {
	t.Parallel()
	inClient(t, "build", "go", "run", ".", "check")
	inClient(t, ".", "node_modules/.bin/tsc", "--noEmit")
}

// TestClientUnits runs the client's own tests, of what needs no browser.
func TestClientUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inClient(t, "build", "go", "run", ".", "tests", dir)
	bundles, err := filepath.Glob(dir + "/*.mjs")
	if err != nil || len(bundles) == 0 {
		t.Fatalf("no tests were bundled: %v", err)
	}
	inClient(t, ".", "node", append([]string{"--test"}, bundles...)...)
}

// inClient runs a command in a directory of the client.
func inClient(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join("../client", dir)
	// The module of the build is another one: flags that name files of ours
	// are not for it.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v (make setup installs what it needs)\n%s", name, args, err, out)
	}
}

// TestClientIsSmall: what each page loads has a budget.
func TestClientIsSmall(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(client.Runtime.Body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := b.Len(); n > 5<<10 {
		t.Errorf("the runtime has %d bytes by gzip -9, more than 5 KiB", n)
	}
}
