package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

const (
	maxBody      = 64 << 10
	maxBatchBody = 256 << 10
	// usualBody is what few bodies are longer than.
	usualBody = 4 << 10

	// storePatience and commitPatience bound how long an API call waits; those
	// that share a deadline wait sharedFor longer at most.
	storePatience  = 2 * time.Second
	commitPatience = 10 * time.Second
	// busyRetry is what clients are told to wait when we can't take a call.
	busyRetry = 5 * time.Second
)

// route is one route of the API.
type route struct {
	method  string
	maxBody int64
	// quiet answers temporary refusals with an empty body: older clients
	// keep a batch then.
	quiet bool
	serve func(*call) (any, error)
	// anyOrigin is for pages of any site, and no cookies.
	anyOrigin bool
}

var routes = map[string]route{
	"events/session/init":     {method: http.MethodPost, maxBody: maxBody, serve: (*call).init},
	"events/session/renew":    {method: http.MethodPost, maxBody: maxBody, serve: (*call).renew},
	"events/session/track":    {method: http.MethodPost, maxBody: maxBody, serve: (*call).trackSession},
	"events/session/validate": {method: http.MethodPost, maxBody: maxBody, serve: (*call).validate},
	"events/track":            {method: http.MethodPost, maxBody: maxBody, serve: (*call).trackEvent},
	"events/batch-track":      {method: http.MethodPost, maxBody: maxBatchBody, quiet: true, serve: (*call).trackBatch},
	"events/external-track":   {method: http.MethodPost, maxBody: maxBody, anyOrigin: true, serve: (*call).trackConversion},
	"consent/record":          {method: http.MethodPost, maxBody: maxBody, serve: (*call).recordConsent},
	"session/context":         {method: http.MethodGet, serve: (*call).context},
	"session/context.js":      {method: http.MethodGet, serve: (*call).context},
}

// readers are what GET does on routes that POST writes to.
var readers = map[string]func(*call) (any, error){
	"consent/record": (*call).readConsent,
}

func isRoute(path string) bool {
	_, ok := routes[path]
	return ok || scriptAt(path) != nil
}

// refusal is an answer other than success. It tells the client what is wrong.
type refusal struct {
	status int
	code   string // stable: clients compare it
	text   string
	retry  time.Duration
}

func (r *refusal) Error() string { return r.code + ": " + r.text }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status: status, code: code, text: fmt.Sprintf(format, args...)}
}

func busy(code, text string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: code, text: text, retry: busyRetry}
}

// call is one API request on its way.
type call struct {
	app   *App
	site  *Handler // that the request came through; nil for session_context_api
	w     http.ResponseWriter
	r     *http.Request
	name  string
	route route
	now   time.Time

	facts  sessionctx.Facts
	ring   *sessionctx.Ring
	engine engine
	body   sessionctx.Body

	// origin is the request's Origin if it is another site's.
	origin string
	// sameOrigin is whether the page that asks is this site's own; no other
	// reads or sets a cookie.
	sameOrigin bool

	// handler, session and proof are set by prove.
	handler *Handler
	session sessionctx.Session
	proof   proof
	carried sessionctx.Carried
	// bucket is what the session's A/B tests went by instead of the user, ""
	// if nothing; set by visitorDay.
	bucket string
	// lost is whether the session's state is gone: ids prove it, but what
	// went with it is not known.
	lost bool
	// cookies is whether the answer sets the cookies that are allowed.
	cookies bool
	// acted is whether the call tells of something that its visitor did.
	acted bool
	// published is the campaign whose variables are set.
	published *Handler
	// conflict is whether a token proved another identity than the cookies
	// hold, which stay as they are.
	conflict bool
}

// serveAPI answers one call. It never returns an error for the client's
// fault: a site's error pages are HTML.
func (a *App) serveAPI(w http.ResponseWriter, r *http.Request, name string, site *Handler) error {
	if s := scriptAt(name); s != nil {
		serveModule(w, r, name, s)
		return nil
	}
	c := &call{app: a, site: site, w: w, r: r, name: name, route: routes[name], now: wallClock()}
	data, err := c.serve()
	if err == nil && data == nil {
		return nil // answered already
	}
	c.answer(data, err)
	return nil
}

func (c *call) serve() (any, error) {
	header := c.w.Header()
	// Values of this answer's own, as Caddy's header directive may write into
	// them. Whoever may read the answer may read it as a resource.
	fixed := []string{"no-store", "nosniff", "same-origin", "Origin"}
	header["Cache-Control"] = fixed[0:1:1]
	header["X-Content-Type-Options"] = fixed[1:2:2]
	header["Cross-Origin-Resource-Policy"] = fixed[2:3:3]
	if len(header["Vary"]) == 0 {
		header["Vary"] = fixed[3:4:4]
	} else {
		header.Add("Vary", "Origin")
	}
	c.facts = c.app.facts(c.r, originalURL(c.r), nil, c.now)
	readableBy := "*"
	if !c.route.anyOrigin {
		if err := c.checkOrigin(); err != nil {
			return nil, err
		}
		readableBy = c.origin
	}
	if readableBy != "" {
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
		header.Set("Access-Control-Allow-Origin", readableBy)
		header.Set("Access-Control-Expose-Headers", "Retry-After")
	}
	if c.origin != "" {
		header.Set("Access-Control-Allow-Credentials", "true")
	}
	if c.r.Method == http.MethodOptions && c.r.Header.Get("Access-Control-Request-Method") != "" {
		header.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		header.Set("Access-Control-Allow-Headers", "Content-Type, Authorization")
		header.Set("Access-Control-Max-Age", "86400")
		c.w.WriteHeader(http.StatusNoContent)
		return nil, nil
	}
	methods := c.route.method
	if read := readers[c.name]; read != nil {
		methods += ", " + http.MethodGet
		if c.r.Method == http.MethodGet {
			c.route = route{method: http.MethodGet, serve: read}
		}
	}
	if c.r.Method != c.route.method {
		header.Set("Allow", methods+", OPTIONS")
		return nil, refuse(http.StatusMethodNotAllowed, "method_not_allowed", "%s takes %s, not %s", c.name, methods, sessionctx.CleanText(c.r.Method, 16))
	}
	if err := c.limitClient(); err != nil {
		return nil, err
	}
	var err error
	if c.ring, err = c.app.keys(c.r.Context()); err != nil {
		return nil, busy("keys_unavailable", "the server's keys can't be read yet: try again")
	}
	if c.route.method == http.MethodPost {
		if err := c.readBody(); err != nil {
			return nil, err
		}
	}
	c.acted = c.body.Text("user_activation", 8) == "true"
	c.engine = c.app.engine()
	defer c.engine.release()
	return c.route.serve(c)
}

func originDenied() error {
	return refuse(http.StatusForbidden, "origin_not_allowed", "this origin may not call the API: name it with allow_origin")
}

// checkOrigin lets only this site's own pages and those of allowed origins
// through, before anything is read, stored or set.
func (c *call) checkOrigin() error {
	h := c.r.Header
	site := h.Get("Sec-Fetch-Site")
	if h.Get("Sec-Fetch-Mode") == "navigate" {
		return originDenied()
	}
	origins := h["Origin"]
	origin := strings.ToLower(h.Get("Origin"))
	switch {
	case len(origins) > 1:
		return originDenied()
	case len(origins) == 0:
		if site != "" && site != "same-origin" {
			return originDenied()
		}
		c.sameOrigin = true
	case origin == "null":
		if site != "same-origin" {
			return originDenied()
		}
		c.sameOrigin = true
	case origin == c.facts.Origin():
		c.sameOrigin = true
	case c.app.allowsOrigin(origin):
		c.origin = origin
	default:
		return originDenied()
	}
	return nil
}

// allowed is checkOrigin for one campaign, as soon as that is known. An origin
// that only another campaign allows may not even read the refusal.
func (c *call) allowed(h *Handler) error {
	if c.sameOrigin || slices.Contains(h.AllowOrigin, c.origin) {
		return nil
	}
	header := c.w.Header()
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers"} {
		header.Del(name)
	}
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	return refuse(http.StatusForbidden, "origin_not_allowed", "this origin may not call the API of the campaign: name it with allow_origin")
}

func (c *call) limitClient() error {
	if !c.facts.ClientIP.IsValid() {
		// One bucket for all whose address is hidden would let one of them
		// lock the others out.
		c.app.noAddress.Do(func() {
			c.app.log.Warn("clients have no address, so they are not limited: set trusted_proxies, or trusted_proxies_unix for a UNIX socket")
		})
		return nil
	}
	client := clientName(c.facts.ClientIP)
	kind := limitClient
	if c.route.anyOrigin {
		// Another site's page must not use up what its visitor's calls to us need.
		kind = limitElsewhere
	} else if c.app.limits.exhausted(failedProofs, client) {
		return tooMany(time.Minute, "too many requests that did not prove their session")
	}
	if wait, ok := c.app.limits.allow(c.limit(kind), client, 1); !ok {
		return tooMany(wait, "too many requests from this client")
	}
	return nil
}

// limit is the site's, or the campaign's where that is known.
func (c *call) limit(kind limitKind) limit {
	h := c.handler
	if h == nil {
		h = c.site
	}
	if h != nil && h.RateLimit != nil {
		return limit{kind, h.RateLimit.PerMinute, h.RateLimit.Burst}
	}
	return limit{kind, defaultRequestsPerMinute, defaultBurst}
}

func tooMany(wait time.Duration, text string) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: "rate_limited", text: text, retry: max(wait, time.Second)}
}

// readBody reads and parses the JSON object that the client sent.
func (c *call) readBody() error {
	if ct := c.r.Header.Get("Content-Type"); ct != "" && ct != "application/json" {
		media, params, err := mime.ParseMediaType(ct)
		charset := strings.ToLower(params["charset"])
		if err != nil || media != "application/json" && media != "text/plain" || charset != "" && charset != "utf-8" {
			return refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type is neither application/json nor text/plain, in UTF-8")
		}
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "the body may not have a Content-Encoding")
	}
	tooLarge := func() error {
		return refuse(http.StatusRequestEntityTooLarge, "body_too_large", "body is longer than %d bytes", c.route.maxBody)
	}
	if c.r.ContentLength > c.route.maxBody {
		return tooLarge()
	}
	// Room for what was announced, unless that is a lot and may never come, and
	// for the read that finds the end.
	room := min(max(c.r.ContentLength, 0), usualBody)
	buf := bytes.NewBuffer(make([]byte, 0, room+bytes.MinRead))
	_, err := buf.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, c.route.maxBody))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return tooLarge()
		}
		return refuse(http.StatusBadRequest, "incomplete_body", "the body could not be read to its end")
	}
	if c.body, err = sessionctx.ParseBody(buf.Bytes()); err != nil {
		return refuse(http.StatusBadRequest, "invalid_json", "%v", err)
	}
	return nil
}

// answer writes data or a refusal as JSON.
func (c *call) answer(data any, err error) {
	code, status := "ok", http.StatusOK
	var payload any = success{true, data}
	if whole, ok := data.(wholeAnswer); ok {
		payload = whole
	}
	if err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			// Ours, not the client's.
			c.app.log.Error("API call failed", zap.String("route", c.name), zap.Error(err))
			r = busy("unavailable", "the server can't do this right now: try again")
		}
		code, status = r.code, r.status
		payload = failure{false, r.text, r.code}
		if r.retry > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(int((r.retry+time.Second-1)/time.Second)))
			if c.route.quiet {
				payload = nil
			}
		}
	}
	c.app.metrics.answers.WithLabelValues(c.name, code).Inc()
	if payload == nil {
		c.w.WriteHeader(status)
		return
	}
	if err == nil && c.cookies {
		c.setCookies()
	}
	body, merr := encode(payload)
	if merr != nil {
		c.app.log.Error("answer could not be written as JSON", zap.String("route", c.name), zap.Error(merr))
		c.w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	c.write(status, "application/json", body)
}

// write sends the whole answer.
func (c *call) write(status int, contentType string, body []byte) {
	values := []string{contentType, strconv.Itoa(len(body))}
	header := c.w.Header()
	header["Content-Type"], header["Content-Length"] = values[0:1:1], values[1:2:2]
	c.w.WriteHeader(status)
	c.w.Write(body)
}

type success struct {
	Success bool `json:"success"`
	Data    any  `json:"data"`
}

// encode is an answer as JSON. That to an event, by far the most frequent, does
// without reflection.
func encode(payload any) ([]byte, error) {
	if s, ok := payload.(success); ok {
		if t, ok := s.Data.(tracked); ok {
			b := append(make([]byte, 0, 128), `{"success":true,"data":`...)
			return append(t.append(b), '}'), nil
		}
	}
	return json.Marshal(payload)
}

// wholeAnswer is an answer that has more than data at its top level, where
// older clients look for it.
type wholeAnswer map[string]any

type failure struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
	Code    string `json:"code"`
}

// setCookies sets those cookies that are allowed and missing, and removes
// them where none is allowed, which takes no proof: they are the browser's own.
func (c *call) setCookies() {
	if !c.sameOrigin || c.handler == nil || c.elsewhere() {
		return
	}
	if c.facts.Purpose.Speculative() {
		return // as with the page itself: nobody may ever look at it
	}
	consent := c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired)
	v := sessionctx.Resume(c.handler.campaign, c.session, consent, c.carried)
	// Ids alone never get one, and a token never replaces the identity that a
	// valid cookie holds.
	if v.CookiesAllowed && (c.conflict || c.proof == proofIDs) {
		return
	}
	setCookies(c.w.Header(), v, c.ring, &c.facts, c.now)
}

// elsewhere reports whether this is the site of another campaign, which has
// cookies of its own. Campaigns under paths share a host: there the browser
// has shown a cookie of the session's user.
func (c *call) elsewhere() bool {
	if c.site == nil || c.site.sameCampaign(c.handler) {
		return false
	}
	return c.carried.UserID() != c.session.UserID
}

// commit makes rows durable: the answer may say so then.
func (c *call) commit(rows ...outbox.Row) error {
	if len(rows) == 0 {
		return nil
	}
	// A client that goes away meanwhile is no failure of the disk, and sends
	// the same again.
	err := c.engine.outbox.commit(commitDeadlines.context(), rows...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, outbox.ErrRow):
		// A row that we made is at fault, not the client.
		return fmt.Errorf("row for the outbox: %w", err)
	}
	c.app.noCommit.Do(func() {
		c.app.log.Error("rows could not be made durable: clients are told to try again", zap.Error(err))
	})
	if errors.Is(err, outbox.ErrFull) {
		return busy("outbox_full", "the server's outbox is full: try again")
	}
	return busy("outbox_unavailable", "the server can't store this right now: try again")
}
