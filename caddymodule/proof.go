package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

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
)

// Lengths of what clients name, in bytes.
const (
	maxToken = 8192
	maxID    = 64
)

func invalidSession() *refusal {
	return refuse(http.StatusUnauthorized, "invalid_session", "the session's token, ids or cookie do not verify: reload the page for a new session")
}

// prove finds the session that the call speaks for. sessionID is the one that
// the body names, "" if none.
func (c *call) prove(sessionID string) error {
	err := c.findSession(sessionID)
	if err != nil {
		var r *refusal
		if errors.As(err, &r) && r.status < 500 && c.facts.ClientIP.IsValid() {
			c.app.limits.allow(failedProofs, clientName(c.facts.ClientIP), 1)
		}
		return err
	}
	if wait, ok := c.app.limits.allow(c.limit(limitSession), c.session.OriginalID, 1); !ok {
		return tooMany(wait, "too many requests for this session")
	}
	return nil
}

func (c *call) findSession(sessionID string) error {
	campaignID := c.body.Text("campaign_id", maxID)
	userID := c.body.Text("user_id", maxID)
	// Missing, null and empty are no token; anything else has to verify.
	if token := c.body.Text("token", maxToken); token != "" || c.body.Has("token") && string(c.body["token"]) != `""` {
		return c.proveByToken(token, campaignID, userID)
	}
	handlers := c.app.handlersOf(campaignID)
	if len(handlers) == 0 {
		return refuse(http.StatusForbidden, "unknown_campaign", "campaign_id names no campaign of this server")
	}
	if c.proveByCookie(handlers, sessionID, userID) {
		return nil
	}
	if sessionID == "" {
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
	if !c.allowed(h) {
		return refuse(http.StatusForbidden, "origin_not_allowed", "this origin may not call the API of the campaign: name it with allow_origin")
	}
	c.handler, c.session, c.proof = h, s, p
	c.recoverFirstTouch(h, &c.session)
	// Consent rules match on what the request tells.
	newView(h, c.r, c.facts, c.now)
	if c.sameOrigin && p != proofCookie { // else they are what it was proved by
		c.carried = h.carried(c.r, c.ring, &c.facts, c.now)
	}
	return nil
}

// proveByCookie looks for a session cookie that is, or succeeds, the session
// that the body names. Cookies count from this site's own pages only.
func (c *call) proveByCookie(handlers []*Handler, sessionID, userID string) bool {
	if !c.sameOrigin || c.r.Header.Get("Cookie") == "" {
		return false
	}
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
		c.carried = carried
		return c.take(h, *s, proofCookie) == nil
	}
	return false
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
	// Say what we can about why, if the session is one that we know.
	if state == nil {
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

const (
	stateKey   = "session/"
	renewedKey = "renewed/"
)

// state reads a session's state from the store. What is not sealed by us
// counts as absent.
func (c *call) state(sessionID string) (*sessionctx.Session, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	st, err := c.engine.store.get(ctx)
	if err != nil {
		return nil, err
	}
	b, err := st.Get(ctx, stateKey+sessionID)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			c.app.metrics.storeFails.Inc()
		}
		return nil, err
	}
	s, err := c.ring.OpenState(b)
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

// living makes the call's session one that lives: the line's newest where
// the one that was named has ended. Calls with a token are told to renew.
func (c *call) living() error {
	if !c.session.Expired(c.now.UnixMilli()) {
		return nil
	}
	if c.proof == proofToken {
		return refuse(http.StatusConflict, "session_expired", "the session has expired: renew it and send this again")
	}
	_, err := c.successor()
	return err
}

// successor replaces the call's expired session by its living successor,
// which is made if there is none. It says whether this call made it.
func (c *call) successor() (made bool, err error) {
	campaign := c.handler.campaign
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	st, err := c.engine.store.get(ctx)
	if err != nil {
		return c.derive(err)
	}
	now := c.now.UnixMilli()
	// Each turn follows one renewal that happened before, so a line's length
	// bounds them; time bounds that.
	for c.session.Expired(now) {
		old := &c.session
		next, err := old.Renew(c.ring, campaign, now)
		if err != nil {
			return false, c.renewalRefused(err)
		}
		// As long as the old session could be renewed at all, it has to
		// be renewed to the same one.
		ttl := campaign.AttributionWindow - time.Duration(now-old.OriginalAt)*time.Millisecond + campaign.SessionDuration
		standing, won, err := st.Claim(ctx, renewedKey+old.ID, c.ring.SealState(&next, now), ttl)
		if err != nil {
			return c.derive(err)
		}
		if won {
			c.session, made = next, true
			break
		}
		known, err := c.ring.OpenState(standing)
		if err != nil || known.UserID != old.UserID || known.Campaign != old.Campaign {
			return c.derive(errors.New("the claimed successor can't be read"))
		}
		if ours := c.session.Attribution; known.Attribution.Source == sessionctx.AttributionLost && ours.Source != sessionctx.AttributionLost {
			// Who renewed first no longer knew it; this call does.
			known.Attribution = known.Attribution.Recovered(ours)
		}
		c.session = *known
	}
	if made {
		c.app.metrics.renewals.WithLabelValues("renewed").Inc()
	} else {
		c.app.metrics.renewals.WithLabelValues("standing").Inc()
	}
	c.app.keepState(c.engine, c.ring, campaign, &c.session, c.now)
	return made, nil
}

// derive renews without the store: every node that does so finds the same.
func (c *call) derive(cause error) (bool, error) {
	c.app.metrics.storeFails.Inc()
	c.app.storeDown.Do(func() {
		c.app.log.Error("store does not answer: renewals fall back to derived sessions", zap.Error(cause))
	})
	next, err := c.session.RenewDerived(c.ring, c.handler.campaign, c.now.UnixMilli())
	if err != nil {
		return false, c.renewalRefused(err)
	}
	c.session = next
	c.app.metrics.renewals.WithLabelValues("derived").Inc()
	return true, nil
}

func (c *call) renewalRefused(err error) error {
	c.app.metrics.renewals.WithLabelValues("refused").Inc()
	if errors.Is(err, sessionctx.ErrSessionTooOld) {
		return refuse(http.StatusGone, "session_too_old", "%v: reload the page for a new session", err)
	}
	return err
}
