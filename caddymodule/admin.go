package caddymodule

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// adminPath is where Caddy's admin API answers for the module.
const adminPath = "/session_context/"

// adminAnswer makes a handler of Caddy's admin API of what returns a value, which
// is answered as JSON, or a refusal, answered as {"error": …, "code": …}.
func adminAnswer(method string, serve func(*App, *http.Request) (any, error)) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		value, err := any(nil), error(nil)
		if r.Method != method {
			w.Header().Set("Allow", method)
			err = refuse(http.StatusMethodNotAllowed, "method_not_allowed", "this is for %s, not for %s", method, r.Method)
		} else if app, e := runningApp(); e != nil {
			err = e
		} else {
			value, err = serve(app, r)
		}
		status := http.StatusOK
		if err != nil {
			var why *refusal
			if !errors.As(err, &why) {
				why = refuse(http.StatusInternalServerError, "internal", "%v", err)
			}
			status = why.status
			value = map[string]string{"error": why.text, "code": why.code}
			log := caddy.Log().Named("admin.api.session_context")
			switch {
			case status == http.StatusInternalServerError:
				log.Error("a request of the admin API failed: this is a fault of the module, please report it", zap.String("path", r.URL.Path), zap.Error(err))
			case status > http.StatusInternalServerError: // whoever asks is told, and what is wrong has a line of its own
				log.Warn("a request of the admin API was refused", zap.String("path", r.URL.Path), zap.Error(err))
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		if d, ok := value.(download); ok {
			return d.write(w)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false) // people read it in terminals
		return e.Encode(value)
	})
}

// download is an answer that is a file.
type download struct {
	name, contentType string
	data              []byte
}

func (d download) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", d.contentType)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.name}))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, err := w.Write(d.data)
	return err
}

// runningApp is that of the running config, whichever config's admin API is
// asked: Caddy puts up a new one before the config's apps are there, and leaves
// it in place if they fail.
func runningApp() (*App, error) {
	if app := running.last(); app != nil {
		return app, nil
	}
	return nil, refuse(http.StatusNotFound, "not_configured", "the running config has no session_context: add it to a site, or ask another admin address")
}

// running are the apps that have started and not ended.
var running appList

type appList struct {
	mu   sync.Mutex
	apps []*App
}

func (l *appList) add(a *App) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apps = append(l.apps, a)
}

func (l *appList) remove(a *App) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apps = slices.DeleteFunc(l.apps, func(other *App) bool { return other == a })
}

// last is the one that started last, or nil.
func (l *appList) last() *App {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.apps) == 0 {
		return nil
	}
	return l.apps[len(l.apps)-1]
}

// maxOrder is the longest order that is read, in bytes.
const maxOrder = 4096

// readOrder reads the one JSON object of a request that changes something; an
// empty body is an empty object. known names its fields, for the refusal.
func readOrder(r *http.Request, order any, known string) error {
	// What a form of another site can send is no order.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "send the order as Content-Type: application/json")
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxOrder))
	d.DisallowUnknownFields()
	if err := d.Decode(order); err != nil && !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "invalid_json", "the body is no order: %v; known are %s", err, known)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "invalid_json", "something stands behind the order: send one JSON object")
	}
	return nil
}
