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

const renewedKey = "renewed/"

// living makes the call's session one that lives: the line's newest where
// the one that was named has ended. Calls with a token are told to renew.
func (c *call) living() error {
	if c.proof == proofToken && c.session.Expired(c.now.UnixMilli()) {
		return refuse(http.StatusConflict, "session_expired", "the session has expired: renew it and send this again")
	}
	return c.settle()
}

// settle makes the call's session the one living session of its line.
func (c *call) settle() error {
	now := c.now.UnixMilli()
	expired := c.session.Expired(now)
	// One that succeeds another may have been derived, by a page or while the
	// store was down: it is settled as soon as the store answers.
	if !expired && (c.session.RenewalCount == 0 || c.app.settled.has(c.session.ID, c.session.ExpiresAt)) {
		return nil
	}
	// A client that goes away must not leave a claim half known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), storePatience)
	defer cancel()
	st, err := c.engine.store.get(ctx)
	var settled sessionctx.Session
	var won bool
	if err == nil {
		settled, won, err = c.session.Settle(c.ring, c.handler.campaign, &renewals{ctx, st, c.ring, now}, now)
	}
	outcome := "standing"
	switch {
	case errors.Is(err, sessionctx.ErrSessionTooOld):
		return c.tooOld(err)
	case err != nil:
		c.app.metrics.storeFails.Inc()
		if !expired {
			return nil
		}
		c.app.storeDown.Do(func() {
			c.app.log.Error("store does not answer: renewals fall back to derived sessions", zap.Error(err))
		})
		if settled, err = c.session.RenewDerived(c.ring, c.handler.campaign, now); err != nil {
			return c.tooOld(err)
		}
		outcome = "derived"
	case won:
		outcome = "renewed"
	}
	if expired {
		c.app.metrics.renewals.WithLabelValues(outcome).Inc()
	}
	if outcome != "derived" {
		c.app.settled.add(settled.ID, settled.ExpiresAt)
	}
	if ours := c.session.Attribution; settled.Attribution.Source == sessionctx.AttributionLost && ours.Source != sessionctx.AttributionLost {
		// Who renewed first no longer knew it; this call does.
		settled.Attribution = settled.Attribution.Recovered(ours)
	}
	c.session = settled
	c.app.keepState(c.engine, c.ring, c.handler.campaign, &c.session, c.now)
	if expired {
		c.followTrail(true)
	}
	return nil
}

func (c *call) tooOld(err error) error {
	c.app.metrics.renewals.WithLabelValues("refused").Inc()
	return refuse(http.StatusGone, "session_too_old", "%v: reload the page for a new session", err)
}

// renewals are those that the store holds, sealed.
type renewals struct {
	ctx   context.Context
	store store.Store
	ring  *sessionctx.Ring
	now   int64
}

// maxUnreadable is how many renewals that can't be read may stand in the place
// of one: as many keys as an operator may revoke while a line lives, and more.
const maxUnreadable = 8

// Claim implements sessionctx.Renewals. What a revoked key sealed counts as
// absent; it stays where it is, and the place behind it is claimed, so that
// there too one of all nodes wins.
func (r *renewals) Claim(key string, s *sessionctx.Session, ttl time.Duration) (*sessionctx.Session, bool, error) {
	sealed := r.ring.SealState(s, r.now)
	name := renewedKey + key
	for range maxUnreadable {
		standing, won, err := r.store.Claim(r.ctx, name, sealed, ttl)
		if err != nil || won {
			return s, won, err
		}
		if known, err := r.ring.OpenState(standing); err == nil {
			return known, false, nil
		}
		name += "/"
	}
	return nil, false, errors.New("the renewal that stands can't be read")
}

// Note implements sessionctx.Renewals.
func (r *renewals) Note(key string, s *sessionctx.Session, ttl time.Duration) {
	r.store.Put(renewedKey+key, r.ring.SealState(s, r.now), ttl)
}
