package caddymodule_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What `caddy validate` says about files of ranges.
func TestFilesOfRangesAreReadBeforeTheyAreUsed(t *testing.T) {
	ownHome(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "192.0.2.0/24 # theirs\n", "bad": "192.0.2.0/24\n\n192.0.2.256\nx\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, line, want string }{
		{"a good file", "datacenters DIR/good", ""},
		{"both the same", "datacenters DIR/good\n\t\t\tcorporate_proxies DIR/good", ""},
		{"no such file", "datacenters DIR/none", "bots: datacenters: reading address ranges of DIR/none: no such file or directory"},
		{"bad lines", "corporate_proxies DIR/bad", "bots: corporate_proxies: reading address ranges of DIR/bad: " +
			"line 3: \"192.0.2.256\" is neither a range like 192.0.2.0/24 or 2001:db8::/32 nor an address\nline 4: \"x\" is"},
		{"a directory", "datacenters DIR", "bots: datacenters: reading address ranges of DIR: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			err := validate(t, "{\n\tadmin off\n\tsession_context {\n\t\tbots {\n\t\t\t"+in(c.line)+"\n\t\t}\n\t}\n}\n\n"+
				"http://localhost:8080 {\n\tsession_context {\n\t\tworkspace ws\n\t\tproject pr\n\t\tcampaign cmp\n\t}\n}\n")
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), in(c.want))) {
				t.Errorf("got  %v\nwant %s", err, in(c.want))
			}
		})
	}
}
