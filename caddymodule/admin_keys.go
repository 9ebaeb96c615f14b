package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func init() {
	caddy.RegisterModule(AdminKeys{})
}

// Where Caddy's admin API answers for the key ring.
const (
	adminKeysPath   = "/session_context/keys"
	adminRotatePath = "/session_context/keys/rotate"
)

// AdminKeys shows the key ring in Caddy's admin API and changes it:
//
//	GET  /session_context/keys         ids, states and times of the keys; no secrets
//	POST /session_context/keys/rotate  {"user": false, "revoke": false, "key": ""}
//
// The second answers as the first does, when the change is in storage and in
// use on this node.
type AdminKeys struct {
	ctx caddy.Context
}

// CaddyModule returns the Caddy module information.
func (AdminKeys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.session_context_keys",
		New: func() caddy.Module { return new(AdminKeys) },
	}
}

// Provision keeps the config's context: routes of the admin API are made
// before the apps are.
func (a *AdminKeys) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	return nil
}

// Routes returns the routes of the admin API.
func (a *AdminKeys) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminKeysPath, Handler: a.answer(http.MethodGet, a.list)},
		{Pattern: adminRotatePath, Handler: a.answer(http.MethodPost, a.rotate)},
	}
}

// answer makes a handler of what returns a value for JSON, or a refusal.
func (a *AdminKeys) answer(method string, serve func(*keyRing, *http.Request) (any, error)) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		value, err := any(nil), error(nil)
		if r.Method != method {
			w.Header().Set("Allow", method)
			err = refuse(http.StatusMethodNotAllowed, "method_not_allowed", "this is for %s, not for %s", method, r.Method)
		} else if ring, e := a.ring(); e != nil {
			err = e
		} else {
			value, err = serve(ring, r)
		}
		status := http.StatusOK
		if err != nil {
			why := keysRefusal(err)
			status = why.status
			value = map[string]string{"error": why.text, "code": why.code}
			if status >= 500 {
				a.ctx.Logger().Error("key ring could not be shown or changed", zap.Error(err))
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		return json.NewEncoder(w).Encode(value)
	})
}

// ring is that of the running config.
func (a *AdminKeys) ring() (*keyRing, error) {
	app, err := a.ctx.AppIfConfigured(appName)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "not_configured", "the running config has no session_context: add it to a site, or ask another admin address")
	}
	return app.(*App).ring, nil
}

func (a *AdminKeys) list(ring *keyRing, _ *http.Request) (any, error) {
	l, ok := ring.list()
	if !ok {
		why := "it has not been read yet"
		if l.Trouble != "" {
			why = l.Trouble
		}
		return nil, refuse(http.StatusServiceUnavailable, "keys_unavailable", "there is no key ring: %s; it is tried again by itself", why)
	}
	return l, nil
}

// maxOrder is the longest order that is read, in bytes.
const maxOrder = 4096

func (a *AdminKeys) rotate(ring *keyRing, r *http.Request) (any, error) {
	// What a form of another site can send is no order.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "send the order as Content-Type: application/json")
	}
	var o keyOrder
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxOrder))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		return nil, refuse(http.StatusBadRequest, "invalid_json", `the body is no order: %v; known are {"user": true, "revoke": true, "key": "<id>"}, all optional`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse(http.StatusBadRequest, "invalid_json", "something stands behind the order: send one JSON object")
	}
	if o.Key != "" && !o.Revoke {
		return nil, refuse(http.StatusBadRequest, "key_without_revoke", "key %q is named, which only a revocation needs: add revoke, or leave it out", o.Key)
	}
	err := ring.obey(r.Context(), o)
	if errors.Is(err, sessionctx.ErrUnknownKey) {
		other, option := sessionctx.UserKeys, "add the option user"
		if o.User {
			other, option = sessionctx.SessionKeys, "leave out the option user"
		}
		for _, k := range ring.ring.Load().List(other, 0) {
			if k.ID == o.Key {
				return nil, refuse(http.StatusConflict, "wrong_key_use", "key %s is for another use: %s", o.Key, option)
			}
		}
		return nil, refuse(http.StatusNotFound, "unknown_key", "the ring has no key %q: list the keys for those that it has", o.Key)
	}
	if err != nil {
		return nil, err
	}
	return a.list(ring, r)
}

// keysRefusal is what is answered for an error.
func keysRefusal(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, sessionctx.ErrKeyPending):
		return refuse(http.StatusConflict, "key_pending", "%v", err)
	case errors.Is(err, sessionctx.ErrTooManyKeys):
		return refuse(http.StatusConflict, "too_many_keys", "%v", err)
	case errors.Is(err, errNoRing):
		return refuse(http.StatusServiceUnavailable, "keys_unavailable", "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(http.StatusServiceUnavailable, "keys_busy", "the ring's lock in storage could not be had (%v): another node changes it, or died while it did; try again in a minute", err)
	}
	return refuse(http.StatusServiceUnavailable, "keys_not_changed", "nothing was changed: %v; mend the storage, then try again", err)
}

var (
	_ caddy.AdminRouter = (*AdminKeys)(nil)
	_ caddy.Provisioner = (*AdminKeys)(nil)
)
