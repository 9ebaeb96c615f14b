-- A row a visit: what its sessions, events and page have in common.
--
-- Visits come ever more often: the last quarter of the time has 44 % of them.
-- Campaigns are numbered in the order of their sizes; of 300 the first has 15 %
-- of all visits, the one in the middle 0.2 %, the last 0.1 %. One visit in three
-- is of a visitor who comes again, one in three of one without cookies.
SELECT
    n,
    c,
    -- by day, with a peak at noon
    least(
        toInt64({end}) - 1000 - toInt64(dice(n, 2) * 60000),
        intDiv(toInt64({end} - {span} * (1 - sqrt((n + 0.5) / {visits}))), 86400000) * 86400000
            + toInt64(43200000 * (dice(n, 3) + dice(n, 4)))
    ) AS begin,
    tenant('ws', c % {workspaces}) AS workspace_id,
    tenant('pr', c % ({workspaces} * 3)) AS project_id,
    tenant('cp', c) AS campaign_id,
    if(dice(n, 5) < 0.98, 'production', 'preview') AS campaign_environment,
    if(dice(n, 5) < 0.99, 'production', 'dev') AS environment,
    toUInt8(dice(n, 6) < 0.33) AS cookieless,
    toUInt8(NOT cookieless AND dice(n, 7) < 0.5) AS is_returning,
    -- as many regulars as the campaign has visits, times 0.2
    intDiv(cityHash64(n, 8), 2) % (1 + toUInt64(0.2 * {visits} * (cbrt(c + 1) - cbrt(c)) / cbrt({campaigns}))) AS regular,
    random_id(if(is_returning, hash_id('user', c, regular), hash_id('new', n, 0))) AS user_id,
    if(cookieless, substring(hash_id('day', c, regular), 1, 16), NULL) AS visitor_day,
    choose(n, 9, [1, 1, 1, 2, 3]) AS page,
    concat('lp', leftPad(toString(c * 10 + page), 30, '0')) AS landing_page_id,
    if(dice(n, 10) < 0.05, NULL, if(device.type = 'mobile', 'mobile', 'everyone')) AS segment_id,
    if(dice(n, 11) < 0.8, 'hero', NULL) AS ab_test_id,
    if(isNull(ab_test_id), NULL, choose(n, 12, ['plain', 'bold', 'calm'])) AS ab_test_variant_id,
    concat(device.agent, toString(1 + cityHash64(n, 15) % 40)) AS user_agent,
    toUInt8(device.type = 'mobile') AS is_mobile,
    choose(n, 16, ['4g', '4g', 'wifi', 'unknown', '3g']) AS connection_type,
    -- one visit in twenty is a program's, half of those say so themselves
    toFloat32(multiIf(dice(n, 18) < 0.025, 2, dice(n, 18) < 0.05, 60, dice(n, 18) < 0.15, 0, 50 + cityHash64(n, 19) % 50)) AS bot_score,
    toUInt8(dice(n, 18) BETWEEN 0.025 AND 0.05) AS is_verified_bot,
    place.country AS country, place.city AS city, place.region AS region, nullIf(place.region_code, '') AS region_code,
    place.continent AS continent, nullIf(place.timezone, '') AS timezone, nullIf(place.language, '') AS language, place.is_eu_country AS is_eu_country,
    device.type AS device_type, device.os AS device_os, device.browser AS browser, device.version AS browser_version,
    nullIf(touch.source, '') AS utm_source, nullIf(touch.medium, '') AS utm_medium, nullIf(touch.campaign, '') AS utm_campaign,
    nullIf(touch.ref, '') AS ref, nullIf(touch.own, '') AS source, nullIf(touch.referrer, '') AS referrer,
    -- one visit in ten is renewed, some of those twice
    toUInt32(multiIf(dice(n, 20) < 0.02, 2, dice(n, 20) < 0.1, 1, 0)) AS renewals
FROM (
    -- those that stand earlier in the lists below are likelier by far
    SELECT
        number AS n,
        toUInt32(floor({campaigns} * pow(dice(n, 1), 3))) AS c,
        toUInt8(floor(16 * pow(dice(n, 13), 2))) AS place,
        toUInt8(floor(7 * pow(dice(n, 14), 2))) AS device,
        toUInt8(floor(9 * pow(dice(n, 17), 2))) AS touch
    FROM numbers({first}, {count})
) AS v
ANY LEFT JOIN values('i UInt8, country String, city String, region String, region_code String, continent String, timezone String, language String, is_eu_country UInt8',
    (0, 'US', 'New York', 'New York', 'NY', 'NA', 'America/New_York', 'en-US', 0),
    (1, 'DE', 'Berlin', 'Berlin', 'BE', 'EU', 'Europe/Berlin', 'de-DE', 1),
    (2, 'US', 'Los Angeles', 'California', 'CA', 'NA', 'America/Los_Angeles', 'en-US', 0),
    (3, 'GB', 'London', 'England', 'ENG', 'EU', 'Europe/London', 'en-GB', 0),
    (4, 'DE', 'München', 'Bayern', 'BY', 'EU', 'Europe/Berlin', 'de-DE', 1),
    (5, 'FR', 'Paris', 'Île-de-France', 'IDF', 'EU', 'Europe/Paris', 'fr-FR', 1),
    (6, 'US', 'Chicago', 'Illinois', 'IL', 'NA', 'America/Chicago', 'en-US', 0),
    (7, 'TR', 'Istanbul', 'Istanbul', '34', 'AS', 'Europe/Istanbul', 'tr-TR', 0),
    (8, 'IN', 'Mumbai', 'Maharashtra', 'MH', 'AS', 'Asia/Kolkata', 'en-IN', 0),
    (9, 'NL', 'Amsterdam', 'Noord-Holland', 'NH', 'EU', 'Europe/Amsterdam', 'nl-NL', 1),
    (10, 'BR', 'São Paulo', 'São Paulo', 'SP', 'SA', 'America/Sao_Paulo', 'pt-BR', 0),
    (11, 'CA', 'Toronto', 'Ontario', 'ON', 'NA', 'America/Toronto', 'en-CA', 0),
    (12, 'AU', 'Sydney', 'New South Wales', 'NSW', 'OC', 'Australia/Sydney', 'en-AU', 0),
    (13, 'ES', 'Madrid', 'Madrid', 'MD', 'EU', 'Europe/Madrid', 'es-ES', 1),
    (14, 'JP', 'Tokyo', 'Tokyo', '13', 'AS', 'Asia/Tokyo', 'ja-JP', 0),
    (15, 'Unknown', 'Unknown', 'Unknown', '', 'Unknown', '', '', 0)
) AS place ON place.i = v.place
ANY LEFT JOIN values('i UInt8, type String, os String, browser String, version String, agent String',
    (0, 'mobile', 'iOS', 'Safari', '19.1', 'Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.'),
    (1, 'desktop', 'Windows', 'Chrome', '149.0', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.'),
    (2, 'mobile', 'Android', 'Chrome', '149.0', 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Mobile Safari/537.'),
    (3, 'desktop', 'macOS', 'Safari', '19.1', 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/605.'),
    (4, 'desktop', 'Windows', 'Edge', '149.0', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36 Edg/149.0.0.'),
    (5, 'desktop', 'Linux', 'Firefox', '151.0', 'Mozilla/5.0 (X11; Linux x86_64; rv:151.0) Gecko/20100101 Firefox/151.'),
    (6, 'tablet', 'Android', 'Chrome', '149.0', 'Mozilla/5.0 (Linux; Android 15; SM-X910) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.')
) AS device ON device.i = v.device
ANY LEFT JOIN values('i UInt8, source String, medium String, campaign String, ref String, own String, referrer String',
    (0, 'google', 'cpc', 'winter', '', '', 'https://www.google.com/'),
    (1, '', '', '', '', '', ''),
    (2, 'facebook', 'paid', 'winter', '', '', 'https://l.facebook.com/l.php'),
    (3, '', '', '', '', '', 'https://www.google.com/'),
    (4, 'google', 'cpc', 'brand', '', '', 'https://www.google.com/'),
    (5, 'newsletter', 'email', 'november', 'friend', '', ''),
    (6, '', '', '', '', 'partner', 'https://partner.example/offers'),
    (7, 'linkedin', 'paid', 'b2b', '', '', 'https://www.linkedin.com/'),
    (8, '', '', '', '', '', 'https://news.example/story')
) AS touch ON touch.i = v.touch
