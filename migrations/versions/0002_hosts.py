"""The hosts that have the cache open, its identity, and its maintenance."""

import time
import uuid

from alembic import op

revision = "0002"
down_revision = "0001"

HOST = """\
CREATE TABLE host (
  -- One row for each open handle. It lives for as long as hosts/<id>.lock is locked: ask the
  -- kernel, not the pid.
  id        TEXT PRIMARY KEY,     -- random, never used twice
  pid       INTEGER NOT NULL,
  hostname  TEXT NOT NULL,
  command   TEXT NOT NULL,
  opened_at INTEGER NOT NULL,     -- microseconds since 1970-01-01 UTC
  version   TEXT NOT NULL         -- of registry
) STRICT, WITHOUT ROWID"""

MAINTENANCE = """\
CREATE TABLE maintenance (
  -- One row: when files and rows were last compared, the dead reaped, and the cache pruned.
  last_done INTEGER NOT NULL      -- microseconds since 1970-01-01 UTC
) STRICT"""

CACHE = """\
CREATE TABLE cache (
  -- One row: which cache this is (the file cache.id says the same), and who may still use it.
  uuid           TEXT NOT NULL,
  oldest_version TEXT NOT NULL    -- an older registry than this must not open the database
) STRICT"""


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for statement in (HOST, MAINTENANCE, CACHE):
        run(statement)
    # Due in an hour at the earliest: the cost of opening must not grow with the cache.
    run("INSERT INTO maintenance VALUES (?)", (time.time_ns() // 1000,))
    run("INSERT INTO cache VALUES (?, ?)", (str(uuid.uuid4()), "0.1.0"))
    run("PRAGMA user_version = 2")


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for table in ("host", "maintenance", "cache"):
        run(f"DROP TABLE {table}")
    run("PRAGMA user_version = 1")
