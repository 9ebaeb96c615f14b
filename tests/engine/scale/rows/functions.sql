-- What the other files of this folder use. Nothing is drawn: dice are hashes of a
-- number and a salt, so the same number has the same visit, and its events,
-- renewals and page are made by making it again.

-- From 0 to below 1.
CREATE FUNCTION dice AS (n, salt) -> cityHash64(n, salt) / 18446744073709551616.;

-- One of a list.
CREATE FUNCTION choose AS (n, salt, list) -> list[1 + toUInt32(floor(dice(n, salt) * length(list)))];

-- 32 hexadecimal digits, as row ids are; numbers of any width hash alike.
CREATE FUNCTION hash_id AS (kind, a, b) -> lower(hex(sipHash128(kind, toUInt64(a), toUInt64(b))));

-- An id that begins with its time in milliseconds, as ids of sessions and events do.
CREATE FUNCTION timed AS (ms, x) -> concat(
    substring(lower(hex(toUInt64(ms))), 1, 8), '-', substring(lower(hex(toUInt64(ms))), 9, 4), '-8',
    substring(x, 1, 3), '-9', substring(x, 4, 3), '-', substring(x, 7, 12));

CREATE FUNCTION random_id AS (x) -> concat(
    substring(x, 1, 8), '-', substring(x, 9, 4), '-8', substring(x, 13, 3), '-9', substring(x, 16, 3), '-', substring(x, 20, 12));

-- An id of 32 characters, as the reference's are.
CREATE FUNCTION tenant AS (kind, n) -> concat(kind, leftPad(toString(n), 30, '0'));
