"""The artifacts, their usage, the settings, and the hosts that have the cache open."""

# ruff: noqa: E501 - SQLite puts an added column before the comment of the one before

from __future__ import annotations

__all__ = ["DDL"]

ARTIFACT = """\
CREATE TABLE artifact (
  -- One row for each artifact that is being prepared, prepared, or failed to prepare.
  -- Times are microseconds since 1970-01-01 UTC. No row: nobody knows the artifact.
  id               INTEGER PRIMARY KEY,
  code_hash        TEXT NOT NULL,     -- BLAKE2b-256 of the code as given, 64 hex digits
  prep_hash        TEXT NOT NULL,     -- BLAKE2b-256 of the canonical preparation parameters
  state            TEXT NOT NULL,     -- preparing, prepared or failed
  path             TEXT,              -- name of the file in artifacts/ (reserved while preparing)
  size             INTEGER,           -- bytes of the file
  checksum         TEXT,              -- xxh3_128 of the file
  last_time_needed INTEGER,           -- pruning takes the smallest first
  num_failures     INTEGER NOT NULL DEFAULT 0,
  last_time_failed INTEGER,
  error            TEXT,              -- the last failure's message
  error_kind       TEXT,              -- ... and its kind, such as host_died or deadline
  retry_at         INTEGER,           -- when a failed one may be claimed; NULL: never by itself
  host_id          TEXT,              -- who prepares it
  token            TEXT,              -- the claim's fencing token
  claimed_at       INTEGER,
  deadline         INTEGER,           -- after this, others may take the claim over
  created_at       INTEGER,
  prepare_seconds  REAL,              -- wall-clock time from claim to publish
  label            TEXT, kind TEXT
    -- kind: who made it, such as triton, numba, wasm, python, or a name of the user's; label:
    CHECK (length(kind) BETWEEN 1 AND 32 AND kind NOT GLOB '*[^a-z0-9_.-]*'),              -- what a person calls it: a file name, a module name
  UNIQUE (code_hash, prep_hash),
  CHECK (length(code_hash) = 64 AND code_hash NOT GLOB '*[^0-9a-f]*'),
  CHECK (length(prep_hash) = 64 AND prep_hash NOT GLOB '*[^0-9a-f]*'),
  CHECK (state IN ('preparing', 'prepared', 'failed')),
  CHECK (path IS NULL OR (length(path) = 132 AND substr(path, 129) = '.pvf'
                          AND substr(path, 1, 128) NOT GLOB '*[^0-9a-f]*')),
  CHECK (size >= 0 AND num_failures >= 0),
  CHECK (length(error) <= 65536 AND length(label) <= 1024),
  CHECK ((last_time_failed IS NULL) = (error IS NULL)),
  CHECK (state <> 'preparing' OR (path IS NOT NULL AND size IS NULL AND checksum IS NULL)),
  CHECK (state <> 'prepared' OR (path IS NOT NULL AND size IS NOT NULL AND checksum IS NOT NULL
                                 AND last_time_needed IS NOT NULL AND num_failures = 0
                                 AND error IS NULL AND error_kind IS NULL AND retry_at IS NULL)),
  CHECK (state <> 'failed' OR (path IS NULL AND size IS NULL AND checksum IS NULL
                               AND error IS NOT NULL)),
  CHECK ((state = 'preparing') = (token IS NOT NULL)),
  CHECK ((state = 'preparing') = (host_id IS NOT NULL)),
  CHECK ((state = 'preparing') = (deadline IS NOT NULL))
) STRICT"""

# The walk by last use: what pruning reads, and all it reads.
BY_LAST_USE = """\
CREATE INDEX artifact_by_last_use ON artifact (last_time_needed, id, size)
  WHERE state = 'prepared'"""

# What reaping asks for: the claims of one host.
PREPARING = """\
CREATE INDEX artifact_preparing ON artifact (host_id) WHERE state = 'preparing'"""

# Failures are few among many; listing and counting them must not walk the prepared.
FAILED = """\
CREATE INDEX artifact_failed ON artifact (last_time_failed) WHERE state = 'failed'"""

# What each kind holds: counted, summed and deleted by this alone. A need does not write it.
BY_KIND = """\
CREATE INDEX artifact_by_kind ON artifact (kind, state, size) WHERE kind NOT NULL"""

USAGE = """\
CREATE TABLE usage (
  -- One row, kept by triggers on artifact: how much is prepared. Read it, never write it.
  prepared_count INTEGER NOT NULL,
  prepared_bytes INTEGER NOT NULL
) STRICT"""

USAGE_INSERT = """\
CREATE TRIGGER usage_insert AFTER INSERT ON artifact WHEN new.state = 'prepared' BEGIN
  UPDATE usage SET prepared_count = prepared_count + 1, prepared_bytes = prepared_bytes + new.size;
END"""

USAGE_UPDATE = """\
CREATE TRIGGER usage_update AFTER UPDATE OF state, size ON artifact
WHEN old.state = 'prepared' OR new.state = 'prepared' BEGIN
  UPDATE usage SET
    prepared_count = prepared_count + (new.state = 'prepared') - (old.state = 'prepared'),
    prepared_bytes = prepared_bytes + iif(new.state = 'prepared', new.size, 0)
                                    - iif(old.state = 'prepared', old.size, 0);
END"""

USAGE_DELETE = """\
CREATE TRIGGER usage_delete AFTER DELETE ON artifact WHEN old.state = 'prepared' BEGIN
  UPDATE usage SET prepared_count = prepared_count - 1, prepared_bytes = prepared_bytes - old.size;
END"""

FAILURE_USAGE = """\
CREATE TABLE failure_usage (
  -- One row, kept by triggers on artifact: how many failures are kept, and the bytes of their
  -- errors. Read it, never write it.
  failed_count INTEGER NOT NULL,
  failed_bytes INTEGER NOT NULL
) STRICT"""

FAILURE_USAGE_INSERT = """\
CREATE TRIGGER failure_usage_insert AFTER INSERT ON artifact WHEN new.state = 'failed' BEGIN
  UPDATE failure_usage SET failed_count = failed_count + 1,
    failed_bytes = failed_bytes + coalesce(length(CAST(new.error AS BLOB)), 0);
END"""

FAILURE_USAGE_UPDATE = """\
CREATE TRIGGER failure_usage_update AFTER UPDATE OF state, error ON artifact
WHEN old.state = 'failed' OR new.state = 'failed' BEGIN
  UPDATE failure_usage SET
    failed_count = failed_count + (new.state = 'failed') - (old.state = 'failed'),
    failed_bytes = failed_bytes
      + iif(new.state = 'failed', coalesce(length(CAST(new.error AS BLOB)), 0), 0)
      - iif(old.state = 'failed', coalesce(length(CAST(old.error AS BLOB)), 0), 0);
END"""

FAILURE_USAGE_DELETE = """\
CREATE TRIGGER failure_usage_delete AFTER DELETE ON artifact WHEN old.state = 'failed' BEGIN
  UPDATE failure_usage SET failed_count = failed_count - 1,
    failed_bytes = failed_bytes - coalesce(length(CAST(old.error AS BLOB)), 0);
END"""

SETTING = """\
CREATE TABLE setting (
  -- What bounds the cache, shared by all its hosts; a missing name has its default.
  -- cache_limit, hard_limit: bytes. min_stale_time, retry_cooldown, prepare_timeout: microseconds.
  name  TEXT PRIMARY KEY,
  value INTEGER
) STRICT, WITHOUT ROWID"""

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

DDL: tuple[str, ...] = (
    ARTIFACT,
    BY_LAST_USE,
    PREPARING,
    FAILED,
    BY_KIND,
    USAGE,
    USAGE_INSERT,
    USAGE_UPDATE,
    USAGE_DELETE,
    FAILURE_USAGE,
    FAILURE_USAGE_INSERT,
    FAILURE_USAGE_UPDATE,
    FAILURE_USAGE_DELETE,
    SETTING,
    HOST,
    MAINTENANCE,
    CACHE,
)
