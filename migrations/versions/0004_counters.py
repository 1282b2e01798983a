"""Counters of hits, misses and waits, a cheaper next_prune; own failures no longer count as reaped.

The statements are written out: a migration never imports the program, which moves on.
"""

# ruff: noqa: S608 - only constants of this file are put together here

from alembic import op

revision = "0004"
down_revision = "0003"

FAILED = """\
CREATE TRIGGER history_failed AFTER UPDATE OF token ON artifact
WHEN new.state = 'failed' AND new.num_failures > old.num_failures BEGIN
  INSERT INTO history (at, event, reason, code_hash, prep_hash, label, host_id, error)
  VALUES (new.last_time_failed,
          iif((new.error_kind, new.error) IN (
                VALUES ('host_died', 'the host that prepared it died'),
                       ('deadline', 'its preparation passed the deadline of its claim')),
              'reaped', 'failed'), new.error_kind,
          new.code_hash, new.prep_hash, new.label, old.host_id, substr(new.error, 1, 200));
END"""

FAILED_BEFORE = """\
CREATE TRIGGER history_failed AFTER UPDATE OF token ON artifact
WHEN new.state = 'failed' AND new.num_failures > old.num_failures BEGIN
  INSERT INTO history (at, event, reason, code_hash, prep_hash, label, host_id, error)
  VALUES (new.last_time_failed,
          iif(new.error_kind IN ('host_died', 'deadline'), 'reaped', 'failed'), new.error_kind,
          new.code_hash, new.prep_hash, new.label, old.host_id, substr(new.error, 1, 200));
END"""

NOW = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
SHORT_ID = "substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12)"


# Each takes the name of a column, not an expression: || binds more tightly than / in SQLite.


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


def local(micros: str) -> str:
    """Write a time as the reader's clock has it."""
    return f"datetime({micros} / 1000000, 'unixepoch', 'localtime')"


NEXT_PRUNE = f"""\
CREATE VIEW next_prune AS
  -- What the next prune takes, in its order, by the settings of the cache: the least recently
  -- needed, while more is held than cache_limit and it was not needed within min_stale_time, or
  -- while more is held than hard_limit. freed: by it and by those before it. Empty: nothing.
  SELECT position, {SHORT_ID} AS id, label,
    {size("size")} AS size,
    {span("unused")} AS age,
    {local("last_time_needed")} AS needed,
    iif(held - freed_before > cache_limit AND unused >= min_stale_time,
        'cache_limit', 'hard_limit') AS reason,
    {size("bytes_freed")} AS freed,
    size AS bytes, bytes_freed, last_time_needed, code_hash, prep_hash
"""

# Only the columns that pruning reads go through the window.
FROM = f"""\
  FROM (SELECT artifact.id, row_number() OVER oldest AS position,
               sum(size) OVER oldest AS bytes_freed,
               sum(size) OVER oldest - size AS freed_before,
               {NOW} - last_time_needed AS unused,
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
     OR held - freed_before > hard_limit"""

FROM_BEFORE = f"""\
  FROM (SELECT *, row_number() OVER oldest AS position, sum(size) OVER oldest AS bytes_freed,
               sum(size) OVER oldest - size AS freed_before,
               {NOW} - last_time_needed AS unused
        FROM (SELECT prepared_bytes AS held,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time
              FROM usage)
        CROSS JOIN artifact
        WHERE state = 'prepared' AND (held > cache_limit OR held > hard_limit)
        WINDOW oldest AS (ORDER BY last_time_needed, id))
  WHERE (held - freed_before > cache_limit AND unused >= min_stale_time)
     OR held - freed_before > hard_limit"""

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
        UNION ALL SELECT 15, 'hostile', 'rows that named no file of ours') AS known
  JOIN counter USING (name)
  ORDER BY position"""

COUNTED = ("hits", "misses", "coalesced")


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    replace("TRIGGER history_failed", FAILED)
    replace("VIEW next_prune", NEXT_PRUNE + FROM)
    run(COUNTERS)
    for name in COUNTED:
        run("INSERT INTO counter VALUES (?, 0)", (name,))
    run("PRAGMA user_version = 4")


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for name in COUNTED:
        run("DELETE FROM counter WHERE name = ?", (name,))
    run("DROP VIEW counters")
    replace("VIEW next_prune", NEXT_PRUNE + FROM_BEFORE)
    replace("TRIGGER history_failed", FAILED_BEFORE)
    run("PRAGMA user_version = 3")


def replace(what: str, by: str) -> None:
    op.get_bind().exec_driver_sql(f"DROP {what}")
    op.get_bind().exec_driver_sql(by)
