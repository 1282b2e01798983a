"""Each artifact says who made it: its kind.

The statements are written out: a migration never imports the program, which moves on.
"""

# ruff: noqa: E501 - as the program wrote them

from alembic import op

revision = "0006"
down_revision = "0005"

# SQLite writes it into the text of the table, before the comment of the column before.
KIND = """\
ALTER TABLE artifact ADD COLUMN kind TEXT
    -- kind: who made it, such as triton, numba, wasm, python, or a name of the user's; label:
    CHECK (length(kind) BETWEEN 1 AND 32 AND kind NOT GLOB '*[^a-z0-9_.-]*')"""

BY_KIND = """\
CREATE INDEX artifact_by_kind ON artifact (kind, state, size) WHERE kind NOT NULL"""

KINDS = """\
CREATE VIEW kinds AS
  -- What each kind of artifact holds; NULL: those that nobody gave a kind.
  SELECT kind, prepared, CASE WHEN bytes < 1024 THEN bytes || ' B'
       WHEN bytes < 1048576 THEN printf('%.1f KiB', bytes / 1024.0)
       WHEN bytes < 1073741824 THEN printf('%.1f MiB', bytes / 1048576.0)
       WHEN bytes >= 1073741824 THEN printf('%.1f GiB', bytes / 1073741824.0) END AS held, preparing, failed, bytes
  FROM (SELECT kind, count(*) FILTER (WHERE state = 'prepared') AS prepared,
               coalesce(sum(size), 0) AS bytes,
               count(*) FILTER (WHERE state = 'preparing') AS preparing,
               count(*) FILTER (WHERE state = 'failed') AS failed
        FROM artifact GROUP BY kind)
  ORDER BY bytes DESC"""

# As it is now, and as it was before.
ARTIFACTS = (
    """\
CREATE VIEW artifacts AS
  -- The artifacts for people. id: as `registry show` and `registry why` take it. needed: when last,
  -- local time, and age: how long ago. retry: when a failed one may be tried again.
  SELECT substr(code_hash, 1, 12) || '/' || substr(prep_hash, 1, 12) AS id,
    label, kind, state,
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
)


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run("DROP VIEW artifacts")
    for statement in (KIND, BY_KIND, ARTIFACTS[0], KINDS):
        run(statement)
    run("PRAGMA user_version = 6")


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run("DROP VIEW kinds")
    run("DROP VIEW artifacts")
    run("DROP INDEX artifact_by_kind")
    run("ALTER TABLE artifact DROP COLUMN kind")
    run(ARTIFACTS[1])
    run("PRAGMA user_version = 5")
