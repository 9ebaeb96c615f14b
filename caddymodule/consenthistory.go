package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// consentHistory is the records of one subject, campaign and domain in the
// store: entries numbered from 1, each claimed once, so that nodes that append
// at the same time make one line of records. The newest is the one that
// counts; what became of the others follows from their successors, and nothing
// is ever written over. Where the newest stands is kept beside them, as a hint
// that may be late.
type consentHistory struct {
	ring    *sessionctx.Ring
	store   store.Store
	subject string
	ref     sessionctx.CampaignRef
	domain  string
	now     time.Time
}

const (
	consentKey       = "consent/"
	consentHintKey   = "consent-newest/"
	consentDomainKey = "consent-domain/"
)

func (h *consentHistory) key(number int) string {
	return consentKey + sessionctx.ConsentKey(h.subject, h.ref, h.domain) + "/" + strconv.Itoa(number)
}

func (h *consentHistory) hintKey() string {
	return consentHintKey + sessionctx.ConsentKey(h.subject, h.ref, h.domain)
}

// errConsentGone is a record that can't be read any more: its key was revoked,
// or somebody else wrote it. It keeps its number.
var errConsentGone = errors.New("consent record is not one of ours")

// at reads the record of that number: store.ErrNotFound if there is none yet.
func (h *consentHistory) at(ctx context.Context, number int) (*sessionctx.ConsentRecord, error) {
	sealed, err := h.store.Get(ctx, h.key(number))
	if err != nil {
		return nil, err
	}
	return h.open(sealed, number)
}

func (h *consentHistory) open(sealed []byte, number int) (*sessionctx.ConsentRecord, error) {
	rec, ok := h.ring.OpenConsent(sealed)
	if !ok || rec.Number != number || rec.SubjectID != h.subject || rec.Campaign != h.ref || rec.Domain != h.domain {
		return nil, errConsentGone
	}
	return rec, nil
}

// newest is the latest record that can be read, nil if there is none, and the
// highest number that is taken.
func (h *consentHistory) newest(ctx context.Context) (rec *sessionctx.ConsentRecord, number int, err error) {
	hint, err := h.store.Get(ctx, h.hintKey())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, 0, err
	}
	if n, size := binary.Uvarint(hint); size > 0 && n < 1<<31 {
		number = max(0, int(n)-1) // the hinted one is the first to be read
	}
	for {
		next, err := h.at(ctx, number+1)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return rec, number, nil
		case err == nil:
			rec = next
		case !errors.Is(err, errConsentGone):
			return nil, 0, err
		}
		number++
	}
}

// add appends the record, unless it repeats the newest: then that one stands.
// It returns the record that stands and the one before it, nil if there is
// none. What stands is durable.
func (h *consentHistory) add(ctx context.Context, rec *sessionctx.ConsentRecord) (standing, before *sessionctx.ConsentRecord, err error) {
	newest, number, err := h.newest(ctx)
	if err != nil {
		return nil, nil, err
	}
	for !rec.Repeats(newest) {
		number++
		rec.Follow(newest, number)
		ms := h.now.UnixMilli()
		ttl := time.Duration(rec.KeptUntil-ms) * time.Millisecond
		sealed, won, err := h.store.Claim(ctx, h.key(number), h.ring.SealConsent(rec, ms), ttl)
		if err != nil {
			return nil, nil, err
		}
		if won {
			h.store.Put(h.hintKey(), binary.AppendUvarint(nil, uint64(number)), ttl)
			h.store.Put(consentDomainKey+sessionctx.ConsentKey(h.subject, h.ref, ""), []byte(h.domain), ttl)
			return rec, newest, nil
		}
		if other, err := h.open(sealed, number); err == nil {
			newest = other
		}
	}
	// The rows of the first try may have been lost after its claim.
	if before, err = h.at(ctx, newest.Number-1); err != nil {
		before = nil
	}
	return newest, before, nil
}

// keepConsent puts the record into the subject's history, and gives the one
// that stands there with the one before. A store that does not answer costs
// the history, not the record: its row is evidence by itself.
func (c *call) keepConsent(rec *sessionctx.ConsentRecord) (standing, before *sessionctx.ConsentRecord) {
	ctx, cancel := context.WithTimeout(c.r.Context(), storePatience)
	defer cancel()
	h, err := c.consentHistory(ctx, rec.SubjectID, rec.Domain)
	if err == nil {
		standing, before, err = h.add(ctx, rec)
	}
	if err != nil {
		c.app.metrics.storeFails.Inc()
		return rec, nil
	}
	return standing, before
}

// consentHistory is the subject's for the call's campaign.
func (c *call) consentHistory(ctx context.Context, subject, domain string) (*consentHistory, error) {
	st, err := c.engine.store.get(ctx)
	if err != nil {
		return nil, err
	}
	return &consentHistory{ring: c.ring, store: st, subject: subject, ref: c.handler.campaign.CampaignRef, domain: domain, now: c.now}, nil
}

// newConsent is the record of what the claim says, by what the call proved.
func (c *call) newConsent(claim *sessionctx.ConsentClaim) (*sessionctx.ConsentRecord, error) {
	return sessionctx.NewConsentRecord(claim, consentProofs[c.proof], c.handler.campaign, c.knownSession(), &c.facts, c.now.UnixMilli(), rand.Reader)
}

var consentProofs = map[proof]sessionctx.ConsentProof{
	proofToken:   sessionctx.ConsentByToken,
	proofCookie:  sessionctx.ConsentByCookie,
	proofVisitor: sessionctx.ConsentByVisitor,
	proofIDs:     sessionctx.ConsentByIDs,
	proofSubject: sessionctx.ConsentBySubject,
}
