package tests

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// TestBacklogInBoundedMemory: a process that finds 1 GiB of rows which a
// killed one left delivers them oldest first, and grows by 64 MiB at most. It
// is built without the race detector, which has memory of its own.
func TestBacklogInBoundedMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the peak of a process's memory is read on Linux only")
	}
	const size, mostGrown = 1 << 30, 64 << 20
	dir := t.TempDir()
	program := filepath.Join(t.TempDir(), "backlog")
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		out, err := cmd.Output()
		if err != nil {
			text := ""
			if exit, ok := err.(*exec.ExitError); ok {
				text = string(exit.Stderr)
			}
			t.Fatalf("%s: %v\n%s", args[0], err, text)
		}
		return out
	}
	run("go", "build", "-o", program, "./backlog")
	run(program, "fill", dir, strconv.Itoa(size))
	var got struct {
		Rows, OutOfOrder int
		Open, All, Grown int64
	}
	if err := json.Unmarshal(run(program, "drain", dir), &got); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows: open after %d ms, all delivered after %d ms, memory grew by %.1f MiB", got.Rows, got.Open, got.All, float64(got.Grown)/(1<<20))
	if got.Rows < size/700 || got.OutOfOrder > 0 {
		t.Errorf("%d rows, %d of them out of order", got.Rows, got.OutOfOrder)
	}
	if got.Grown > mostGrown {
		t.Errorf("memory grew by %d bytes", got.Grown)
	}
}
