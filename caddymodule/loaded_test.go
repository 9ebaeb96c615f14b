package caddymodule

import (
	"net"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// tryLoad loads a config into this process: the app with the options given, its
// files in dir, and the sites. This machine's addresses are trusted proxies.
func tryLoad(t *testing.T, dir, options, sites string) error {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	auto_https off
	persist_config off
	storage file_system `+dir+`/storage
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	session_context {
		outbox {
			path `+dir+`/outbox
		}
		sink file `+dir+`/rows
		store embedded `+dir+`/store.db
		`+options+`
	}
}
`+sites), nil)
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(config, true)
}

// tryLoadApp is tryLoad of a config without sites; or, if site is not empty,
// with one that is never called, whose handler has these further options.
func tryLoadApp(t *testing.T, dir, options, site string) error {
	t.Helper()
	if site != "" {
		site = "http://127.0.0.1:0 {\n\tsession_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign cmp_1\n\t\t" + site + "\n\t}\n}\n"
	}
	return tryLoad(t, dir, options, site)
}

// loadApp is tryLoadApp for a config that must load.
func loadApp(t *testing.T, dir, options string) *App {
	t.Helper()
	if err := tryLoadApp(t, dir, options, ""); err != nil {
		t.Fatal(err)
	}
	return activeApp(t)
}

// loadSite loads a config whose one site has the block given, until the test
// ends, and returns its origin and the directory of its rows.
func loadSite(t *testing.T, options, block string) (site, rows string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site = "http://" + l.Addr().String()
	l.Close()
	dir := t.TempDir()
	if err := tryLoad(t, dir, options, site+" {\n"+block+"}\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopApp(t) })
	return site, dir + "/rows"
}

func activeApp(t *testing.T) *App {
	t.Helper()
	app, err := caddy.ActiveContext().App(appName)
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App)
}

func stopApp(t *testing.T) {
	t.Helper()
	app := activeApp(t)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	awaitRelease(app)
}

// setClock has the module read another clock until the test ends.
func setClock(t *testing.T, now func() time.Time) {
	t.Helper()
	wallClock = now
	t.Cleanup(func() { wallClock = time.Now })
}
