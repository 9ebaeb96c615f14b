package sessionctx

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	// DefaultConsentDays is how long a consent lasts where the client names
	// nothing, MaxConsentDays the longest that it may name, both in days.
	DefaultConsentDays = 365
	MaxConsentDays     = 5 * 365

	// Caps of what a claim says, in bytes.
	maxDomain        = 253 // RFC 1035 §2.3.4, without the last dot
	maxPolicyVersion = 64
	maxConsentSource = 32
)

// ErrMissingField is a claim that leaves out a field which it has to have; the
// error that wraps it names the field.
var ErrMissingField = errors.New("missing, empty or not a string")

// ConsentClaim is what a client says of a visitor's decision about consent.
type ConsentClaim struct {
	// Token proves the session; empty if there is none. Tokened is whether
	// the claim gives one, of whatever type.
	Token   string
	Tokened bool
	// SessionID is empty in the reference manager's claims.
	SessionID                          string
	WorkspaceID, ProjectID, CampaignID string
	// SubjectID is the user that decided.
	SubjectID string
	// Domain is the host of the page, in lower case.
	Domain string
	// Essential is what the claim says of the essential purposes, which
	// nobody can decline.
	Essential bool
	Purposes
	// Days is how long the decision is to last.
	Days          int
	PolicyVersion string // empty if not given
	Source        string // where the visitor decided, a word: "banner"
}

// ParseConsentClaim reads the body of consent/record. host is host[:port] of
// the page, whose name the domain is where a token stands for what the body leaves out. Its
// errors are the client's fault and say what is wrong; those that wrap
// ErrMissingField name a field that isn't there.
func ParseConsentClaim(b Body, host string) (*ConsentClaim, error) {
	c := &ConsentClaim{
		SessionID:     b.Text("session_id", maxClaimID),
		WorkspaceID:   b.Text("workspace_id", maxClaimID),
		ProjectID:     b.Text("project_id", maxClaimID),
		CampaignID:    b.Text("campaign_id", maxClaimID),
		SubjectID:     b.Text("subject_id", maxClaimID),
		Domain:        b.Text("domain", maxDomain+1),
		PolicyVersion: b.Text("policy_version", maxPolicyVersion),
		Source:        b.Text("source", maxConsentSource),
	}
	c.Token, c.Tokened = b.Token()
	if c.Tokened && c.Domain == "" {
		c.Domain = hostname(host)
	}
	if !c.Tokened {
		for _, f := range []struct{ name, value string }{
			{"workspace_id", c.WorkspaceID}, {"project_id", c.ProjectID}, {"campaign_id", c.CampaignID},
			{"subject_id", c.SubjectID}, {"domain", c.Domain},
		} {
			if f.value == "" {
				return nil, fmt.Errorf("%s is %w", f.name, ErrMissingField)
			}
		}
	}
	var err error
	if c.Domain, err = CleanDomain(c.Domain); err != nil {
		return nil, err
	}
	if err := c.readPurposes(b); err != nil {
		return nil, err
	}
	if c.Days, err = consentDays(b); err != nil {
		return nil, err
	}
	if !isWord(c.Source) {
		c.Source = "unspecified"
	}
	return c, nil
}

// maxClaimID is the longest id that a claim may name, in bytes.
const maxClaimID = 64

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 8192

// Token is the body's field token as it came, and whether one was given: missing,
// null and empty are none, and anything else has to verify. What is no text or
// too long to verify is "".
func (b Body) Token() (token string, given bool) {
	v := b.Raw("token")
	if v == nil || string(v) == "null" || string(v) == `""` {
		return "", false
	}
	if v[0] == '"' && len(v) <= MaxToken {
		token, _ = text(v)
	}
	return token, true
}

// readPurposes wants booleans: a yes that is text or a number is no consent.
func (c *ConsentClaim) readPurposes(b Body) error {
	p := b.Object("purposes")
	if p == nil {
		if !b.Has("purposes") {
			return fmt.Errorf("purposes is missing: want an object with analytics, marketing and functional, each true or false")
		}
		return errors.New("purposes is not an object, or names one twice: want analytics, marketing and functional, each true or false")
	}
	c.Essential = true
	for _, f := range []struct {
		name     string
		to       *bool
		optional bool
	}{
		{"analytics", &c.Analytics, false},
		{"marketing", &c.Marketing, false},
		{"functional", &c.Functional, false},
		// The reference manager's name for essential is necessary.
		{"necessary", &c.Essential, true},
		{"essential", &c.Essential, true},
	} {
		switch string(p.Raw(f.name)) {
		case "true":
			*f.to = true
		case "false":
			*f.to = false
		case "":
			if !f.optional {
				return fmt.Errorf("purposes.%s is missing: want true or false", f.name)
			}
		default:
			return fmt.Errorf("purposes.%s is neither true nor false", f.name)
		}
	}
	return nil
}

func consentDays(b Body) (int, error) {
	if !b.Has("expires_in_days") {
		return DefaultConsentDays, nil
	}
	days, ok := b.Number("expires_in_days")
	if !ok || b.Raw("expires_in_days")[0] == '"' || days != float64(int64(days)) || days < 1 || days > MaxConsentDays {
		return 0, fmt.Errorf("expires_in_days is not a whole number of days from 1 to %d", MaxConsentDays)
	}
	return int(days), nil
}

// CleanDomain gives a host as location.hostname has it, in lower case and
// without a dot at its end. It refuses what is no host name and no address.
func CleanDomain(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) == 0 || len(s) > maxDomain {
		return "", fmt.Errorf("domain is not a host name of 1 to %d bytes", maxDomain)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && a.Is6() && strings.HasSuffix(inner, "]") {
			return s, nil
		}
		return "", errors.New("domain is not a host name: a [ begins an IPv6 address")
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return "", errors.New("domain is not a host name: want what location.hostname says, with neither scheme nor port")
		}
	}
	return s, nil
}

// isWord reports whether s may be a label of rows: a lower-case word of at
// most 32 bytes.
func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9') && c != '_' && c != '-') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxConsentSource
}
