package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// statusCommand is `caddy session-context status`.
func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Tells how campaigns, keys, store and delivery fare, and warns",
		Long: `
Tells how campaigns, keys, store and delivery of the running server fare. What
should be mended is listed as warnings, each with a code that stays the same and
with its remedy. The exit code is 0 where there is no warning, 1 where there is
one, or where the server does not answer.
`,
		Args: cobra.NoArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, jsonFlagUsage)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var st status
		if err := callAdmin(cmd, http.MethodGet, adminStatusPath, nil, &st); err != nil {
			return err
		}
		if err := printAs(cmd, *asJSON, &st, printStatus); err != nil {
			return err
		}
		switch n := len(st.Warnings); n {
		case 0:
			return nil
		case 1:
			return fmt.Errorf("1 warning: %s", st.Warnings[0].Code)
		default:
			return fmt.Errorf("%d warnings", n)
		}
	}
	return cmd
}

// printAs prints a value as JSON, for programs, or as print does.
func printAs[T any](cmd *cobra.Command, asJSON bool, value T, print func(io.Writer, T) error) error {
	if !asJSON {
		return print(cmd.OutOrStdout(), value)
	}
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "\t")
	return e.Encode(value)
}

func printStatus(w io.Writer, st *status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printCampaigns(t, st.Campaigns)
	t.Flush()
	fmt.Fprintln(w)
	printParts(t, st)
	t.Flush()
	if st.Outbox.Open {
		fmt.Fprintln(w)
		if err := printOutbox(w, st.Outbox.outboxStatus); err != nil {
			return err
		}
	}
	for _, warn := range st.Warnings {
		about := ""
		if warn.Campaign != "" {
			about = fmt.Sprintf(" %s (%s)", warn.Campaign, warn.Environment)
		}
		if warn.Sink != "" {
			about = " of sink " + warn.Sink
		}
		fmt.Fprintf(w, "\nwarning %s%s: %s\n  %s\n", warn.Code, about, warn.Text, warn.Remedy)
	}
	return nil
}

func printCampaigns(w io.Writer, campaigns []campaignStatus) {
	fmt.Fprintln(w, "CAMPAIGN\tENVIRONMENT\tHOSTS\tINJECTED\tOTHER\tCOUNTED\tSIGNS OF LIFE\tLAST")
	for _, c := range campaigns {
		injected, others := c.Pages[inject.Injected], int64(0)
		for _, n := range c.Pages {
			others += n
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", c.Campaign, c.Environment, orDash(strings.Join(c.Hosts, " ")),
			injected, others-injected, c.Counted, c.SignsOfLife, timeOrDash(c.LastSignOfLife))
	}
}

func printParts(w io.Writer, st *status) {
	state := func(yes bool, ifSo, ifNot string) string {
		if yes {
			return ifSo
		}
		return ifNot
	}
	k, s, o := &st.Keys, &st.Store, &st.Outbox
	fmt.Fprintf(w, "keys\t%s\tread %s, next rotation %s\n", state(k.Available, "available", "unavailable"), timeOrDash(k.ReadAt), timeOrDash(k.NextRotation))
	fmt.Fprintf(w, "store\t%s\t%s, %d entries to be written, %d failures\n", state(s.Open, "open", "not open"), s.Name, s.Pending, s.Failures)
	fmt.Fprintf(w, "outbox\t%s\t%s\n", state(o.Open, "open", "not open"), o.Path)
	fmt.Fprintf(w, "sinks\t%s\n", orDash(strings.Join(st.Sinks, " ")))
	fmt.Fprintf(w, "geo\t%s\n", orDash(strings.Join(st.Geo, " ")))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func timeOrDash(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return readable(ms)
}
