"""The views, for people who use the plain `sqlite3` shell.

Sizes, times and durations are formatted for people; the exact number is in a column beside them,
for sorting and adding up. Views may ask the clock; no statement of the program does. They need
SQLite 3.37.
"""

# ruff: noqa: S608 - only constants of this file are put together

from __future__ import annotations

from registry import config
from registry.artifact import to_micros
from registry.clock_slack import CLOCK_SLACK_MICROS

__all__ = ["DDL"]

# Microseconds since 1970, as far as the clock of SQLite goes: to a millisecond.
NOW = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
# A time later than this was written before the clock was set back (see `registry.clock_slack`).
LATEST = f"({NOW} + {CLOCK_SLACK_MICROS})"
SHORT_ID = "substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12)"


# Each takes the name of a column, not an expression, because || binds more tightly than / here.


def size(bytes: str) -> str:
    """Write bytes in about three digits."""
    return f"""\
CASE WHEN {bytes} < 1024 THEN {bytes} || ' B'
       WHEN {bytes} < 1048576 THEN printf('%.1f KiB', {bytes} / 1024.0)
       WHEN {bytes} < 1073741824 THEN printf('%.1f MiB', {bytes} / 1048576.0)
       WHEN {bytes} >= 1073741824 THEN printf('%.1f GiB', {bytes} / 1073741824.0) END"""


def span(micros: str) -> str:
    """Write a span of time in its largest unit."""
    return f"""\
CASE WHEN {micros} < 1000000 THEN (max({micros}, 0) / 1000) || 'ms'
       WHEN {micros} < 60000000 THEN ({micros} / 1000000) || 's'
       WHEN {micros} < 3600000000 THEN ({micros} / 60000000) || 'm'
       WHEN {micros} < 86400000000 THEN ({micros} / 3600000000) || 'h'
       WHEN {micros} >= 86400000000 THEN ({micros} / 86400000000) || 'd' END"""


def utc(micros: str) -> str:
    """Write a time as UTC has it."""
    return f"datetime({micros} / 1000000, 'unixepoch')"


def local(micros: str) -> str:
    """Write a time as the reader's clock has it."""
    return f"datetime({micros} / 1000000, 'unixepoch', 'localtime')"


SETTINGS = f"""\
CREATE VIEW settings AS
  -- The settings as they hold: what was stored, else the default.
  SELECT known.name, coalesce(setting.value, known.value) AS value,
         iif(setting.value IS NULL, 'default', 'stored') AS source
  FROM (SELECT 'cache_limit' AS name, {config.CACHE_LIMIT} AS value
        UNION ALL SELECT 'hard_limit', NULL
        UNION ALL SELECT 'min_stale_time', {to_micros(config.MIN_STALE_TIME)}
        UNION ALL SELECT 'max_retries', {config.MAX_RETRIES}
        UNION ALL SELECT 'retry_cooldown', {to_micros(config.RETRY_COOLDOWN)}
        UNION ALL SELECT 'prepare_timeout', {to_micros(config.PREPARE_TIMEOUT)}
        UNION ALL SELECT 'failed_max_age', {to_micros(config.FAILED_MAX_AGE)}
        UNION ALL SELECT 'failed_max_count', {config.FAILED_MAX_COUNT}
        UNION ALL SELECT 'failed_max_bytes', {config.FAILED_MAX_BYTES}) AS known
  LEFT JOIN setting USING (name)"""

ARTIFACTS = f"""\
CREATE VIEW artifacts AS
  -- The artifacts for people. id: as `registry show` and `registry why` take it. needed: when last,
  -- local time, and age: how long ago. retry: when a failed one may be tried again.
  SELECT {SHORT_ID} AS id,
    label, kind, state,
    {size("bytes")} AS size,
    {local("last_time_needed")} AS needed,
    {utc("last_time_needed")} AS needed_utc,
    {span("unused")} AS age,
    {span("prepare_micros")} AS prepared_in,
    prepared_by,
    {local("claimed_at")} AS since,
    {local("deadline")} AS deadline,
    num_failures AS failures, error_kind,
    substr(error, 1, 200) AS error,
    CASE WHEN state = 'failed' AND retry_at IS NULL THEN 'only after registry retry'
         WHEN state = 'failed' AND (retry_at <= now OR num_failures = 0
                                    OR last_time_failed > now + {CLOCK_SLACK_MICROS}) THEN 'now'
         WHEN state = 'failed' THEN {local("retry_at")} END AS retry,
    bytes, last_time_needed, unused, prepare_seconds, code_hash, prep_hash
  FROM (SELECT *, size AS bytes, {NOW} AS now,
               {NOW} - last_time_needed AS unused,
               CAST(prepare_seconds * 1000000 AS INTEGER) AS prepare_micros,
               (SELECT 'process ' || pid || ' on ' || hostname FROM host
                WHERE host.id = host_id) AS prepared_by
        FROM artifact)"""

CACHE_USAGE = f"""\
CREATE VIEW cache_usage AS
  -- How full the cache is. needed_lately: what was needed within min_stale_time, and so is kept
  -- even over the limit; more of it than cache_limit says that the limit is too low.
  SELECT prepared,
    {size("bytes")} AS held,
    {size("cache_limit")} AS cache_limit,
    printf('%.1f %%', 100.0 * bytes / cache_limit) AS used,
    {size("bytes_over_limit")} AS over_limit,
    {size("bytes_needed_lately")} AS needed_lately,
    {span("min_stale_time")} AS min_stale_time,
    {size("hard_limit")} AS hard_limit,
    preparing, failed,
    {local("maintained_at")} AS maintained,
    bytes, cache_limit AS bytes_limit, bytes_needed_lately, failed_bytes
  FROM (SELECT *, max(bytes - cache_limit, 0) AS bytes_over_limit,
               (SELECT coalesce(sum(size), 0) FROM artifact
                   WHERE state = 'prepared' AND last_time_needed > {NOW} - min_stale_time
                     AND last_time_needed <= {LATEST})
               AS bytes_needed_lately
        FROM (SELECT prepared_count AS prepared, prepared_bytes AS bytes,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time,
                (SELECT count(*) FROM artifact WHERE state = 'preparing') AS preparing,
                failed_count AS failed, failed_bytes,
                (SELECT last_done FROM maintenance) AS maintained_at
              FROM usage CROSS JOIN failure_usage))"""

HOSTS = f"""\
CREATE VIEW hosts AS
  -- The open handles on the cache. Whether one still lives, only the kernel knows; `registry hosts`
  -- asks it. What a dead one prepared goes to whoever needs it.
  SELECT substr(id, 1, 12) AS id, pid, hostname, command,
    {local("opened_at")} AS opened,
    {span("open_for")} AS open_for,
    version,
    (SELECT count(*) FROM artifact WHERE state = 'preparing' AND host_id = host.id) AS preparing,
    (SELECT group_concat(coalesce(label, substr(code_hash, 1, 12)), ', ') FROM artifact
     WHERE state = 'preparing' AND host_id = host.id) AS prepares,
    opened_at, id AS host_id
  FROM (SELECT *, {NOW} - opened_at AS open_for FROM host) AS host"""

READY = f"""retry_at <= {NOW} OR (retry_at NOT NULL AND
                           (num_failures = 0 OR last_time_failed > {LATEST}))"""
FAILURES = f"""\
CREATE VIEW failures AS
  -- What failed, by kind. ready: may be tried again now; waiting: later; given_up: only after
  -- `registry retry`. error and example are the latest one's.
  SELECT error_kind AS kind, count(*) AS artifacts, sum(num_failures) AS failures,
    count(*) FILTER (WHERE {READY}) AS ready,
    count(*) FILTER (WHERE NOT ({READY})) AS waiting,
    count(*) FILTER (WHERE retry_at IS NULL) AS given_up,
    {local("max(last_time_failed)")} AS latest,
    substr(error, 1, 200) AS error,
    {SHORT_ID} AS example
  FROM artifact WHERE state = 'failed' GROUP BY error_kind"""

NEXT_PRUNE = f"""\
CREATE VIEW next_prune AS
  -- What the next prune takes, in its order, by the settings of the cache: the least recently
  -- needed, while more is held than cache_limit and it was not needed within min_stale_time, or
  -- while more is held than hard_limit. What was needed before the clock was set back goes first.
  -- freed: by it and by those before it. Empty: nothing.
  SELECT position, {SHORT_ID} AS id, label,
    {size("size")} AS size,
    {span("unused")} AS age,
    {local("last_time_needed")} AS needed,
    iif(held - freed_before > cache_limit AND (is_ahead OR unused >= min_stale_time),
        'cache_limit', 'hard_limit') AS reason,
    {size("bytes_freed")} AS freed,
    size AS bytes, bytes_freed, last_time_needed, code_hash, prep_hash
  FROM (SELECT artifact.id, row_number() OVER oldest AS position,
               sum(size) OVER oldest AS bytes_freed,
               sum(size) OVER oldest - size AS freed_before,
               {NOW} - last_time_needed AS unused,
               last_time_needed > {LATEST} AS is_ahead,
               held, cache_limit, hard_limit, min_stale_time
        FROM (SELECT prepared_bytes AS held,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time
              FROM usage LIMIT 1)
        CROSS JOIN artifact
        WHERE state = 'prepared' AND (held > cache_limit OR held > hard_limit)
        WINDOW oldest AS (ORDER BY last_time_needed > {LATEST} DESC, last_time_needed, artifact.id))
  CROSS JOIN artifact USING (id)
  WHERE (held - freed_before > cache_limit AND (is_ahead OR unused >= min_stale_time))
     OR held - freed_before > hard_limit"""

EVENTS = f"""\
CREATE VIEW events AS
  -- The history for people, the eldest first. who: the host that did it, or had the claim where
  -- that was reaped. unused_for: how long what went had not been needed. evicted_for: published
  -- again so long after it was pruned.
  SELECT {local("at")} AS time,
    {SHORT_ID} AS id, label,
    event, reason,
    {size("bytes")} AS size,
    {span("prepare_micros")} AS prepared_in,
    {span("unused")} AS unused_for,
    {span("evicted_micros")} AS evicted_for,
    coalesce('process ' || pid || ' on ' || hostname || ': ' || command, 'host ' || host_id)
      AS who,
    error,
    {utc("at")} AS utc,
    at, number, bytes, prepare_seconds, unused, evicted_micros, code_hash, prep_hash, host_id
  FROM (SELECT history.*, history.id AS number, history.size AS bytes,
               CAST(prepare_seconds * 1000000 AS INTEGER) AS prepare_micros,
               at - last_time_needed AS unused, evicted_for AS evicted_micros,
               pid, hostname, command
        FROM history LEFT JOIN host_history ON host_history.id = history.host_id)
  ORDER BY at, number"""

COUNTERS = """\
CREATE VIEW counters AS
  -- How often what happened since the cache was made, and what that means.
  SELECT name, value, meaning
  FROM (SELECT 1 AS position, 'hits' AS name,
               'needs answered at once; each host tells its own once a second at most' AS meaning
        UNION ALL SELECT 2, 'misses', 'needs for which nothing was prepared; as hits'
        UNION ALL SELECT 3, 'coalesced', 'waits for what another was preparing; as hits'
        UNION ALL SELECT 4, 'published', 'preparations that ended well'
        UNION ALL SELECT 5, 'failed', 'preparations that failed'
        UNION ALL SELECT 6, 'reaped', 'claims ended because their host had died, or was late'
        UNION ALL SELECT 7, 'released', 'claims given back without a failure'
        UNION ALL SELECT 8, 'pruned', 'artifacts evicted to keep within a limit'
        UNION ALL SELECT 9, 'pruned_bytes', 'their sizes'
        UNION ALL SELECT 10, 'rebuilt', 'published again after they had been pruned'
        UNION ALL SELECT 11, 'rebuilt_soon', 'of those, within 24 hours: evicted too early'
        UNION ALL SELECT 12, 'removed', 'artifacts removed by hand'
        UNION ALL SELECT 13, 'missing', 'artifacts whose file was gone'
        UNION ALL SELECT 14, 'damaged', 'artifacts whose file was not what was published'
        UNION ALL SELECT 15, 'hostile', 'rows that named no file of ours'
        UNION ALL SELECT 16, 'forgotten', 'failures that were too old, too many or too long')
    AS known
  JOIN counter USING (name)
  ORDER BY position"""

KINDS = f"""\
CREATE VIEW kinds AS
  -- What each kind of artifact holds; NULL: those that nobody gave a kind.
  SELECT kind, prepared, {size("bytes")} AS held, preparing, failed, bytes
  FROM (SELECT kind, count(*) FILTER (WHERE state = 'prepared') AS prepared,
               coalesce(sum(size), 0) AS bytes,
               count(*) FILTER (WHERE state = 'preparing') AS preparing,
               count(*) FILTER (WHERE state = 'failed') AS failed
        FROM artifact GROUP BY kind)
  ORDER BY bytes DESC"""

DDL: tuple[str, ...] = (
    SETTINGS,
    ARTIFACTS,
    KINDS,
    CACHE_USAGE,
    HOSTS,
    FAILURES,
    NEXT_PRUNE,
    EVENTS,
    COUNTERS,
)
