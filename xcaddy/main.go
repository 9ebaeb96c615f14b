// Command caddy is Caddy with the session_context module compiled in, as
// `xcaddy build --with github.com/firebuzz/caddy-sessionctx` would make it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/firebuzz/caddy-sessionctx"
)

func main() {
	caddycmd.Main()
}
