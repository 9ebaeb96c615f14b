package caddymodule

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// NameList changes a default list of names.
type NameList struct {
	// Names beside the default ones.
	Add []string `json:"add,omitempty"`
	// Names instead of the default ones; an empty list means none.
	Replace *[]string `json:"replace,omitempty"`
}

// of returns the names that count. nil is the default list.
func (l *NameList) of(option string, standard []string) ([]string, error) {
	switch {
	case l == nil:
		return standard, nil
	case l.Replace == nil:
		return append(slices.Clone(standard), l.Add...), nil
	case len(l.Add) > 0:
		return nil, fmt.Errorf("%s has `add` and `replace`: keep one", option)
	}
	return *l.Replace, nil
}

// URLParams says what rows and landing pages keep of URLs.
type URLParams struct {
	// Query parameters to keep beside the campaign parameters and click ids.
	Keep []string `json:"keep,omitempty"`
}

// newReader makes what reads requests, by the app's lists.
func (a *App) newReader() (*visitor.Reader, error) {
	rd := &visitor.Reader{}
	var err error
	if rd.AlsoEU, err = visitor.EUIncludes(a.EUIncludes); err != nil {
		return nil, fmt.Errorf("eu_includes: %w", err)
	}
	if rd.ClickIDs, err = a.ClickIDs.of("click_ids", visitor.DefaultClickIDs()); err != nil {
		return nil, err
	}
	if err := visitor.CheckParams(rd.ClickIDs, nil); err != nil {
		return nil, fmt.Errorf("click_ids: %w", err)
	}
	if a.URLParams != nil {
		rd.KeepParams = a.URLParams.Keep
	}
	if err := visitor.CheckParams(rd.ClickIDs, rd.KeepParams); err != nil {
		return nil, fmt.Errorf("url_params keep: %w", err)
	}
	if rd.IgnoreReferrers, err = a.IgnoreReferrers.of("ignore_referrers", visitor.DefaultIgnoreReferrers()); err != nil {
		return nil, err
	}
	for i, domain := range rd.IgnoreReferrers {
		if err := visitor.CheckHost(domain); err != nil {
			return nil, fmt.Errorf("ignore_referrers: %w", err)
		}
		if domain[0] == '*' {
			return nil, fmt.Errorf("ignore_referrers: %q: leave the *. out, what is below a domain is ignored with it", domain)
		}
		if slices.Contains(rd.IgnoreReferrers[:i], domain) {
			return nil, fmt.Errorf("ignore_referrers: %q is ignored already: leave it out", domain)
		}
	}
	return rd, nil
}

// names reads `add <name...>`, `replace <name...>` or `none`.
func (b *block) names(to **NameList, check func() error) option {
	return func() error {
		option := b.d.Val()
		how := ""
		if b.d.NextArg() {
			how = b.d.Val()
		}
		names := b.d.RemainingArgs()
		list := &NameList{}
		switch {
		case how == "none" && len(names) > 0:
			return b.d.Errf("%s none has '%s' behind it: nothing may stand there", option, names[0])
		case how == "none":
			list.Replace = &[]string{}
		case how != "add" && how != "replace":
			return b.d.Errf("%s wants `add` or `replace` and names, or `none`", option)
		case len(names) == 0:
			return b.d.Errf("%s %s wants at least one name", option, how)
		case how == "add":
			list.Add = names
		default:
			list.Replace = &names
		}
		*to = list
		if err := check(); err != nil {
			return b.d.WrapErr(err)
		}
		return nil
	}
}

// parseURLParams reads `keep <name...>`.
func parseURLParams(d *caddyfile.Dispenser, app *App) error {
	if !d.NextArg() || d.Val() != "keep" {
		return d.Err("url_params wants `keep` and names of query parameters: url_params keep <name...>")
	}
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.Err("url_params keep wants at least one name")
	}
	app.URLParams = &URLParams{Keep: names}
	if _, err := app.newReader(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// clientTouches reads what the call's body says of touches.
func (c *call) clientTouches(h *Handler) sessionctx.ClientTouches {
	return c.app.reader.ClientTouches(c.facts.Host, h.owns)
}

// recoverFirstTouch looks for a first touch that neither token nor cookies know
// any more: in the store, where the session's or its line's first state may be
// left, then in what the client has preserved. What nobody knows stays lost.
func (c *call) recoverFirstTouch(h *Handler, s *sessionctx.Session) {
	if s.Attribution.Source != sessionctx.AttributionLost {
		return
	}
	ids := []string{s.ID, s.OriginalID}
	if c.lost {
		ids = nil // just looked for
	}
	for _, id := range slices.Compact(ids) {
		state, err := c.state(id)
		if err == nil && state.UserID == s.UserID && state.Campaign == s.Campaign && state.Attribution.Source != sessionctx.AttributionLost {
			s.Attribution = s.Attribution.Recovered(state.Attribution)
			return
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			break // it won't answer the second time either
		}
	}
	touches := c.clientTouches(h)
	if known, ok := touches.Preserved(c.body, h.campaign, c.now.UnixMilli()); ok {
		s.Attribution = s.Attribution.Recovered(known)
	}
}
