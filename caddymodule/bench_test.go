package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// BenchmarkPage is a page of 10 KB through the handler with everything on, but
// for the server around it: what each page costs in time and memory.
func BenchmarkPage(b *testing.B) {
	page := []byte("<!doctype html><html lang=en><head><meta charset=utf-8><title>Landing</title></head><body>" +
		strings.Repeat("<section class=feature><h2>A heading</h2><p>Some text of a landing page.</p></section>\n", 115) + "</body></html>")
	contentType := []string{"text/html; charset=utf-8"}
	upstream := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header()["Content-Type"] = contentType
		_, err := w.Write(page)
		return err
	})
	for _, site := range []struct{ name, consent string }{
		{"without cookies", "consent {\n require always\n }"},
		{"without cookies, no visitor key", "before_consent random\n consent {\n require always\n }"},
		{"with cookies", ""},
	} {
		h := benchHandler(b, site.consent)
		first := newSink()
		serveBench(b, h, upstream, first, "")
		var cookies []string
		for _, c := range (&http.Response{Header: first.header}).Cookies() {
			cookies = append(cookies, c.Name+"="+c.Value)
		}
		b.Run(site.name+", new", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				serveBench(b, h, upstream, newSink(), "")
			}
		})
		if len(cookies) > 0 {
			b.Run(site.name+", known", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					serveBench(b, h, upstream, newSink(), strings.Join(cookies, "; "))
				}
			})
		}
	}
	b.Run("nothing but the request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			upstream(newSink(), benchRequest(""))
		}
	})
}

// benchHandler is a site's handler, provisioned as Caddy does it.
func benchHandler(b testing.TB, consent string) *Handler {
	b.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	session_context {
		outbox {
			path `+b.TempDir()+`
		}
		sink file `+b.TempDir()+`
		store embedded `+b.TempDir()+`/store.db
	}
	storage file_system `+b.TempDir()+`
}
http://127.0.0.1:1 {
	@mobile vars session.device.type mobile
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		landing_page lp_1
		segment mobile @mobile
		segment everyone
		ab_test hero {
			variant control 50
			variant bold 50
		}
		`+consent+`
	}
	respond ok
}
`), nil)
	if err != nil {
		b.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		b.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		b.Fatal(err)
	}
	mod, err := ctx.App(appName)
	if err != nil {
		b.Fatal(err)
	}
	app := mod.(*App)
	if err := app.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cleanUp(app) })
	for _, h := range app.handlersOf("") {
		<-h.app.ring.ready
		return h
	}
	b.Fatal("the config has no campaign")
	return nil
}

func cleanUp(app *App) {
	app.Cleanup()
	awaitRelease(app)
}

// awaitRelease waits until an app that was cleaned up has let go of its files,
// which are about to be removed: whoever closes them holds their locks until
// then.
func awaitRelease(app *App) {
	for {
		if o, err := outbox.Open(app.Outbox.Path, outbox.Options{}); err == nil {
			o.Close()
			break
		}
		time.Sleep(time.Millisecond)
	}
	for {
		if st, err := app.store.OpenStore(); err == nil {
			st.Close()
			break
		}
	}
}

func benchRequest(cookies string) *http.Request {
	r, _ := http.NewRequest("GET", "http://lp.example.com/10k?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0KCQiA", nil)
	r.Host = "lp.example.com"
	r.RemoteAddr = "203.0.113.7:4711"
	for _, f := range [][2]string{
		{"User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, {"Accept-Language", "en-US,en;q=0.9"},
		{"Accept-Encoding", "gzip, deflate, br, zstd"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"},
		{"Sec-Fetch-Dest", "document"}, {"Referer", "https://www.google.com/"},
	} {
		r.Header[f[0]] = []string{f[1]}
	}
	if cookies != "" {
		r.Header["Cookie"] = []string{cookies}
	}
	return r
}

func serveBench(b *testing.B, h *Handler, upstream caddyhttp.Handler, w http.ResponseWriter, cookies string) {
	serveRequest(b, h, upstream, w, benchRequest(cookies))
}

// serveRequest hands a request to a handler as Caddy's server does.
func serveRequest(b *testing.B, h *Handler, upstream caddyhttp.Handler, w http.ResponseWriter, r *http.Request) {
	repl := caddy.NewReplacer()
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{
		caddyhttp.ClientIPVarKey: "203.0.113.7", caddyhttp.TrustedProxyVarKey: false,
	})
	original := *r
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original)
	if err := h.ServeHTTP(w, r.WithContext(ctx), upstream); err != nil {
		b.Fatal(err)
	}
}

// sink is a response that goes nowhere.
type sink struct{ header http.Header }

func newSink() *sink { return &sink{http.Header{}} }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}
