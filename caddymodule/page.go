package caddymodule

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// debugHeader says, with `debug`, why a page was or wasn't injected.
const debugHeader = "Session-Context"

// includeHeader is what Caddy's templates send with the request for a page
// that is included in another: only the outermost gets the context.
const includeHeader = "Caddy-Templates-Include"

// Reasons beside those of package inject.
const (
	reasonNotPage = inject.Reason("not_a_page_request")
	reasonKeys    = inject.Reason("keys_unavailable")
	reasonOff     = inject.Reason("off")
	reasonFailed  = inject.Reason("failed")
	reasonNested  = inject.Reason("nested")
)

// servePage lets the next handler make the answer and puts the context into
// it, if it is a page.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request, original *url.URL, next caddyhttp.Handler) error {
	if !inject.PageRequest(r, original.Path) || r.Header.Get(includeHeader) != "" {
		return h.untouched(h.asFetched(w, r), r, next, reasonNotPage)
	}
	if h.Inject == "loader" {
		return h.serveLoader(w, r, original, next)
	}
	if r.Method == http.MethodHead {
		now := wallClock()
		newView(h, r, h.app.facts(r, original, h.owns, now), now)
		// It mints nothing, and promises no length or validator that the
		// page won't have.
		return h.throughInjector(w, r, next, inject.Options{}, nil)
	}
	v, why := h.view(r, original)
	if v == nil {
		return h.untouched(w, r, next, why)
	}
	if h.Inject == "off" {
		return h.untouched(w, r, next, reasonOff)
	}

	e := h.app.engine()
	defer e.release()
	page := &pageAnswer{view: v, engine: e, errorRoute: inErrorRoute(r), request: r}
	return h.throughInjector(w, r, next, inject.Options{
		Script:    page.script,
		Nonce:     v.cspNonce,
		OnHeader:  page.onHeader,
		AnyStatus: page.errorRoute,
	}, page.emit)
}

// inErrorRoute reports whether the request is in `handle_errors`.
func inErrorRoute(r *http.Request) bool { return r.Context().Value(caddyhttp.ErrorCtxKey) != nil }

// throughInjector runs next with a writer that injects. after is called when
// the answer has ended, whole or not.
func (h *Handler) throughInjector(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, o inject.Options, after func(*inject.ResponseWriter)) error {
	var iw *inject.ResponseWriter
	told := !h.Debug
	if h.Debug {
		tell := o.OnHeader
		o.OnHeader = func(header http.Header, injecting bool) {
			if tell != nil {
				tell(header, injecting)
			}
			header.Set(debugHeader, outcomeText(iw.Outcome(), injecting))
			told = true
		}
	}
	iw = inject.NewResponseWriter(w, r, o)
	prepared := inject.PrepareRequest(r, o.Cacheable)
	refused := false
	defer func() {
		// An error or a panic passes; what the error route sees of the
		// request is what came in. Aborting what is closed does nothing.
		prepared.Restore()
		iw.Abort()
		why := iw.Outcome()
		if refused {
			why = inject.Status
		}
		h.served(why)
		if !told {
			// No header went out: the error route or Caddy makes the answer.
			w.Header().Set(debugHeader, outcomeText(why, false))
		}
		if after != nil {
			after(iw)
		}
	}()
	if err := next.ServeHTTP(iw, r); err != nil {
		// Without an answer yet, the error's status is for the error route to
		// give, or for Caddy.
		refused = iw.Status() == 0
		return err
	}
	return iw.Close()
}

func outcomeText(why inject.Reason, injecting bool) string {
	if injecting {
		return "injected"
	}
	return "skipped; reason=" + string(why)
}

// untouched passes the request on as it is.
func (h *Handler) untouched(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, why inject.Reason) error {
	if why != reasonNotPage {
		h.served(why)
	}
	if h.Debug {
		w.Header().Set(debugHeader, outcomeText(why, false))
	}
	return next.ServeHTTP(w, r)
}

// view decides about the page request. In an error route it finds what was
// decided before. A nil view is a page that goes out untouched.
func (h *Handler) view(r *http.Request, original *url.URL) (v *view, why inject.Reason) {
	if s := stateOf(varsOf(r)); s != nil && s.view != nil {
		v := s.view
		switch {
		case !inErrorRoute(r):
			// A handler around this one has decided.
			h.app.nested.Do(func() {
				h.log.Warn("session_context stands twice on a request's way: the outer one counts",
					zap.String("outer_campaign", v.handler.campaign.ID), zap.String("inner_campaign", h.campaign.ID))
			})
			return nil, reasonNested
		case v.visit == nil:
			return nil, reasonFailed
		}
		return v, ""
	}
	now := wallClock()
	v = newView(h, r, h.app.facts(r, original, h.owns, now), now)
	ring, err := h.app.keys(r.Context())
	if err != nil {
		return nil, reasonKeys
	}
	carried := h.carried(r, ring, &v.facts, now)
	in := sessionctx.Input{
		Ring:     ring,
		Campaign: h.campaign,
		Facts:    &v.facts,
		Carried:  carried,
		Consent:  h.consent(r, &v.facts, &carried, false),
		Now:      now,
		Random:   rand.Reader,
	}
	v.trail = h.trail(r.Context(), &in, original, r.Header.Get("Referer"), r.Header.Get("Cache-Control"))
	visit, err := sessionctx.Identify(in)
	if err != nil {
		h.log.Error("no session could be made: the page goes out without", zap.Error(err))
		return nil, reasonFailed
	}
	v.visit, v.ring = visit, ring
	v.visitorDay()
	v.publishVisit()
	h.assign(r, v)
	return v, ""
}

// assign gives a new session segment, variants and landing page.
func (h *Handler) assign(r *http.Request, v *view) {
	if v.visit.New {
		v.visit.Assign(h.segment(r), v.now)
	}
	v.publishAssignment()
	if s := &v.visit.Session; h.resolveLandingPage(r, s) {
		v.publishAssignment()
	}
	h.logIDs(r, &v.visit.Session)
}

// resolveLandingPage expands placeholders of the landing page's id. What comes
// of them may be the client's word, and has to be an id.
func (h *Handler) resolveLandingPage(r *http.Request, s *sessionctx.Session) (changed bool) {
	if !strings.Contains(s.LandingPageID, "{") {
		return false
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	s.LandingPageID = repl.ReplaceAll(s.LandingPageID, "")
	if err := sessionctx.CheckID(s.LandingPageID); err != nil {
		h.app.badLandingPage.Do(func() {
			h.log.Warn("placeholders of landing_page give no valid id: left out", zap.Error(err))
		})
		s.LandingPageID = ""
	}
	return true
}

// serveLoader gives the page the one constant script that fetches the context;
// the page stays as cacheable as it was.
func (h *Handler) serveLoader(w http.ResponseWriter, r *http.Request, original *url.URL, next caddyhttp.Handler) error {
	query := h.loaderQuery()
	scheme, host := visitor.Origin(r, byTrustedProxy(varsOf(r)))
	return h.throughInjector(w, r, next, inject.Options{
		Cacheable: true,
		Scheme:    scheme,
		Host:      host,
		Script: func(dst []byte, nonce string) []byte {
			// The nonce is the page's own, which its policy asks for.
			dst = sessionctx.AppendRuntime(dst, h.runtime, nonce)
			dst = append(dst, `<script data-session-context=""`...)
			dst = sessionctx.AppendNonce(dst, nonce)
			dst = append(dst, ` src="`...)
			dst = append(dst, h.apiPath...)
			dst = append(dst, `/session/context.js`...)
			dst = append(dst, query...)
			return append(dst, `"></script>`...)
		},
	}, func(iw *inject.ResponseWriter) {
		if iw.Outcome() != inject.Injected || inErrorRoute(r) {
			return
		}
		now := wallClock()
		if f := h.app.facts(r, original, h.owns, now); f.Purpose == sessionctx.PurposeNavigate {
			h.awaitLife(&f.Bot, now)
		}
	})
}

// pageAnswer is one page on its way out.
type pageAnswer struct {
	view       *view
	engine     engine
	errorRoute bool
	request    *http.Request
}

// script is called when the page is sure to get it.
func (p *pageAnswer) script(dst []byte, nonce string) []byte {
	v := p.view
	h := v.handler
	doc := sessionctx.Document{
		Visit:      v.visit,
		Facts:      &v.facts,
		Token:      v.ring.SealToken(&v.visit.Session, v.now.UnixMilli()),
		APIBaseURL: h.baseURL(&v.facts),
		Now:        v.now,
		Runtime:    h.runtime,
	}
	return doc.AppendScript(dst, h.variable, nonce)
}

// onHeader sets the cookies that go with an injected page and keeps the
// session's state, before the page's script can ask for it.
func (p *pageAnswer) onHeader(header http.Header, injecting bool) {
	retried := p.clientHints(header, injecting)
	if !injecting {
		return
	}
	v := p.view
	if !retried {
		setCookies(header, v.visit, v.ring, &v.facts, v.now)
	}
	v.keep(p.engine)
}

// emit writes the page's rows, once a view; nobody waits for them. A page that
// was cut off was shown all the same.
func (p *pageAnswer) emit(iw *inject.ResponseWriter) {
	v := p.view
	h := v.handler
	s := &v.visit.Session
	why := iw.Outcome()
	if v.told || !isPage(why) && !(why == inject.Status && iw.Status() >= 400) {
		return
	}
	v.told = true
	if why != inject.Injected && v.trail != nil {
		v.keep(p.engine) // the visitor sits before it all the same
	}
	row := rowBuffers.Get().(*rowBuffer)
	defer row.putBack()
	counted := why == inject.Injected && v.facts.Purpose == sessionctx.PurposeNavigate && !p.errorRoute
	if h.campaign.Environment == sessionctx.Production {
		row.b = sessionctx.AppendTrafficRow(row.b[:0], h.campaign, s, &v.facts, uuid.NewString(), iw.Status(), counted, v.now.UnixMilli())
		p.add(sessionctx.TrafficDatasource, row.b)
	}
	if !counted {
		return
	}
	h.awaitLife(&v.facts.Bot, v.now)
	if v.visit.New {
		h.app.countDrawn(s, v.visit.Bucket(), atPage)
	}
	// Not only a new session's: the page that it began with may not have counted.
	if h.Visit == "page" && !h.app.seen.has(s.ID, 0) {
		row.b = sessionctx.AppendSessionRow(row.b[:0], h.campaign, s, &v.facts)
		if p.add(sessionctx.SessionDatasource, row.b) {
			h.app.seen.add(s.ID, 0)
		}
	}
}

// rowBuffer is where rows are made, for the outbox to copy.
type rowBuffer struct{ b []byte }

// maxRowBuffer is how large a buffer is kept for the next, in bytes.
const maxRowBuffer = 64 << 10

func (b *rowBuffer) putBack() {
	if cap(b.b) <= maxRowBuffer {
		rowBuffers.Put(b)
	}
}

var rowBuffers = sync.Pool{New: func() any { return &rowBuffer{make([]byte, 0, 2048)} }}

// add hands a row over, which is copied, by itself: traffic is refused sooner
// than sessions. It reports whether the outbox took it.
func (p *pageAnswer) add(datasource string, row []byte) bool {
	h := p.view.handler
	err := p.engine.outbox.add(outbox.Row{Datasource: datasource, JSON: row})
	if err != nil {
		h.app.metrics.rowsLost.Inc()
		h.app.lostRows.Do(func() {
			h.log.Error("rows of pages are lost", zap.String("datasource", datasource), zap.Error(err))
		})
	}
	return err == nil
}

// isPage reports whether an answer was a page, injected or not: such views
// are traffic.
func isPage(why inject.Reason) bool {
	switch why {
	case inject.Injected, inject.AlreadyInjected, inject.Charset, inject.CSP, inject.Encoding,
		inject.NoInsertionPoint, inject.NoScript, inject.NoTransform, inject.PrefixTooLong:
		return true
	}
	return false
}

// logIDs adds ids to the access log, without the part that proves them.
func (h *Handler) logIDs(r *http.Request, s *sessionctx.Session) {
	if !h.LogIDs {
		return
	}
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	extra.Set(zap.String("session_id", sessionctx.WithoutMAC(s.ID)))
	extra.Set(zap.String("session_user_id", sessionctx.WithoutMAC(s.UserID)))
	extra.Set(zap.String("campaign_id", s.Campaign.ID))
}

// newNonce makes a CSP nonce of 128 bits (CSP3 §7.1).
func newNonce() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}
