package sessionctx

import (
	"errors"
	"math"
	"slices"
	"strings"
)

// Caps of an event's fields, in bytes.
const (
	maxEventID  = 128
	maxUUID     = 1024 // no row holds it, and two that are cut alike would be one event
	maxElement  = 256
	maxEventURL = 1024
	maxMetadata = 4096
)

// maxEventValue is how far from zero a value may be, so that no client makes
// sums of values infinite, or as coarse as to lose others.
const maxEventValue = 1e12

// Event is the client's part of an events_v1 row. Everything else in the row
// is the server's.
type Event struct {
	// UUID is the client's own id of this event, by which retries are
	// recognised; empty from older clients.
	UUID string
	// ID names what happened: page-view, form-submission, ….
	ID        string
	Type      string // conversion, engagement, system
	Value     float64
	Currency  string // ISO 4217, upper case
	ValueType string // static, dynamic

	FormID, ClickedElement, ClickedURL string
	// Metadata is JSON text, at most 4 KiB.
	Metadata             string
	PageURL, ReferrerURL string

	// Pointers are nil where the client said nothing usable.
	PageLoadTime, DOMReadyTime    *float64 // ms
	ScrollPercentage              *int64   // 0 … 100
	TimeOnPage                    *int64   // s
	ViewportWidth, ViewportHeight *int64   // CSS px
}

// ByVisitor reports whether the event tells of something that the visitor did:
// a click, or a form sent. Views and scrolling are told of unasked.
func (e *Event) ByVisitor() bool {
	return e.FormID != "" || e.ClickedElement != "" || e.ClickedURL != ""
}

// Errors of an event that is left out of its batch.
var (
	ErrEventID   = errors.New("event_id is missing, empty or not text: name the event, for example page-view")
	ErrEventType = errors.New("event_type is not conversion, engagement or system")
)

// ParseEvent reads an event, coercing what it can: numbers are rounded and
// clamped to the column's range, texts cut. reduceURL is applied to URLs, so
// that rows keep path and campaign parameters only.
func ParseEvent(b Body, reduceURL func(string) string) (*Event, error) {
	e := parseEvent(b, reduceURL)
	if e.ID == "" {
		return nil, ErrEventID
	}
	if !slices.Contains([]string{"conversion", "engagement", "system"}, e.Type) {
		return nil, ErrEventType
	}
	return e, nil
}

// parseEvent is ParseEvent without the check of what an event has to have.
func parseEvent(b Body, reduceURL func(string) string) *Event {
	e := &Event{
		UUID:           b.Text("event_uuid", maxUUID),
		ID:             b.Text("event_id", maxEventID),
		Type:           b.Text("event_type", 16),
		Currency:       strings.ToUpper(b.Text("event_value_currency", 16)),
		ValueType:      b.Text("event_value_type", 16),
		FormID:         b.Text("form_id", maxElement),
		ClickedElement: b.Text("clicked_element", maxElement),
		ClickedURL:     reduceURL(b.Text("clicked_url", maxEventURL)),
		Metadata:       b.JSONText("metadata", maxMetadata),
		PageURL:        reduceURL(b.Text("page_url", maxEventURL)),
		ReferrerURL:    reduceURL(b.Text("referrer_url", maxEventURL)),
	}
	if e.ValueType != "dynamic" {
		e.ValueType = "static"
	}
	if !isCurrency(e.Currency) {
		e.Currency = "USD"
	}
	if v, ok := b.Number("event_value"); ok {
		e.Value = min(max(v, -maxEventValue), maxEventValue)
	}
	e.PageLoadTime = b.duration("page_load_time")
	e.DOMReadyTime = b.duration("dom_ready_time")
	e.ScrollPercentage = b.integer("scroll_percentage", 100)
	e.TimeOnPage = b.integer("time_on_page", math.MaxUint32)
	e.ViewportWidth = b.integer("viewport_width", math.MaxUint16)
	e.ViewportHeight = b.integer("viewport_height", math.MaxUint16)
	return e
}

func isCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

// duration is a number of ms that fits the Float32 column.
func (b Body) duration(name string) *float64 {
	f, ok := b.Number(name)
	if !ok || f < 0 || f > 1e9 {
		return nil
	}
	ms := f // most events have none: only a copy goes to the heap
	return &ms
}

func (b Body) integer(name string, max int64) *int64 {
	n, ok := b.Integer(name, max)
	if !ok {
		return nil
	}
	value := n
	return &value
}

// append writes the client's part of the row.
func (e *Event) append(o *object) {
	o.str("event_id", e.ID)
	o.float("event_value", e.Value)
	o.str("event_value_currency", e.Currency)
	o.str("event_value_type", e.ValueType)
	o.str("event_type", e.Type)
	o.orNull("form_id", e.FormID)
	o.orNull("clicked_element", e.ClickedElement)
	o.orNull("clicked_url", e.ClickedURL)
	o.floatOrNull("page_load_time", e.PageLoadTime)
	o.floatOrNull("dom_ready_time", e.DOMReadyTime)
	o.intOrNull("scroll_percentage", e.ScrollPercentage)
	o.intOrNull("time_on_page", e.TimeOnPage)
	o.orNull("metadata", e.Metadata)
	o.str("page_url", e.PageURL)
	o.orNull("referrer_url", e.ReferrerURL)
	o.intOrNull("viewport_width", e.ViewportWidth)
	o.intOrNull("viewport_height", e.ViewportHeight)
}

// Canonical is the event's content, equal for equal events of clients that
// give no uuid.
func (e *Event) Canonical() string {
	var o object
	o.open()
	e.append(&o)
	o.close()
	return string(o.b)
}

func (o *object) floatOrNull(k string, v *float64) {
	if v == nil {
		o.null(k)
		return
	}
	o.float(k, *v)
}

func (o *object) intOrNull(k string, v *int64) {
	if v == nil {
		o.null(k)
		return
	}
	o.int(k, *v)
}
