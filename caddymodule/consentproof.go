package caddymodule

import (
	"context"
	"net/http"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// proveConsent finds whom the claim speaks for, and by what. The reference
// manager's claims name a subject but no session; such a one gets cookies only
// where this browser is known to be the subject's.
//
// A session that has ended proves as well as one that lives: the decision is
// the visitor's, and has to be as easy after an hour on the page as before.
func (c *call) proveConsent(claim *sessionctx.ConsentClaim) error {
	if err := c.limitSubject(c.findSubject(claim)); err != nil {
		return err
	}
	campaign := c.handler.campaign
	for _, f := range []struct{ name, claimed, known string }{
		{"workspace_id", claim.WorkspaceID, campaign.WorkspaceID}, {"project_id", claim.ProjectID, campaign.ProjectID},
	} {
		if f.claimed != "" && f.claimed != f.known {
			return refuse(http.StatusForbidden, "campaign_mismatch", "%s is not the campaign's: the context that the page was given names the right one", f.name)
		}
	}
	return nil
}

// limitSubject is limitProofs for calls that may have proved only a user.
func (c *call) limitSubject(err error) error {
	of := c.session.OriginalID
	if of == "" {
		of = c.session.UserID
	}
	return c.limitProofs(err, of)
}

func (c *call) findSubject(claim *sessionctx.ConsentClaim) error {
	if claim.Tokened {
		return c.proveByToken(claim.Token, claim.CampaignID, claim.SubjectID)
	}
	handlers := c.app.handlersOf(claim.CampaignID)
	if len(handlers) == 0 {
		return refuse(http.StatusForbidden, "unknown_campaign", "campaign_id names no campaign of this server")
	}
	if c.proveByCookie(handlers, claim.SessionID, claim.SubjectID) || c.proveByUserCookie(handlers, claim.SubjectID) {
		return nil
	}
	var err error
	if claim.SessionID != "" {
		err = c.proveByIDs(handlers, claim.SessionID, claim.CampaignID, claim.SubjectID)
	} else {
		err = c.proveSubject(handlers, claim.SubjectID)
	}
	if err != nil || !c.sameOrigin {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	s, ok := c.visitorSession(ctx)
	if !ok || s.UserID != claim.SubjectID || s.Campaign != c.handler.campaign.CampaignRef {
		return nil
	}
	return c.take(c.handler, *s, proofVisitor)
}

// proveByUserCookie looks for the user cookie of the subject, whose session
// cookie has gone with its session. Any user's will do where subject is empty.
func (c *call) proveByUserCookie(handlers []*Handler, subject string) bool {
	if !c.sameOrigin {
		return false
	}
	for _, h := range handlers {
		carried := h.carried(c.r, c.ring, &c.facts, c.now)
		if carried.User != nil && (subject == "" || carried.User.UserID == subject) {
			c.takeSubject(h, carried.User.UserID, carried, proofCookie)
			return true
		}
	}
	return false
}

// proveSubject verifies a user id that stands alone.
func (c *call) proveSubject(handlers []*Handler, subject string) error {
	for _, h := range handlers {
		if !c.ring.VerifyUserID(subject, h.campaign.WorkspaceID) {
			continue
		}
		if err := c.allowed(h); err != nil {
			return err
		}
		var carried sessionctx.Carried
		if c.sameOrigin {
			carried = h.carried(c.r, c.ring, &c.facts, c.now)
		}
		c.takeSubject(h, subject, carried, proofSubject)
		return nil
	}
	return refuse(http.StatusUnauthorized, "invalid_session", "subject_id is not a user id of this server: send the userId of the context that the page was given")
}

// takeSubject settles on a user without a session.
func (c *call) takeSubject(h *Handler, subject string, carried sessionctx.Carried, p proof) {
	c.handler, c.carried, c.proof = h, carried, p
	c.session.UserID = subject
	c.about()
}

// knownSession is the session that the call proved, nil if it proved only a
// user.
func (c *call) knownSession() *sessionctx.Session {
	if c.session.ID == "" {
		return nil
	}
	return &c.session
}

// ownBrowser reports whether the answer goes to a page of the campaign's own
// workspace, on this site.
func (c *call) ownBrowser() bool {
	return c.sameOrigin && (c.site == nil || c.site.campaign.WorkspaceID == c.handler.campaign.WorkspaceID)
}

// choose makes the decision that of the visitor's browser, if it is the one
// that decided: the choice in its cookie, and with it the other cookies, set
// or removed. recorded is whether the decision is on disk.
func (c *call) choose(p sessionctx.Purposes, recorded bool) {
	if !c.ownBrowser() {
		return
	}
	proved := c.proof == proofToken || c.proof == proofCookie || c.proof == proofVisitor
	// A browser that has told us before, and has no identity, may change its
	// mind: ids stand for nobody here, and without this an older client could
	// never lift a refusal. It gets no cookie but the choice.
	if !proved && (c.carried.Choice == nil || c.carried.User != nil || c.carried.Session != nil) {
		return
	}
	if !recorded {
		if p.Analytics {
			return // a yes without evidence is none
		}
		p = p.And(c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired).Purposes)
	}
	campaign, secure := c.handler.campaign, c.facts.Scheme == "https"
	choice := sessionctx.Choose(p, c.carried.Reference, c.now.UnixMilli())
	if campaign.Cookies || c.carried.Choice != nil {
		writeCookies(c.w.Header(), secure, c.ring.ChoiceCookie(choice, campaign, secure, c.now))
	}
	c.carried.Choice = &choice
	switch {
	case !p.Analytics:
		c.withdraw()
		if s := c.knownSession(); s != nil && proved {
			// Older clients' calls prove themselves by ids alone from now on.
			c.app.keepState(c.engine, c.ring, campaign, s, c.now)
		}
	case proved && c.knownSession() != nil:
		c.setCookies()
	}
}

// withdraw removes the cookies of all campaigns that the choice rules over.
func (c *call) withdraw() {
	consent := c.consent(c.handler, &c.facts, &c.carried, c.session.ConsentRequired)
	v := sessionctx.Resume(c.handler.campaign, c.session, consent, c.carried)
	setCookies(c.w.Header(), v, c.ring, &c.facts, c.now)
}
