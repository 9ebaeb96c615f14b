// Package sessioncontext is a Caddy module that makes the server the only
// authority over visitor sessions on landing pages. Importing it registers the
// modules; build a Caddy with it by
//
//	xcaddy build --with github.com/firebuzz/caddy-sessionctx
//
// The app is `session_context`, the handlers are `http.handlers.session_context`
// and `http.handlers.session_context_api`; see package caddymodule.
package sessioncontext

import (
	// Registers the modules.
	_ "github.com/firebuzz/caddy-sessionctx/caddymodule"
)
