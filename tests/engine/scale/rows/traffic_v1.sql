-- Of one visit in two the page, and as many prefetched ones as one in five of
-- those. Previews write none.
SELECT
    fromUnixTimestamp64Milli(at, 'UTC') AS timestamp,
    random_id(hash_id('request', n, prefetch)) AS request_id,
    toNullable(workspace_id) AS workspace_id, toNullable(project_id) AS project_id, toNullable(campaign_id) AS campaign_id,
    toNullable(landing_page_id) AS landing_page_id,
    city, continent, country, is_eu_country,
    toString(40 + cityHash64(n, 50) % 100 / 10) AS latitude, toString(10 + cityHash64(n, 51) % 100 / 10) AS longitude,
    region, region_code, timezone, device_type, device_os, browser, browser_version, is_mobile, connection_type,
    language, referrer, user_agent,
    bot_score, toUInt8(dice(n, 31) < 0.02) AS is_corporate_proxy, is_verified_bot,
    hash_id('traffic', n, prefetch) AS row_id,
    toNullable(timed(begin, hash_id('id', n, 0))) AS session_id, segment_id,
    toUInt16(if(dice(n, 52) < 0.98, 200, 404)) AS status,
    if(prefetch = 1, 'prefetch', 'navigate') AS purpose,
    toUInt8(prefetch = 0 AND status = 200 AND is_verified_bot = 0) AS counted,
    campaign_environment, environment
FROM (
    SELECT *, prefetch, begin - 20 - prefetch * 5000 AS at
    FROM ({visits}) ARRAY JOIN if(dice(n, 53) < 0.2, [0, 1], [0]) AS prefetch
    WHERE n % 2 = 0 AND campaign_environment = 'production'
)
WHERE at > {end} - {kept}
