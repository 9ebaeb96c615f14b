package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// subcommands are those of `caddy session-context`, by name.
var subcommands = []func() *cobra.Command{statusCommand, doctorCommand, keysCommand, outboxCommand}

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "session-context",
		Usage: "<command>",
		Short: "Shows and changes what session_context keeps on a running server",
		Long: `
Shows and changes what the module session_context keeps on a running server,
by Caddy's admin API. Its address is that of the --address flag, else the one
in the config file named by --config, else Caddy's default.
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.PersistentFlags().StringP("config", "c", "", "Configuration file to take the admin address from")
			cmd.PersistentFlags().StringP("adapter", "a", "", "Name of the config adapter for that file")
			cmd.PersistentFlags().StringP("address", "", "", "Address of the administration listener, if different from config")
			for _, sub := range subcommands {
				cmd.AddCommand(sub())
			}
			cmd.RunE = groupOnly
		},
	})
}

// groupOnly is run where a subcommand is missing or unknown.
func groupOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	return fmt.Errorf("%s has no command %q: known are %s", cmd.CommandPath(), args[0], strings.Join(known, ", "))
}

// callAdmin asks the running server. body, if not nil, is sent as JSON; the
// answer is read into answer, which takes it as it is if it is a writer.
func callAdmin(cmd *cobra.Command, method, path string, body, answer any) error {
	flag := func(name string) string { return cmd.Flag(name).Value.String() }
	addr, err := caddycmd.DetermineAdminAPIAddress(flag("address"), nil, flag("config"), flag("adapter"))
	if err != nil {
		return fmt.Errorf("finding the admin API's address: %w", err)
	}
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = strings.NewReader(string(b))
	}
	res, err := caddycmd.AdminAPIRequest(addr, method, path, nil, sent)
	if err != nil {
		return adminError(addr, err)
	}
	defer res.Body.Close()
	if w, ok := answer.(io.Writer); ok {
		_, err = io.Copy(w, res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("reading the answer of the admin API at %s: %w", addr, err)
	}
	return nil
}

// adminError takes our own refusal out of the error that Caddy made of it.
func adminError(addr string, err error) error {
	text := err.Error()
	if at := strings.IndexByte(text, '{'); at >= 0 {
		var refused struct{ Error, Code string }
		if json.Unmarshal([]byte(text[at:]), &refused) == nil && refused.Code != "" {
			return errors.New(refused.Error + " (" + refused.Code + ")")
		}
	}
	if strings.HasPrefix(text, "performing request: ") {
		return fmt.Errorf("the admin API at %s does not answer: see that Caddy runs, and name its admin address by --address, or its config by --config: %w", addr, err)
	}
	return fmt.Errorf("the admin API at %s: %w", addr, err)
}

// oneArg wants exactly one argument; what says which.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s wants %s, and has %d arguments", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}
