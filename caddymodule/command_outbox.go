package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

const jsonFlagUsage = "Print the admin API's answer, in place of a table"

// outboxCommand is `caddy session-context outbox`.
func outboxCommand() *cobra.Command {
	box := &cobra.Command{
		Use:   "outbox <command>",
		Short: "Shows what waits for delivery; deals with dead letters and parked batches",
		RunE:  groupOnly,
	}
	box.PersistentFlags().Bool("json", false, jsonFlagUsage)
	box.PersistentFlags().String("sink", "", "What waits for this further sink, in place of the first")
	box.AddCommand(outboxStatusCommand(), outboxPeekCommand(), outboxFlushCommand(),
		lettersCommand(), showCommand(), resendCommand(), deleteCommand())
	return box
}

func outboxStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Shows rows, bytes, ages and the state of delivery by datasource",
		Long: `
Shows what waits for each sink, by datasource:

  ROWS, BYTES  what waits, and OLDEST since when
  SEALED       batches that are ready to be sent; what is newer is still added to
  PARKED       batches that fail while others pass, and are retried hourly
  DEAD         letters and their rows, which wait for you: see outbox letters
  DELIVERY     ok; failing, which is tried again; held, until a setting is mended
`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, http.MethodGet, adminOutboxPath, nil, printOutbox)
		},
	}
}

func outboxFlushCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "flush",
		Short: "Has everything that waits tried at once, but what the sink told to wait",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, http.MethodPost, adminFlushPath, struct{}{}, printOutbox)
		},
	}
}

func outboxPeekCommand() *cobra.Command {
	peek := &cobra.Command{
		Use:   "peek <datasource>",
		Short: "Prints the newest rows of a datasource that wait, a line each; personal data",
		Args:  oneArg("a datasource, as `outbox status` lists them"),
	}
	n := peek.Flags().IntP("rows", "n", defaultRowsShown, "How many rows")
	peek.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"datasource": {args[0]}, "n": {strconv.Itoa(*n)}}
		return ask(cmd, http.MethodGet, adminRowsPath+"?"+q.Encode(), nil, func(w io.Writer, answer struct{ Rows []shownRow }) error {
			if len(answer.Rows) == 0 {
				// Not where rows are read from.
				fmt.Fprintln(cmd.ErrOrStderr(), "no row of", args[0], "waits")
				return nil
			}
			return printRows(w, answer.Rows, 0)
		})
	}
	return peek
}

func lettersCommand() *cobra.Command {
	letters := &cobra.Command{
		Use:   "letters [--datasource <name>] [--kind <kind>]",
		Short: "Lists dead letters and parked batches, oldest first",
		Long: `
Lists dead letters and parked batches, oldest first: id, kind, rows, bytes, since
when, and why. Kinds:

  refused      rows that the sink did not take
  too_large    a row that is larger than the sink takes
  invalid_row  rows that would not have arrived as meant, and were never sent
  partial      the sink took a part; sending again may double that
  copy         a copy of what the sink took, some of it into quarantine
  unconfirmed  the sink took it without saying that it holds it
  damaged      lines of the queue's files whose checksum does not hold
  parked       not dead: fails while others pass, and is retried hourly
`,
		Args: cobra.NoArgs,
	}
	which := letterFlags(letters)
	letters.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{"datasource": {which.Datasource}, "kind": {which.Kind}}
		return ask(cmd, http.MethodGet, adminLettersPath+"?"+q.Encode(), nil, func(w io.Writer, answer letterList) error {
			if len(answer.Letters) == 0 {
				_, err := fmt.Fprintln(w, "none")
				return err
			}
			if err := printLetters(w, answer.Letters, nil); err != nil || answer.More == 0 {
				return err
			}
			_, err := fmt.Fprintf(w, "and %d more, younger ones: deal with these, or choose by --datasource and --kind\n", answer.More)
			return err
		})
	}
	return letters
}

func showCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show <id> [-n <rows> | --raw]",
		Short: "Shows a letter's reason and its first rows; personal data",
		Args:  oneArg("a letter's id, as `outbox letters` lists them"),
	}
	n := show.Flags().IntP("rows", "n", defaultRowsShown, "How many rows")
	raw := show.Flags().Bool("raw", false, "All rows and nothing else, a line of JSON each")
	show.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"id": {args[0]}}
		if *raw {
			q.Set("download", "true")
			return callAdmin(cmd, http.MethodGet, ofSink(cmd, adminShowPath+"?"+q.Encode()), nil, cmd.OutOrStdout())
		}
		q.Set("n", strconv.Itoa(*n))
		return ask(cmd, http.MethodGet, adminShowPath+"?"+q.Encode(), nil, func(w io.Writer, c letterContent) error {
			if err := printLetters(w, []shownLetter{c.Letter}, nil); err != nil {
				return err
			}
			fmt.Fprintln(w)
			return printRows(w, c.Rows, c.More)
		})
	}
	return show
}

func resendCommand() *cobra.Command {
	resend := &cobra.Command{
		Use:   "resend (<id> | --all [--datasource <name>] [--kind <kind>])",
		Short: "Sends a dead letter again, or a parked batch at once",
		Long: `
Sends a dead letter again, as a batch of its own, or a parked batch at once.
--all leaves what may do harm: what the sink has already, in part or whole, and
rows that would still not arrive as meant. Name an id or a kind to send these.
`,
	}
	which := letterFlags(resend)
	resend.Flags().BoolVar(&which.All, "all", false, "All letters, of the datasource and kind if these are given")
	resend.RunE = func(cmd *cobra.Command, args []string) error {
		return orderLetters(cmd, args, which, adminResendPath, "sent again")
	}
	return resend
}

func deleteCommand() *cobra.Command {
	del := &cobra.Command{
		Use:   "delete (<id> | --all --yes [--datasource <name>] [--kind <kind>])",
		Short: "Deletes a dead letter or a parked batch: its rows are gone for good",
	}
	which := letterFlags(del)
	del.Flags().BoolVar(&which.All, "all", false, "All letters, of the datasource and kind if these are given")
	yes := del.Flags().Bool("yes", false, "Confirms --all")
	del.RunE = func(cmd *cobra.Command, args []string) error {
		if which.All && !*yes {
			return errors.New("--all deletes the rows of every letter that `outbox letters` lists with the same flags, for good: add --yes if that is meant")
		}
		return orderLetters(cmd, args, which, adminDeletePath, "deleted")
	}
	return del
}

// letterFlags are those that choose letters.
func letterFlags(cmd *cobra.Command) *letterOrder {
	var o letterOrder
	cmd.Flags().StringVar(&o.Datasource, "datasource", "", "Only letters of this datasource")
	cmd.Flags().StringVar(&o.Kind, "kind", "", "Only letters of this kind")
	return &o
}

// orderLetters sends an order and prints what was done.
func orderLetters(cmd *cobra.Command, args []string, o *letterOrder, path, done string) error {
	switch {
	case len(args) > 1:
		return fmt.Errorf("%d ids are given: give one, or --all", len(args))
	case len(args) == 0 && !o.All:
		return errors.New("no letter is named: give an id that `outbox letters` lists, or --all")
	case len(args) == 1:
		o.ID = args[0]
	}
	return ask(cmd, http.MethodPost, path, o, func(w io.Writer, out letterOutcome) error {
		fmt.Fprintf(w, "%s: %d\n", done, len(out.Done))
		if err := printLetters(w, out.Done, nil); err != nil || len(out.Left) == 0 {
			return err
		}
		fmt.Fprintf(w, "\nleft where they are: %d\n", len(out.Left))
		letters, why := make([]shownLetter, len(out.Left)), make([]string, len(out.Left))
		for i, l := range out.Left {
			letters[i], why[i] = l.shownLetter, l.Why
		}
		return printLetters(w, letters, why)
	})
}

// ask calls the admin API and prints its answer, as JSON with --json.
func ask[T any](cmd *cobra.Command, method, path string, body any, print func(io.Writer, T) error) error {
	var answer json.RawMessage
	if err := callAdmin(cmd, method, ofSink(cmd, path), body, &answer); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if asJSON, err := cmd.Flags().GetBool("json"); err == nil && asJSON {
		var b bytes.Buffer
		if err := json.Indent(&b, answer, "", "\t"); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, b.String())
		return err
	}
	var value T
	if err := json.Unmarshal(answer, &value); err != nil {
		return fmt.Errorf("reading the answer of the admin API: %w", err)
	}
	return print(w, value)
}

// ofSink adds the sink that --sink names to an admin path.
func ofSink(cmd *cobra.Command, path string) string {
	sink, err := cmd.Flags().GetString("sink")
	if err != nil || sink == "" {
		return path
	}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + "sink=" + url.QueryEscape(sink)
}

func printOutbox(w io.Writer, s outboxStatus) error {
	if err := printQueue(w, s); err != nil {
		return err
	}
	for _, m := range s.Mirrors {
		fmt.Fprintf(w, "\nsink %s, ", m.Sink)
		if !m.InUse {
			fmt.Fprintf(w, "not in use: %s in %s\n", rowsWait(m.Rows), m.Path)
		} else if err := printQueue(w, m.outboxStatus); err != nil {
			return err
		}
	}
	return nil
}

func rowsWait(n int64) string {
	if n == 1 {
		return "1 row waits"
	}
	return fmt.Sprintf("%d rows wait", n)
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// printQueue prints what waits for one sink.
func printQueue(w io.Writer, s outboxStatus) error {
	fmt.Fprintf(w, "%s: %s, %s of %s on disk\n", s.Path, rowsWait(s.Rows), size(s.Bytes), size(s.MaxDisk))
	if s.Damaged > 0 || s.Cut > 0 || s.Dropped > 0 {
		fmt.Fprintf(w, "since it was opened: %d damaged lines, %d bytes of torn writes cut off, %d rows dropped\n", s.Damaged, s.Cut, s.Dropped)
	}
	if len(s.Datasources) == 0 {
		return nil
	}
	t := table(w, "DATASOURCE", "ROWS", "BYTES", "OLDEST", "SEALED", "PARKED", "DEAD LETTERS", "DEAD ROWS", "DELIVERY")
	for _, d := range s.Datasources {
		state := string(d.State)
		if d.LastError != "" {
			state += ": " + oneLine(d.LastError)
		}
		oldest := "-"
		if d.Rows > 0 {
			oldest = time.Duration(d.Oldest * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%s\n", d.Name, d.Rows, d.Bytes, oldest, d.Sealed, d.Parked, d.DeadLetters, d.DeadRows, state)
	}
	return t.Flush()
}

// printLetters prints a table of letters; why stands for their reasons, if given.
func printLetters(w io.Writer, letters []shownLetter, why []string) error {
	if len(letters) == 0 {
		return nil
	}
	t := table(w, "ID", "KIND", "ROWS", "BYTES", "SINCE", "REASON")
	for i, l := range letters {
		reason := l.Reason
		if why != nil {
			reason = why[i]
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", l.ID, l.Kind, l.Rows, l.Bytes, l.Since.UTC().Format(time.RFC3339), oneLine(reason))
	}
	return t.Flush()
}

func printRows(w io.Writer, rows []shownRow, more int) error {
	for _, row := range rows {
		fmt.Fprintln(w, oneLine(string(row.Row)))
		if row.Fault != "" {
			fmt.Fprintf(w, "  ^ %s\n", oneLine(row.Fault))
		}
	}
	if more > 0 {
		fmt.Fprintf(w, "and %d more: --raw prints all\n", more)
	}
	return nil
}

func table(w io.Writer, columns ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	return t
}

// oneLine keeps a text that others wrote from a terminal and a table's columns.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
