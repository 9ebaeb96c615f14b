package sessionctx

import (
	"fmt"
	"regexp"
	"time"
)

// Environment is campaign_environment: whether visitors see a campaign or its
// makers do.
type Environment string

const (
	Production Environment = "production"
	Preview    Environment = "preview"
)

// CampaignRef names a campaign within a workspace.
type CampaignRef struct {
	ID          string
	Environment Environment
}

// Campaign is what the operator said about one campaign. It is read-only
// once in use.
type Campaign struct {
	CampaignRef
	WorkspaceID, ProjectID string
	// LandingPageID is the page of visitors whom no segment or variant sends
	// elsewhere; empty if unset.
	LandingPageID string
	// Deployment is the column `environment`: dev, preview or production.
	Deployment string

	SessionDuration   time.Duration
	AttributionWindow time.Duration
	// LegacyIDs is how long after a session was made its ids alone prove it;
	// 0 is never.
	LegacyIDs time.Duration

	// Cookies is false for `identity cookieless`.
	Cookies bool
	// VisitorKeys is false for `before_consent random`.
	VisitorKeys bool
	// Consent is nil where consent is never asked for.
	Consent *ConsentRules

	Segments []Segment
	Tests    []Test
}

// Segment is a named part of the visitors. Which visitors belong to it is the
// adapter's business (matchers).
type Segment struct {
	ID            string
	LandingPageID string // empty: the campaign's
}

// Segment returns the campaign's segment of that id, or nil.
func (c *Campaign) Segment(id string) *Segment {
	for i := range c.Segments {
		if c.Segments[i].ID == id {
			return &c.Segments[i]
		}
	}
	return nil
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckID returns an error unless s may be the id of a workspace, project,
// campaign, test, segment or variant.
func CheckID(s string) error {
	if !idPattern.MatchString(s) {
		return fmt.Errorf("id %q does not match [A-Za-z0-9_-]{1,64}", CleanText(s, 80))
	}
	return nil
}
