package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func parseSegment(h httpcaddyfile.Helper, c *Campaign, at places) error {
	s := &Segment{}
	at[place{s, ""}] = *h.Dispenser
	if !h.NextArg() {
		return h.Err("segment wants an id, and a matcher unless it takes everyone: segment <id> [<matcher>]")
	}
	s.ID = h.Val()
	if err := checkID("segment", s.ID); err != nil {
		return h.WrapErr(err)
	}
	if err := parseMatchers(h, s); err != nil {
		return err
	}
	b := newBlock(h.Dispenser, "segment "+s.ID)
	err := b.read(map[string]option{
		"match":        func() error { return parseMatch(h, s) },
		"landing_page": b.id("landing_page", &s.LandingPage),
	}, "match")
	if err == nil && s.everyone && len(s.MatcherSetsRaw) > 0 {
		d := at[place{s, ""}]
		return d.Errf("segment %s has '*', which takes everyone, and other matchers: keep one", s.ID)
	}
	c.Segments = append(c.Segments, s)
	return err
}

// parseMatchers reads matcher tokens to the end of the line: a visitor belongs
// to the segment if any of them matches.
func parseMatchers(h httpcaddyfile.Helper, s *Segment) error {
	for hasArg(h) {
		set, isMatcher, err := h.MatcherToken()
		if err != nil {
			return h.Errf("segment %s: %w: define it in this site", s.ID, err)
		}
		if !isMatcher {
			return h.Errf("segment %s has '%s' where a matcher like @mobile should be", s.ID, h.Val())
		}
		if set == nil { // *
			s.everyone = true
			continue
		}
		s.MatcherSetsRaw = append(s.MatcherSetsRaw, set)
	}
	return nil
}

// parseMatch reads matchers of one segment only: tokens as behind its id, one
// matcher by its name, or a block of them, all of which have to match. Caddy
// takes one matcher that stands twice for one of either, so where that is not
// what the block says it is refused.
func parseMatch(h httpcaddyfile.Helper, s *Segment) error {
	start := *h.Dispenser
	if ahead := start; ahead.NextArg() && strings.ContainsAny(ahead.Val()[:min(1, len(ahead.Val()))], "@/*") {
		return parseMatchers(h, s)
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(h.Dispenser)
	if err != nil {
		err = fmt.Errorf("match of segment %s: %w", s.ID, err)
		if !strings.Contains(err.Error(), ", at ") { // most matchers say where
			err = start.WrapErr(err)
		}
		return err
	}
	if len(set) == 0 {
		return start.Errf("match of segment %s is empty: name a matcher like `path /de*`, or leave the line out", s.ID)
	}
	for _, name := range []string{"vars", "vars_regexp"} {
		var lines map[string]json.RawMessage
		if json.Unmarshal(set[name], &lines) == nil && len(lines) > 1 {
			return start.Errf("match of segment %s has %d `%s` lines, and Caddy is content with either: for both write `expression {session.language} == \"de-AT\" && {session.device.type} == \"desktop\"`, for either a `match` line each", s.ID, len(lines), name)
		}
	}
	s.MatcherSetsRaw = append(s.MatcherSetsRaw, set)
	return nil
}
