package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine"
)

// asked is a campaign of a size; campaigns are numbered in the order of theirs.
type asked struct {
	name   string
	number int
}

var sizes = []asked{{"largest", 0}, {"middle", campaigns / 2}, {"smallest", campaigns - 1}}

// period is one that ends now.
type period struct {
	name   string
	length time.Duration
}

var periods = []period{{"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"month", 30 * 24 * time.Hour}}

// tenantID is the function tenant of rows/functions.sql.
func tenantID(kind string, n int) string { return fmt.Sprintf("%s%030d", kind, n) }

// parameters are all that an endpoint may take; each takes its own.
func parameters(campaign asked, p period, end time.Time) map[string]string {
	const layout = "2006-01-02 15:04:05.000"
	granularity := "hour"
	if p.length > 48*time.Hour {
		granularity = "day"
	}
	return map[string]string{
		"workspaceId": tenantID("ws", campaign.number%workspaces), "projectId": tenantID("pr", campaign.number%(workspaces*3)),
		"campaignId": tenantID("cp", campaign.number), "environment": "production", "campaignEnvironment": "production",
		"conversionEventId": "purchase", "eventIds": "video-watched,form-submission", "granularity": granularity,
		"abTestId": "hero", "confidenceLevel": "95",
		"periodStart": end.Add(-p.length).Format(layout), "periodEnd": end.Add(-time.Millisecond).Format(layout),
		"asOf": end.Format(layout),
	}
}

// timeless says that an endpoint is asked without a period.
func timeless(endpoint string) bool {
	return strings.HasPrefix(endpoint, "ab_test") || strings.HasPrefix(endpoint, "realtime")
}

// question is an endpoint's query, about a campaign and a period.
type question struct {
	endpoint string
	campaign asked
	period   period
	sql      string
}

// questions are what all endpoints are asked.
func questions(project *engine.Project, end time.Time, campaigns []asked, periods []period) ([]question, error) {
	var all []question
	for _, endpoint := range project.Endpoints() {
		for _, campaign := range campaigns {
			for _, p := range periods {
				with := parameters(campaign, p, end)
				if timeless(endpoint) {
					p.name = "–"
					delete(with, "periodStart")
					delete(with, "periodEnd")
				}
				sql, err := project.Compile(endpoint, with)
				if err != nil {
					return nil, fmt.Errorf("asking %s: %w", endpoint, err)
				}
				all = append(all, question{endpoint, campaign, p, sql})
				if timeless(endpoint) {
					break
				}
			}
		}
	}
	return all, nil
}
