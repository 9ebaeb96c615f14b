package schema

import (
	"maps"
	"strings"
)

// rule narrows a column beyond its type. It is asked for values that are not
// null and already fit the type.
type rule struct {
	family Family
	// want says in an error message what is allowed.
	want string
	// text is for String columns and sees the decoded string.
	text func([]byte) bool
	// low and high bound Uint and Float columns.
	low, high float64
}

// rulesFor returns the rules of a datasource's columns. A column's name means
// the same everywhere, but for the few that overrides lists.
func rulesFor(datasource string) map[string]rule {
	rules := make(map[string]rule)
	for _, name := range ruled[datasource] {
		rules[name] = common[name]
	}
	maps.Copy(rules, overrides[datasource])
	return rules
}

// ruled names the columns of each datasource that have a common rule. It is
// written out so that a rule for a column that goes away is noticed (bind).
var ruled = map[string][]string{
	"session_v1": strings.Fields(`
		row_id session_id user_id project_id workspace_id campaign_id segment_id ab_test_id
		ab_test_variant_id original_session_id country continent is_eu_country device_type device_os
		browser is_mobile connection_type bot_score is_corporate_proxy is_verified_bot is_ssl
		domain_type is_returning is_renewal campaign_environment environment visitor_day
		attribution_source`),
	"events_v1": strings.Fields(`
		row_id id event_id event_value_currency event_value_type event_type event_placement user_id
		campaign_id session_id workspace_id project_id segment_id ab_test_id ab_test_variant_id
		scroll_percentage environment campaign_environment`),
	"traffic_v1": strings.Fields(`
		row_id request_id workspace_id project_id campaign_id session_id segment_id continent country
		is_eu_country device_type device_os browser is_mobile connection_type bot_score
		is_corporate_proxy is_verified_bot purpose counted campaign_environment environment`),
	"consents_v1": strings.Fields(`
		row_id consent_id workspace_id project_id campaign_id campaign_environment environment
		subject_id session_id segment_id domain essential analytics marketing functional proof country`),
}

// common are the rules by column name. Ids that name a row, a session or a user
// are never empty, since an empty one would collapse with every other; ids that
// come from the configuration have its grammar.
var common = map[string]rule{
	"row_id":     nonEmpty,
	"id":         nonEmpty,
	"request_id": nonEmpty,
	"event_id":   nonEmpty,
	"consent_id": nonEmpty,
	"session_id": nonEmpty,
	"user_id":    nonEmpty,
	"subject_id": nonEmpty,
	"domain":     nonEmpty,

	"original_session_id":  nonEmpty,
	"visitor_day":          nonEmpty,
	"event_value_currency": nonEmpty,

	"workspace_id":       configured,
	"project_id":         configured,
	"campaign_id":        configured,
	"segment_id":         configured,
	"ab_test_id":         configured,
	"ab_test_variant_id": configured,

	"is_eu_country":      flag,
	"is_mobile":          flag,
	"is_corporate_proxy": flag,
	"is_verified_bot":    flag,
	"is_ssl":             flag,
	"is_returning":       flag,
	"is_renewal":         flag,
	"counted":            flag,
	"essential":          flag,
	"analytics":          flag,
	"marketing":          flag,
	"functional":         flag,

	"country":           countryCode,
	"continent":         oneOf("AF AN AS EU NA OC SA Unknown"),
	"device_type":       oneOf("desktop mobile tablet unknown"),
	"device_os":         oneOf("Windows macOS Linux Android iOS Unknown"),
	"browser":           oneOf("Chrome Firefox Safari Edge Opera Unknown"),
	"connection_type":   oneOf("slow-2g 2g 3g 4g wifi unknown"),
	"bot_score":         numberBetween("a number from 0 to 100", 0, 100),
	"scroll_percentage": wholeBetween("a whole number from 0 to 100", 0, 100),

	"domain_type":          oneOf("project custom"),
	"environment":          oneOf("dev preview production"),
	"campaign_environment": oneOf("preview production"),
	"event_type":           oneOf("conversion engagement system"),
	"event_placement":      oneOf("internal external"),
	"event_value_type":     oneOf("static dynamic"),
	"attribution_source":   oneOf("server client lost"),

	"purpose": word,
	"proof":   word,
}

// overrides are the columns whose name means something else in one datasource:
// source is a campaign parameter everywhere but in consents.
var overrides = map[string]map[string]rule{
	"traffic_v1": {
		"status": wholeBetween("a status code from 100 to 599", 100, 599),
	},
	"consents_v1": {
		"status": oneOf("active withdrawn expired"),
		"source": word,
	},
}

var (
	flag     = wholeBetween("0 or 1", 0, 1)
	nonEmpty = rule{family: String, want: "a string that is not empty", text: func(b []byte) bool { return len(b) > 0 }}

	// configured is the grammar of ids in the configuration.
	configured = rule{family: String, want: "an id of 1 to 64 of A-Z, a-z, 0-9, _ and -", text: isConfigured}

	// word is for labels whose list is not closed: new ones may come, but never
	// free text, which would break LowCardinality and every grouping by it.
	word = rule{family: String, want: "a lower-case word of at most 32", text: isWord}

	countryCode = rule{family: String, want: "two capital letters or Unknown", text: isCountry}
)

func oneOf(list string) rule {
	words := strings.Fields(list)
	return rule{
		family: String,
		want:   "one of " + strings.Join(words, ", "),
		text: func(b []byte) bool {
			for _, w := range words { // a few: sooner done than hashed
				if string(b) == w {
					return true
				}
			}
			return false
		},
	}
}

func wholeBetween(want string, low, high float64) rule {
	return rule{family: Uint, want: want, low: low, high: high}
}

func numberBetween(want string, low, high float64) rule {
	return rule{family: Float, want: want, low: low, high: high}
}

func isConfigured(b []byte) bool {
	for _, c := range b {
		if !isAlnum(c) && c != '_' && c != '-' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 64
}

func isWord(b []byte) bool {
	for i, c := range b {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '_' && c != '-') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 32
}

func isCountry(b []byte) bool {
	if len(b) == 2 {
		return b[0] >= 'A' && b[0] <= 'Z' && b[1] >= 'A' && b[1] <= 'Z'
	}
	return string(b) == "Unknown"
}
