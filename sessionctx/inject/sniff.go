package inject

import "net/http"

// sniffLen is how much http.DetectContentType looks at.
const sniffLen = 512

// sniff settles the type of an answer without one as net/http would, once there
// is enough to go by, and reports whether it did.
func (w *ResponseWriter) sniff(p []byte, last bool) bool {
	sample := p
	if w.held != nil {
		sample = w.held.b
		if len(sample) < sniffLen {
			sample = append(sample, p[:min(len(p), sniffLen-len(sample))]...)
		}
	}
	if !last && len(sample) < sniffLen {
		w.keep(p)
		return false
	}
	if contentType := http.DetectContentType(sample); len(sample) > 0 {
		essence, _ := mediaType(contentType)
		if _, why := htmlType(essence); why == Pending {
			w.Header()["Content-Type"] = []string{contentType}
			w.typed(contentType)
			return true
		}
	}
	w.pass(NotHTML)
	return true
}

// endSniff settles the type from what there is.
func (w *ResponseWriter) endSniff() error {
	w.sniff(nil, true)
	held := w.held
	if held == nil {
		return nil
	}
	defer held.release()
	w.held = nil
	return w.body(held.b)
}
