package inject_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

func Example() {
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><head><title>Hello</title>")
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !inject.PageRequest(r, r.URL.Path) {
			upstream.ServeHTTP(w, r)
			return
		}
		prepared := inject.PrepareRequest(r, false)
		defer prepared.Restore()
		page := inject.NewResponseWriter(w, r, inject.Options{
			Script: func(dst []byte, nonce string) []byte {
				return fmt.Appendf(dst, "<script data-session-context=\"\" nonce=%q>hello()</script>", nonce)
			},
			Nonce: func() string { return "c2VjcmV0" },
		})
		defer page.Abort()
		upstream.ServeHTTP(page, r)
		if err := page.Close(); err != nil {
			fmt.Println(err)
		}
		fmt.Println(page.Outcome())
	})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Body)
	// Output:
	// injected
	// <!doctype html><head><script data-session-context="" nonce="c2VjcmV0">hello()</script><title>Hello</title>
}
