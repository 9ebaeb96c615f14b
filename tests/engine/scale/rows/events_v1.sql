-- A session has from 1 to 2 × {mean} − 1 events, all alike often.
SELECT
    fromUnixTimestamp64Milli(at, 'UTC') AS timestamp,
    timed(at, hash_id('event', s, i)) AS id,
    event.1 AS event_id,
    if(event_id = 'purchase', [9.99, 49.9, 120.5, 800.][1 + cityHash64(s, i) % 4], 1.) AS event_value,
    if(event_id = 'purchase' AND cityHash64(s, i, 1) % 5 = 0, 'EUR', 'USD') AS event_value_currency,
    'static' AS event_value_type, event.2 AS event_type, 'internal' AS event_placement,
    user_id, campaign_id,
    timed(begin + renewal * 1800000, hash_id('id', n, renewal)) AS session_id,
    workspace_id, project_id, landing_page_id, segment_id, ab_test_id, ab_test_variant_id,
    if(event_id = 'form-submission', 'signup', NULL) AS form_id,
    if(event_id = 'external-link-click', 'a.button', NULL) AS clicked_element,
    if(event_id = 'external-link-click', concat('https://shop.example/p/', toString(cityHash64(s, i) % 1000)), NULL) AS clicked_url,
    if(event_id = 'page-load', toFloat32(300 + cityHash64(s, 1) % 3000), NULL) AS page_load_time,
    if(event_id = 'dom-ready', toFloat32(100 + cityHash64(s, 2) % 1000), NULL) AS dom_ready_time,
    if(startsWith(event_id, 'scroll'), toUInt8(substring(event_id, 18)), NULL) AS scroll_percentage,
    if(event.2 = 'engagement' OR event_id = 'page-unload', toUInt32(i * 7), NULL) AS time_on_page,
    toUInt32(i + 1) AS session_event_sequence,
    if(event.2 = 'conversion', '{"fieldCount":3,"method":"post","action":"/form"}', NULL) AS metadata,
    environment, campaign_environment,
    concat('https://lp', toString(c), '.example.com/', ['winter', 'bold', 'calm'][page]) AS page_url,
    referrer AS referrer_url,
    toUInt16(if(is_mobile = 1, 390, 1440)) AS viewport_width, toUInt16(if(is_mobile = 1, 844, 900)) AS viewport_height,
    hash_id('event', s, i) AS row_id
FROM (
    SELECT
        *, i,
        n * 4 + renewal AS s,
        1 + toUInt32(floor(dice(s, 40) * (2 * {mean} - 1))) AS many,
        begin + renewal * 1800000 + i * 7000 + cityHash64(s, i) % 5000 AS at,
        multiIf(
            i = 0, ('dom-ready', 'system'), i = 1, ('page-load', 'system'), i = 2, ('page-view', 'engagement'),
            i = many - 1, ('page-unload', 'system'),
            cityHash64(s, i, 2) % 1000 < 15, ('purchase', 'conversion'), cityHash64(s, i, 2) % 1000 < 40, ('form-submission', 'conversion'),
            cityHash64(s, i, 2) % 1000 < 100, ('external-link-click', 'engagement'), cityHash64(s, i, 2) % 1000 < 200, ('page-view', 'engagement'),
            cityHash64(s, i, 2) % 1000 < 400, ('video-watched', 'engagement'), (['scroll-threshold-25', 'scroll-threshold-50', 'scroll-threshold-75'][1 + cityHash64(s, i, 2) % 3], 'engagement')
        ) AS event
    FROM (SELECT *, renewal FROM ({visits}) ARRAY JOIN range(1 + renewals) AS renewal)
    ARRAY JOIN range(many) AS i
)
WHERE at < {end} AND at > {end} - {kept}
