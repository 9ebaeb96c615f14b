package sessionctx

import (
	"encoding/base32"
	"errors"
	"strings"
	"time"
)

const (
	// OutboundClickLife is how long a click id stands for its session, however
	// long that lasts itself: what a visitor clicked through to may be bought
	// days later.
	OutboundClickLife = 10 * 24 * time.Hour

	// MaxConversions is how many conversions one click id is good for: it
	// stands in URLs, where anybody may find it.
	MaxConversions = 20

	outboundClickIDBytes = 10
	outboundClickIDLen   = 16
	maxClickIDText       = 64 // what is longer is none
)

// OutboundClick is what stands behind a click id: the session whose visitor
// left for another site, and the campaign's own ids as they were then, so that
// conversions count for a campaign that is no longer configured.
type OutboundClick struct {
	// Session is without its attribution.
	Session Session
	// WorkspaceID, ProjectID and Deployment are the campaign's.
	WorkspaceID, ProjectID, Deployment string
}

// clickIDs spells click ids: lower case only, since sites have been seen to
// change the case of URLs.
var clickIDs = base32.NewEncoding(clickIDAlphabet).WithPadding(base32.NoPadding)

const clickIDAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// OutboundClickID is the click id of a session: what links to other sites
// carry, so that a conversion there is the session's. Every node finds the same
// one. It is no secret, tells nothing of the session, and proves nothing but
// that its bearer was given it: 80 bits can't be guessed.
func (r *Ring) OutboundClickID(s *Session) string {
	sum := r.keyAt(s.CreatedAt).clicks.sum(nil, s.ID, s.Campaign.ID, string(s.Campaign.Environment))
	return clickIDs.EncodeToString(sum[:outboundClickIDBytes])
}

// CleanOutboundClickID is the one spelling of a click id that somebody names:
// ok is false for what has not the form of one, which is worth no look-up.
func CleanOutboundClickID(s string) (id string, ok bool) {
	id = strings.ToLower(s)
	// A decoder would skip the ends of lines.
	return id, len(id) == outboundClickIDLen && strings.Trim(id, clickIDAlphabet) == ""
}

// SealOutboundClick gives what stands behind a click id as it is kept in the
// store.
func (r *Ring) SealOutboundClick(c *Campaign, s *Session, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.text(c.WorkspaceID)
	w.text(c.ProjectID)
	w.text(c.Deployment)
	w.session(s, false) // last, since it may grow
	return w.stored(r, sealClick, now)
}

// OpenOutboundClick is SealOutboundClick's inverse. ErrInvalidSession if this
// ring did not make it.
func (r *Ring) OpenOutboundClick(sealed []byte) (*OutboundClick, error) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.openStored(r, sealClick, sealed)
	if err != nil {
		return nil, ErrInvalidSession
	}
	var d decoder
	d.read(plain)
	click := &OutboundClick{WorkspaceID: d.text(), ProjectID: d.text(), Deployment: d.text()}
	click.Session = *d.session()
	if d.err != nil {
		return nil, ErrInvalidSession
	}
	return click, nil
}

// Campaign is the campaign as far as rows name it.
func (c *OutboundClick) Campaign() *Campaign {
	return &Campaign{
		CampaignRef: c.Session.Campaign,
		WorkspaceID: c.WorkspaceID,
		ProjectID:   c.ProjectID,
		Deployment:  c.Deployment,
	}
}

// ErrClickID is a conversion that names no click id.
var ErrClickID = errors.New("click_id is missing or empty: it is the value of frbzz_ci in the URL that the visitor came by")

// ParseConversion reads a conversion that happened on another site, as
// ParseEvent reads an event. Its uuid is one of its name: an order's number may
// be given for a purchase and for a subscription. referer is the URL of the page
// that the call comes from, for conversions that name none.
func ParseConversion(b Body, referer string, reduceURL func(string) string) (e *Event, clickID string, err error) {
	if clickID = b.Text("click_id", maxClickIDText); clickID == "" {
		return nil, "", ErrClickID
	}
	e = parseEvent(b, reduceURL)
	if e.ID == "" {
		return nil, "", ErrEventID
	}
	e.Type = "conversion"
	if b.Text("event_value_type", 16) != "static" {
		e.ValueType = "dynamic"
	}
	if e.UUID != "" {
		e.UUID = string(PlacementExternal) + "\x00" + e.ID + "\x00" + e.UUID // neither has a control character
	}
	if e.PageURL == "" {
		e.PageURL = reduceURL(referer)
	}
	if e.PageURL == "" {
		e.PageURL = string(PlacementExternal)
	}
	return e, clickID, nil
}

// Tell writes into a conversion what it is known by.
func (c *OutboundClick) Tell(e *Event, clickID string) {
	var o object
	o.open()
	o.str("source", "external_tracking_script")
	o.str("click_id", clickID)
	o.time("session_timestamp", c.Session.CreatedAt)
	o.close()
	e.Metadata = string(o.b)
}
