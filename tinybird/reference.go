package schema

import "strings"

// referenceColumns are the columns that an existing workspace of the reference
// system has, by datasource. They are a fact about another system, so they are
// written out and never derived: a column added to a file is ours until
// somebody says otherwise here.
var referenceColumns = map[string][]string{
	"session_v1": strings.Fields(`
		timestamp session_id user_id project_id workspace_id campaign_id landing_page_id segment_id
		ab_test_id ab_test_variant_id utm_source utm_medium utm_campaign utm_term utm_content ref source
		country city region region_code continent timezone is_eu_country device_type device_os browser
		browser_version is_mobile connection_type referrer user_agent language bot_score
		is_corporate_proxy is_verified_bot is_ssl domain_type user_hostname is_returning
		campaign_environment environment uri`),
	"events_v1": strings.Fields(`
		timestamp id event_id event_value event_value_currency event_value_type event_type
		event_placement user_id campaign_id session_id workspace_id project_id landing_page_id
		segment_id ab_test_id ab_test_variant_id form_id clicked_element clicked_url page_load_time
		dom_ready_time scroll_percentage time_on_page session_event_sequence metadata environment
		campaign_environment page_url referrer_url viewport_width viewport_height`),
	"traffic_v1": strings.Fields(`
		timestamp request_id workspace_id project_id campaign_id landing_page_id city continent country
		is_eu_country latitude longitude region region_code timezone device_type device_os browser
		browser_version is_mobile connection_type language referrer user_agent bot_score
		is_corporate_proxy is_verified_bot`),
}
