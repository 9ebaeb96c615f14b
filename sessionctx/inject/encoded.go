package inject

import "net/http"

// maxRaw is how much compressed data is kept while a page is held, so that it
// can still go out as it came.
const maxRaw = 4 * maxPrefix

// encoded is the state of a body that came compressed though nobody asked for
// it. Its zero value is a body that did not.
type encoded struct {
	dec *decoder
	raw *buffer // everything written so far, until the page is injected
	out bool    // the body goes out as it came
}

func (e *encoded) begin(coding string, sink func([]byte) error) {
	e.dec = newDecoder(coding, sink)
	e.raw = takeBuffer()
}

// active reports whether the body has to be decoded.
func (e *encoded) active() bool { return e.dec != nil && !e.out }

// giveUp returns everything so far, to go out untouched like all that follows.
// The bytes are good until end.
func (e *encoded) giveUp() []byte {
	e.out = true
	return e.raw.b
}

// forget drops the original bytes: the page goes out decoded.
func (e *encoded) forget() {
	e.raw.release()
	e.raw = nil
}

// end lets go of everything.
func (e *encoded) end() {
	if e.dec != nil {
		e.dec.stop()
		e.dec = nil
	}
	e.forget()
}

// decode takes compressed bytes.
func (w *ResponseWriter) decode(p []byte) error {
	if w.phase == phaseHold {
		w.enc.raw.b = append(w.enc.raw.b, p...)
	}
	err := w.enc.dec.write(p)
	if w.enc.out {
		w.enc.end()
		if err == errStopped {
			return nil
		}
		return err
	}
	if w.phase != phaseHold {
		return err
	}
	switch {
	case err != nil:
		return w.undecoded(Encoding)
	case len(w.enc.raw.b) > maxRaw:
		return w.undecoded(PrefixTooLong)
	}
	return nil
}

// decoded takes what comes out of the decoder, within decode.
func (w *ResponseWriter) decoded(p []byte) error {
	if w.phase == phasePass {
		_, err := w.send(p)
		return err
	}
	err := w.hold(p)
	if err == nil && w.enc.out {
		return errStopped
	}
	return err
}

// undecoded sends a page as it came, because it cannot be decoded.
func (w *ResponseWriter) undecoded(why Reason) error {
	w.letGo()
	w.pass(why)
	err := w.sendAll(w.enc.giveUp(), nil)
	w.enc.end()
	return err
}

// endDecoding ends the input of the decoder, and sees to it that a broken body
// does not look whole.
func (w *ResponseWriter) endDecoding() error {
	err, sunk := w.enc.dec.close(), w.enc.dec.sunk
	switch {
	case err == nil || sunk == errStopped:
		return nil
	case sunk != nil:
		return sunk
	case w.phase == phaseHold:
		return w.undecoded(Encoding)
	}
	w.enc.end()
	panic(http.ErrAbortHandler)
}
