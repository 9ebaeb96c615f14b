package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// proof is how a call proved its session. A token or a session cookie may do
// everything for it. Ids alone stand in pages, rows and logs, so they get no
// token, no cookie and nothing of what goes with the session.
type proof int

const (
	proofNone proof = iota
	proofToken
	proofIDs
	proofCookie
	// proofVisitor and proofSubject are consent/record's alone.
	proofVisitor
	proofSubject
)

// maxID is the longest id that clients may name, in bytes.
const maxID = 64

func invalidSession() *refusal {
	return refuse(http.StatusUnauthorized, "invalid_session", "the session's token, ids or cookie do not verify: reload the page for a new session")
}

// prove finds the session that the call speaks for. sessionID is the one that
// the body names, "" if none.
func (c *call) prove(sessionID string) error {
	err := c.findSession(sessionID)
	if err == nil && !c.facts.Purpose.Speculative() {
		c.handler.signOfLife(c.session.ID, c.now)
	}
	return c.limitProofs(err, c.session.OriginalID)
}

// limitProofs counts a proof: against the client if it failed with err, else
// against what was proved.
func (c *call) limitProofs(err error, of string) error {
	if err != nil {
		var r *refusal
		if errors.As(err, &r) && r.status < 500 && c.facts.ClientIP.IsValid() {
			c.app.limits.allow(failedProofs, clientName(c.facts.ClientIP), 1)
		}
		return err
	}
	if wait, ok := c.app.limits.allow(c.limit(limitSession), of, 1); !ok {
		return tooMany(wait, "too many requests for this session")
	}
	return nil
}

func (c *call) findSession(sessionID string) error {
	campaignID := c.body.Text("campaign_id", maxID)
	userID := c.body.Text("user_id", maxID)
	// Missing, null and empty are no token; anything else has to verify.
	if token, given := c.body.Token(); given {
		return c.proveByToken(token, campaignID, userID)
	}
	handlers := c.app.handlersOf(campaignID)
	if len(handlers) == 0 {
		return refuse(http.StatusForbidden, "unknown_campaign", "campaign_id names no campaign of this server")
	}
	if c.proveByCookie(handlers, sessionID, userID) {
		return nil
	}
	if !sessionctx.IsID(sessionID) {
		return invalidSession()
	}
	return c.proveByIDs(handlers, sessionID, campaignID, userID)
}

func (c *call) proveByToken(token, campaignID, userID string) error {
	s, err := c.ring.OpenToken(token)
	if err != nil {
		return invalidSession()
	}
	h := c.app.handler(s.Campaign)
	if h == nil {
		return refuse(http.StatusForbidden, "unknown_campaign", "the token's campaign is none of this server")
	}
	if !c.ring.VerifyUserID(s.UserID, h.campaign.WorkspaceID) {
		return invalidSession() // the user-id key was revoked
	}
	if campaignID != "" && campaignID != s.Campaign.ID {
		return refuse(http.StatusForbidden, "campaign_mismatch", "%v", sessionctx.ErrCampaignMismatch)
	}
	if userID != "" && userID != s.UserID {
		return refuse(http.StatusForbidden, "user_mismatch", "%v", sessionctx.ErrUserMismatch)
	}
	return c.take(h, *s, proofToken)
}

// take settles on a session.
func (c *call) take(h *Handler, s sessionctx.Session, p proof) error {
	if err := c.allowed(h); err != nil {
		return err
	}
	c.handler, c.session, c.proof = h, s, p
	c.about()
	c.recoverFirstTouch(h, &c.session)
	if c.sameOrigin && p != proofCookie { // else they are what it was proved by
		c.carried = h.carried(c.r, c.ring, &c.facts, c.now)
		if u := c.carried.UserID(); p == proofToken && u != "" && u != s.UserID {
			// The token is good for its own session, and changes nothing
			// about who this browser is.
			c.conflict = true
			c.app.metrics.conflicts.Inc()
		}
	}
	return nil
}

// proveByCookie looks for a session cookie that is, or succeeds, the session
// that the body names. A body that names none speaks for this site's campaign,
// or, where the site is none's, for the only one that the browser has a session
// of. Cookies count from this site's own pages only.
func (c *call) proveByCookie(handlers []*Handler, sessionID, userID string) bool {
	if !c.sameOrigin || c.r.Header.Get("Cookie") == "" {
		return false
	}
	if sessionID == "" && c.site != nil && slices.ContainsFunc(handlers, c.site.sameCampaign) {
		handlers = []*Handler{c.site}
	}
	var found *Handler
	var session sessionctx.Session
	for _, h := range handlers {
		carried := h.carried(c.r, c.ring, &c.facts, c.now)
		s := carried.Session
		if s == nil || userID != "" && userID != s.UserID {
			continue
		}
		if sessionID != "" && sessionID != s.ID {
			// Another tab has renewed since; it has to be the same line.
			if _, ok := c.ring.VerifySessionID(sessionID, h.campaign.CampaignRef, s.UserID, c.now.UnixMilli()); !ok {
				continue
			}
		}
		if found != nil {
			return false
		}
		found, session, c.carried = h, *s, carried
	}
	if found == nil {
		return false
	}
	if c.carried.Attribution == nil {
		// The cookies are a torn set; the session's state may know.
		if state, err := c.state(session.ID); err == nil {
			session.Attribution = state.Attribution
		}
	}
	return c.take(found, session, proofCookie) == nil
}

// proveByIDs verifies ids that we made. Where the body names a session but no
// user or campaign, as the reference's events do, these come from the
// session's state.
func (c *call) proveByIDs(handlers []*Handler, sessionID, campaignID, userID string) error {
	now := c.now.UnixMilli()
	state, stateErr := (*sessionctx.Session)(nil), error(nil)
	if campaignID == "" || userID == "" {
		if state, stateErr = c.state(sessionID); stateErr != nil {
			if errors.Is(stateErr, store.ErrNotFound) {
				return invalidSession()
			}
			return busy("store_unavailable", "the server can't look the session up right now: try again")
		}
		if campaignID == "" {
			campaignID = state.Campaign.ID
		}
		if userID == "" {
			userID = state.UserID
		}
	}
	for _, h := range handlers {
		ref := h.campaign.CampaignRef
		if ref.ID != campaignID {
			continue
		}
		ms, ok := c.ring.VerifySessionID(sessionID, ref, userID, now)
		if !ok || !c.ring.VerifyUserID(userID, h.campaign.WorkspaceID) {
			continue
		}
		// A renewed session's id begins up to one duration before it.
		if age := now - ms; h.campaign.LegacyIDs == 0 || age > (h.campaign.LegacyIDs+h.campaign.SessionDuration).Milliseconds() {
			return refuse(http.StatusUnauthorized, "invalid_session", "the session's ids alone no longer prove it: send its token, or reload the page")
		}
		if state == nil {
			state, stateErr = c.state(sessionID)
		}
		if state == nil || stateErr != nil {
			state = c.reconstruct(h, sessionID, userID, ms)
			c.lost = true
		}
		return c.take(h, *state, proofIDs)
	}
	// Say what we can about why, if the session is one that we know. Made-up
	// ids are worth no look-up.
	if state == nil && slices.ContainsFunc(handlers, func(h *Handler) bool { return c.ring.VerifyUserID(userID, h.campaign.WorkspaceID) }) {
		state, _ = c.state(sessionID)
	}
	switch {
	case state == nil:
		return invalidSession()
	case state.Campaign.ID != campaignID:
		return refuse(http.StatusForbidden, "campaign_mismatch", "%v", sessionctx.ErrCampaignMismatch)
	case state.UserID != userID:
		return refuse(http.StatusForbidden, "user_mismatch", "%v", sessionctx.ErrUserMismatch)
	}
	return invalidSession()
}

// reconstruct gives a session whose ids verify but whose state is lost. What
// the client says is taken where the campaign knows it, and marked as its word.
func (c *call) reconstruct(h *Handler, sessionID, userID string, ms int64) *sessionctx.Session {
	s := &sessionctx.Session{
		ID:         sessionID,
		UserID:     userID,
		Campaign:   h.campaign.CampaignRef,
		CreatedAt:  ms,
		ExpiresAt:  ms + h.campaign.SessionDuration.Milliseconds(),
		OriginalID: sessionID,
		OriginalAt: ms,
	}
	h.campaign.ClientAssignment(s, c.body)
	h.resolveLandingPage(c.r, s)
	touches := c.clientTouches(h)
	s.Attribution = sessionctx.LostTouch(ms, touches.Current(c.body, ms))
	return s
}

const stateKey = "session/"

// state reads a session's state from the store. What is not sealed by us
// counts as absent.
func (c *call) state(sessionID string) (*sessionctx.Session, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	st, err := c.engine.store.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.app.state(ctx, st, c.ring, sessionID)
}

func (a *App) state(ctx context.Context, st store.Store, ring *sessionctx.Ring, sessionID string) (*sessionctx.Session, error) {
	b, err := st.Get(ctx, stateKey+sessionID)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			a.metrics.storeFails.Inc()
		}
		return nil, err
	}
	s, err := ring.OpenState(b)
	if err != nil || s.ID != sessionID {
		return nil, store.ErrNotFound
	}
	return s, nil
}

// keepState writes a session's state behind the page, for calls that will
// prove themselves by ids alone. It waits for nothing.
func (a *App) keepState(e engine, ring *sessionctx.Ring, campaign *sessionctx.Campaign, s *sessionctx.Session, now time.Time) {
	select {
	case <-e.store.ready:
	default:
		return
	}
	sealed := ring.SealState(s, now.UnixMilli())
	ttl := time.Duration(s.ExpiresAt-now.UnixMilli())*time.Millisecond + campaign.LegacyIDs
	e.store.value.Put(stateKey+s.ID, sealed, max(ttl, time.Second))
}
