package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/client"
	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// scriptAt is the browser runtime's script that the path, below the API's,
// names: runtime.js, for pages whose HTML is written by hand, or
// runtime.<hash>.js with the hash of any build; nil if it names none.
func scriptAt(path string) *client.Script {
	name, rest, _ := strings.Cut(path, ".")
	for _, s := range client.Modules {
		if s.Name != name {
			continue
		}
		if hash, ok := strings.CutSuffix(rest, ".js"); rest == "js" || ok && len(hash) == len(s.Hash) && strings.Trim(hash, "0123456789abcdef") == "" {
			return s
		}
	}
	return nil
}

// serveModule answers with a script of the browser runtime, the same for
// everyone. A page out of a cache, or of a node that is updated sooner or later
// than this one, may name another build: it gets this one, which nobody keeps
// under that name.
func serveModule(w http.ResponseWriter, r *http.Request, path string, s *client.Script) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	keep := "no-cache"
	if path == s.File() {
		keep = "public, max-age=31536000, immutable"
	}
	serveScript(w, r, s, keep)
}

// serveScript answers a GET or HEAD with a script, to be kept as keep says.
func serveScript(w http.ResponseWriter, r *http.Request, s *client.Script, keep string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	// Modules of other origins are fetched with CORS; there is nothing secret.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("ETag", `"`+s.Hash+`"`)
	h.Set("Cache-Control", keep)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.Body))
}

// checkClient checks the options of the browser runtime.
func (h *Handler) checkClient() error {
	if h.WebVitals && !h.Client {
		return wrongIn(h, "web_vitals", errors.New("web_vitals on reports by the browser runtime: add client on, or take it away"))
	}
	if len(h.DecorateLinks) > 0 && !h.Client {
		return wrongIn(h, "decorate_links", errors.New("the browser runtime decorates links: add client on, or take decorate_links away"))
	}
	if err := checkLinkHosts(h.DecorateLinks); err != nil {
		return wrongIn(h, "decorate_links", err)
	}
	return nil
}

// runtimeURL is the runtime's path with this build's hash, or "" if the page
// brings its own client. What stands behind it tells the runtime which global
// holds the context, which file reports web vitals, and which hosts' links are
// decorated: #name,file,host,host. What is missing at the end is left out.
func (h *Handler) runtimeURL() string {
	if !h.Client {
		return ""
	}
	script, told := client.Runtime, []string{"", ""}
	if h.variable != sessionctx.DefaultVariable {
		told[0] = h.variable
	}
	if h.WebVitals {
		told[1] = client.RuntimeIdle.File()
	}
	if len(h.DecorateLinks) > 0 {
		script, told = client.RuntimeLinks, append(told, h.DecorateLinks...)
	}
	u := h.apiPath + "/" + script.File()
	if after := strings.TrimRight(strings.Join(told, ","), ","); after != "" {
		u += "#" + after
	}
	return u
}

// checkLinkHosts checks the hosts of decorate_links.
func checkLinkHosts(hosts []string) error {
	for _, host := range hosts {
		if host == everyHost {
			continue
		}
		if slices.Contains([]string{"on", "off", "yes", "no", "true", "false"}, host) {
			return fmt.Errorf("decorate_links: %q is no host: write on or off alone, or name hosts only", host)
		}
		if err := visitor.CheckHost(host); err != nil {
			return fmt.Errorf("decorate_links: %w; or write on, for all other sites", err)
		}
	}
	return nil
}

// everyHost are all hosts, in decorate_links.
const everyHost = "*"

// decorateLinks reads decorate_links; hosts may stand in several lines.
func (b *block) decorateLinks(to *[]string) option {
	return func() error {
		args := b.d.RemainingArgs()
		switch {
		case len(args) == 0:
			return b.d.Err("decorate_links wants on, off, or hosts like shop.example.com or *.example.com")
		case len(args) == 1 && args[0] == "on":
			*to = []string{everyHost}
		case len(args) == 1 && args[0] == "off":
			*to = nil
		default:
			*to = append(*to, args...)
		}
		return nil
	}
}
