package caddymodule

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func init() {
	caddy.RegisterModule(AdminKeys{})
}

// Where Caddy's admin API answers for the key ring.
const (
	adminKeysPath   = adminPath + "keys"
	adminRotatePath = adminPath + "keys/rotate"
)

// AdminKeys shows the key ring in Caddy's admin API and changes it:
//
//	GET  /session_context/keys         ids, states and times of the keys; no secrets
//	POST /session_context/keys/rotate  {"user": false, "revoke": false, "key": ""}
//
// The second answers as the first does, when the change is in storage and in
// use on this node.
type AdminKeys struct{}

// CaddyModule returns the Caddy module information.
func (AdminKeys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.session_context_keys",
		New: func() caddy.Module { return new(AdminKeys) },
	}
}

// Routes returns the routes of the admin API.
func (a *AdminKeys) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminKeysPath, Handler: a.ofRing(http.MethodGet, a.list)},
		{Pattern: adminRotatePath, Handler: a.ofRing(http.MethodPost, a.rotate)},
	}
}

// ofRing makes a handler of what is asked of the key ring.
func (a *AdminKeys) ofRing(method string, serve func(*keyRing, *http.Request) (any, error)) caddy.AdminHandler {
	return adminAnswer(method, func(app *App, r *http.Request) (any, error) {
		value, err := serve(app.ring, r)
		if err != nil {
			return nil, keysRefusal(err)
		}
		return value, nil
	})
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

func (a *AdminKeys) rotate(ring *keyRing, r *http.Request) (any, error) {
	var o keyOrder
	if err := readOrder(r, &o, `{"user": true, "revoke": true, "key": "<id>"}, all optional`); err != nil {
		return nil, err
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

var _ caddy.AdminRouter = (*AdminKeys)(nil)
