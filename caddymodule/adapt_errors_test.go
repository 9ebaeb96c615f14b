package caddymodule_test

import (
	"strings"
	"testing"
)

// A mistake in a Caddyfile is answered with its file and line, what was found
// there, and what to write instead.
type mistake struct {
	name, text, want string
}

func TestMistakesInASiteAreExplained(t *testing.T) {
	const site = ":80 {\n\t@eu vars session.geo.is_eu true\n\n\tsession_context {\n\t\tworkspace ws\n\t\tproject pr\n\t\tcampaign cmp\n"
	explained(t, site, "\t}\n}\n", siteMistakes) // text begins in line 8
}

func TestMistakesAmongTheGlobalOptionsAreExplained(t *testing.T) {
	explained(t, "{\n\tsession_context {\n", "\t}\n}\n", globalMistakes) // text begins in line 3
}

func TestMistakesInWholeCaddyfilesAreExplained(t *testing.T) {
	explained(t, "", "", wholeMistakes)
}

func explained(t *testing.T, before, after string, mistakes []mistake) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range mistakes {
		if seen[m.name] {
			t.Errorf("two mistakes are named %q", m.name)
		}
		seen[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			_, err := tryAdapt(before + strings.TrimSuffix(m.text, "\n") + "\n" + after)
			if err == nil {
				t.Fatalf("no error, want %q", m.want)
			}
			_, got, _ := strings.Cut(err.Error(), "': ") // parsing caddyfile tokens for '…':
			if got != m.want {
				t.Errorf("got  %s\nwant %s", got, m.want)
			}
			if len(strings.TrimSpace(got)) == 0 {
				t.Errorf("the error has another form: %v", err)
			}
		})
	}
}

var siteMistakes = []mistake{
	{"an unknown option", "sesion_duration 30m", "unknown option 'sesion_duration' in session_context: known are ab_test, allow_origin, api_base_url, api_path, attribution_window, before_consent, campaign, campaign_environment, client, client_hints, consent, debug, decorate_links, environment, identity, inject, landing_page, legacy_ids, log_ids, own_hosts, project, rate_limit, segment, session_duration, track_js, variable, visit, web_vitals, workspace, at Caddyfile:8"},
	{"an unknown option in consent", `consent {
	requires always
}`, "unknown option 'requires' in consent: known are google_consent_mode, localization, privacy_policy, require, respect, store_ip, terms, user_cookie, at Caddyfile:9"},
	{"an unknown option in a segment", `segment all {
	page lp_2
}`, "unknown option 'page' in segment all: known are landing_page, match, at Caddyfile:9"},
	{"an unknown option in an ab_test", `ab_test hero {
	variants 2
}`, "unknown option 'variants' in ab_test hero: known are segment, status, traffic, until, variant, winner, at Caddyfile:9"},
	{"an unknown option in a variant", `ab_test hero {
	variant a 1 {
		page lp_2
	}
}`, "unknown option 'page' in variant a: known are landing_page, at Caddyfile:10"},
	{"an option twice", `session_duration 30m
session_duration 40m`, "session_duration stands twice in session_context, first in line 8: keep one, at Caddyfile:9"},
	{"campaign twice", "campaign other", "campaign stands twice in session_context, first in line 7: keep one, at Caddyfile:8"},
	{"consent twice", `consent {
	require always
}
consent {
	require always
}`, "consent stands twice in session_context, first in line 8: keep one, at Caddyfile:11"},
	{"require twice", `consent {
	require @eu
	require always
}`, "require stands twice in consent, first in line 9: keep one, at Caddyfile:10"},
	{"traffic twice", `ab_test hero {
	variant a 1
	variant b 1
	traffic 50%
	traffic 60%
}`, "traffic stands twice in ab_test hero, first in line 11: keep one, at Caddyfile:12"},
	{"a segment defined twice", `segment m @eu
segment m @eu`, "segment m is defined twice: give each segment an id of its own, at Caddyfile:9"},
	{"a test defined twice", `ab_test hero {
	variant a 1
	variant b 1
}
ab_test hero {
	variant a 1
	variant b 1
}`, "ab_test hero is defined twice: give each test an id of its own, at Caddyfile:12"},
	{"a variant defined twice", `ab_test hero {
	variant a 1
	variant a 2
}`, "variant a of ab_test hero is defined twice: give each variant an id of its own, at Caddyfile:10"},
	{"a value that is missing", "session_duration", "session_duration wants one value and has none, at Caddyfile:8"},
	{"a value that is empty", `landing_page ""`, "landing_page has an empty value: give one, or leave the line out, at Caddyfile:8"},
	{"a duration without a unit", "session_duration 30", "session_duration '30' is not a positive duration like 30m, 12h or 30d, at Caddyfile:8"},
	{"a duration that is a word", "attribution_window month", "attribution_window 'month' is not a positive duration like 30m, 12h or 30d, at Caddyfile:8"},
	{"a negative duration", "session_duration -5m", "session_duration '-5m' is not a positive duration like 30m, 12h or 30d, at Caddyfile:8"},
	{"a duration of zero", "session_duration 0s", "session_duration '0s' is not a positive duration like 30m, 12h or 30d, at Caddyfile:8"},
	{"a session that is too long", "session_duration 25h", "session_duration 25h is not between 1s and 24h, at Caddyfile:8"},
	{"a session that is too short", "session_duration 10ms", "session_duration 10ms is not between 1s and 24h, at Caddyfile:8"},
	{"an attribution window shorter than a session", "attribution_window 10m", "attribution_window 10m is not between 30m and 400d, at Caddyfile:8"},
	{"an attribution window longer than cookies live", "attribution_window 500d", "attribution_window 500d is not between 30m and 400d, at Caddyfile:8"},
	{"legacy_ids that are no duration", "legacy_ids on", "legacy_ids 'on' is neither off nor a positive duration like 24h, at Caddyfile:8"},
	{"legacy_ids that are too long", "legacy_ids 31d", "legacy_ids 31d is not between 0 (off) and 30d, at Caddyfile:8"},
	{"a user_cookie that is no duration", `consent {
	user_cookie forever
}`, "user_cookie 'forever' is not a positive duration like 395d, at Caddyfile:9"},
	{"a user_cookie without one", `consent {
	user_cookie
}`, "user_cookie wants a duration like 395d, at Caddyfile:9"},
	{"a user_cookie with another word", `consent {
	user_cookie 30d sliding
}`, "user_cookie has 'sliding' behind its duration: only `fixed` may stand there, at Caddyfile:9"},
	{"a user_cookie longer than browsers keep it", `consent {
	user_cookie 401d
}`, "user_cookie 401d is not between 1h and 400d, at Caddyfile:9"},
	{"a bad id of landing_page", "landing_page lp/1", `landing_page: id "lp/1" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:8`},
	{"an id that is too long", "landing_page aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg", `landing_page: id "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:8`},
	{"a bad id of a segment", "segment every.one", `segment: id "every.one" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:8`},
	{"a bad id of a test", `ab_test "the hero" {
	variant a 1
	variant b 1
}`, `ab_test: id "the hero" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:8`},
	{"a bad id of a variant", `ab_test hero {
	variant a:1 1
	variant b 1
}`, `variant: id "a:1" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:9`},
	{"a bad landing_page of a segment", `segment all {
	landing_page lp/2
}`, `landing_page: id "lp/2" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:9`},
	{"a bad landing_page of a variant", `ab_test hero {
	variant a 1 {
		landing_page lp/2
	}
	variant b 1
}`, `landing_page: id "lp/2" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:10`},
	{"an unknown matcher of a segment", "segment m @nobody", "segment m: unrecognized matcher name: @nobody: define it in this site, at Caddyfile:8"},
	{"a word where a segment's matcher should be", "segment m everyone", "segment m has 'everyone' where a matcher like @mobile should be, at Caddyfile:8"},
	{"everyone beside a matcher", "segment m * @eu", "segment m has '*', which takes everyone, and other matchers: keep one, at Caddyfile:8"},
	{"everyone beside a matcher in the block", `segment m * {
	match @eu
}`, "segment m has '*', which takes everyone, and other matchers: keep one, at Caddyfile:8"},
	{"an empty match", `segment m {
	match
}`, "match of segment m is empty: name a matcher like `path /de*`, or leave the line out, at Caddyfile:9"},
	{"an unknown named matcher in match", `segment m {
	match @eu @nobody
}`, "segment m: unrecognized matcher name: @nobody: define it in this site, at Caddyfile:9"},
	{"an unknown matcher in match", `segment m {
	match paths /de*
}`, "match of segment m: getting matcher module 'paths': module not registered: http.matchers.paths, at Caddyfile:9"},
	{"a matcher without its argument in a block of match", `segment m {
	match {
		path /de*
		header_regexp
	}
}`, "match of segment m: wrong argument count or unexpected line ending after 'header_regexp', at Caddyfile:11"},
	{"two variables in a block of match", `segment m {
	match {
		path /de*
		vars session.language de-AT
		vars session.device.type desktop
	}
}`, "match of segment m has 2 `vars` lines, and Caddy is content with either: for both write `expression {session.language} == \"de-AT\" && {session.device.type} == \"desktop\"`, for either a `match` line each, at Caddyfile:9"},
	{"two patterns of variables in a block of match", `segment m {
	match {
		vars_regexp session.language ^de
		vars_regexp session.os ^W
	}
}`, "match of segment m has 2 `vars_regexp` lines, and Caddy is content with either: for both write `expression {session.language} == \"de-AT\" && {session.device.type} == \"desktop\"`, for either a `match` line each, at Caddyfile:9"},
	{"a segment without an id", "segment", "segment wants an id, and a matcher unless it takes everyone: segment <id> [<matcher>], at Caddyfile:8"},
	{"a segment without matcher that is not last", `segment all
segment eu @eu`, "segment all has no matcher and takes everyone, so segment eu after it never matches: put it last, at Caddyfile:8"},
	{"an unknown matcher in require", `consent {
	require @nobody
}`, "require: unrecognized matcher name: @nobody: define it in this site, at Caddyfile:9"},
	{"a word that is no matcher in require", `consent {
	require sometimes
}`, "require 'sometimes' is neither `always` nor a matcher like @eu, at Caddyfile:9"},
	{"an empty require", `consent {
	require
}`, "require wants `always` or matchers: name who must be asked for consent, at Caddyfile:9"},
	{"require with always and a matcher", `consent {
	require always @eu
}`, "require has `always` and matchers too: keep one, at Caddyfile:9"},
	{"an empty respect", `consent {
	respect
}`, "respect wants gpc, dnt or both, or none alone, at Caddyfile:9"},
	{"an unknown signal in respect", `consent {
	respect gpc dnr
}`, "respect 'dnr' is unknown: known are gpc and dnt, or none alone, at Caddyfile:9"},
	{"none beside a signal in respect", `consent {
	respect none gpc
}`, "respect 'none' is unknown: known are gpc and dnt, or none alone, at Caddyfile:9"},
	{"a privacy_policy that is no URL", `consent {
	privacy_policy example.com/privacy
}`, `privacy_policy "example.com/privacy" is not a URL of http or https, or a path that begins with /, at Caddyfile:9`},
	{"terms that are no URL", `consent {
	terms javascript:alert(1)
}`, `terms "javascript:alert(1)" is not a URL of http or https, or a path that begins with /, at Caddyfile:9`},
	{"localization neither on nor off", `consent {
	localization yes
}`, "localization 'yes' is neither on nor off, at Caddyfile:9"},
	{"an unknown segment in a test", `segment all
ab_test hero {
	segment mobile
	variant a 1
	variant b 1
}`, "ab_test hero names segment mobile, which the campaign does not define: add a line `segment mobile`, or leave it out, at Caddyfile:10"},
	{"a segment that a test names before it is defined, mistyped", `ab_test hero {
	variant a 1
	variant b 1
	segment mobil
}
segment mobile @eu`, "ab_test hero names segment mobil, which the campaign does not define: add a line `segment mobil`, or leave it out, at Caddyfile:11"},
	{"a segment that a test names twice", `segment all
ab_test hero {
	segment all all
	variant a 1
	variant b 1
}`, "ab_test hero names segment all twice: once is enough, at Caddyfile:10"},
	{"a test without an id", `ab_test {
	variant a 1
	variant b 1
}`, "ab_test wants an id: ab_test <id> { … }, at Caddyfile:8"},
	{"an empty segment in a test", `ab_test hero {
	segment
	variant a 1
	variant b 1
}`, "segment of ab_test hero names none: name segments, or leave the line out for all, at Caddyfile:9"},
	{"a test without variants", "ab_test hero", "ab_test hero needs two variants at least and has 0: add lines `variant <id> <weight>`, the control first, at Caddyfile:8"},
	{"a test with one variant", `ab_test hero {
	variant a 1
}`, "ab_test hero needs two variants at least and has 1: add lines `variant <id> <weight>`, the control first, at Caddyfile:8"},
	{"a variant without an id", `ab_test hero {
	variant
}`, "variant wants an id and a weight: variant <id> <weight>, at Caddyfile:9"},
	{"a variant without a weight", `ab_test hero {
	variant a
}`, "variant a has no weight: variant <id> <weight>, at Caddyfile:9"},
	{"a weight of zero", `ab_test hero {
	variant a 0
	variant b 1
}`, "weight '0' of variant a is not a whole number between 1 and 1000000000: leave a variant out that nobody should get, at Caddyfile:9"},
	{"a negative weight", `ab_test hero {
	variant a -1
	variant b 1
}`, "weight '-1' of variant a is not a whole number between 1 and 1000000000: leave a variant out that nobody should get, at Caddyfile:9"},
	{"a weight with a fraction", `ab_test hero {
	variant a 0.5
	variant b 1
}`, "weight '0.5' of variant a is not a whole number between 1 and 1000000000: leave a variant out that nobody should get, at Caddyfile:9"},
	{"a weight that is too large", `ab_test hero {
	variant a 1000000001
	variant b 1
}`, "weight '1000000001' of variant a is not a whole number between 1 and 1000000000: leave a variant out that nobody should get, at Caddyfile:9"},
	{"traffic without a percent sign", `ab_test hero {
	variant a 1
	variant b 1
	traffic 50
}`, "traffic '50' is not a share between 0% and 100%, like 50%, at Caddyfile:11"},
	{"traffic of less than a hundredth of a percent", `ab_test hero {
	variant a 1
	variant b 1
	traffic 0.004%
}`, "traffic 0.004% has more than two decimals: shares are hundredths of a percent, like 0.01%, at Caddyfile:11"},
	{"traffic below none", `ab_test hero {
	variant a 1
	variant b 1
	traffic -1%
}`, "traffic '-1%' is not a share between 0% and 100%, like 50%, at Caddyfile:11"},
	{"traffic beyond all", `ab_test hero {
	variant a 1
	variant b 1
	traffic 101%
}`, "traffic '101%' is not a share between 0% and 100%, like 50%, at Caddyfile:11"},
	{"traffic that is no number", `ab_test hero {
	variant a 1
	variant b 1
	traffic NaN%
}`, "traffic 'NaN%' is not a share between 0% and 100%, like 50%, at Caddyfile:11"},
	{"an unknown status", `ab_test hero {
	variant a 1
	variant b 1
	status live
}`, `status "live" is unknown: known are running, draft, paused, completed, at Caddyfile:11`},
	{"until that is no date", `ab_test hero {
	variant a 1
	variant b 1
	until tomorrow
}`, `until "tomorrow" is neither a date like 2027-01-31 nor a time like 2027-01-31T12:00:00Z, at Caddyfile:11`},
	{"until in another layout", `ab_test hero {
	variant a 1
	variant b 1
	until 31.01.2027
}`, `until "31.01.2027" is neither a date like 2027-01-31 nor a time like 2027-01-31T12:00:00Z, at Caddyfile:11`},
	{"a winner that is no variant", `ab_test hero {
	variant a 1
	variant b 1
	winner c
}`, "winner c of ab_test hero is none of its variants: known are a, b, at Caddyfile:11"},
	{"an origin without a scheme", "allow_origin www.example.com", `allow_origin "www.example.com" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"an origin with a path", "allow_origin https://www.example.com/", `allow_origin "https://www.example.com/" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"an origin with a wildcard host", "allow_origin https://*.example.com", `allow_origin "https://*.example.com" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"an origin in capitals", "allow_origin https://WWW.example.com", `allow_origin "https://WWW.example.com" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"the second of two origins", "allow_origin https://www.example.com null", `allow_origin "null" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"no origin", "allow_origin", "allow_origin wants at least one origin like https://www.example.com, at Caddyfile:8"},
	{"an api_base_url with a path", "api_base_url https://example.com/api", `api_base_url "https://example.com/api" is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com, at Caddyfile:8`},
	{"a rate_limit without a burst", "rate_limit 600", "rate_limit wants requests a minute and a burst, like 600 120, and has 1 values, at Caddyfile:8"},
	{"a rate_limit of zero", "rate_limit 0 10", "rate_limit has '0', which is not a whole number of at least 1: requests a minute and a burst, like 600 120, at Caddyfile:8"},
	{"a burst of zero", "rate_limit 600 0", "rate_limit has '0', which is not a whole number of at least 1: requests a minute and a burst, like 600 120, at Caddyfile:8"},
	{"a rate_limit that is no number", "rate_limit many 10", "rate_limit has 'many', which is not a whole number of at least 1: requests a minute and a burst, like 600 120, at Caddyfile:8"},
	{"an empty rate_limit", "rate_limit", "rate_limit wants requests a minute and a burst, like 600 120, and has 0 values, at Caddyfile:8"},
	{"an api_path without a slash", "api_path client-api", `api_path "client-api" is not a path like /client-api/v1: it begins with / and has no slash at its end, at Caddyfile:8`},
	{"an api_path with a slash at its end", "api_path /client-api/", `api_path "/client-api/" is not a path like /client-api/v1: it begins with / and has no slash at its end, at Caddyfile:8`},
	{"an api_path with a wildcard", "api_path /client-api/*", `api_path "/client-api/*" is not a path like /client-api/v1: it begins with / and has no slash at its end, at Caddyfile:8`},
	{"an api_path that is the root", "api_path /", `api_path "/" is not a path like /client-api/v1: it begins with / and has no slash at its end, at Caddyfile:8`},
	{"an unknown campaign_environment", "campaign_environment staging", `campaign_environment "staging" is unknown: known are production, preview, at Caddyfile:8`},
	{"an unknown environment", "environment staging", `environment "staging" is unknown: known are production, preview, dev, at Caddyfile:8`},
	{"an unknown identity", "identity none", `identity "none" is unknown: known are cookie, cookieless, at Caddyfile:8`},
	{"an unknown before_consent", "before_consent nothing", `before_consent "nothing" is unknown: known are daily_hash, random, at Caddyfile:8`},
	{"an unknown inject", "inject late", `inject "late" is unknown: known are inline, loader, off, at Caddyfile:8`},
	{"an unknown visit", "visit session", `visit "session" is unknown: known are script, page, at Caddyfile:8`},
	{"an unknown client_hints", "client_hints all", `client_hints "all" is unknown: known are on, off, at Caddyfile:8`},
	{"web_vitals neither on nor off", "web_vitals yes", "web_vitals 'yes' is neither on nor off, at Caddyfile:8"},
	{"web_vitals without a client", "web_vitals on", "web_vitals on reports by the browser runtime: add client on, or take it away, at Caddyfile:8"},
	{"decorate_links of nothing", "client on\n\t\tdecorate_links", "decorate_links wants on, off, or hosts like shop.example.com or *.example.com, at Caddyfile:9"},
	{"decorate_links of a URL", "client on\n\t\tdecorate_links https://shop.example.com/", `decorate_links: "https://shop.example.com/" is no host like www.example.com or *.example.com: lower case (xn--… for others than ASCII), no scheme, port or path; or write on, for all other sites, at Caddyfile:9`},
	{"decorate_links without a client", "decorate_links on", "the browser runtime decorates links: add client on, or take decorate_links away, at Caddyfile:8"},
	{"decorate_links that is no host", "client on\n\t\tdecorate_links yes", `decorate_links: "yes" is no host: write on or off alone, or name hosts only, at Caddyfile:9`},
	{"decorate_links of all and some", "client on\n\t\tdecorate_links on shop.example.com", `decorate_links: "on" is no host: write on or off alone, or name hosts only, at Caddyfile:9`},
	{"a track_js that is no path", "track_js track.js", `track_js "track.js" is neither off nor the path of a file: it begins with / and has nothing to be resolved or escaped, like /track.js, which it is where the line is left out, at Caddyfile:8`},
	{"a track_js below the API", "track_js /client-api/v1/events/track", `track_js "/client-api/v1/events/track" is below /client-api/v1, where the API answers: put it elsewhere, at Caddyfile:8`},
	{"a track_js that browsers resolve", "track_js /../t.js", `track_js "/../t.js" is neither off nor the path of a file: it begins with / and has nothing to be resolved or escaped, like /track.js, which it is where the line is left out, at Caddyfile:8`},
	{"one too many: track_js", "track_js /t.js extra", "track_js has one argument too many: 'extra', at Caddyfile:8"},
	{"client neither on nor off", "client yes", "client 'yes' is neither on nor off, at Caddyfile:8"},
	{"a variable that is no name", "variable my-context", `variable "my-context" is not a JavaScript name of at most 64 characters, like __FIREBUZZ_SESSION_CONTEXT__, at Caddyfile:8`},
	{"one too many: landing_page", "landing_page lp_1 extra", "landing_page has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: campaign_environment", "campaign_environment preview extra", "campaign_environment has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: environment", "environment dev extra", "environment has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: session_duration", "session_duration 30m extra", "session_duration has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: attribution_window", "attribution_window 30d extra", "attribution_window has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: legacy_ids", "legacy_ids 24h extra", "legacy_ids has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: legacy_ids off", "legacy_ids off extra", "legacy_ids has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: api_path", "api_path /client-api/v1 extra", "api_path has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: api_base_url", "api_base_url https://example.com extra", "api_base_url has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: rate_limit", "rate_limit 600 120 extra", "rate_limit wants requests a minute and a burst, like 600 120, and has 3 values, at Caddyfile:8"},
	{"one too many: identity", "identity cookie extra", "identity has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: before_consent", "before_consent random extra", "before_consent has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: consent", `consent extra {
	require always
}`, "consent takes no argument, 'extra' was given: its rules go into its block, at Caddyfile:8"},
	{"one too many: require", `consent {
	require always extra
}`, "require 'extra' is neither `always` nor a matcher like @eu, at Caddyfile:9"},
	{"one too many: privacy_policy", `consent {
	privacy_policy /privacy extra
}`, "privacy_policy has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: terms", `consent {
	terms /terms extra
}`, "terms has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: localization", `consent {
	localization on extra
}`, "localization has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: user_cookie", `consent {
	user_cookie 30d fixed extra
}`, "user_cookie has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: google_consent_mode", `consent {
	google_consent_mode on
}`, "google_consent_mode has one argument too many: 'on', at Caddyfile:9"},
	{"one too many: store_ip", `consent {
	store_ip full
}`, "store_ip has one argument too many: 'full', at Caddyfile:9"},
	{"one too many: segment", "segment m @eu extra", "segment m has 'extra' where a matcher like @mobile should be, at Caddyfile:8"},
	{"one too many: landing_page of a segment", `segment m {
	landing_page lp_2 extra
}`, "landing_page has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: ab_test", `ab_test hero extra {
	variant a 1
}`, "ab_test has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: variant", `ab_test hero {
	variant a 1 extra
}`, "variant has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: landing_page of a variant", `ab_test hero {
	variant a 1 {
		landing_page lp_2 extra
	}
}`, "landing_page has one argument too many: 'extra', at Caddyfile:10"},
	{"one too many: traffic", `ab_test hero {
	traffic 50% extra
}`, "traffic has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: status", `ab_test hero {
	status draft extra
}`, "status has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: until", `ab_test hero {
	until 2027-01-31 extra
}`, "until has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: winner", `ab_test hero {
	winner a extra
}`, "winner has one argument too many: 'extra', at Caddyfile:9"},
	{"one too many: inject", "inject off extra", "inject has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: client", "client off extra", "client has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: variable", "variable ctx extra", "variable has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: visit", "visit page extra", "visit has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: web_vitals", "web_vitals off extra", "web_vitals has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: client_hints", "client_hints off extra", "client_hints has one argument too many: 'extra', at Caddyfile:8"},
	{"one too many: log_ids", "log_ids on", "log_ids has one argument too many: 'on', at Caddyfile:8"},
	{"one too many: debug", "debug on", "debug has one argument too many: 'on', at Caddyfile:8"},
}

var globalMistakes = []mistake{
	{"an unknown option", "storage redis", "unknown option 'storage' in session_context: known are bots, click_ids, eu_includes, geo, heap_reserve, ignore_referrers, keys, outbox, sink, store, url_params, at Caddyfile:3"},
	{"an unknown option in bots", `bots {
	block on
}`, "unknown option 'block' in bots: known are corporate_proxies, datacenters, resolver, verify, at Caddyfile:4"},
	{"an argument of bots", `bots on {
}`, "bots has one argument too many: 'on', at Caddyfile:3"},
	{"bots twice", `bots {
}
bots {
}`, "bots stands twice in session_context, first in line 3: keep one, at Caddyfile:5"},
	{"verify neither on nor off", `bots {
	verify yes
}`, "verify 'yes' is neither on nor off, at Caddyfile:4"},
	{"a resolver without a port", `bots {
	resolver 1.1.1.1
}`, `resolver "1.1.1.1" has no port: write 1.1.1.1:53, at Caddyfile:4`},
	{"a resolver by IPv6 without a port", `bots {
	resolver 2001:db8::53
}`, `resolver "2001:db8::53" has no port: write [2001:db8::53]:53, at Caddyfile:4`},
	{"a resolver that is a URL", `bots {
	resolver https://dns.example.com/dns-query
}`, `resolver "https://dns.example.com/dns-query" is no DNS server's host:port, like 192.0.2.53:53, at Caddyfile:4`},
	{"a resolver's port that is none", `bots {
	resolver 192.0.2.53:99999
}`, `resolver "192.0.2.53:99999" is no DNS server's host:port, like 192.0.2.53:53, at Caddyfile:4`},
	{"datacenters without a file", `bots {
	datacenters
}`, "datacenters wants one value and has none, at Caddyfile:4"},
	{"two files of corporate proxies", `bots {
	corporate_proxies a b
}`, "corporate_proxies has one argument too many: 'b', at Caddyfile:4"},
	{"an unknown store", "store postgres", "store 'postgres' is unknown: known are embedded, redis, at Caddyfile:3"},
	{"no store", "store", "store wants a module's name: known are embedded, redis, at Caddyfile:3"},
	{"a store twice", `store embedded
store embedded`, "store stands twice in session_context, first in line 3: keep one, at Caddyfile:4"},
	{"one too many: store embedded", "store embedded /a /b", "store embedded takes one path at most, '/b' is one too many, at Caddyfile:3"},
	{"a block of store embedded", `store embedded {
	path /a
}`, "store embedded takes no options, 'path' was given, at Caddyfile:4"},
	{"store redis without a URL", "store redis", "store redis wants a URL like redis://host:6379/0, at Caddyfile:3"},
	{"store redis with another scheme", "store redis http://a:1", "store redis: url: redis: invalid URL scheme: http; want redis://[user:password@]host:port[/db] or rediss://, at Caddyfile:3"},
	{"one too many: store redis", "store redis redis://a redis://b", "store redis takes one URL, 'redis://b' is one too many: further addresses go into it as ?addr=host:port, at Caddyfile:3"},
	{"an unknown option of store redis", `store redis redis://a {
	prefix x
}`, "unknown option 'prefix' in store redis: known are call_timeout, dial_timeout, key_prefix, password, sentinel_password, sentinel_username, tls_ca, tls_client, tls_server_name, username, at Caddyfile:4"},
	{"a bad duration of store redis", `store redis redis://a {
	call_timeout fast
}`, "call_timeout 'fast' is not a positive duration like 30m, 12h or 30d, at Caddyfile:4"},
	{"one too many: key_prefix", `store redis redis://a {
	key_prefix a b
}`, "key_prefix has one argument too many: 'b', at Caddyfile:4"},
	{"TLS of a store redis without it", `store redis redis://a {
	key_prefix a
	tls_ca ca.pem
}`, "tls_ca is for TLS, and the url begins with redis://: write rediss://, at Caddyfile:5"},
	{"a certificate of store redis without its key", `store redis rediss://a {
	tls_client cert.pem
}`, "tls_client wants the files of a certificate and of its key, and has 1 values, at Caddyfile:4"},
	{"an unknown sink", "sink clickhouse", "sink 'clickhouse' is unknown: known are file, kafka, tinybird, at Caddyfile:3"},
	{"no sink", "sink", "sink wants a module's name: known are file, kafka, tinybird, at Caddyfile:3"},
	{"two sinks", `sink file
sink file /b`, "two sinks are called 'file': give one a name of its own, the first is in line 3, at Caddyfile:4"},
	{"two sinks of one name", `sink file
sink kafka a:1 {
	name file
}`, "two sinks are called 'file': give one a name of its own, the first is in line 3, at Caddyfile:4"},
	{"two sinks of one directory", `sink file /b
sink file /b/ {
	name other
}`, "two sinks write to /b: give one a directory of its own, the first is in line 3, at Caddyfile:4"},
	{"a name that is no name", `sink file {
	name a/b
}`, `name: id "a/b" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:4`},
	{"sink kafka without a broker", "sink kafka", "sink kafka wants a broker at least, like kafka.internal:9092, at Caddyfile:3"},
	{"a broker without a port", "sink kafka a:1 kafka.internal", `broker "kafka.internal" is not host:port, like kafka.internal:9092, at Caddyfile:3`},
	{"a bad prefix of topics", `sink kafka a:1 {
	topic_prefix a/
}`, `topic "a/": want 1 to 249 letters, digits, dots, _ and -, at Caddyfile:4`},
	{"a topic of an unknown datasource", `sink kafka a:1 {
	topic event_v1 a
}`, `topic of datasource "event_v1" is unknown: known are session_v1, events_v1, traffic_v1, consents_v1, at Caddyfile:4`},
	{"a topic without its name", `sink kafka a:1 {
	topic events_v1
}`, "topic wants a datasource and its topic, and has 1 values, at Caddyfile:4"},
	{"two topics of a datasource", `sink kafka a:1 {
	topic events_v1 a
	topic events_v1 b
}`, "events_v1 has two topics: keep one, at Caddyfile:5"},
	{"an unknown mechanism", `sink kafka a:1 {
	sasl oauth u p
}`, `sasl "oauth" is unknown: known are plain, scram_sha_256, scram_sha_512, at Caddyfile:4`},
	{"sasl without a password", `sink kafka a:1 {
	sasl plain u
}`, "sasl wants a mechanism, a user and a password, and has 2 values, at Caddyfile:4"},
	{"a client certificate without a key", `sink kafka a:1 {
	tls_client cert.pem
}`, "tls_client wants the files of a certificate and of its key, and has 1 values, at Caddyfile:4"},
	{"one too many: tls", `sink kafka a:1 {
	tls on
}`, "tls has one argument too many: 'on', at Caddyfile:4"},
	{"an unknown codec", `sink kafka a:1 {
	compression br
}`, `compression "br" is unknown: known are none, gzip, snappy, lz4, zstd, at Caddyfile:4`},
	{"a bad max_message", `sink kafka a:1 {
	max_message 10
}`, "max_message '10' is not a size between 1KiB and 512MiB, like 1MB, at Caddyfile:4"},
	{"sink tinybird without url", `sink tinybird {
	token {env.TINYBIRD_TOKEN}
}`, "sink tinybird has no url: give the API host of the workspace's region, like https://api.tinybird.co, at Caddyfile:3"},
	{"a url of sink tinybird without its scheme", `sink tinybird {
	url api.tinybird.co
	token t
}`, `tinybird url "api.tinybird.co": give the region's API host, such as https://api.tinybird.co, at Caddyfile:4`},
	{"sink tinybird without token", `sink tinybird {
	url https://api.tinybird.co
}`, "sink tinybird has no token: give a placeholder like {env.TINYBIRD_TOKEN}, at Caddyfile:3"},
	{"sink tinybird without a block", "sink tinybird", "sink tinybird has no url: give the API host of the workspace's region, like https://api.tinybird.co, at Caddyfile:3"},
	{"one too many: sink tinybird", "sink tinybird https://api.tinybird.co", "sink tinybird takes no argument, 'https://api.tinybird.co' was given: url and token go into its block, at Caddyfile:3"},
	{"one too many: url", `sink tinybird {
	url https://api.tinybird.co p.token
}`, "url has one argument too many: 'p.token', at Caddyfile:4"},
	{"an unknown option of sink tinybird", `sink tinybird {
	host https://api.tinybird.co
}`, "unknown option 'host' in sink tinybird: known are name, row_format, timeout, token, url, at Caddyfile:4"},
	{"an unknown row_format of sink tinybird", `sink tinybird {
	url https://api.tinybird.co
	row_format reference
}`, `row_format "reference" is unknown: known are full, firebuzz, at Caddyfile:5`},
	{"a row_format of sink tinybird without its value", `sink tinybird {
	row_format
}`, "row_format wants one value and has none, at Caddyfile:4"},
	{"a bad timeout of sink tinybird", `sink tinybird {
	timeout 60
}`, "timeout '60' is not a positive duration like 30m, 12h or 30d, at Caddyfile:4"},
	{"url twice", `sink tinybird {
	url https://api.tinybird.co
	url https://api.tinybird.co
}`, "url stands twice in sink tinybird, first in line 4: keep one, at Caddyfile:5"},
	{"one too many: sink file", "sink file /a /b", "sink file takes one directory at most, '/b' is one too many, at Caddyfile:3"},
	{"an unknown option of sink file", `sink file {
	size 1MiB
}`, "unknown option 'size' in sink file: known are name, roll_keep, roll_size, at Caddyfile:4"},
	{"a roll_size that is too small", `sink file {
	roll_size 1KiB
}`, "roll_size '1KiB' is not a size of at least 1MiB, like 64MiB, at Caddyfile:4"},
	{"a roll_keep of zero", `sink file {
	roll_keep 0
}`, "roll_keep '0' is not a whole number of at least 1, at Caddyfile:4"},
	{"one too many: roll_size", `sink file {
	roll_size 64MiB 10
}`, "roll_size has one argument too many: '10', at Caddyfile:4"},
	{"one too many: roll_keep", `sink file {
	roll_keep 10 20
}`, "roll_keep has one argument too many: '20', at Caddyfile:4"},
	{"eu_includes without a value", "eu_includes", "eu_includes wants at least one: eea, or two-letter codes of countries like gb and ch, at Caddyfile:3"},
	{"no country in eu_includes", "eu_includes eea uk", `eu_includes: "uk" is no country: wanted are eea, or two-letter codes like gb and ch, at Caddyfile:3`},
	{"a group that eu_includes does not know", "eu_includes efta", `eu_includes: "efta" is no country: wanted are eea, or two-letter codes like gb and ch, at Caddyfile:3`},
	{"eu_includes twice", "eu_includes eea\neu_includes gb", "eu_includes stands twice in session_context, first in line 3: keep one, at Caddyfile:4"},
	{"an unknown geo source", "geo maxmind /city.mmdb", "geo 'maxmind' is unknown: known are headers, mmdb, at Caddyfile:3"},
	{"no geo source", "geo", "geo wants a module's name: known are headers, mmdb, at Caddyfile:3"},
	{"geo mmdb without a path", "geo mmdb", "geo mmdb wants the path of a database file, at Caddyfile:3"},
	{"one too many: geo mmdb", "geo mmdb /a.mmdb /b.mmdb", "geo mmdb takes one path, '/b.mmdb' is one too many, at Caddyfile:3"},
	{"geo headers without a layout", "geo headers", "geo headers wants to know whose: known are cloudflare, cloudfront, fastly, fly, vercel, custom, at Caddyfile:3"},
	{"an unknown layout of geo headers", "geo headers akamai", "geo headers 'akamai' is unknown: known are cloudflare, cloudfront, fastly, fly, vercel, custom, at Caddyfile:3"},
	{"one too many: geo headers", "geo headers cloudflare fastly", "geo headers takes one argument, 'fastly' is one too many, at Caddyfile:3"},
	{"an unknown field of geo headers", `geo headers custom {
	land X-Country
}`, "unknown option 'land' in geo headers: known are city, continent, country, latitude, longitude, region, region_code, timezone, at Caddyfile:4"},
	{"custom geo headers without the country", `geo headers custom {
	city X-City
}`, "geo headers need one for the field country, at Caddyfile:3"},
	{"a header that is no name", `geo headers custom {
	country "X Country"
}`, `geo field country: "X Country" is not a header name, at Caddyfile:3`},
	{"an unknown option of outbox", `outbox {
	directory /a
}`, "unknown option 'directory' in outbox: known are max_disk, overflow, path, at Caddyfile:4"},
	{"one too many: outbox", "outbox /a", "outbox has one argument too many: '/a', at Caddyfile:3"},
	{"outbox twice", `outbox {
	overflow refuse
}
outbox {
	overflow refuse
}`, "outbox stands twice in session_context, first in line 3: keep one, at Caddyfile:6"},
	{"one too many: path", `outbox {
	path /a /b
}`, "path has one argument too many: '/b', at Caddyfile:4"},
	{"a max_disk that is too small", `outbox {
	max_disk 1MiB
}`, "max_disk '1MiB' is not a size of at least 32MiB, like 2GiB, at Caddyfile:4"},
	{"a max_disk that is no size", `outbox {
	max_disk much
}`, "max_disk 'much' is not a size of at least 32MiB, like 2GiB, at Caddyfile:4"},
	{"a heap_reserve that is too large", `heap_reserve 2GiB`, "heap_reserve '2GiB' is neither off nor a size up to 1GiB, like 16MiB, at Caddyfile:3"},
	{"a heap_reserve beyond all numbers", `heap_reserve 9999999999GiB`, "heap_reserve '9999999999GiB' is neither off nor a size up to 1GiB, like 16MiB, at Caddyfile:3"},
	{"a heap_reserve that is no size", `heap_reserve none`, "heap_reserve 'none' is neither off nor a size up to 1GiB, like 16MiB, at Caddyfile:3"},
	{"one too many: heap_reserve", `heap_reserve 16 MiB`, "heap_reserve has one argument too many: 'MiB', at Caddyfile:3"},
	{"one too many: max_disk", `outbox {
	max_disk 2 GiB
}`, "max_disk has one argument too many: 'GiB', at Caddyfile:4"},
	{"an unknown overflow", `outbox {
	overflow wait
}`, `overflow "wait" is unknown: known are refuse, drop_oldest, at Caddyfile:4`},
	{"one too many: overflow", `outbox {
	overflow refuse drop_oldest
}`, "overflow has one argument too many: 'drop_oldest', at Caddyfile:4"},
	{"an unknown option of keys", `keys {
	every 30d
}`, "unknown option 'every' in keys: known are reread, rotate, at Caddyfile:4"},
	{"one too many: keys", "keys 30d", "keys has one argument too many: '30d', at Caddyfile:3"},
	{"one too many: rotate", `keys {
	rotate 30d 60d
}`, "rotate has one argument too many: '60d', at Caddyfile:4"},
	{"rotate that is no duration", `keys {
	rotate monthly
}`, "rotate 'monthly' is not a positive duration like 30m, 12h or 30d, at Caddyfile:4"},
	{"rotate that is too short", `keys {
	rotate 30m
}`, "keys rotate 30m is less than 1h: nodes need time to learn of a new key, at Caddyfile:4"},
	{"reread that is too long", `keys {
	reread 10m
}`, "keys reread 10m is not from 1s to 5m: nodes have 10m to learn of a new key, at Caddyfile:4"},
	{"reread that is too short", `keys {
	reread 10ms
}`, "keys reread 10ms is not from 1s to 5m: nodes have 10m to learn of a new key, at Caddyfile:4"},
	{"reread twice as much", `keys {
	reread 10s 20s
}`, "reread has one argument too many: '20s', at Caddyfile:4"},
}

var wholeMistakes = []mistake{
	{"one too many: workspace", `:80 {
	@eu vars session.geo.is_eu true

	session_context {
		workspace ws extra
		project pr
		campaign cmp
	}
}`, "workspace has one argument too many: 'extra', at Caddyfile:5"},
	{"one too many: project", `:80 {
	@eu vars session.geo.is_eu true

	session_context {
		workspace ws
		project pr extra
		campaign cmp
	}
}`, "project has one argument too many: 'extra', at Caddyfile:6"},
	{"no workspace", `:80 {
	session_context {
		project pr
		campaign cmp
	}
}`, "workspace is missing: name it with a line `workspace <id>`, at Caddyfile:2"},
	{"no project", `:80 {
	session_context {
		workspace ws
		campaign cmp
	}
}`, "project is missing: name it with a line `project <id>`, at Caddyfile:2"},
	{"no campaign", `:80 {
	session_context {
		workspace ws
		project pr
	}
}`, "campaign is missing: name it with a line `campaign <id>`, at Caddyfile:2"},
	{"no block", `:80 {
	session_context
}`, "workspace is missing: name it with a line `workspace <id>`, at Caddyfile:2"},
	{"a bad id of the campaign", `:80 {
	session_context {
		workspace ws
		project pr
		campaign {$NOTHING:a.b}
	}
}`, `campaign: id "a.b" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:5`},
	{"a bad id of the workspace", `:80 {
	session_context {
		workspace "w s"
	}
}`, `workspace: id "w s" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:3`},
	{"a bad id of the project", `:80 {
	session_context {
		project pröject
	}
}`, `project: id "pröject" does not match [A-Za-z0-9_-]{1,64}, at Caddyfile:3`},
	{"an argument of the directive", `:80 {
	session_context everyone {
		workspace ws
	}
}`, "session_context takes no argument but a matcher, and 'everyone' is none: options go into its block, at Caddyfile:2"},
	{"two matchers of the directive", `:80 {
	session_context /a /b {
		workspace ws
	}
}`, "session_context takes no argument but a matcher, and '/b' is none: options go into its block, at Caddyfile:2"},
	{"an argument of session_context_api", `:80 {
	session_context_api v1
}`, "session_context_api takes no argument but a matcher, and 'v1' is none, at Caddyfile:2"},
	{"an unknown option of session_context_api", `:80 {
	session_context_api {
		path /v1
	}
}`, "unknown option 'path' in session_context_api: known are api_path, track_js, at Caddyfile:3"},
	{"a bad api_path of session_context_api", `:80 {
	session_context_api {
		api_path v1
	}
}`, `api_path "v1" is not a path like /client-api/v1: it begins with / and has no slash at its end, at Caddyfile:3`},
	{"one too many: api_path of session_context_api", `:80 {
	session_context_api {
		api_path /v1 extra
	}
}`, "api_path has one argument too many: 'extra', at Caddyfile:3"},
	{"an error in an imported snippet", `(campaign) {
	session_context {
		workspace ws
		session_duration soon
	}
}

:80 {
	import campaign
}`, "session_duration 'soon' is not a positive duration like 30m, 12h or 30d, at Caddyfile:4 import chain ['Caddyfile:9 (import campaign)']"},
	{"session_context twice among the global options", `{
	session_context {
		sink file
	}
	session_context {
		store embedded
	}
}`, "session_context stands twice among the global options: put both blocks into one, at Caddyfile:5"},
	{"an argument of the global option", `{
	session_context on
}`, "session_context takes no argument, 'on' was given: options go into its block, at Caddyfile:2"},
}
