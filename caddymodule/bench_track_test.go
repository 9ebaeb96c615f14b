package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// BenchmarkTrack is what an event costs in the process: its post with a token,
// durable before the answer, by many clients at a time.
func BenchmarkTrack(b *testing.B) {
	h := benchHandler(b, "rate_limit 100000000 100000000")
	page := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header()["Content-Type"] = []string{"text/html; charset=utf-8"}
		_, err := io.WriteString(w, "<!doctype html><html><head><title>x</title></head><body>x</body></html>")
		return err
	})
	first := httptest.NewRecorder()
	serveBench(b, h, page, first, "")
	_, after, _ := strings.Cut(first.Body.String(), `"token":"`)
	token, _, _ := strings.Cut(after, `"`)
	if token == "" {
		b.Fatalf("the page has no token: %s", first.Body)
	}
	var cookies []string
	for _, c := range first.Result().Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	for name, cookies := range map[string]string{"with cookies": strings.Join(cookies, "; "), "without": ""} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for n := 0; pb.Next(); n++ {
					body := fmt.Sprintf(`{"token":"%s","event_id":"click","event_type":"engagement","event_value":1,"page_url":"https://lp.example.com/","event_uuid":"%d"}`, token, n)
					r := benchRequest(cookies)
					r.Method, r.URL.Path, r.URL.RawQuery = "POST", "/client-api/v1/events/track", ""
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
					r.Header.Set("Content-Type", "application/json")
					r.Header.Set("Sec-Fetch-Site", "same-origin")
					r.Header.Set("Sec-Fetch-Mode", "cors")
					w := httptest.NewRecorder()
					serveRequest(b, h, page, w, r)
					if w.Code != http.StatusOK {
						b.Errorf("status %d: %s", w.Code, w.Body)
						return
					}
				}
			})
		})
	}
}
