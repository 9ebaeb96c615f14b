package inject

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Options say what to inject, and how the page may be treated for it.
type Options struct {
	// Script appends the complete script element to dst. It has to be pure
	// ASCII, to carry the attribute data-session-context and, unless it is "",
	// the nonce. Where that is ours the script should take it off itself, or a
	// page that copies the first nonce it finds to scripts of its own would get
	// one that its policy in a <meta> doesn't have. It is called once, and only
	// for a page that gets it. Appending nothing lets the page go out untouched.
	Script func(dst []byte, nonce string) []byte
	// Nonce returns our own nonce for this page, the one the script carries. It
	// is called only if the page gets a script. Nil means none: the page's
	// policies are left as they are.
	Nonce func() string
	// OnHeader is called once, before the final header goes out, and may change
	// it; injecting says whether the page gets the script. It is not called for
	// informational answers. Nil means nobody cares.
	OnHeader func(h http.Header, injecting bool)
	// AnyStatus injects into error pages too.
	AnyStatus bool
	// Cacheable is for a script that is the same for every visitor: the page
	// keeps its validators and cache rules, no nonce of ours is made, and a
	// policy that forbids the script is respected.
	Cacheable bool
	// Scheme and Host are where the browser asked for a cacheable page, behind
	// proxies that end TLS or rename hosts: policies name these. Empty means as
	// the request has it.
	Scheme, Host string
}

// ResponseWriter is an http.ResponseWriter that injects into the page written
// to it. Close or Abort must be called when the handler that writes to it is
// done (Abort in a defer, for panics; whichever comes second does nothing). The
// header map is the inner writer's own.
//
// Like any ResponseWriter it is used by one goroutine at a time.
type ResponseWriter struct {
	inner http.ResponseWriter
	req   request
	opts  Options

	phase   phase
	status  int
	outcome Reason
	flush   bool // the upstream flushed while we held back
	length  int64
	written int64

	doc     document
	held    *buffer
	waiting *buffer // an injected page's beginning, to go out with what follows
	left    int64   // how much is to follow then
	enc     encoded
}

// phase is how far the answer has come.
type phase uint8

const (
	phaseHeader phase = iota // no final status yet
	phaseSniff               // the type is to be told from the first bytes
	phaseHold                // header and prefix are held
	phasePass                // the header is out; everything goes straight through
)

// NewResponseWriter returns a writer that answers r to w.
func NewResponseWriter(w http.ResponseWriter, r *http.Request, o Options) *ResponseWriter {
	q := readRequest(r)
	if o.Scheme != "" {
		q.https = o.Scheme == "https"
	}
	if o.Host != "" {
		q.host = o.Host
	}
	return &ResponseWriter{inner: w, req: q, opts: o, length: -1}
}

// Header implements http.ResponseWriter.
func (w *ResponseWriter) Header() http.Header { return w.inner.Header() }

// Unwrap is for http.ResponseController.
func (w *ResponseWriter) Unwrap() http.ResponseWriter { return w.inner }

// Push implements http.Pusher.
func (w *ResponseWriter) Push(target string, opts *http.PushOptions) error {
	if p, ok := w.inner.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return http.ErrNotSupported
}

// Status is the final status that the upstream wrote, 0 before that.
func (w *ResponseWriter) Status() int { return w.status }

// Written is the number of body bytes that went out.
func (w *ResponseWriter) Written() int64 { return w.written }

// Outcome is what became of the answer, Pending while it is held.
func (w *ResponseWriter) Outcome() Reason { return w.outcome }

// WriteHeader implements http.ResponseWriter. A page's header is held until the
// insertion point is known; every other goes out at once.
func (w *ResponseWriter) WriteHeader(status int) {
	if w.phase != phaseHeader {
		return
	}
	if status >= 100 && status <= 199 && status != http.StatusSwitchingProtocols {
		w.inner.WriteHeader(status)
		return
	}
	w.status = status
	h := w.Header()
	if why := w.req.refuse(status, h, w.opts.AnyStatus); why != Pending {
		w.pass(why)
		return
	}
	contentType, typed := h["Content-Type"]
	if !typed && len(h["Content-Encoding"]) == 0 && !w.req.head {
		w.phase = phaseSniff
		return
	}
	if len(contentType) != 1 || strings.Contains(contentType[0], ",") {
		// Of several types browsers take the last that they know, with
		// parameters of an earlier one (Fetch §2.2, "extract a MIME type").
		// Nobody means to send them.
		w.pass(NotHTML)
		return
	}
	w.typed(contentType[0])
}

// typed goes on from a known Content-Type: it holds a page, and lets go of
// everything else.
func (w *ResponseWriter) typed(contentType string) {
	h := w.Header()
	essence, charset := mediaType(contentType)
	isXML, why := htmlType(essence)
	if why == Pending {
		why = w.req.refusePage(h)
	}
	if why == Pending && w.opts.Cacheable {
		if _, ok := loaderAllowed(h[cspHeader], w.req.host, w.req.https); !ok {
			why = CSP
		}
	}
	if why == Head {
		w.describe(h)
		// Nil, not missing: HTTP/3's server would make up a length of 0.
		h["Content-Length"] = nil
		if coding, _ := contentCoding(h); coding != "" {
			delete(h, "Content-Encoding")
		}
	}
	if why != Pending {
		w.pass(why)
		return
	}
	w.phase = phaseHold
	w.doc.isXML = isXML
	w.doc.declared = charset
	w.doc.prescan = !isXML && charset == ""
	if length := h.Get("Content-Length"); length != "" {
		if n, err := strconv.ParseInt(length, 10, 63); err == nil {
			w.length = n
		}
	}
	if coding, _ := contentCoding(h); coding != "" {
		w.enc.begin(coding, w.decoded)
	}
}

// pass sends the header, with the reason for not injecting.
func (w *ResponseWriter) pass(why Reason) {
	w.outcome = why
	w.phase = phasePass
	if w.opts.OnHeader != nil {
		w.opts.OnHeader(w.Header(), false)
	}
	w.inner.WriteHeader(w.status)
}

// describe makes the header fit a page with a script in it, but for what
// depends on the script itself.
func (w *ResponseWriter) describe(h http.Header) {
	dropDigests(h)
	if w.opts.Cacheable {
		delete(h, "Accept-Ranges")
		return
	}
	keepPrivate(h)
}

// Write implements http.ResponseWriter.
func (w *ResponseWriter) Write(p []byte) (int, error) {
	if w.phase == phaseHeader {
		w.WriteHeader(http.StatusOK)
	}
	if w.phase == phaseSniff {
		if !w.sniff(p, false) {
			return len(p), nil
		}
		if held := w.held; held != nil {
			// The bytes sniffed come first, together with what follows.
			w.held = nil
			held.b = append(held.b, p...)
			err := w.body(held.b)
			held.release()
			return accepted(p, err)
		}
	}
	if w.phase == phasePass && w.waiting == nil && !w.enc.active() && !w.flush {
		return w.send(p)
	}
	return accepted(p, w.body(p))
}

// body takes bytes that are known to be a body's, whatever the phase.
func (w *ResponseWriter) body(p []byte) error {
	switch {
	case w.enc.active():
		return w.decode(p)
	case w.phase == phasePass:
		return w.sendAll(p, nil)
	}
	return w.hold(p)
}

// hold looks for the insertion point.
func (w *ResponseWriter) hold(p []byte) error {
	doc, rest := p, []byte(nil)
	if w.held != nil {
		n := min(len(p), maxPrefix-len(w.held.b))
		w.keep(p[:n])
		doc, rest = w.held.b, p[n:]
	} else if len(p) > maxPrefix {
		doc, rest = p[:maxPrefix], p[maxPrefix:]
	}
	place := w.doc.look(doc, false)
	if !place.known() {
		if w.held == nil {
			w.keep(p)
		}
		return nil
	}
	return w.settle(place, doc, rest)
}

// keep appends p to what is held.
func (w *ResponseWriter) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.held == nil {
		w.held = takeBuffer()
	}
	w.held.b = append(w.held.b, p...)
}

// sendAll writes both parts, behind what waits for them, and flushes if the
// upstream wanted that.
func (w *ResponseWriter) sendAll(a, b []byte) error {
	if first := w.waiting; first != nil {
		w.waiting = nil
		defer first.release()
		// What is more than the length is refused, and all of that write with it.
		if len(a) > joinLimit || int64(len(a)) > w.left {
			if _, err := w.send(first.b); err != nil {
				return err
			}
		} else {
			first.b = append(first.b, a...)
			a = first.b
		}
	}
	for _, p := range [...][]byte{a, b} {
		if len(p) > 0 {
			if _, err := w.send(p); err != nil {
				return err
			}
		}
	}
	if w.flush {
		w.flush = false
		// The upstream was told long ago that its flush went well.
		_ = http.NewResponseController(w.inner).Flush()
	}
	return nil
}

// sendWaiting writes what waits for company, without it.
func (w *ResponseWriter) sendWaiting() error {
	if w.waiting == nil {
		return nil
	}
	return w.sendAll(nil, nil)
}

func (w *ResponseWriter) send(p []byte) (int, error) {
	n, err := w.inner.Write(p)
	w.written += int64(n)
	return n, err
}

// letGo returns the held prefix to the pool.
func (w *ResponseWriter) letGo() {
	w.held.release()
	w.held = nil
}

// FlushError is for http.ResponseController. While a page has to be held, or its
// type is not known, the flush is remembered.
func (w *ResponseWriter) FlushError() error {
	if w.phase == phaseHeader {
		w.WriteHeader(http.StatusOK)
	}
	if w.phase == phaseSniff && w.held != nil {
		if err := w.endSniff(); err != nil {
			return err
		}
	}
	switch w.phase {
	case phaseSniff:
		// A proxy may flush the header before it has a byte to tell the type from.
		w.flush = true
		return nil
	case phaseHold:
		w.flush = true
		if w.held == nil {
			return nil
		}
		place := w.doc.hurry()
		if !place.known() {
			return nil
		}
		err := w.settle(place, w.held.b, nil)
		if w.enc.out {
			w.enc.end()
		}
		return err
	}
	if err := w.sendWaiting(); err != nil {
		return err
	}
	return http.NewResponseController(w.inner).Flush()
}

// Close ends the answer after a handler that returned without an error. What
// is held goes out. A handler that wrote nothing has nothing written for it.
//
// It panics with http.ErrAbortHandler where the header is out and a body that
// was being decoded turns out to be broken or cut off: only so does the client
// learn that the page is not whole.
func (w *ResponseWriter) Close() error {
	if w.phase == phaseHeader {
		w.outcome = NoContent
		return nil
	}
	defer w.enc.end()
	if w.phase == phaseSniff {
		if err := w.endSniff(); err != nil {
			return fmt.Errorf("releasing page: %w", err)
		}
	}
	if w.enc.active() {
		if err := w.endDecoding(); err != nil {
			return fmt.Errorf("releasing page: %w", err)
		}
	}
	if w.phase == phaseHold {
		var doc []byte
		if w.held != nil {
			doc = w.held.b
		}
		if err := w.settle(w.doc.look(doc, true), doc, nil); err != nil {
			return fmt.Errorf("releasing page: %w", err)
		}
	}
	if err := w.sendWaiting(); err != nil {
		return fmt.Errorf("releasing page: %w", err)
	}
	if w.outcome == Injected {
		dropTrailerDigests(w.Header())
	}
	return nil
}

// Abort ends the answer after a handler that returned an error or panicked. A
// page still held is dropped, header and all, so that an error page may follow;
// of one whose header is out goes out what there is.
func (w *ResponseWriter) Abort() {
	held := w.phase == phaseHold || w.phase == phaseSniff
	if held {
		h := w.Header()
		// They describe a body that nobody will see.
		for _, name := range validators {
			delete(h, name)
		}
		dropDigests(h)
		delete(h, "Content-Length")
		delete(h, "Content-Encoding")
	}
	if held || w.phase == phaseHeader && w.outcome == Pending {
		w.outcome = Aborted
	}
	w.enc.end()
	w.letGo()
	_ = w.sendWaiting() // of a page that is cut off, too, goes out what there is
	if w.phase != phaseHeader {
		w.phase = phasePass
	}
}

// accepted is what Write returns for bytes that were taken over whole.
func accepted(p []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

var _ interface {
	http.ResponseWriter
	http.Pusher
	io.ReaderFrom
	FlushError() error
	Unwrap() http.ResponseWriter
} = (*ResponseWriter)(nil)
