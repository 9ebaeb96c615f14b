package caddymodule

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/client"
	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// scriptAt is the browser runtime's script that the path, below the API's,
// names: runtime.js, for pages whose HTML is written by hand, or
// runtime.<hash>.js with the hash of any build; nil if it names none.
func scriptAt(path string) *client.Script {
	name, rest, _ := strings.Cut(path, ".")
	for _, s := range []*client.Script{client.Runtime, client.RuntimeIdle} {
		if s.Name != name {
			continue
		}
		if hash, ok := strings.CutSuffix(rest, ".js"); rest == "js" || ok && len(hash) == len(s.Hash) && strings.Trim(hash, "0123456789abcdef") == "" {
			return s
		}
	}
	return nil
}

// serveScript answers with a script of the browser runtime, the same for
// everyone. A page out of a cache, or of a node that is updated sooner or later
// than this one, may name another build: it gets this one, which nobody keeps
// under that name.
func serveScript(w http.ResponseWriter, r *http.Request, path string, s *client.Script) {
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
	h.Set("ETag", `"`+s.Hash+`"`)
	h.Set("Cache-Control", "no-cache")
	if path == s.File() {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.Body))
}

// checkClient checks the options of the browser runtime.
func (h *Handler) checkClient() error {
	if h.WebVitals && !h.Client {
		return wrongIn(h, "web_vitals", errors.New("web_vitals on reports by the browser runtime: add client on, or take it away"))
	}
	return nil
}

// runtimeURL is the runtime's path with this build's hash, or "" if the page
// brings its own client. What stands behind it tells the runtime which global
// holds the context, and which file reports web vitals: #name, #,file or
// #name,file.
func (h *Handler) runtimeURL() string {
	if !h.Client {
		return ""
	}
	u := h.apiPath + "/" + client.Runtime.File()
	variable, vitals := "", ""
	if h.variable != sessionctx.DefaultVariable {
		variable = h.variable
	}
	if h.WebVitals {
		vitals = "," + client.RuntimeIdle.File()
	}
	if variable+vitals == "" {
		return u
	}
	return u + "#" + variable + vitals
}
