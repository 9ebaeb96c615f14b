package inject

// A Reason says what became of an answer: Injected, or why not. The values are
// few and fixed, so they can be labels of a metric.
type Reason string

// What became of an answer.
const (
	// Pending is the outcome before it is known.
	Pending Reason = ""
	// Injected means that the script is in the page.
	Injected Reason = "injected"

	// AlreadyInjected is a page whose first script is one of ours.
	AlreadyInjected Reason = "already_injected"
	// Attachment is a download (Content-Disposition).
	Attachment Reason = "attachment"
	// Aborted is an answer that ended in an error or panic while it was held.
	Aborted Reason = "aborted"
	// Charset is a page in an encoding in which ASCII bytes are not ASCII
	// characters: UTF-16, ISO-2022-JP and what browsers refuse to decode.
	Charset Reason = "charset"
	// CSP is a policy that forbids the script and must not be loosened.
	CSP Reason = "csp"
	// Encoding is a Content-Encoding that cannot be decoded.
	Encoding Reason = "encoding"
	// EventStream is a text/event-stream.
	EventStream Reason = "event_stream"
	// Fetched is HTML that a script asked for (Sec-Fetch-Dest: empty).
	Fetched Reason = "fetched"
	// Head is the answer to a HEAD request.
	Head Reason = "head"
	// Incremental is an answer that asks to be forwarded as it comes
	// (RFC 10036).
	Incremental Reason = "incremental"
	// NoContent is an answer without a body: 204, 205, or nothing at all.
	NoContent Reason = "no_content"
	// NoInsertionPoint is a document that ended, cannot be understood, or is
	// not understood alike by all browsers, before a head began.
	NoInsertionPoint Reason = "no_insertion_point"
	// NoScript means that Options.Script had nothing to insert.
	NoScript Reason = "no_script"
	// NoTransform is Cache-Control: no-transform.
	NoTransform Reason = "no_transform"
	// NotHTML is any other media type.
	NotHTML Reason = "not_html"
	// NotModified is a 304.
	NotModified Reason = "not_modified"
	// Partial is a 206.
	Partial Reason = "partial"
	// PrefixTooLong is a document with no head in its first 64 KiB.
	PrefixTooLong Reason = "prefix_too_long"
	// Status is a status other than 2xx.
	Status Reason = "status"
	// Upgrade is a 101, or the answer to a CONNECT.
	Upgrade Reason = "upgrade"
)
