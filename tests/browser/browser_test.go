package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// TestPages: tabs share cookies where they should, and only there.
func TestPages(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>a page</title>`)
		if r.URL.Path == "/" {
			fmt.Fprint(w, `<script>document.cookie="seen=1"</script>`)
		}
	}))
	defer server.Close()
	b := browser.Start(t)
	first := b.Page(t)
	first.Open(server.URL)
	if title := browser.Eval[string](first, "Promise.resolve(document.title)"); title != "a page" {
		t.Errorf("the title is %q", title)
	}
	for _, other := range []struct {
		page *browser.Page
		want string
	}{{first.Tab(), "seen=1"}, {b.Page(t), ""}} {
		other.page.Open(server.URL + "/as-it-is")
		if cookie := browser.Eval[string](other.page, "document.cookie"); cookie != other.want {
			t.Errorf("a tab has the cookies %q, want %q", cookie, other.want)
		}
	}
}
