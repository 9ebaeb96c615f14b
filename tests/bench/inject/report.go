package main

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// What a page may cost more than passing it through, in µs of Caddy's CPU.
const (
	injectorBar   = 8
	everythingBar = 30
)

// report is all that was measured.
type report struct {
	setting rig.Setting
	began   time.Time
	load    string
	tables  []table
}

// table is one page's figures.
type table struct {
	page     page
	variants []*running
}

// write prints the report as Markdown.
func (r report) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; nginx %s; %d rounds of %v.\n", rig.Machine(r.began, r.load), nginxVersion(), r.setting.Rounds, r.setting.Round)
	for _, t := range r.tables {
		t.write(&b)
	}
	b.WriteString("\n| bar | page | variant | measured | met |\n|---|---|---|---|---|\n")
	for _, t := range r.tables {
		t.writeBars(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t table) plain() *running { return t.variants[0] }

// of are v's figures against pass-through in the same round.
func (t table) of(v *running, figure func(mine, plain rig.Sample) float64) rig.Spread {
	all := make([]float64, len(v.samples))
	for i := range v.samples {
		all[i] = figure(v.samples[i], t.plain().samples[i])
	}
	return rig.Median(all)
}

func speed(mine, plain rig.Sample) float64 { return mine.PerSecond / plain.PerSecond }

func addedCPU(mine, plain rig.Sample) float64 { return mine.CPU - plain.CPU }

func (t table) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n**%s**\n\n| variant | requests/s | of plain | CPU µs a page | added µs | mallocs added | KB added |\n|---|---|---|---|---|---|---|\n", t.page.name)
	for _, v := range t.variants {
		fmt.Fprintf(b, "| %s | %.0f | %s | %.1f | %s | %s |\n", v.name,
			rig.MedianOf(v.samples, func(s rig.Sample) float64 { return s.PerSecond }).Mid, t.of(v, speed).Text(2),
			rig.MedianOf(v.samples, func(s rig.Sample) float64 { return s.CPU }).Mid, t.of(v, addedCPU).Text(1), t.memory(v))
	}
}

// memory is the two cells that only a Caddy can fill.
func (t table) memory(v *running) string {
	if v.server.Admin == "" {
		return "– | –"
	}
	return fmt.Sprintf("%.0f | %.1f",
		t.of(v, func(mine, plain rig.Sample) float64 { return mine.Mallocs - plain.Mallocs }).Mid,
		t.of(v, func(mine, plain rig.Sample) float64 { return (mine.Bytes - plain.Bytes) / 1024 }).Mid)
}

func (t table) writeBars(b *strings.Builder) {
	line := func(bar string, v *running, measured rig.Spread, decimals int, met bool) {
		word := "no"
		if met {
			word = "yes"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", bar, t.page.name, v.name, measured.Text(decimals), word)
	}
	for _, v := range t.variants {
		cpu, rate := t.of(v, addedCPU), t.of(v, speed)
		switch v.kind {
		case injectorOnly:
			line(fmt.Sprintf("CPU added ≤ %d µs", injectorBar), v, cpu, 1, cpu.Mid <= injectorBar)
		case everything:
			line(fmt.Sprintf("CPU added ≤ %d µs", everythingBar), v, cpu, 1, cpu.Mid <= everythingBar)
			if t.page.rate > 0 {
				line(fmt.Sprintf("requests/s ≥ %.2f of plain", t.page.rate), v, rate, 2, rate.Mid >= t.page.rate)
			}
		}
	}
}

func nginxVersion() string {
	nginx, err := tool("nginx")
	if err != nil {
		return "?"
	}
	out, _ := exec.Command(nginx, "-v").CombinedOutput()
	_, version, _ := strings.Cut(strings.TrimSpace(string(out)), "/")
	return version
}
