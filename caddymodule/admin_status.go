package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(AdminStatus{})
}

const adminStatusPath = adminPath + "status"

// AdminStatus tells in Caddy's admin API how the module fares:
//
//	GET /session_context/status  campaigns, keys, store, outbox, geo sources, warnings
type AdminStatus struct{}

// CaddyModule returns the Caddy module information.
func (AdminStatus) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.session_context_status",
		New: func() caddy.Module { return new(AdminStatus) },
	}
}

// Routes returns the routes of the admin API.
func (a *AdminStatus) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{
		Pattern: adminStatusPath,
		Handler: adminAnswer(http.MethodGet, func(app *App, _ *http.Request) (any, error) {
			return app.status(wallClock()), nil
		}),
	}}
}

var _ caddy.AdminRouter = (*AdminStatus)(nil)
