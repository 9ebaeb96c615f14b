package rig

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Machine says in a line on what is measured, and what else it had to do.
func Machine(began time.Time, loadBefore string) string {
	return fmt.Sprintf("%s, %s, %d cores, %s; Caddy %s; took %v; load average %s before, %s after",
		began.Format("2006-01-02"), cpuModel(), runtime.NumCPU(), runtime.Version(), caddyVersion(),
		time.Since(began).Round(time.Second), loadBefore, LoadAverage())
}

// cpuModel is what the machine calls its processor.
func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// LoadAverage is that of the last minute.
func LoadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// caddyVersion is that in go.mod, which the programs are built with too.
func caddyVersion() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2").Output()
	if err != nil {
		if info, ok := debug.ReadBuildInfo(); ok {
			return info.Main.Version
		}
		return "?"
	}
	return strings.TrimSpace(string(out))
}
