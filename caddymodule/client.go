package caddymodule

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/client"
	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// The browser runtime is reached under the API's path by a name with its hash,
// which pages are given, and by a name without one, for pages whose HTML is
// written by hand.
const (
	runtimePrefix = "runtime."
	runtimeSuffix = "js"
)

// isRuntime reports whether the path, below the API's, is one of the browser
// runtime's: runtime.js, or runtime.<hash>.js with the hash of any build.
func isRuntime(path string) bool {
	rest, ok := strings.CutPrefix(path, runtimePrefix)
	if !ok {
		return false
	}
	hash, ok := strings.CutSuffix(rest, runtimeSuffix)
	if !ok {
		return false
	}
	if hash == "" {
		return true
	}
	hash, ok = strings.CutSuffix(hash, ".")
	return ok && len(hash) == len(client.Hash) && strings.Trim(hash, "0123456789abcdef") == ""
}

// serveRuntime answers with the browser runtime, the same for everyone. A page
// out of a cache, or of a node that is updated sooner or later than this one,
// may name another build: it gets this one, which nobody keeps under that name.
func serveRuntime(w http.ResponseWriter, r *http.Request, path string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	// Modules of other origins are fetched with CORS; there is nothing secret.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("ETag", `"`+client.Hash+`"`)
	h.Set("Cache-Control", "no-cache")
	if path == runtimePrefix+client.Hash+"."+runtimeSuffix {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(client.Runtime))
}

// runtimeURL is the runtime's path with this build's hash, or "" if the page
// brings its own client. What stands behind it tells the runtime which global
// holds the context.
func (h *Handler) runtimeURL() string {
	if !h.Client {
		return ""
	}
	u := h.apiPath + "/" + runtimePrefix + client.Hash + "." + runtimeSuffix
	if h.variable != sessionctx.DefaultVariable {
		u += "#" + h.variable
	}
	return u
}
