package sessionctx

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// ConsentDatasource is where rows of consent records go.
const ConsentDatasource = "consents_v1"

// ConsentProof says what showed that a record's request spoke for its subject.
type ConsentProof string

const (
	// ConsentByToken and ConsentByCookie are the subject's own browser: the
	// sealed session in its page, or a cookie that only we can make.
	ConsentByToken  ConsentProof = "token"
	ConsentByCookie ConsentProof = "cookie"
	// ConsentByVisitor is a browser whose visitor key has one living
	// session, the subject's.
	ConsentByVisitor ConsentProof = "visitor"
	// ConsentByIDs and ConsentBySubject are ids that we made, which stand
	// in pages, rows and logs: they decide nothing for any browser.
	ConsentByIDs     ConsentProof = "ids"
	ConsentBySubject ConsentProof = "subject"
)

// ConsentStatus is what has become of a record.
type ConsentStatus string

const (
	ConsentActive    ConsentStatus = "active"
	ConsentWithdrawn ConsentStatus = "withdrawn" // a newer one took its place
	ConsentExpired   ConsentStatus = "expired"
)

// consentRetry is how long an equal claim is taken for a retry of the record
// that it would follow, in ms.
const consentRetry = 2 * 60 * 1000

const (
	// consentAftermath is how long a record is kept in the store when it has
	// expired, consentKept the longest that one is kept there at all: keys
	// open no longer what they sealed. In ms.
	consentAftermath = 30 * 24 * 60 * 60 * 1000
	consentKept      = 400 * 24 * 60 * 60 * 1000
)

// ConsentRecord is one decision about consent, as evidence. Records of one
// subject, campaign and domain follow one another: the newest is the one that
// counts, until it expires. A refusal is a record like any other.
type ConsentRecord struct {
	ID string // consent_ and a UUID of version 7
	// Number counts the subject's records for campaign and domain, from 1.
	Number    int
	Campaign  CampaignRef
	SubjectID string
	// SessionID and SegmentID are empty where only the subject is known.
	SessionID, SegmentID string
	Domain               string
	Essential            bool
	Purposes
	Proof         ConsentProof
	PolicyVersion string
	Source        string
	// GivenAt and ExpiresAt are Unix ms, as is KeptUntil, when the store
	// forgets the record.
	GivenAt, ExpiresAt, KeptUntil int64

	// Of the request; IP is truncated, and empty unless the campaign has it
	// stored.
	IP, UserAgent, Country, Language string
}

// NewConsentRecord makes the record of a claim. s is the session that the
// claim proved, nil if none. Its only error is the random source's.
func NewConsentRecord(claim *ConsentClaim, proof ConsentProof, c *Campaign, s *Session, f *Facts, now int64, random io.Reader) (*ConsentRecord, error) {
	id, err := newConsentID(now, random)
	if err != nil {
		return nil, err
	}
	r := &ConsentRecord{
		ID: id, Campaign: c.CampaignRef, SubjectID: claim.SubjectID, Domain: claim.Domain,
		Essential: claim.Essential, Purposes: claim.Purposes,
		Proof: proof, PolicyVersion: claim.PolicyVersion, Source: claim.Source,
		GivenAt:   now,
		ExpiresAt: now + (time.Duration(claim.Days) * 24 * time.Hour).Milliseconds(),
		UserAgent: f.UserAgent, Country: f.Geo.Country, Language: f.Language,
	}
	if s != nil {
		r.SubjectID, r.SessionID, r.SegmentID = s.UserID, s.ID, s.SegmentID
	}
	if c.Consent != nil && c.Consent.StoreIP {
		r.IP = TruncateIP(f.ClientIP)
	}
	return r, nil
}

// newConsentID is consent_ and a UUID of version 7 (RFC 9562 §5.7).
func newConsentID(now int64, random io.Reader) (string, error) {
	var u uuid.UUID
	if _, err := io.ReadFull(random, u[6:]); err != nil {
		return "", fmt.Errorf("reading randomness for a consent id: %w", err)
	}
	at := sessionIDAt(now)
	copy(u[:6], at[:6])
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	return "consent_" + u.String(), nil
}

// TruncateIP names the network that an address is in: its /24 for IPv4, its
// /48 for IPv6. Unknown addresses are "".
func TruncateIP(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.Addr().String()
}

// Follow makes r the record after prev, which is nil for the first of its
// subject, campaign and domain.
func (r *ConsentRecord) Follow(prev *ConsentRecord, number int) {
	r.Number = number
	lifetime := r.ExpiresAt - r.GivenAt
	if prev != nil {
		// Nodes' clocks differ; the order of records doesn't.
		r.GivenAt = max(r.GivenAt, prev.GivenAt)
		r.ExpiresAt = r.GivenAt + lifetime
		r.KeptUntil = max(r.KeptUntil, prev.KeptUntil)
	}
	// A record outlives the ones before it, so that none of those seems to be
	// the newest again.
	r.KeptUntil = min(max(r.KeptUntil, r.ExpiresAt+consentAftermath), r.GivenAt+consentKept)
}

// Repeats reports whether r says what prev did so lately that it is a retry of
// the same request.
func (r *ConsentRecord) Repeats(prev *ConsentRecord) bool {
	return prev != nil && r.GivenAt-prev.GivenAt <= consentRetry &&
		r.Purposes == prev.Purposes && r.Essential == prev.Essential && r.Proof == prev.Proof &&
		r.SessionID == prev.SessionID && r.PolicyVersion == prev.PolicyVersion && r.Source == prev.Source &&
		r.ExpiresAt-r.GivenAt == prev.ExpiresAt-prev.GivenAt
}

// Status is that of the newest record at now (Unix ms).
func (r *ConsentRecord) Status(now int64) ConsentStatus {
	if now >= r.ExpiresAt {
		return ConsentExpired
	}
	return ConsentActive
}

// Ended is what became of a record when next took its place, and when: it had
// expired before, or was withdrawn by it.
func (r *ConsentRecord) Ended(next *ConsentRecord) (ConsentStatus, int64) {
	if r.Status(next.GivenAt) == ConsentExpired {
		return ConsentExpired, r.ExpiresAt
	}
	return ConsentWithdrawn, next.GivenAt
}

// AppendRow appends the consents_v1 row that says the record has the status
// since at (Unix ms). Made twice it is the same row.
func (r *ConsentRecord) AppendRow(dst []byte, c *Campaign, status ConsentStatus, at int64) []byte {
	o := object{b: dst}
	o.open()
	o.str("row_id", rowID(ConsentDatasource, r.ID, string(status)))
	o.time("timestamp", at)
	o.str("consent_id", r.ID)
	o.str("workspace_id", c.WorkspaceID)
	o.str("project_id", c.ProjectID)
	o.str("campaign_id", c.ID)
	o.str("campaign_environment", string(c.Environment))
	o.str("environment", c.Deployment)
	o.str("subject_id", r.SubjectID)
	o.orNull("session_id", r.SessionID)
	o.orNull("segment_id", r.SegmentID)
	o.str("domain", r.Domain)
	o.flag("essential", r.Essential)
	o.flag("analytics", r.Analytics)
	o.flag("marketing", r.Marketing)
	o.flag("functional", r.Functional)
	o.str("status", string(status))
	o.str("proof", string(r.Proof))
	o.orNull("policy_version", r.PolicyVersion)
	o.str("source", r.Source)
	o.orNull("ip", r.IP)
	o.str("user_agent", r.UserAgent)
	o.orUnknown("country", r.Country)
	o.orNull("language", r.Language)
	o.time("given_at", r.GivenAt)
	o.time("expires_at", r.ExpiresAt)
	o.close()
	return o.b
}

// ConsentKey names the records of a subject for a campaign on a domain in the
// store. Without a domain it names the subject's on all domains together.
func ConsentKey(subject string, c CampaignRef, domain string) string {
	return rowID(ConsentDatasource, subject, c.ID, string(c.Environment), domain)
}

// SealConsent gives the record as it is kept in the store.
func (r *Ring) SealConsent(rec *ConsentRecord, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.byte(stateVersion)
	var flags uint64
	if rec.Essential {
		flags = 1
	}
	w.bools(flags<<3 | rec.Purposes.flags())
	w.count(rec.Number)
	w.int(rec.GivenAt)
	w.int(rec.ExpiresAt)
	w.int(rec.KeptUntil)
	for _, s := range rec.texts() {
		w.text(*s)
	}
	return w.stored(r, sealConsent, now)
}

// OpenConsent is SealConsent's inverse. ok is false for what isn't ours.
func (r *Ring) OpenConsent(sealed []byte) (rec *ConsentRecord, ok bool) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.openStored(r, sealConsent, sealed)
	if err != nil {
		return nil, false
	}
	var d decoder
	d.read(plain)
	if d.byte() != stateVersion {
		return nil, false
	}
	rec = &ConsentRecord{}
	flags := d.bools()
	rec.Purposes, rec.Essential = purposesOf(flags), flags>>3&1 != 0
	rec.Number = int(d.bools())
	rec.GivenAt, rec.ExpiresAt, rec.KeptUntil = d.int(), d.int(), d.int()
	for _, s := range rec.texts() {
		*s = d.text()
	}
	return rec, d.err == nil
}

// texts are the record's texts in the order in which they are sealed.
func (r *ConsentRecord) texts() []*string {
	return []*string{
		&r.ID, &r.Campaign.ID, (*string)(&r.Campaign.Environment), &r.SubjectID, &r.SessionID, &r.SegmentID, &r.Domain,
		(*string)(&r.Proof), &r.PolicyVersion, &r.Source, &r.IP, &r.UserAgent, &r.Country, &r.Language,
	}
}
