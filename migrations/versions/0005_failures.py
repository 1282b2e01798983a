"""Failures are counted and bounded; times that lie ahead were written before the clock was set back.

The statements are written out: a migration never imports the program, which moves on.
"""

# ruff: noqa: E501 - as the program wrote them

from alembic import op

revision = "0005"
down_revision = "0004"

FAILURE_USAGE = (
    """\
CREATE TABLE failure_usage (
  -- One row, kept by triggers on artifact: how many failures are kept, and the bytes of their
  -- errors. Read it, never write it.
  failed_count INTEGER NOT NULL,
  failed_bytes INTEGER NOT NULL
) STRICT""",
    """\
CREATE TRIGGER failure_usage_insert AFTER INSERT ON artifact WHEN new.state = 'failed' BEGIN
  UPDATE failure_usage SET failed_count = failed_count + 1,
    failed_bytes = failed_bytes + coalesce(length(CAST(new.error AS BLOB)), 0);
END""",
    """\
CREATE TRIGGER failure_usage_update AFTER UPDATE OF state, error ON artifact
WHEN old.state = 'failed' OR new.state = 'failed' BEGIN
  UPDATE failure_usage SET
    failed_count = failed_count + (new.state = 'failed') - (old.state = 'failed'),
    failed_bytes = failed_bytes
      + iif(new.state = 'failed', coalesce(length(CAST(new.error AS BLOB)), 0), 0)
      - iif(old.state = 'failed', coalesce(length(CAST(old.error AS BLOB)), 0), 0);
END""",
    """\
CREATE TRIGGER failure_usage_delete AFTER DELETE ON artifact WHEN old.state = 'failed' BEGIN
  UPDATE failure_usage SET failed_count = failed_count - 1,
    failed_bytes = failed_bytes - coalesce(length(CAST(old.error AS BLOB)), 0);
END""",
)

# Each view, as it is now, and as it was before.
VIEWS = {
    "settings": (
        """\
CREATE VIEW settings AS
  -- The settings as they hold: what was stored, else the default.
  SELECT known.name, coalesce(setting.value, known.value) AS value,
         iif(setting.value IS NULL, 'default', 'stored') AS source
  FROM (SELECT 'cache_limit' AS name, 10737418240 AS value
        UNION ALL SELECT 'hard_limit', NULL
        UNION ALL SELECT 'min_stale_time', 86400000000
        UNION ALL SELECT 'max_retries', 5
        UNION ALL SELECT 'retry_cooldown', 900000000
        UNION ALL SELECT 'prepare_timeout', 1800000000
        UNION ALL SELECT 'failed_max_age', 2592000000000
        UNION ALL SELECT 'failed_max_count', 10000
        UNION ALL SELECT 'failed_max_bytes', 8388608) AS known
  LEFT JOIN setting USING (name)""",
        """\
CREATE VIEW settings AS
  -- The settings as they hold: what was stored, else the default.
  SELECT known.name, coalesce(setting.value, known.value) AS value,
         iif(setting.value IS NULL, 'default', 'stored') AS source
  FROM (SELECT 'cache_limit' AS name, 10737418240 AS value
        UNION ALL SELECT 'hard_limit', NULL
        UNION ALL SELECT 'min_stale_time', 86400000000
        UNION ALL SELECT 'max_retries', 5
        UNION ALL SELECT 'retry_cooldown', 900000000
        UNION ALL SELECT 'prepare_timeout', 1800000000) AS known
  LEFT JOIN setting USING (name)""",
    ),
    "artifacts": (
        """\
CREATE VIEW artifacts AS
  -- The artifacts for people. id: as `registry show` and `registry why` take it. needed: when last,
  -- local time, and age: how long ago. retry: when a failed one may be tried again.
  SELECT substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS id,
    label, state,
    CASE WHEN bytes < 1024 THEN bytes || ' B'
       WHEN bytes < 1048576 THEN printf('%.1f KiB', bytes / 1024.0)
       WHEN bytes < 1073741824 THEN printf('%.1f MiB', bytes / 1048576.0)
       WHEN bytes >= 1073741824 THEN printf('%.1f GiB', bytes / 1073741824.0) END AS size,
    datetime(last_time_needed / 1000000, 'unixepoch', 'localtime') AS needed,
    datetime(last_time_needed / 1000000, 'unixepoch') AS needed_utc,
    CASE WHEN unused < 1000000 THEN (max(unused, 0) / 1000) || 'ms'
       WHEN unused < 60000000 THEN (unused / 1000000) || 's'
       WHEN unused < 3600000000 THEN (unused / 60000000) || 'm'
       WHEN unused < 86400000000 THEN (unused / 3600000000) || 'h'
       WHEN unused >= 86400000000 THEN (unused / 86400000000) || 'd' END AS age,
    CASE WHEN prepare_micros < 1000000 THEN (max(prepare_micros, 0) / 1000) || 'ms'
       WHEN prepare_micros < 60000000 THEN (prepare_micros / 1000000) || 's'
       WHEN prepare_micros < 3600000000 THEN (prepare_micros / 60000000) || 'm'
       WHEN prepare_micros < 86400000000 THEN (prepare_micros / 3600000000) || 'h'
       WHEN prepare_micros >= 86400000000 THEN (prepare_micros / 86400000000) || 'd' END AS prepared_in,
    prepared_by,
    datetime(claimed_at / 1000000, 'unixepoch', 'localtime') AS since,
    datetime(deadline / 1000000, 'unixepoch', 'localtime') AS deadline,
    num_failures AS failures, error_kind,
    substr(error, 1, 200) AS error,
    CASE WHEN state = 'failed' AND retry_at IS NULL THEN 'only after registry retry'
         WHEN state = 'failed' AND (retry_at <= now OR num_failures = 0
                                    OR last_time_failed > now + 60000000) THEN 'now'
         WHEN state = 'failed' THEN datetime(retry_at / 1000000, 'unixepoch', 'localtime') END AS retry,
    bytes, last_time_needed, unused, prepare_seconds, code_hash, prep_hash
  FROM (SELECT *, size AS bytes, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) AS now,
               CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - last_time_needed AS unused,
               CAST(prepare_seconds * 1000000 AS INTEGER) AS prepare_micros,
               (SELECT 'process ' || pid || ' on ' || hostname FROM host
                WHERE host.id = host_id) AS prepared_by
        FROM artifact)""",
        """\
CREATE VIEW artifacts AS
  -- The artifacts for people. id: as `registry show` and `registry why` take it. needed: when last,
  -- local time, and age: how long ago. retry: when a failed one may be tried again.
  SELECT substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS id,
    label, state,
    CASE WHEN bytes < 1024 THEN bytes || ' B'
       WHEN bytes < 1048576 THEN printf('%.1f KiB', bytes / 1024.0)
       WHEN bytes < 1073741824 THEN printf('%.1f MiB', bytes / 1048576.0)
       WHEN bytes >= 1073741824 THEN printf('%.1f GiB', bytes / 1073741824.0) END AS size,
    datetime(last_time_needed / 1000000, 'unixepoch', 'localtime') AS needed,
    datetime(last_time_needed / 1000000, 'unixepoch') AS needed_utc,
    CASE WHEN unused < 1000000 THEN (max(unused, 0) / 1000) || 'ms'
       WHEN unused < 60000000 THEN (unused / 1000000) || 's'
       WHEN unused < 3600000000 THEN (unused / 60000000) || 'm'
       WHEN unused < 86400000000 THEN (unused / 3600000000) || 'h'
       WHEN unused >= 86400000000 THEN (unused / 86400000000) || 'd' END AS age,
    CASE WHEN prepare_micros < 1000000 THEN (max(prepare_micros, 0) / 1000) || 'ms'
       WHEN prepare_micros < 60000000 THEN (prepare_micros / 1000000) || 's'
       WHEN prepare_micros < 3600000000 THEN (prepare_micros / 60000000) || 'm'
       WHEN prepare_micros < 86400000000 THEN (prepare_micros / 3600000000) || 'h'
       WHEN prepare_micros >= 86400000000 THEN (prepare_micros / 86400000000) || 'd' END AS prepared_in,
    prepared_by,
    datetime(claimed_at / 1000000, 'unixepoch', 'localtime') AS since,
    datetime(deadline / 1000000, 'unixepoch', 'localtime') AS deadline,
    num_failures AS failures, error_kind,
    substr(error, 1, 200) AS error,
    CASE WHEN state = 'failed' AND retry_at IS NULL THEN 'only after registry retry'
         WHEN state = 'failed' AND retry_at <= now THEN 'now'
         WHEN state = 'failed' THEN datetime(retry_at / 1000000, 'unixepoch', 'localtime') END AS retry,
    bytes, last_time_needed, unused, prepare_seconds, code_hash, prep_hash
  FROM (SELECT *, size AS bytes, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) AS now,
               CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - last_time_needed AS unused,
               CAST(prepare_seconds * 1000000 AS INTEGER) AS prepare_micros,
               (SELECT 'process ' || pid || ' on ' || hostname FROM host
                WHERE host.id = host_id) AS prepared_by
        FROM artifact)""",
    ),
    "cache_usage": (
        """\
CREATE VIEW cache_usage AS
  -- How full the cache is. needed_lately: what was needed within min_stale_time, and so is kept
  -- even over the limit; more of it than cache_limit says that the limit is too low.
  SELECT prepared,
    CASE WHEN bytes < 1024 THEN bytes || ' B'
       WHEN bytes < 1048576 THEN printf('%.1f KiB', bytes / 1024.0)
       WHEN bytes < 1073741824 THEN printf('%.1f MiB', bytes / 1048576.0)
       WHEN bytes >= 1073741824 THEN printf('%.1f GiB', bytes / 1073741824.0) END AS held,
    CASE WHEN cache_limit < 1024 THEN cache_limit || ' B'
       WHEN cache_limit < 1048576 THEN printf('%.1f KiB', cache_limit / 1024.0)
       WHEN cache_limit < 1073741824 THEN printf('%.1f MiB', cache_limit / 1048576.0)
       WHEN cache_limit >= 1073741824 THEN printf('%.1f GiB', cache_limit / 1073741824.0) END AS cache_limit,
    printf('%.1f %%', 100.0 * bytes / cache_limit) AS used,
    CASE WHEN bytes_over_limit < 1024 THEN bytes_over_limit || ' B'
       WHEN bytes_over_limit < 1048576 THEN printf('%.1f KiB', bytes_over_limit / 1024.0)
       WHEN bytes_over_limit < 1073741824 THEN printf('%.1f MiB', bytes_over_limit / 1048576.0)
       WHEN bytes_over_limit >= 1073741824 THEN printf('%.1f GiB', bytes_over_limit / 1073741824.0) END AS over_limit,
    CASE WHEN bytes_needed_lately < 1024 THEN bytes_needed_lately || ' B'
       WHEN bytes_needed_lately < 1048576 THEN printf('%.1f KiB', bytes_needed_lately / 1024.0)
       WHEN bytes_needed_lately < 1073741824 THEN printf('%.1f MiB', bytes_needed_lately / 1048576.0)
       WHEN bytes_needed_lately >= 1073741824 THEN printf('%.1f GiB', bytes_needed_lately / 1073741824.0) END AS needed_lately,
    CASE WHEN min_stale_time < 1000000 THEN (max(min_stale_time, 0) / 1000) || 'ms'
       WHEN min_stale_time < 60000000 THEN (min_stale_time / 1000000) || 's'
       WHEN min_stale_time < 3600000000 THEN (min_stale_time / 60000000) || 'm'
       WHEN min_stale_time < 86400000000 THEN (min_stale_time / 3600000000) || 'h'
       WHEN min_stale_time >= 86400000000 THEN (min_stale_time / 86400000000) || 'd' END AS min_stale_time,
    CASE WHEN hard_limit < 1024 THEN hard_limit || ' B'
       WHEN hard_limit < 1048576 THEN printf('%.1f KiB', hard_limit / 1024.0)
       WHEN hard_limit < 1073741824 THEN printf('%.1f MiB', hard_limit / 1048576.0)
       WHEN hard_limit >= 1073741824 THEN printf('%.1f GiB', hard_limit / 1073741824.0) END AS hard_limit,
    preparing, failed,
    datetime(maintained_at / 1000000, 'unixepoch', 'localtime') AS maintained,
    bytes, cache_limit AS bytes_limit, bytes_needed_lately, failed_bytes
  FROM (SELECT *, max(bytes - cache_limit, 0) AS bytes_over_limit,
               (SELECT coalesce(sum(size), 0) FROM artifact
                   WHERE state = 'prepared' AND last_time_needed > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - min_stale_time
                     AND last_time_needed <= (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + 60000000))
               AS bytes_needed_lately
        FROM (SELECT prepared_count AS prepared, prepared_bytes AS bytes,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time,
                (SELECT count(*) FROM artifact WHERE state = 'preparing') AS preparing,
                failed_count AS failed, failed_bytes,
                (SELECT last_done FROM maintenance) AS maintained_at
              FROM usage CROSS JOIN failure_usage))""",
        """\
CREATE VIEW cache_usage AS
  -- How full the cache is. needed_lately: what was needed within min_stale_time, and so is kept
  -- even over the limit; more of it than cache_limit says that the limit is too low.
  SELECT prepared,
    CASE WHEN bytes < 1024 THEN bytes || ' B'
       WHEN bytes < 1048576 THEN printf('%.1f KiB', bytes / 1024.0)
       WHEN bytes < 1073741824 THEN printf('%.1f MiB', bytes / 1048576.0)
       WHEN bytes >= 1073741824 THEN printf('%.1f GiB', bytes / 1073741824.0) END AS held,
    CASE WHEN cache_limit < 1024 THEN cache_limit || ' B'
       WHEN cache_limit < 1048576 THEN printf('%.1f KiB', cache_limit / 1024.0)
       WHEN cache_limit < 1073741824 THEN printf('%.1f MiB', cache_limit / 1048576.0)
       WHEN cache_limit >= 1073741824 THEN printf('%.1f GiB', cache_limit / 1073741824.0) END AS cache_limit,
    printf('%.1f %%', 100.0 * bytes / cache_limit) AS used,
    CASE WHEN bytes_over_limit < 1024 THEN bytes_over_limit || ' B'
       WHEN bytes_over_limit < 1048576 THEN printf('%.1f KiB', bytes_over_limit / 1024.0)
       WHEN bytes_over_limit < 1073741824 THEN printf('%.1f MiB', bytes_over_limit / 1048576.0)
       WHEN bytes_over_limit >= 1073741824 THEN printf('%.1f GiB', bytes_over_limit / 1073741824.0) END AS over_limit,
    CASE WHEN bytes_needed_lately < 1024 THEN bytes_needed_lately || ' B'
       WHEN bytes_needed_lately < 1048576 THEN printf('%.1f KiB', bytes_needed_lately / 1024.0)
       WHEN bytes_needed_lately < 1073741824 THEN printf('%.1f MiB', bytes_needed_lately / 1048576.0)
       WHEN bytes_needed_lately >= 1073741824 THEN printf('%.1f GiB', bytes_needed_lately / 1073741824.0) END AS needed_lately,
    CASE WHEN min_stale_time < 1000000 THEN (max(min_stale_time, 0) / 1000) || 'ms'
       WHEN min_stale_time < 60000000 THEN (min_stale_time / 1000000) || 's'
       WHEN min_stale_time < 3600000000 THEN (min_stale_time / 60000000) || 'm'
       WHEN min_stale_time < 86400000000 THEN (min_stale_time / 3600000000) || 'h'
       WHEN min_stale_time >= 86400000000 THEN (min_stale_time / 86400000000) || 'd' END AS min_stale_time,
    CASE WHEN hard_limit < 1024 THEN hard_limit || ' B'
       WHEN hard_limit < 1048576 THEN printf('%.1f KiB', hard_limit / 1024.0)
       WHEN hard_limit < 1073741824 THEN printf('%.1f MiB', hard_limit / 1048576.0)
       WHEN hard_limit >= 1073741824 THEN printf('%.1f GiB', hard_limit / 1073741824.0) END AS hard_limit,
    preparing, failed,
    datetime(maintained_at / 1000000, 'unixepoch', 'localtime') AS maintained,
    bytes, cache_limit AS bytes_limit, bytes_needed_lately
  FROM (SELECT *, max(bytes - cache_limit, 0) AS bytes_over_limit,
               (SELECT coalesce(sum(size), 0) FROM artifact
                   WHERE state = 'prepared' AND last_time_needed > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - min_stale_time)
               AS bytes_needed_lately
        FROM (SELECT prepared_count AS prepared, prepared_bytes AS bytes,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time,
                (SELECT count(*) FROM artifact WHERE state = 'preparing') AS preparing,
                (SELECT count(*) FROM artifact WHERE state = 'failed') AS failed,
                (SELECT last_done FROM maintenance) AS maintained_at
              FROM usage))""",
    ),
    "failures": (
        """\
CREATE VIEW failures AS
  -- What failed, by kind. ready: may be tried again now; waiting: later; given_up: only after
  -- `registry retry`. error and example are the latest one's.
  SELECT error_kind AS kind, count(*) AS artifacts, sum(num_failures) AS failures,
    count(*) FILTER (WHERE retry_at <= CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) OR (retry_at NOT NULL AND
                           (num_failures = 0 OR last_time_failed > (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + 60000000)))) AS ready,
    count(*) FILTER (WHERE NOT (retry_at <= CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) OR (retry_at NOT NULL AND
                           (num_failures = 0 OR last_time_failed > (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + 60000000))))) AS waiting,
    count(*) FILTER (WHERE retry_at IS NULL) AS given_up,
    datetime(max(last_time_failed) / 1000000, 'unixepoch', 'localtime') AS latest,
    substr(error, 1, 200) AS error,
    substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS example
  FROM artifact WHERE state = 'failed' GROUP BY error_kind""",
        """\
CREATE VIEW failures AS
  -- What failed, by kind. ready: may be tried again now; waiting: later; given_up: only after
  -- `registry retry`. error and example are the latest one's.
  SELECT error_kind AS kind, count(*) AS artifacts, sum(num_failures) AS failures,
    count(*) FILTER (WHERE retry_at <= CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)) AS ready,
    count(*) FILTER (WHERE retry_at > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)) AS waiting,
    count(*) FILTER (WHERE retry_at IS NULL) AS given_up,
    datetime(max(last_time_failed) / 1000000, 'unixepoch', 'localtime') AS latest,
    substr(error, 1, 200) AS error,
    substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS example
  FROM artifact WHERE state = 'failed' GROUP BY error_kind""",
    ),
    "next_prune": (
        """\
CREATE VIEW next_prune AS
  -- What the next prune takes, in its order, by the settings of the cache: the least recently
  -- needed, while more is held than cache_limit and it was not needed within min_stale_time, or
  -- while more is held than hard_limit. What was needed before the clock was set back goes first.
  -- freed: by it and by those before it. Empty: nothing.
  SELECT position, substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS id, label,
    CASE WHEN size < 1024 THEN size || ' B'
       WHEN size < 1048576 THEN printf('%.1f KiB', size / 1024.0)
       WHEN size < 1073741824 THEN printf('%.1f MiB', size / 1048576.0)
       WHEN size >= 1073741824 THEN printf('%.1f GiB', size / 1073741824.0) END AS size,
    CASE WHEN unused < 1000000 THEN (max(unused, 0) / 1000) || 'ms'
       WHEN unused < 60000000 THEN (unused / 1000000) || 's'
       WHEN unused < 3600000000 THEN (unused / 60000000) || 'm'
       WHEN unused < 86400000000 THEN (unused / 3600000000) || 'h'
       WHEN unused >= 86400000000 THEN (unused / 86400000000) || 'd' END AS age,
    datetime(last_time_needed / 1000000, 'unixepoch', 'localtime') AS needed,
    iif(held - freed_before > cache_limit AND (is_ahead OR unused >= min_stale_time),
        'cache_limit', 'hard_limit') AS reason,
    CASE WHEN bytes_freed < 1024 THEN bytes_freed || ' B'
       WHEN bytes_freed < 1048576 THEN printf('%.1f KiB', bytes_freed / 1024.0)
       WHEN bytes_freed < 1073741824 THEN printf('%.1f MiB', bytes_freed / 1048576.0)
       WHEN bytes_freed >= 1073741824 THEN printf('%.1f GiB', bytes_freed / 1073741824.0) END AS freed,
    size AS bytes, bytes_freed, last_time_needed, code_hash, prep_hash
  FROM (SELECT artifact.id, row_number() OVER oldest AS position,
               sum(size) OVER oldest AS bytes_freed,
               sum(size) OVER oldest - size AS freed_before,
               CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - last_time_needed AS unused,
               last_time_needed > (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + 60000000) AS is_ahead,
               held, cache_limit, hard_limit, min_stale_time
        FROM (SELECT prepared_bytes AS held,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time
              FROM usage LIMIT 1)
        CROSS JOIN artifact
        WHERE state = 'prepared' AND (held > cache_limit OR held > hard_limit)
        WINDOW oldest AS (ORDER BY last_time_needed > (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + 60000000) DESC, last_time_needed, artifact.id))
  CROSS JOIN artifact USING (id)
  WHERE (held - freed_before > cache_limit AND (is_ahead OR unused >= min_stale_time))
     OR held - freed_before > hard_limit""",
        """\
CREATE VIEW next_prune AS
  -- What the next prune takes, in its order, by the settings of the cache: the least recently
  -- needed, while more is held than cache_limit and it was not needed within min_stale_time, or
  -- while more is held than hard_limit. freed: by it and by those before it. Empty: nothing.
  SELECT position, substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS id, label,
    CASE WHEN size < 1024 THEN size || ' B'
       WHEN size < 1048576 THEN printf('%.1f KiB', size / 1024.0)
       WHEN size < 1073741824 THEN printf('%.1f MiB', size / 1048576.0)
       WHEN size >= 1073741824 THEN printf('%.1f GiB', size / 1073741824.0) END AS size,
    CASE WHEN unused < 1000000 THEN (max(unused, 0) / 1000) || 'ms'
       WHEN unused < 60000000 THEN (unused / 1000000) || 's'
       WHEN unused < 3600000000 THEN (unused / 60000000) || 'm'
       WHEN unused < 86400000000 THEN (unused / 3600000000) || 'h'
       WHEN unused >= 86400000000 THEN (unused / 86400000000) || 'd' END AS age,
    datetime(last_time_needed / 1000000, 'unixepoch', 'localtime') AS needed,
    iif(held - freed_before > cache_limit AND unused >= min_stale_time,
        'cache_limit', 'hard_limit') AS reason,
    CASE WHEN bytes_freed < 1024 THEN bytes_freed || ' B'
       WHEN bytes_freed < 1048576 THEN printf('%.1f KiB', bytes_freed / 1024.0)
       WHEN bytes_freed < 1073741824 THEN printf('%.1f MiB', bytes_freed / 1048576.0)
       WHEN bytes_freed >= 1073741824 THEN printf('%.1f GiB', bytes_freed / 1073741824.0) END AS freed,
    size AS bytes, bytes_freed, last_time_needed, code_hash, prep_hash
  FROM (SELECT artifact.id, row_number() OVER oldest AS position,
               sum(size) OVER oldest AS bytes_freed,
               sum(size) OVER oldest - size AS freed_before,
               CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - last_time_needed AS unused,
               held, cache_limit, hard_limit, min_stale_time
        FROM (SELECT prepared_bytes AS held,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time
              FROM usage LIMIT 1)
        CROSS JOIN artifact
        WHERE state = 'prepared' AND (held > cache_limit OR held > hard_limit)
        WINDOW oldest AS (ORDER BY last_time_needed, artifact.id))
  CROSS JOIN artifact USING (id)
  WHERE (held - freed_before > cache_limit AND unused >= min_stale_time)
     OR held - freed_before > hard_limit""",
    ),
    "counters": (
        """\
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
  ORDER BY position""",
        """\
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
        UNION ALL SELECT 15, 'hostile', 'rows that named no file of ours') AS known
  JOIN counter USING (name)
  ORDER BY position""",
    ),
}


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for statement in FAILURE_USAGE:
        run(statement)
    run(
        "INSERT INTO failure_usage SELECT count(*), "
        "coalesce(sum(length(CAST(error AS BLOB))), 0) FROM artifact WHERE state = 'failed'"
    )
    run("INSERT INTO counter VALUES ('forgotten', 0)")
    for name, (now, _) in VIEWS.items():
        replace(name, now)
    run("PRAGMA user_version = 5")


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for name, (_, before) in VIEWS.items():
        replace(name, before)
    run("DELETE FROM counter WHERE name = 'forgotten'")
    run(
        "DELETE FROM setting WHERE name IN ('failed_max_age', 'failed_max_count', 'failed_max_bytes')"
    )
    for kind in ("insert", "update", "delete"):
        run(f"DROP TRIGGER failure_usage_{kind}")
    run("DROP TABLE failure_usage")
    run("PRAGMA user_version = 4")


def replace(view: str, by: str) -> None:
    op.get_bind().exec_driver_sql(f"DROP VIEW {view}")
    op.get_bind().exec_driver_sql(by)
