package caddymodule

import (
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// fetchedHTML is the answer to a request for no page, as a script makes it: HTML
// in it stays as it is. A cache that keeps it, the browser's own among them, must
// not show it when somebody goes to that page: it would be one without context.
// So caches are told that a page for a tab is another answer.
type fetchedHTML struct {
	*caddyhttp.ResponseWriterWrapper
	told bool
}

const fetchDest = "Sec-Fetch-Dest"

// asFetched is w, wrapped if what answers such a request may be a page too.
// Browsers tell of images, styles and the like that they are that.
func (h *Handler) asFetched(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	dest := r.Header.Get(fetchDest)
	if h.Inject == "off" || r.Method != http.MethodGet || dest != "" && dest != "empty" || r.Header.Get("Upgrade") != "" {
		return w
	}
	return &fetchedHTML{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
}

func (w *fetchedHTML) tell() {
	if w.told {
		return
	}
	w.told = true
	h := w.Header()
	switch media, _, _ := mime.ParseMediaType(h.Get("Content-Type")); media {
	case "text/html", "application/xhtml+xml":
		if !variesBy(h, fetchDest) {
			h.Add("Vary", fetchDest)
		}
	}
}

// variesBy reports whether an answer says already that it depends on a header.
func variesBy(h http.Header, name string) bool {
	for _, line := range h.Values("Vary") {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.EqualFold(one, name) {
				return true
			}
		}
	}
	return false
}

// WriteHeader implements http.ResponseWriter.
func (w *fetchedHTML) WriteHeader(status int) {
	if status >= 200 {
		w.tell()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *fetchedHTML) Write(b []byte) (int, error) {
	w.tell()
	return w.ResponseWriterWrapper.Write(b)
}

// ReadFrom implements io.ReaderFrom.
func (w *fetchedHTML) ReadFrom(r io.Reader) (int64, error) {
	w.tell()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError lets http.ResponseController flush what is told.
func (w *fetchedHTML) FlushError() error {
	w.tell()
	return http.NewResponseController(w.ResponseWriter).Flush()
}
