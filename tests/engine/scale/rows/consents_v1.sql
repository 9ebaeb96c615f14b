-- One visit in four decides.
SELECT
    fromUnixTimestamp64Milli(begin + 9000, 'UTC') AS timestamp,
    hash_id('consent', n, 1) AS row_id, random_id(hash_id('consent', n, 0)) AS consent_id,
    workspace_id, project_id, campaign_id, campaign_environment, environment,
    user_id AS subject_id, toNullable(timed(begin, hash_id('id', n, 0))) AS session_id, segment_id,
    concat('lp', toString(c), '.example.com') AS domain,
    1 AS essential, toUInt8(dice(n, 60) < 0.6) AS analytics, toUInt8(dice(n, 60) < 0.5) AS marketing, toUInt8(dice(n, 60) < 0.7) AS functional,
    if(dice(n, 61) < 0.97, 'active', 'withdrawn') AS status, choose(n, 62, ['token', 'token', 'token', 'cookie', 'visitor', 'ids']) AS proof, toNullable('2026-01') AS policy_version, 'banner' AS source,
    NULL AS ip, user_agent, country, language,
    timestamp AS given_at, timestamp + toIntervalDay(395) AS expires_at
FROM ({visits})
WHERE n % 4 = 0
