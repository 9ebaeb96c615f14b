package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// keysApp is a site with its app, provisioned as Caddy does it, whose ring lies
// in a storage of the test's.
func keysApp(t *testing.T, m *memoryStorage) *App {
	t.Helper()
	dir := t.TempDir()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	session_context {
		outbox {
			path `+dir+`/outbox
		}
		sink file `+dir+`/rows
		store embedded `+dir+`/store.db
	}
	storage file_system `+dir+`
}
http://127.0.0.1:1 {
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		rate_limit 1000000 1000000
	}
	respond ok
}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := ctx.App(appName)
	if err != nil {
		t.Fatal(err)
	}
	app := mod.(*App)
	// No re-reading but what the test asks for.
	app.ring = newKeyRing(m, &newKeysInUse().ring, defaultRotate, 1000*time.Hour, zap.NewNop())
	running.add(app)
	t.Cleanup(func() { running.remove(app) })
	return app
}

// askRoutes sends a request to the routes that the admin API gets from a module.
func askRoutes(t *testing.T, module caddy.AdminRouter, method, path, contentType, body string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range module.Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				t.Error(err)
			}
		})
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
	return w, got
}

// askAdmin sends a request to the routes for keys.
func askAdmin(t *testing.T, method, path, contentType, body string) (int, map[string]any) {
	t.Helper()
	w, got := askRoutes(t, new(AdminKeys), method, path, contentType, body)
	if w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: %s", method, path, w.Body)
	}
	if w.Code == http.StatusMethodNotAllowed && w.Header().Get("Allow") == "" {
		t.Error("405 without Allow")
	}
	return w.Code, got
}

func TestTheAdminAPIRefusesWhatItCannotDo(t *testing.T) {
	m := newMemoryStorage()
	app := keysApp(t, m)
	if status, got := askAdmin(t, "GET", adminKeysPath, "", ""); status != 503 || got["code"] != "keys_unavailable" {
		t.Errorf("without a ring: %d %v", status, got)
	}
	if err := app.ring.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := app.ring.ring.Load()
	l, _ := app.ring.list()
	user := l.UserKeys[0].ID
	for _, tt := range []struct {
		method, path, contentType, body string
		status                          int
		code                            string
	}{
		{"POST", adminKeysPath, "application/json", "{}", 405, "method_not_allowed"},
		{"DELETE", adminKeysPath, "", "", 405, "method_not_allowed"},
		{"GET", adminRotatePath, "", "", 405, "method_not_allowed"},
		{"PUT", adminRotatePath, "application/json", "{}", 405, "method_not_allowed"},
		{"POST", adminRotatePath, "", "{}", 415, "unsupported_media_type"},
		{"POST", adminRotatePath, "text/plain", "{}", 415, "unsupported_media_type"},
		{"POST", adminRotatePath, "application/x-www-form-urlencoded", "{}", 415, "unsupported_media_type"},
		{"POST", adminRotatePath, "application/json", "[", 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", "[]", 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", `{"revoek":true}`, 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", `{"revoke":"yes"}`, 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", `{}{}`, 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", `{"revoke":true,"key":"` + strings.Repeat("0", maxOrder) + `"}`, 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", strings.Repeat(" ", maxOrder) + `{"revoke":true}`, 400, "invalid_json"},
		{"POST", adminRotatePath, "application/json", `{"key":"1a2b3c4d"}`, 400, "key_without_revoke"},
		{"POST", adminRotatePath, "application/json", `{"revoke":true,"key":"00000000"}`, 404, "unknown_key"},
		{"POST", adminRotatePath, "application/json", `{"revoke":true,"key":"` + user + `"}`, 409, "wrong_key_use"},
	} {
		t.Run(tt.method+" "+tt.path+" "+tt.contentType+" "+tt.code, func(t *testing.T) {
			status, got := askAdmin(t, tt.method, tt.path, tt.contentType, tt.body)
			if status != tt.status || got["code"] != tt.code || got["error"] == "" {
				t.Errorf("%d %v, want %d %s", status, got, tt.status, tt.code)
			}
		})
	}
	m.fail = errors.New("no disk")
	if status, got := askAdmin(t, "POST", adminRotatePath, "application/json", "{}"); status != 503 || got["code"] != "keys_not_changed" {
		t.Errorf("with a broken storage: %d %v", status, got)
	}
	m.fail = nil
	if !app.ring.ring.Load().Equal(before) || m.writes != 1 {
		t.Error("a refused order changed the ring")
	}
	running.remove(app)
	if status, got := askAdmin(t, "GET", adminKeysPath, "", ""); status != 404 || got["code"] != "not_configured" {
		t.Errorf("without session_context: %d %v", status, got)
	}
}

func TestTheAdminAPIListsRotatesAndRevokes(t *testing.T) {
	m := newMemoryStorage()
	app := keysApp(t, m)
	if err := app.ring.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := func(got map[string]any, part string) string {
		var out []string
		for _, k := range got[part].([]any) {
			out = append(out, k.(map[string]any)["state"].(string))
		}
		return strings.Join(out, " ")
	}
	ask := func(body string, status int, keys, user string) map[string]any {
		t.Helper()
		got, list := 0, map[string]any(nil)
		if body == "" {
			got, list = askAdmin(t, "GET", adminKeysPath, "", "")
		} else {
			got, list = askAdmin(t, "POST", adminRotatePath, "application/json; charset=utf-8", body)
		}
		if got != status {
			t.Fatalf("%s: %d %v", body, got, list)
		}
		if status == 200 && (ids(list, "keys") != keys || ids(list, "user_id_keys") != user) {
			t.Errorf("%s: %v", body, list)
		}
		var secrets struct {
			Keys, User_id_keys []struct{ Secret string }
		}
		if err := json.Unmarshal(m.values[ringKey], &secrets); err != nil {
			t.Fatal(err)
		}
		for _, k := range append(secrets.Keys, secrets.User_id_keys...) {
			if k.Secret == "" || strings.Contains(fmt.Sprint(list), k.Secret) {
				t.Error("a secret is in the answer, or this test finds none")
			}
		}
		return list
	}
	first := ask("", 200, "in_force", "in_force")
	ask("{}", 200, "in_force pending", "in_force")
	if got := ask("{}", 409, "", ""); got["code"] != "key_pending" {
		t.Errorf("rotated twice: %v", got)
	}
	ask(`{"user":true}`, 200, "in_force pending", "in_force pending")
	ask(`{"revoke":true}`, 200, "in_force pending", "in_force pending")
	ask(`{"revoke":true,"user":true}`, 200, "in_force pending", "in_force pending")
	now := ask("", 200, "in_force pending", "in_force pending")
	pending := now["keys"].([]any)[1].(map[string]any)["id"].(string)
	ask(`{"revoke":true,"key":"`+pending+`"}`, 200, "in_force", "in_force pending")
	for _, part := range []string{"keys", "user_id_keys"} {
		was := first[part].([]any)[0].(map[string]any)["id"]
		if is := now[part].([]any)[0].(map[string]any)["id"]; is == was {
			t.Errorf("%s: %s is still there", part, was)
		}
	}
	// The node of the command does as storage says.
	stored, err := sessionctx.ParseRing(m.values[ringKey])
	if err != nil || !stored.Equal(app.ring.ring.Load()) {
		t.Errorf("storage has another ring than this node uses: %v", err)
	}
}

// countingStore counts look-ups in the store of sessions.
type countingStore struct {
	Store
	gets atomic.Int64
}

func (c *countingStore) OpenStore() (store.Store, error) {
	s, err := c.Store.OpenStore()
	return &countedStore{s, c}, err
}

type countedStore struct {
	store.Store
	count *countingStore
}

func (c *countedStore) Get(ctx context.Context, key string) ([]byte, error) {
	c.count.gets.Add(1)
	return c.Store.Get(ctx, key)
}

// Garbage is refused by what is in memory: neither Caddy's storage nor the
// store of sessions is asked.
func TestGarbageCostsNoReads(t *testing.T) {
	m := newMemoryStorage()
	app := keysApp(t, m)
	sessions := &countingStore{Store: app.store}
	app.store, app.storeKey = sessions, "counting "+app.storeKey
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cleanUp(app) })
	<-app.ring.ready
	h := app.handlersOf("")[0]
	reads := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.reads
	}
	before := reads()

	other, err := sessionctx.NewRing(rand.Reader, noon.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	const requests = 10_000
	for i := range requests {
		now := time.Now().UnixMilli()
		user, _ := other.NewUserID(rand.Reader, now, "ws_1")
		session, _ := other.NewSessionID(rand.Reader, now, h.campaign.CampaignRef, user)
		token := other.SealToken(&sessionctx.Session{ID: session, UserID: user, Campaign: h.campaign.CampaignRef, OriginalID: session}, now)
		var body, cookies string
		switch i % 5 {
		case 0: // a page with forged cookies
			cookies = "fb_user_ws_1=" + token + "; fb_session_cmp_1=" + token + "; fb_attribution_cmp_1=" + strings.Repeat("x", i%4000)
		case 1:
			body = `{"token":"` + token + `"}`
		case 2:
			body = fmt.Sprintf(`{"token":"%08x.%s"}`, i, strings.Repeat("A", i%3000))
		case 3:
			body = `{"campaign_id":"cmp_1","session_id":"` + session + `","user_id":"` + user + `"}`
		case 4:
			body = fmt.Sprintf(`{"campaign_id":"cmp_1","session_id":"session-%d"}`, i)
			cookies = "fb_session_cmp_1=" + token
		}
		w := serveGarbage(t, h, body, cookies, i)
		if body != "" && w.Code != http.StatusUnauthorized {
			t.Fatalf("%s got %d %s", body, w.Code, w.Body)
		}
		if body == "" && !strings.Contains(w.Body.String(), "data-session-context") {
			t.Fatalf("the page has no context: %s", w.Body)
		}
	}
	if n := reads() - before; n != 0 {
		t.Errorf("%d reads of Caddy's storage by %d requests", n, requests)
	}
	if n := sessions.gets.Load(); n != 0 {
		t.Errorf("%d look-ups in the store by %d requests", n, requests)
	}
	// The count is one: ids that verify are looked up.
	ring, now := app.ring.ring.Load(), time.Now().UnixMilli()
	user, _ := ring.NewUserID(rand.Reader, now, "ws_1")
	session, _ := ring.NewSessionID(rand.Reader, now, h.campaign.CampaignRef, user)
	serveGarbage(t, h, `{"campaign_id":"cmp_1","session_id":"`+session+`","user_id":"`+user+`"}`, "", 1)
	if n := sessions.gets.Load(); n != 1 {
		t.Errorf("ids of ours made %d look-ups", n)
	}
}

// serveGarbage sends a page request or, with a body, an API call, each from
// another client.
func serveGarbage(t *testing.T, h *Handler, body, cookies string, client int) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "http://lp.example.com/", nil)
	r.Header.Set("Sec-Fetch-Dest", "document")
	if body != "" {
		r = httptest.NewRequest("POST", "http://lp.example.com/client-api/v1/events/session/init", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{
		caddyhttp.ClientIPVarKey: fmt.Sprintf("203.0.%d.%d", client>>8, client&255), caddyhttp.TrustedProxyVarKey: false,
	})
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, *r)
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, r.WithContext(ctx), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, err := w.Write([]byte("<!doctype html><html><head><title>x</title></head></html>"))
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	return w
}
