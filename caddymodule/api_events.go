package caddymodule

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// repeatAfter is how long after the first receipt an equal event without a
// uuid still counts as its retry.
const repeatAfter = 2 * time.Minute

// trackEvent takes one event.
func (c *call) trackEvent() (any, error) {
	event, err := sessionctx.ParseEvent(c.body, c.app.reader.CampaignURL)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid_event", "%v", err)
	}
	if err := c.prove(c.body.Text("session_id", maxID)); err != nil {
		return nil, err
	}
	last, err := c.takeEvents([]*sessionctx.Event{event})
	if err != nil {
		return nil, err
	}
	return tracked{Sequence: last, Flushed: true}, nil
}

// tracked answers one event.
type tracked struct {
	Sequence int64 `json:"event_sequence"`
	Buffered int   `json:"events_in_buffer"`
	Flushed  bool  `json:"flushed_to_tinybird"`
}

// append writes it as encoding/json would.
func (t tracked) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"event_sequence":`...), t.Sequence, 10)
	b = strconv.AppendInt(append(b, `,"events_in_buffer":`...), int64(t.Buffered), 10)
	return append(strconv.AppendBool(append(b, `,"flushed_to_tinybird":`...), t.Flushed), '}')
}

const (
	// maxEvents bounds a batch; clients send ten or so.
	maxEvents = 500
	// eventsAToken is how many events of a batch cost as much of the rate
	// limit as a request does.
	eventsAToken = 20
	// maxRejected bounds how many rejected events an answer tells about.
	maxRejected = 20
)

// rejected is an event that was left out of its batch.
type rejected struct {
	Index int    `json:"index"`
	Error string `json:"error"`
}

// trackBatch takes the events of one session. Those that can't be stored are
// left out and named; the rest is stored in one write.
func (c *call) trackBatch() (any, error) {
	var raw []json.RawMessage
	if json.Unmarshal(c.body.Raw("events"), &raw) != nil || len(raw) == 0 {
		return nil, refuse(http.StatusBadRequest, "missing_field", "events is missing, empty or not an array")
	}
	if len(raw) > maxEvents {
		return nil, refuse(http.StatusRequestEntityTooLarge, "too_many_events", "the batch has %d events, at most %d are taken: send several", len(raw), maxEvents)
	}
	sessionID := c.body.Text("session_id", maxID)
	events := make([]*sessionctx.Event, 0, len(raw))
	out := []rejected{}
	for i, r := range raw {
		body, err := sessionctx.ParseBody(r)
		if err != nil {
			out = append(out, rejected{i, err.Error()})
			continue
		}
		if id := body.Text("session_id", maxID); id != "" {
			if sessionID != "" && id != sessionID {
				return nil, refuse(http.StatusBadRequest, "mixed_sessions", "the events name more than one session: send a batch for each")
			}
			sessionID = id
		}
		e, err := sessionctx.ParseEvent(body, c.app.reader.CampaignURL)
		if err != nil {
			out = append(out, rejected{i, err.Error()})
			continue
		}
		events = append(events, e)
	}
	if err := c.prove(sessionID); err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, refuse(http.StatusBadRequest, "invalid_event", "none of the %d events can be stored: %s", len(raw), out[0].Error)
	}
	if extra := len(events) / eventsAToken; extra > 0 && c.facts.ClientIP.IsValid() {
		if wait, ok := c.app.limits.allow(c.limit(limitClient), clientName(c.facts.ClientIP), extra); !ok {
			return nil, tooMany(wait, "too many events from this client")
		}
	}
	last, err := c.takeEvents(events)
	if err != nil {
		return nil, err
	}
	out = out[:min(len(out), maxRejected)]
	return map[string]any{
		"event_sequence":      last,
		"processed_events":    len(events),
		"events_in_buffer":    0,
		"flushed_to_tinybird": true,
		"batch_id":            uuid.NewString(),
		"rejected":            out,
	}, nil
}

// takeEvents stores the events, and the session's row if it is still owed, in
// one durable write. It returns the last event's sequence number.
func (c *call) takeEvents(events []*sessionctx.Event) (last int64, err error) {
	if err := c.living(); err != nil {
		return 0, err
	}
	ctx := storeDeadlines.context()
	// A store that doesn't answer costs sequence numbers and the telling of
	// retries, never events.
	st, err := c.engine.store.get(ctx)
	if err != nil {
		c.app.metrics.storeFails.Inc()
		st = nil
	}
	campaign := c.handler.campaign
	ttl := campaign.SessionDuration + campaign.LegacyIDs + time.Hour
	first := int64(0)
	if st != nil {
		if first, err = st.Next(ctx, "sequence/"+c.session.ID, len(events), ttl); err != nil {
			c.app.metrics.storeFails.Inc()
			first = 0
		}
	}
	c.acted = c.acted || slices.ContainsFunc(events, (*sessionctx.Event).ByVisitor)
	rows := c.sessionRow()
	c.cookies = true
	now := c.now.UnixMilli()
	page := ""
	equal := map[string]int{} // how often each content came in this batch
	made := rowBuffers.Get().(*rowBuffer)
	defer made.putBack()
	made.b = made.b[:0]
	for i, e := range events {
		if e.PageURL == "" {
			if page == "" {
				page = c.app.reader.CampaignURL(c.r.Header.Get("Referer"))
			}
			e.PageURL = page
		}
		id := ""
		if e.UUID != "" {
			id = sessionctx.EventRowID(&c.session, e, 0, 0)
		} else {
			content := e.Canonical()
			preceding := equal[content]
			equal[content]++
			again := 0
			if st != nil {
				again = c.again(ctx, st, sessionctx.EventRowID(&c.session, e, preceding, 0), ttl)
			}
			id = sessionctx.EventRowID(&c.session, e, preceding, again)
		}
		sequence := first
		if first > 0 {
			sequence += int64(i)
		}
		last = sequence
		at := len(made.b)
		made.b = sessionctx.AppendEventRow(made.b, campaign, &c.session, e, id, sessionctx.PlacementInternal, sequence, now)
		rows = append(rows, outbox.Row{Datasource: sessionctx.EventDatasource, JSON: made.b[at:len(made.b):len(made.b)]})
	}
	if err := c.commit(rows...); err != nil {
		return 0, err
	}
	c.committed()
	return last, nil
}

// again is how often the same event came anew, long enough after its first
// receipt to be no retry.
func (c *call) again(ctx context.Context, st store.Store, id string, ttl time.Duration) int {
	key := "event/" + id
	now := c.now.UnixMilli()
	count := uint64(0)
	b, err := st.Get(ctx, key)
	switch {
	case err == nil && len(b) == 16:
		firstSeen := int64(binary.BigEndian.Uint64(b))
		count = binary.BigEndian.Uint64(b[8:])
		if now-firstSeen <= repeatAfter.Milliseconds() {
			return int(count)
		}
		count++
	case err != nil && !errors.Is(err, store.ErrNotFound):
		c.app.metrics.storeFails.Inc()
		return 0
	}
	b = binary.BigEndian.AppendUint64(nil, uint64(now))
	b = binary.BigEndian.AppendUint64(b, count)
	st.Put(key, b, ttl)
	return int(count)
}
