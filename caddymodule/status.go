package caddymodule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// status is what operators see of a running server. Times are Unix ms; counts
// are those of this process since it began.
type status struct {
	Campaigns []campaignStatus `json:"campaigns"`
	Keys      keysStatus       `json:"keys"`
	Store     storeStatus      `json:"store"`
	Outbox    outboxHealth     `json:"outbox"`
	// Sinks are the names of the sinks and Geo the sources of places, in their
	// order.
	Sinks    []string  `json:"sinks"`
	Geo      []string  `json:"geo"`
	Warnings []warning `json:"warnings"`
}

// warning is something that an operator should do something about.
type warning struct {
	// Code is stable.
	Code string `json:"code"`
	// Campaign and Environment, or Datasource, is what it is about; Sink names
	// a further sink that it is about.
	Campaign    string                 `json:"campaign,omitempty"`
	Environment sessionctx.Environment `json:"campaign_environment,omitempty"`
	Datasource  string                 `json:"datasource,omitempty"`
	Sink        string                 `json:"sink,omitempty"`
	Text        string                 `json:"text"`
	Remedy      string                 `json:"remedy"`
}

type campaignStatus struct {
	Campaign    string                 `json:"campaign"`
	Environment sessionctx.Environment `json:"campaign_environment"`
	Workspace   string                 `json:"workspace"`
	Project     string                 `json:"project"`
	// Hosts are those of the sites that have it; empty where any host has.
	Hosts []string `json:"hosts"`
	// Pages are counted by what became of them.
	Pages map[inject.Reason]int64 `json:"pages"`
	// Counted are pages that were looked at, likely by people; SignsOfLife
	// are sessions whose script called the API.
	Counted        int64 `json:"counted"`
	SignsOfLife    int64 `json:"signs_of_life"`
	LastSignOfLife int64 `json:"last_sign_of_life,omitempty"`
}

type keysStatus struct {
	Available    bool   `json:"available"`
	ReadAt       int64  `json:"read_at,omitempty"`
	NextRotation int64  `json:"next_rotation,omitempty"`
	Trouble      string `json:"trouble,omitempty"`
}

type storeStatus struct {
	Name string `json:"name"`
	Open bool   `json:"open"`
	// Pending are entries that wait to be written.
	Pending       int    `json:"pending"`
	Failures      uint64 `json:"failures"`
	LastFailureAt int64  `json:"last_failure_at,omitempty"`
	Trouble       string `json:"trouble,omitempty"`
	// Settings are those of its server that lose what is kept.
	Settings []string `json:"settings,omitempty"`
	// Unsure is why visitors without cookies are not found again at present.
	Unsure string `json:"unsure,omitempty"`
}

// outboxHealth is an outbox that may not be open.
type outboxHealth struct {
	Open    bool   `json:"open"`
	Trouble string `json:"trouble,omitempty"`
	outboxStatus
}

// lately is how long after a failure of the store it still counts as failing.
const lately = 5 * time.Minute

// status tells how the app fares at now.
func (a *App) status(now time.Time) status {
	e := a.engine()
	defer e.release()
	st := status{
		Campaigns: []campaignStatus{}, Sinks: a.sinkNames(), Geo: []string{}, Warnings: []warning{},
		Keys: a.keysStatus(), Store: a.storeStatus(e), Outbox: a.outboxHealth(e),
	}
	for _, g := range a.guests {
		if _, ok := g.(visitor.Geography); ok {
			id := caddy.GetModuleID(g)
			st.Geo = append(st.Geo, id[strings.LastIndexByte(id, '.')+1:])
		}
	}
	warn := func(w *warning) {
		if w != nil {
			st.Warnings = append(st.Warnings, *w)
		}
	}
	warn(st.Keys.warning())
	warn(st.Store.warning(now))
	for _, setting := range st.Store.Settings {
		warn(&warning{
			Code: "store_settings", Text: fmt.Sprintf("the server of the store %s may lose what it was told to keep: %s", st.Store.Name, setting),
			Remedy: "change the setting; it is looked at once a minute",
		})
	}
	for _, w := range st.Outbox.warnings() {
		warn(&w)
	}
	for _, h := range a.handlersOf("") {
		c, w := h.status(now)
		st.Campaigns = append(st.Campaigns, c)
		warn(w)
	}
	return st
}

func (h *Handler) status(now time.Time) (campaignStatus, *warning) {
	c, f := h.campaign, h.life.figures(now)
	out := campaignStatus{
		Campaign: c.ID, Environment: c.Environment, Workspace: c.WorkspaceID, Project: c.ProjectID,
		Hosts: []string{}, Pages: f.pages, Counted: f.counted, SignsOfLife: f.signs,
	}
	if hosts := h.app.hosts.Load(); hosts != nil {
		sorted := slices.Sorted(slices.Values((*hosts)[c.CampaignRef]))
		out.Hosts = append(out.Hosts, slices.Compact(sorted)...)
	}
	last := "never did"
	if !f.lastAt.IsZero() {
		out.LastSignOfLife = f.lastAt.UnixMilli()
		last = "last did at " + readable(out.LastSignOfLife)
	}
	if !f.silent {
		return out, nil
	}
	return out, &warning{
		Code: "no_sign_of_life", Campaign: c.ID, Environment: c.Environment,
		Text:   fmt.Sprintf("since %s pages go out with their context, and fewer than one in a hundred calls the API; a new session's %s", readable(f.since.UnixMilli()), last),
		Remedy: noSignOfLifeRemedy,
	}
}

func (a *App) keysStatus() keysStatus {
	l, ok := a.ring.list()
	return keysStatus{Available: ok, ReadAt: l.ReadAt, NextRotation: l.NextRotation, Trouble: l.Trouble}
}

func (k *keysStatus) warning() *warning {
	switch {
	case !k.Available:
		why := "it is being read or made"
		if k.Trouble != "" {
			why = k.Trouble
		}
		return &warning{
			Code: "keys_unavailable", Text: "there is no key ring, so pages go out without context: " + why,
			Remedy: "mend Caddy's storage; it is tried again by itself",
		}
	case k.Trouble != "":
		return &warning{
			Code: "keys_failing", Text: fmt.Sprintf("the key ring that was read at %s stays in use: %s", readable(k.ReadAt), k.Trouble),
			Remedy: "mend Caddy's storage; it is tried again by itself",
		}
	}
	return nil
}

func (a *App) storeStatus(e engine) storeStatus {
	s := storeStatus{Name: a.store.StoreName(), LastFailureAt: a.metrics.storeFails.at.Load()}
	st, open, err := e.store.look()
	switch {
	case open:
		stats := st.Stats()
		s.Open, s.Pending, s.Failures = true, stats.Pending, stats.Failures
		s.Trouble, s.Settings, s.Unsure = stats.Trouble, stats.Advice, stats.Unsure
	case err != nil:
		s.Trouble = err.Error()
	}
	return s
}

func (s *storeStatus) warning(now time.Time) *warning {
	why := s.Trouble
	if why == "" && s.LastFailureAt != 0 && now.UnixMilli()-s.LastFailureAt < lately.Milliseconds() {
		why = "it last failed to answer at " + readable(s.LastFailureAt)
	}
	switch {
	case why == "" && s.Unsure != "":
		return &warning{
			Code: "store_unsure", Text: fmt.Sprintf("the store %s may not know all visitors without cookies, so each of them gets a new session with each page: %s", s.Name, s.Unsure),
			Remedy: "it ends by itself; see that each node reaches the store and is stopped by SIGTERM, and that the server keeps what it is told (docs/several-nodes.md)",
		}
	case why == "":
		return nil
	}
	return &warning{
		Code: "store_failing", Text: fmt.Sprintf("the store %s fails, so visitors without cookies get a new session with each page: %s", s.Name, why),
		Remedy: "see that it runs and can be reached, or that no other process uses its file; it is tried again by itself",
	}
}

func (a *App) outboxHealth(e engine) outboxHealth {
	out := outboxHealth{outboxStatus: outboxStatus{Path: a.Outbox.Path, Datasources: []datasourceStatus{}}}
	box, open, err := e.outbox.look()
	switch {
	case open:
		out.Open, out.outboxStatus = true, statusOf(box)
	case err != nil:
		out.Trouble = err.Error()
	}
	return out
}

// nearlyFull is the share of an outbox's bytes, in percent, from which there is
// a warning. At 90 the rows of traffic stop.
const nearlyFull = 80

func (o *outboxHealth) warnings() (out []warning) {
	if o.Trouble != "" {
		out = append(out, warning{
			Code: "outbox_unavailable", Text: fmt.Sprintf("the outbox %s is not open, so events are refused: %s", o.Path, o.Trouble),
			Remedy: "free the directory: one process may use it, and must be able to write; it is tried again by itself",
		})
	}
	out = append(out, o.outboxStatus.warnings("", "at 90 % traffic stops, when it is full events are refused")...)
	for _, m := range o.Mirrors {
		switch {
		case m.InUse:
			out = append(out, m.outboxStatus.warnings(m.Sink, "when it is full this sink misses the oldest rows")...)
		case m.Rows > 0:
			out = append(out, warning{
				Code: "sink_not_in_use", Sink: m.Sink, Text: fmt.Sprintf("%s for a sink that is not configured, or can't be opened: %s", rowsWait(m.Rows), m.Path),
				Remedy: "configure a sink of that name to have them delivered, or delete the directory",
			})
		}
	}
	return out
}

// warnings are those about what waits for one sink; full says what happens when
// it has no more room.
func (s *outboxStatus) warnings(sink, full string) (out []warning) {
	if s.MaxDisk > 0 && s.Bytes >= s.MaxDisk/100*nearlyFull {
		out = append(out, warning{
			Code: "outbox_nearly_full", Sink: sink, Text: fmt.Sprintf("%s of at most %s are used in %s", size(s.Bytes), size(s.MaxDisk), s.Path),
			Remedy: "mend the delivery, see to dead letters, or raise max_disk: " + full,
		})
	}
	command := "caddy session-context outbox letters"
	if sink != "" {
		command += " --sink " + sink
	}
	for _, d := range s.Datasources {
		if d.State != outbox.StateOK {
			remedy := "see that the sink can be reached; its rows wait on disk, and are sent again by themselves"
			if d.State == outbox.StateHeld {
				remedy = "mend the sink's settings (address, token, scope, names), then reload, or restart for a changed environment variable; its rows wait on disk"
			}
			out = append(out, warning{
				Code: "delivery_failing", Datasource: d.Name, Sink: sink,
				Text: fmt.Sprintf("%s is not delivered, %s: %s", d.Name, rowsWait(d.Rows), d.LastError), Remedy: remedy,
			})
		}
		if d.DeadLetters > 0 {
			out = append(out, warning{
				Code: "dead_letters", Datasource: d.Name, Sink: sink,
				Text:   fmt.Sprintf("dead letters of %s: %d, with %d rows", d.Name, d.DeadLetters, d.DeadRows),
				Remedy: "`" + command + "` says why; send them again or delete them: they are kept for 30 days",
			})
		}
	}
	return out
}
