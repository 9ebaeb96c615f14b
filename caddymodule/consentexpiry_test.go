package caddymodule

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// callAt is one API call at a moment of the server's clock.
func callAt(t *testing.T, h *Handler, now time.Time, method, target, body, bearer string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequest(method, "http://lp.example.com/client-api/v1/"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "203.0.113.7:4711"
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "203.0.113.7", caddyhttp.TrustedProxyVarKey: false})
	name, _, _ := strings.Cut(target, "?")
	w := &answerTo{sink: newSink()}
	c := &call{app: h.app, site: h, w: w, r: r.WithContext(ctx), name: name, route: routes[name], now: now}
	c.answer(c.serve())
	var out map[string]any
	if err := json.Unmarshal(w.body, &out); err != nil {
		t.Fatalf("%s: %v in %s", target, err, w.body)
	}
	return w.status, out
}

// answerTo keeps what was answered.
type answerTo struct {
	*sink
	status int
	body   []byte
}

func (a *answerTo) WriteHeader(status int) { a.status = status }
func (a *answerTo) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

// rowsOnDisk counts the rows of the directory that have the text.
func rowsOnDisk(t *testing.T, dir, text string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		n += strings.Count(string(b), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A record that has expired says so to whoever reads it, and is a row of
// consents_v1 once, however often it is read.
func TestAnExpiredConsentIsReadAsExpired(t *testing.T) {
	h := benchHandler(t, "consent {\n require always\n }")
	now := time.Now()
	ring := h.app.ring.ring.Load()
	v, err := sessionctx.Identify(sessionctx.Input{
		Ring: ring, Campaign: h.campaign, Facts: &sessionctx.Facts{}, Now: now, Random: strings.NewReader(strings.Repeat("r", 64)),
	})
	if err != nil {
		t.Fatal(err)
	}
	token := ring.SealToken(&v.Session, now.UnixMilli())
	status, given := callAt(t, h, now, "POST", "consent/record", `{"token":"`+token+`","purposes":{"essential":true,"analytics":true,"marketing":false,"functional":false},"expires_in_days":1}`, "")
	if status != 200 {
		t.Fatalf("%d %v", status, given)
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		after  time.Duration
		status string
		rows   int
	}{{0, "active", 0}, {day - time.Second, "active", 0}, {day + time.Second, "expired", 1}, {3 * day, "expired", 1}} {
		status, got := callAt(t, h, now.Add(tt.after), "GET", "consent/record?campaign_id=cmp_1", "", token)
		record, _ := got["consent"].(map[string]any)
		if status != 200 || record["status"] != tt.status || record["id"] != given["consent_id"] {
			t.Errorf("after %s: %d %v, want %s", tt.after, status, got, tt.status)
		}
		if n := rowsOnDisk(t, h.app.Outbox.Path, `"status":"expired"`); n != tt.rows {
			t.Errorf("after %s: %d rows say that it expired, want %d", tt.after, n, tt.rows)
		}
	}
	if n := rowsOnDisk(t, h.app.Outbox.Path, `"status":"active"`); n != 1 {
		t.Errorf("%d rows of the record itself", n)
	}
}
