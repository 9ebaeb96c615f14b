package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// keysCommand is `caddy session-context keys`.
func keysCommand() *cobra.Command {
	keys := &cobra.Command{
		Use:   "keys <command>",
		Short: "Lists, rotates and revokes the keys of ids, tokens and cookies",
		RunE:  groupOnly,
	}
	keys.PersistentFlags().Bool("json", false, jsonFlagUsage)
	keys.AddCommand(keysListCommand(), keysRotateCommand())
	return keys
}

func keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists ids, states and times of the keys, never their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, http.MethodGet, adminKeysPath, nil, printKeys)
		},
	}
}

func keysRotateCommand() *cobra.Command {
	rotate := &cobra.Command{
		Use:   "rotate [--user] [--revoke [<key>]]",
		Short: "Publishes a new key, or drops one at once",
		Long: `
Publishes a new key, which is used 10 minutes later, when every node has read
it. Visitors notice nothing: what the old key made goes on verifying.

With --revoke no key is published: the one named, else the one in force, is
dropped at once. What it made counts as absent, with --user or without: its
visitors become new ones, with a new first touch, and the API refuses their open
pages until these are loaded again. Without --user, consent choices that it
sealed count as no. In place of one in force a new key is used at once. Other
nodes go on with the dropped key until they have re-read the ring, within
a minute by default.
`,
		Args: cobra.MaximumNArgs(1),
	}
	user := rotate.Flags().Bool("user", false, "The key of user ids, in place of that of session ids, tokens and cookies")
	revoke := rotate.Flags().Bool("revoke", false, "Drop the named key, or the one in force, at once")
	rotate.RunE = func(cmd *cobra.Command, args []string) error {
		o := keyOrder{User: *user, Revoke: *revoke}
		if len(args) > 0 {
			if !o.Revoke {
				return fmt.Errorf("key %q is named, which only --revoke needs: add --revoke, or leave the key out", args[0])
			}
			if o.Key = args[0]; o.Key == "" {
				return errors.New("the key's name is empty: name one that `keys list` shows, or none for the one in force")
			}
		}
		return ask(cmd, http.MethodPost, adminRotatePath, o, printKeys)
	}
	return rotate
}

func printKeys(w io.Writer, l keyList) error {
	t := table(w, "KEY", "MAKES", "STATE", "USED FROM", "VERIFIES UNTIL")
	for _, part := range []struct {
		makes string
		keys  []sessionctx.KeyInfo
	}{{"sessions", l.Keys}, {"user ids", l.UserKeys}} {
		for _, k := range part.keys {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, part.makes, strings.ReplaceAll(string(k.State), "_", " "), readable(k.NotBefore), timeOrDash(k.VerifiesUntil))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nread by this node at %s; next rotation by schedule at %s\n", readable(l.ReadAt), readable(l.NextRotation))
	if l.Trouble != "" {
		fmt.Fprintf(w, "trouble: %s\n", l.Trouble)
	}
	return nil
}

// readable is a time in Unix ms as people read it.
func readable(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
