package inject

import (
	"net/http"
	"strings"
)

// request is what has to be known of the request.
type request struct {
	head    bool
	connect bool
	fetched bool
	host    string
	https   bool
}

func readRequest(r *http.Request) request {
	return request{
		head:    r.Method == http.MethodHead,
		connect: r.Method == http.MethodConnect,
		fetched: r.Header.Get("Sec-Fetch-Dest") == "empty" && !passedOn(r.Header) && !fetchedAhead(r.Header),
		host:    r.Host,
		https:   r.TLS != nil,
	}
}

// refuse says why an answer is none to inject into, going by its status and by
// whatever of its header does not depend on the media type; Pending if nothing
// speaks against it so far.
func (q request) refuse(status int, h http.Header, anyStatus bool) Reason {
	switch {
	case status == http.StatusSwitchingProtocols || q.connect:
		return Upgrade
	case status == http.StatusNotModified:
		return NotModified
	case status == http.StatusNoContent || status == http.StatusResetContent:
		return NoContent
	case status == http.StatusPartialContent:
		return Partial
	case (status < 200 || status > 299) && !anyStatus:
		return Status
	case incremental(h):
		return Incremental
	}
	return Pending
}

// refusePage says why a page, known to be HTML, is not to be injected into.
func (q request) refusePage(h http.Header) Reason {
	switch {
	case q.fetched:
		return Fetched
	case attachment(h.Get("Content-Disposition")):
		return Attachment
	case hasDirective(h["Cache-Control"], "no-transform"):
		return NoTransform
	case q.head:
		return Head
	}
	if _, known := contentCoding(h); !known {
		return Encoding
	}
	return Pending
}

// htmlType reports whether essence is HTML, and in which syntax; the reason
// tells if not.
func htmlType(essence string) (isXML bool, why Reason) {
	switch {
	case strings.EqualFold(essence, "text/html"):
		return false, Pending
	case strings.EqualFold(essence, "application/xhtml+xml"):
		return true, Pending
	case strings.EqualFold(essence, "text/event-stream"):
		return false, EventStream
	}
	return false, NotHTML
}

// attachment reports whether browsers save what this disposition describes:
// anything but inline, where a parameter alone counts as inline.
func attachment(disposition string) bool {
	kind, _, _ := strings.Cut(disposition, ";")
	kind = strings.TrimSpace(kind)
	return kind != "" && !strings.EqualFold(kind, "inline") && !strings.Contains(kind, "=")
}

func incremental(h http.Header) bool {
	v, _, _ := strings.Cut(h.Get("Incremental"), ";")
	return strings.TrimSpace(v) == "?1"
}
