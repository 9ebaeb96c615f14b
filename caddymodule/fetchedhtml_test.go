package caddymodule

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOnlyHTMLForNoPageVaries(t *testing.T) {
	for _, c := range []struct {
		name, method, dest, media, vary, want string
		inject                                string
	}{
		{"HTML for a script", "GET", "empty", "text/html; charset=utf-8", "", "Sec-Fetch-Dest", ""},
		{"XHTML for no browser", "GET", "", "application/xhtml+xml", "", "Sec-Fetch-Dest", ""},
		{"beside another header", "GET", "empty", "text/html", "Accept-Encoding", "Accept-Encoding, Sec-Fetch-Dest", ""},
		{"said already", "GET", "empty", "text/html", "Accept, sec-fetch-dest", "Accept, sec-fetch-dest", ""},
		{"by everything", "GET", "empty", "text/html", "*", "*", ""},
		{"data", "GET", "empty", "application/json", "", "", ""},
		{"an image", "GET", "image", "text/html", "", "", ""},
		{"a form", "POST", "empty", "text/html", "", "", ""},
		{"pages get no context", "GET", "empty", "text/html", "", "", "off"},
	} {
		for how, answer := range map[string]func(http.ResponseWriter){
			"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
			"Write":       func(w http.ResponseWriter) { w.Write([]byte("x")) },
			"Flush":       func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
		} {
			r := httptest.NewRequest(c.method, "/", nil)
			if c.dest != "" {
				r.Header.Set("Sec-Fetch-Dest", c.dest)
			}
			rec := httptest.NewRecorder()
			h := &Handler{}
			h.Inject = c.inject
			w := h.asFetched(rec, r)
			w.Header().Set("Content-Type", c.media)
			if c.vary != "" {
				w.Header().Set("Vary", c.vary)
			}
			answer(w)
			if got := strings.Join(rec.Result().Header.Values("Vary"), ", "); got != c.want {
				t.Errorf("%s, by %s: Vary is %q, want %q", c.name, how, got, c.want)
			}
		}
	}
}
