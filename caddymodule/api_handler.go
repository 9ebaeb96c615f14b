package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(APIHandler{})
	httpcaddyfile.RegisterHandlerDirective("session_context_api", parseAPIHandler)
	httpcaddyfile.RegisterDirectiveOrder("session_context_api", httpcaddyfile.Before, "respond")
}

// APIHandler answers the API alone, for every campaign of the config: on a
// host of its own, or on a site whose `session_context` handlers stand under
// paths. Requests that are not the API's go on to the next handler.
type APIHandler struct {
	// Path of the API. It is reached under `/client-api/v1` too. Default:
	// `/client-api/v1`.
	APIPath string `json:"api_path,omitempty"`
	// Path of the script that other sites include to report conversions, or
	// `off`. Default: `/track.js`.
	TrackJS string `json:"track_js,omitempty"`

	app     *App
	trackJS string // path, "" for none
}

// CaddyModule returns the Caddy module information.
func (APIHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session_context_api",
		New: func() caddy.Module { return new(APIHandler) },
	}
}

// Provision finds the app.
func (h *APIHandler) Provision(ctx caddy.Context) error {
	if h.APIPath == "" {
		h.APIPath = defaultAPIPath
	}
	if err := checkAPIPath(h.APIPath); err != nil {
		return err
	}
	var err error
	if h.trackJS, err = trackPath(h.TrackJS); err != nil {
		return fmt.Errorf("session_context_api: %w", err)
	}
	app, err := ctx.App(appName)
	if err != nil {
		return fmt.Errorf("session_context_api: %w", err)
	}
	h.app = app.(*App)
	return nil
}

// parseAPIHandler sets up the handler from Caddyfile tokens:
//
//	session_context_api [<matcher>] {
//		api_path <path>
//		track_js <path>|off
//	}
func parseAPIHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // the directive's name
	if h.NextArg() {
		return nil, h.Errf("session_context_api takes no argument but a matcher, and '%s' is none", h.Val())
	}
	a := &APIHandler{}
	b := newBlock(h.Dispenser, "session_context_api")
	return a, b.read(map[string]option{
		"api_path": b.checked(&a.APIPath, checkAPIPath),
		"track_js": b.checked(&a.TrackJS, checkTrackJS),
	})
}

// ServeHTTP answers the API; all else goes on.
func (h *APIHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	original := originalURL(r)
	if route, ok := apiRoute(h.APIPath, r.URL.Path, original.Path); ok {
		return h.app.serveAPI(w, r, route, nil)
	}
	if asksForTrack(r, original, h.trackJS) {
		serveTrack(w, r)
		return nil
	}
	return next.ServeHTTP(w, r)
}

var (
	_ caddy.Provisioner           = (*APIHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*APIHandler)(nil)
)
