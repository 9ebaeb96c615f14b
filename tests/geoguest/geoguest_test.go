package geoguest

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/firebuzz/caddy-sessionctx/caddymodule"
)

func TestAGuestTellsThePlace(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site := "http://" + l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("", "geoguest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Files are closed behind the last config's back.
		for end := time.Now().Add(10 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	})
	for _, c := range []struct{ geo, want string }{
		{"geo office 127.0.0.0/8 is", "IS EU true"},
		{"geo office 198.51.100.0/24 de", "  false"},
		{"geo office 198.51.100.0/24 de\n\t\tgeo office 127.0.0.0/8 ch", "CH EU false"},
		{"geo office 127.0.0.0/8 zz", "  false"}, // no country: nothing is believed
	} {
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	auto_https off
	persist_config off
	storage file_system `+dir+`/storage
	session_context {
		outbox {
			path `+dir+`/outbox
		}
		sink file `+dir+`/rows
		store embedded `+dir+`/store.db
		`+c.geo+`
		eu_includes eea
	}
}
`+site+` {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
	}
	respond "{session.geo.country} {session.geo.continent} {session.geo.is_eu}"
}
`), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("GET", site, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || strings.TrimSpace(string(body)) != strings.TrimSpace(c.want) {
			t.Errorf("%s: %q, %v; want %q", c.geo, body, err, c.want)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	_, _, err = caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\tsession_context {\n\t\tgeo office here DE\n\t}\n}\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "Caddyfile:3") {
		t.Errorf("a mistake in the guest's options: %v", err)
	}
}
