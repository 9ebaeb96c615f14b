// Command scale measures what the Tinybird project's endpoints cost where there
// is much: it makes 10 million sessions and 50 million events of 300 campaigns
// in ClickHouse, asks each endpoint about a large, a middle and a small campaign
// for a day, a week and a month, keeps the rows by other sorting keys and asks
// again, and asks as the reference does. It prints Markdown, and fails only
// where something did not work.
//
// `make bench-engine` runs it. BENCH=short looks whether it still works, in
// seconds; BENCH=counts asks each question once, for what is exact: the rows and
// bytes that are read; BENCH_SESSIONS makes that many sessions and five times as many
// events; BENCH_AGAINST names the folder of another state of the project, whose
// endpoints are asked of the same rows. How to read it: docs/tinybird-scale.md.
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

func main() {
	if err := run(os.Stdout, "../../tinybird", os.Getenv("BENCH_AGAINST"), os.Getenv("BENCH"), os.Getenv("BENCH_SESSIONS")); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// bench is what all parts share.
type bench struct {
	shape
	campaigns  []asked
	periods    []period
	candidates int // how many of each comparison are tried
	times      int // how often a query is measured
	dir        string
	set        schema.Set
	filled     *engine.ClickHouse // kept as the datasources say
}

// run measures the Tinybird project in a folder, and the endpoints of another
// one unless against is empty.
func run(out io.Writer, project, against, size, sessions string) (err error) {
	b := &bench{campaigns: sizes, periods: periods, candidates: math.MaxInt, times: 3}
	b.span = wholeSpan
	b.end = time.Now().UTC().Truncate(time.Hour)
	many := int64(whole)
	switch size {
	case "":
	case "short":
		many, b.times, b.span = 3000, 0, shortSpan
		b.campaigns, b.periods, b.candidates = b.campaigns[:1], b.periods[2:], 1
	case "counts":
		b.times = countOnly
	default:
		return fmt.Errorf("BENCH %q is unknown: give short or counts, or leave it out", size)
	}
	if sessions != "" {
		if many, err = strconv.ParseInt(sessions, 10, 64); err != nil || many < 1000 {
			return fmt.Errorf("BENCH_SESSIONS %q is not a number of sessions: give a whole number from 1000", sessions)
		}
		b.times = min(b.times, 1) // what is asked of few rows shows little in time
	}
	b.visits, b.events = int64(float64(many)/sessionsAVisit), 5*many
	pipes, err := engine.LoadProject(project)
	if err != nil {
		return err
	}
	if b.set, err = schema.Load(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "session-context-scale-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.filled, err = engine.Open(b.dir); err != nil {
		return err
	}
	if err := b.fillAll(out); err != nil {
		return err
	}
	fmt.Fprint(out, "\n## Endpoints\n")
	if err := b.askEndpoints(out, pipes); err != nil {
		return err
	}
	if against != "" {
		other, err := engine.LoadProject(against)
		if err != nil {
			return err
		}
		fmt.Fprint(out, "\n## Endpoints of the other state\n")
		if err := b.askEndpoints(out, other); err != nil {
			return err
		}
	}
	if err := b.compareReference(out); err != nil {
		return err
	}
	for _, by := range comparisons {
		if err := b.compareKeys(out, pipes, by); err != nil {
			return err
		}
	}
	return nil
}

// fillAll makes all rows.
func (b *bench) fillAll(out io.Writer) error {
	if err := define(b.filled); err != nil {
		return err
	}
	fmt.Fprintf(out, "Granules of %d rows.\n\n", b.granule())
	fmt.Fprint(out, "| datasource | rows | MB | MB on disk | bytes a row on disk | parts | made in |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, name := range b.set.Names() {
		progress("making %s", name)
		began := time.Now()
		ds, _ := b.set.Datasource(name)
		if err := fill(b.filled, ds, b.shape); err != nil {
			return err
		}
		s, err := sizeOf(b.filled, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s | %d | %d | %v |\n", name, thousands(s.Rows), megabytes(s.Plain), megabytes(s.Disk),
			s.Disk/max(1, s.Rows), s.Parts, time.Since(began).Round(time.Second))
	}
	return nil
}

// askEndpoints asks each endpoint about each campaign for each period.
func (b *bench) askEndpoints(out io.Writer, project *engine.Project) error {
	all, err := questions(project, b.end, b.campaigns, b.periods)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n| endpoint | campaign | period | %s |\n|---|---|---|---:|---:|---:|---:|---:|\n", cellNames)
	for _, q := range all {
		progress("asking %s, %s campaign, %s", q.endpoint, q.campaign.name, q.period.name)
		f, err := measure(b.filled, q.sql, b.times)
		if err != nil {
			return fmt.Errorf("asking %s: %w", q.endpoint, err)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", q.endpoint, q.campaign.name, q.period.name, f.cells())
	}
	return nil
}
