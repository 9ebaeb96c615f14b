SELECT
    fromUnixTimestamp64Milli(at, 'UTC') AS timestamp,
    session_id, user_id, project_id, workspace_id, campaign_id,
    toNullable(landing_page_id) AS landing_page_id, segment_id, ab_test_id, ab_test_variant_id,
    utm_source, utm_medium, utm_campaign,
    if(utm_medium = 'cpc', 'shoes for running', NULL) AS utm_term, if(utm_medium = 'cpc', concat('ad_', toString(cityHash64(n, 30) % 50)), NULL) AS utm_content,
    ref, source, country, city, region, region_code, continent, timezone, is_eu_country,
    device_type, device_os, browser, browser_version, is_mobile, connection_type, referrer, user_agent, language,
    bot_score, toUInt8(dice(n, 31) < 0.02) AS is_corporate_proxy, is_verified_bot, 1 AS is_ssl,
    'custom' AS domain_type, concat('lp', toString(c), '.example.com') AS user_hostname,
    is_returning, campaign_environment, environment,
    concat('/', ['winter', 'bold', 'calm'][page], ifNull(concat('?utm_source=', utm_source, '&utm_medium=', utm_medium, '&utm_campaign=', utm_campaign), '')) AS uri,
    hash_id('session', n, renewal) AS row_id,
    toUInt8(renewal > 0) AS is_renewal, renewal AS renewal_count,
    timed(begin, hash_id('id', n, 0)) AS original_session_id, fromUnixTimestamp64Milli(begin, 'UTC') AS original_timestamp,
    visitor_day, if(lost, 'lost', 'server') AS attribution_source,
    if(lost, NULL, utm_source) AS original_utm_source, if(lost, NULL, utm_medium) AS original_utm_medium, if(lost, NULL, utm_campaign) AS original_utm_campaign,
    if(lost, NULL, utm_term) AS original_utm_term, NULL AS original_utm_content,
    if(lost, NULL, ref) AS original_ref, if(lost, NULL, source) AS original_source, if(lost, NULL, referrer) AS original_referrer,
    if(lost, NULL, uri) AS original_landing_page,
    if(utm_source = 'google', concat('Cj0KCQ', base64Encode(hex(sipHash128(n)))), NULL) AS gclid,
    NULL AS gbraid, NULL AS wbraid, NULL AS dclid,
    if(utm_source = 'facebook', concat('IwAR', base64Encode(hex(sipHash128(n)))), NULL) AS fbclid,
    NULL AS msclkid, NULL AS ttclid, NULL AS twclid, if(utm_source = 'linkedin', hex(sipHash128(n)), NULL) AS li_fat_id,
    NULL AS epik, NULL AS sc_cid, NULL AS other_click_ids
FROM (
    SELECT
        *, renewal, begin + renewal * 1800000 AS at,
        timed(at, hash_id('id', n, renewal)) AS session_id,
        is_returning = 1 AND dice(n, 32) < 0.1 AS lost
    FROM ({visits}) ARRAY JOIN range(1 + renewals) AS renewal
)
WHERE at < {end}
