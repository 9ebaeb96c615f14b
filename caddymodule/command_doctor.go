package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"
)

// doctorCommand is `caddy session-context doctor`.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor <url> [--to <host:port>] [--header <field>] [--json]",
		Short: "Looks at a page as its visitors get it, and says what is wrong",
		Long: `
Fetches a page as a browser does, and its API as the page's script does: name,
certificate, the context and whether the page's policy lets it run, whether two
who ask get two sessions, whether the API can be reached and takes its own
tokens. The server's admin API, if it answers, is asked for its warnings and
whether it trusts the proxies before it. Each finding has a code that stays the
same, and what is wrong has its remedy.

All requests say that they are made ahead of a visit (Sec-Purpose: prefetch) and
by whom (User-Agent), so that none is counted as one. The exit code is 0 where
nothing is wrong, 1 where there is a warning or an error.
`,
		Args: oneArg("the URL of a page"),
	}
	asJSON := cmd.Flags().Bool("json", false, "Print the findings as JSON, in place of a table")
	to := cmd.Flags().String("to", "", "host:port to connect to in place of the URL's, as before its name is moved here")
	headers := cmd.Flags().StringArrayP("header", "H", nil, `A header for each request to the URL's host, as "Authorization: Basic …"; may be given several times`)
	insecure := cmd.Flags().Bool("insecure", false, "Take any certificate")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		header, err := parseHeaders(*headers)
		if err != nil {
			return err
		}
		page, err := pageURL(args[0], header)
		if err != nil {
			return err
		}
		if _, _, err := net.SplitHostPort(*to); err != nil && *to != "" {
			return fmt.Errorf("--to %s: %w: write it as host:port", *to, err)
		}
		d := &doctor{
			page: page, header: header, to: *to, skipVerify: *insecure, now: time.Now,
			status: func() (st *status, err error) {
				err = callAdmin(cmd, http.MethodGet, adminStatusPath, nil, &st)
				if err == nil && st == nil {
					err = errors.New("the admin API has no status")
				}
				return st, err
			},
			servers: func() (servers map[string]httpServer, err error) {
				err = callAdmin(cmd, http.MethodGet, "/config/apps/http/servers", nil, &servers)
				return servers, err
			},
		}
		report := examination{d.examine(cmd.Context())}
		if err := printAs(cmd, *asJSON, report, printFindings); err != nil {
			return err
		}
		wrong := 0
		for _, f := range report.Findings {
			if f.Level == levelWarning || f.Level == levelError {
				wrong++
			}
		}
		switch wrong {
		case 0:
			return nil
		case 1:
			return fmt.Errorf("1 thing is wrong")
		}
		return fmt.Errorf("%d things are wrong", wrong)
	}
	return cmd
}

// pageURL wants the URL of a page; one without a scheme is taken for HTTPS. A
// name and password in it become a header, as with browsers.
func pageURL(s string, header http.Header) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	var user *url.Userinfo
	if err == nil && u.Hostname() != "" {
		user = u.User
		u, err = normalize(u)
	}
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		if strings.Contains(s, "@") { // a password may be in it
			s = "what was given"
		}
		return nil, fmt.Errorf("%q is no URL of a page, as https://lp.example.com/", s)
	}
	if user != nil {
		password, _ := user.Password()
		r := http.Request{Header: header}
		r.SetBasicAuth(user.Username(), password)
	}
	u.Fragment = ""
	return u, nil
}

// parseHeaders reads fields. Errors don't show their values, which may be
// secrets.
func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || !httpguts.ValidHeaderFieldName(name) {
			return nil, fmt.Errorf("header %d is no field, as \"Name: value\"", i+1)
		}
		if value = strings.TrimSpace(value); !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("header %s has a value that no header may have", name)
		}
		if strings.EqualFold(name, "Host") {
			return nil, fmt.Errorf("header %s: the URL says which host is asked; --to says where it is", name)
		}
		h.Add(name, value)
	}
	return h, nil
}

// examination is what doctor reports.
type examination struct {
	Findings []finding `json:"findings"`
}

func printFindings(w io.Writer, report examination) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range report.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, f.Code, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", f.Remedy)
		}
	}
	return t.Flush()
}
