package inject

import "strconv"

// joinLimit is the largest rest of a chunk that is copied to go out in one
// write with the script.
const joinLimit = 128 << 10

// waitLimit is how much of a page may wait, with its script, for what follows: of
// one whose length is known, so that more is to come, and while nobody flushes.
// net/http holds back 4 KiB by itself, and writes to the connection each time
// they are full: the two pieces that a page of 10 KB comes in from a proxy take
// three calls into the kernel one by one, and two together.
const waitLimit = 8 << 10

// settle sends header, prefix, script and rest, now that the place is known.
func (w *ResponseWriter) settle(at place, doc, rest []byte) error {
	defer w.letGo()
	why := at.reason
	if why == Pending {
		out := takeBuffer()
		if why = w.inject(out, doc, at.at); why == Injected {
			left := w.length - int64(len(doc)) - int64(len(rest))
			if left > 0 && len(out.b)+len(rest) <= waitLimit && !w.flush && !w.enc.active() {
				out.b = append(out.b, rest...)
				w.waiting, w.left = out, left
				return nil
			}
			defer out.release()
			if len(rest) <= joinLimit {
				out.b, rest = append(out.b, rest...), nil
			}
			return w.sendAll(out.b, rest)
		}
		out.release()
	}
	if w.enc.active() {
		doc, rest = w.enc.giveUp(), nil
	}
	w.pass(why)
	return w.sendAll(doc, rest)
}

// inject puts doc with the script into out and sends the header, or says why it
// cannot.
func (w *ResponseWriter) inject(out *buffer, doc []byte, at int) Reason {
	h := w.Header()
	policies := h[cspHeader]
	var nonce string
	var ok bool
	if w.opts.Cacheable {
		nonce, ok = loaderAllowed(policies, w.req.host, w.req.https)
	} else {
		policies, nonce, ok = amendCSP(policies, w.opts.Nonce)
	}
	if !ok {
		return CSP
	}
	out.b = append(out.b, doc[:at]...)
	if w.opts.Script != nil {
		out.b = w.opts.Script(out.b, nonce)
	}
	script := len(out.b) - at
	if script == 0 {
		return NoScript
	}
	out.b = append(out.b, doc[at:]...)

	if len(policies) > 0 {
		h[cspHeader] = policies
	}
	switch {
	case w.enc.active():
		delete(h, "Content-Length")
		delete(h, "Content-Encoding")
		w.enc.forget()
	case w.length >= 0:
		h["Content-Length"] = []string{strconv.FormatInt(w.length+int64(script), 10)}
	default:
		delete(h, "Content-Length")
	}
	if w.doc.charset != "" {
		h["Content-Type"] = []string{withCharset(h.Get("Content-Type"), w.doc.charset)}
	}
	w.describe(h)
	w.outcome = Injected
	w.phase = phasePass
	if w.opts.OnHeader != nil {
		w.opts.OnHeader(h, true)
	}
	w.inner.WriteHeader(w.status)
	return Injected
}
