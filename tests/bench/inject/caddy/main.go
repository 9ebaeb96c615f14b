// Command caddy is Caddy with the session_context module and one more handler,
// bench_inject: nothing but the injector with a fixed script. All variants of
// the benchmark run on this one binary.
package main

import (
	"net/http"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/firebuzz/caddy-sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

func main() {
	caddy.RegisterModule(injector{})
	httpcaddyfile.RegisterHandlerDirective("bench_inject", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return injector{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_inject", httpcaddyfile.After, "encode")
	caddycmd.Main()
}

// injector puts the same script into every page.
type injector struct{}

// CaddyModule returns the Caddy module information.
func (injector) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_inject", New: func() caddy.Module { return new(injector) }}
}

func script(dst []byte, _ string) []byte { return append(dst, rig.FixedScript...) }

// ServeHTTP does what package inject asks of its user, and no more.
func (injector) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !inject.PageRequest(r, "") {
		return next.ServeHTTP(w, r)
	}
	iw := inject.NewResponseWriter(w, r, inject.Options{Script: script})
	prepared := inject.PrepareRequest(r, false)
	defer func() {
		prepared.Restore()
		iw.Abort()
	}()
	if err := next.ServeHTTP(iw, r); err != nil {
		return err
	}
	return iw.Close()
}
