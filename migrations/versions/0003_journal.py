"""The journal of events, their counters, and the views that people read.

The statements are written out: a migration never imports the program, which moves on.
"""

# ruff: noqa: S608 - only constants of this file are put together here

from alembic import op

revision = "0003"
down_revision = "0002"

HISTORY = """\
CREATE TABLE history (
  -- What happened to artifacts: the last 10,000 events. A journal refuses nothing, so nearly all
  -- of it may be NULL. Times are microseconds since 1970-01-01 UTC.
  id               INTEGER PRIMARY KEY,
  at               INTEGER,
  event            TEXT NOT NULL,     -- claimed, taken over, published, failed, reaped, released,
                                      -- pruned, removed, missing, damaged, hostile
  reason           TEXT,              -- the kind of a failure; the limit that pruning obeyed
  code_hash        TEXT NOT NULL,
  prep_hash        TEXT NOT NULL,
  label            TEXT,
  host_id          TEXT,              -- who did it; who had the claim, where that was reaped
  size             INTEGER,           -- bytes of the file that was published, or that went
  prepare_seconds  REAL,              -- what it took to prepare
  last_time_needed INTEGER,           -- of what went
  evicted_for      INTEGER,           -- published again so long after it was pruned
  error            TEXT               -- the first 200 characters of a failure's message
) STRICT"""

# Publishing looks up how the artifact ended before. Only ends are indexed, so claims pay nothing.
ENDED = """\
CREATE INDEX history_ended ON history (code_hash, prep_hash, at)
  WHERE event IN ('pruned', 'removed', 'missing', 'damaged', 'hostile')"""

# Artifacts prepared again after they were pruned: for `stats` and `doctor`.
REBUILT = """\
CREATE INDEX history_rebuilt ON history (at) WHERE evicted_for IS NOT NULL"""

# Runs at one event in 64: 10,000 to 10,063 events are kept.
BOUNDED = """\
CREATE TRIGGER history_bounded AFTER INSERT ON history WHEN new.id % 64 = 0 BEGIN
  DELETE FROM history WHERE id <= new.id - 10000;
END"""

CLAIMED = """\
CREATE TRIGGER history_claimed AFTER INSERT ON artifact WHEN new.state = 'preparing' BEGIN
  INSERT INTO history (at, event, code_hash, prep_hash, label, host_id)
  VALUES (new.claimed_at, 'claimed', new.code_hash, new.prep_hash, new.label, new.host_id);
END"""

PREPARING = """\
CREATE TRIGGER history_preparing AFTER UPDATE OF token ON artifact
WHEN new.state = 'preparing' BEGIN
  INSERT INTO history (at, event, reason, code_hash, prep_hash, label, host_id)
  VALUES (new.claimed_at, iif(old.state = 'preparing', 'taken over', 'claimed'), new.error_kind,
          new.code_hash, new.prep_hash, new.label, new.host_id);
END"""

PUBLISHED = """\
CREATE TRIGGER history_published AFTER UPDATE OF token ON artifact
WHEN new.state = 'prepared' BEGIN
  INSERT INTO history (at, event, code_hash, prep_hash, label, host_id, size, prepare_seconds,
                       evicted_for)
  VALUES (new.last_time_needed, 'published', new.code_hash, new.prep_hash, new.label, old.host_id,
          new.size, new.prepare_seconds,
          (SELECT iif(event = 'pruned', new.last_time_needed - at, NULL) FROM history
           WHERE code_hash = new.code_hash AND prep_hash = new.prep_hash
             AND event IN ('pruned', 'removed', 'missing', 'damaged', 'hostile')
           ORDER BY at DESC, id DESC LIMIT 1));
END"""

# A released claim of a failed artifact is failed again, without another failure.
FAILED = """\
CREATE TRIGGER history_failed AFTER UPDATE OF token ON artifact
WHEN new.state = 'failed' AND new.num_failures > old.num_failures BEGIN
  INSERT INTO history (at, event, reason, code_hash, prep_hash, label, host_id, error)
  VALUES (new.last_time_failed,
          iif(new.error_kind IN ('host_died', 'deadline'), 'reaped', 'failed'), new.error_kind,
          new.code_hash, new.prep_hash, new.label, old.host_id, substr(new.error, 1, 200));
END"""

COUNTER = """\
CREATE TABLE counter (
  -- How often each happened since the cache was made, kept by triggers on history: read it, never
  -- write it. published, failed, reaped, released, pruned, removed, missing, damaged, hostile:
  -- events. pruned_bytes: their sizes. rebuilt: published again after having been pruned;
  -- rebuilt_soon: within 24 hours.
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID"""

COUNTED = """\
CREATE TRIGGER history_counted AFTER INSERT ON history
WHEN new.event NOT IN ('claimed', 'taken over') BEGIN
  UPDATE counter SET value = value + 1 WHERE name = new.event;
END"""

COUNTED_BYTES = """\
CREATE TRIGGER history_counted_bytes AFTER INSERT ON history WHEN new.event = 'pruned' BEGIN
  UPDATE counter SET value = value + coalesce(new.size, 0) WHERE name = 'pruned_bytes';
END"""

COUNTED_REBUILT = """\
CREATE TRIGGER history_counted_rebuilt AFTER INSERT ON history
WHEN new.evicted_for IS NOT NULL BEGIN
  UPDATE counter SET value = value + 1
  WHERE name = 'rebuilt' OR (name = 'rebuilt_soon' AND new.evicted_for < 24 * 3600 * 1000000);
END"""

HOST_HISTORY = """\
CREATE TABLE host_history (
  -- Who the hosts were that history names: the last 1,000 that opened the cache, whether they
  -- have closed it or not.
  number    INTEGER PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  pid       INTEGER,
  hostname  TEXT,
  command   TEXT,
  opened_at INTEGER,              -- microseconds since 1970-01-01 UTC
  version   TEXT                  -- of registry
) STRICT"""

OPENED = """\
CREATE TRIGGER host_history_opened AFTER INSERT ON host BEGIN
  INSERT OR IGNORE INTO host_history (id, pid, hostname, command, opened_at, version)
  VALUES (new.id, new.pid, new.hostname, new.command, new.opened_at, new.version);
  DELETE FROM host_history WHERE number <= (SELECT max(number) FROM host_history) - 1000;
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


def utc(micros: str) -> str:
    """Write a time as UTC has it."""
    return f"datetime({micros} / 1000000, 'unixepoch')"


def local(micros: str) -> str:
    """Write a time as the reader's clock has it."""
    return f"datetime({micros} / 1000000, 'unixepoch', 'localtime')"


SETTINGS = """\
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
  LEFT JOIN setting USING (name)"""

ARTIFACTS = f"""\
CREATE VIEW artifacts AS
  -- The artifacts for people. id: as `registry show` and `registry why` take it. needed: when last,
  -- local time, and age: how long ago. retry: when a failed one may be tried again.
  SELECT {SHORT_ID} AS id,
    label, state,
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
         WHEN state = 'failed' AND retry_at <= now THEN 'now'
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
    bytes, cache_limit AS bytes_limit, bytes_needed_lately
  FROM (SELECT *, max(bytes - cache_limit, 0) AS bytes_over_limit,
               (SELECT coalesce(sum(size), 0) FROM artifact
                   WHERE state = 'prepared' AND last_time_needed > {NOW} - min_stale_time)
               AS bytes_needed_lately
        FROM (SELECT prepared_count AS prepared, prepared_bytes AS bytes,
                (SELECT value FROM settings WHERE name = 'cache_limit') AS cache_limit,
                (SELECT value FROM settings WHERE name = 'hard_limit') AS hard_limit,
                (SELECT value FROM settings WHERE name = 'min_stale_time') AS min_stale_time,
                (SELECT count(*) FROM artifact WHERE state = 'preparing') AS preparing,
                (SELECT count(*) FROM artifact WHERE state = 'failed') AS failed,
                (SELECT last_done FROM maintenance) AS maintained_at
              FROM usage))"""

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

FAILURES = f"""\
CREATE VIEW failures AS
  -- What failed, by kind. ready: may be tried again now; waiting: later; given_up: only after
  -- `registry retry`. error and example are the latest one's.
  SELECT error_kind AS kind, count(*) AS artifacts, sum(num_failures) AS failures,
    count(*) FILTER (WHERE retry_at <= {NOW}) AS ready,
    count(*) FILTER (WHERE retry_at > {NOW}) AS waiting,
    count(*) FILTER (WHERE retry_at IS NULL) AS given_up,
    {local("max(last_time_failed)")} AS latest,
    substr(error, 1, 200) AS error,
    {SHORT_ID} AS example
  FROM artifact WHERE state = 'failed' GROUP BY error_kind"""

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

VIEWS = (SETTINGS, ARTIFACTS, CACHE_USAGE, HOSTS, FAILURES, NEXT_PRUNE, EVENTS)
COUNTERS = (
    *("published", "failed", "reaped", "released", "pruned", "pruned_bytes", "removed"),
    *("missing", "damaged", "hostile", "rebuilt", "rebuilt_soon"),
)
# Those on tables of this revision go with their tables.
TRIGGERS_ON_OLDER_TABLES = (
    *("history_claimed", "history_preparing", "history_published", "history_failed"),
    "host_history_opened",
)


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for statement in (HISTORY, ENDED, REBUILT, COUNTER, HOST_HISTORY):
        run(statement)
    for statement in (BOUNDED, CLAIMED, PREPARING, PUBLISHED, FAILED):
        run(statement)
    for statement in (COUNTED, COUNTED_BYTES, COUNTED_REBUILT, OPENED):
        run(statement)
    for statement in VIEWS:
        run(statement)
    for name in COUNTERS:
        run("INSERT INTO counter VALUES (?, 0)", (name,))
    # Those that have the cache open just now will be named by history too.
    run(
        "INSERT INTO host_history (id, pid, hostname, command, opened_at, version) "
        "SELECT id, pid, hostname, command, opened_at, version FROM host ORDER BY opened_at"
    )
    run("PRAGMA user_version = 3")


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    for view in ("events", "next_prune", "failures", "hosts", "cache_usage", "artifacts"):
        run(f"DROP VIEW {view}")
    run("DROP VIEW settings")
    for trigger in TRIGGERS_ON_OLDER_TABLES:
        run(f"DROP TRIGGER {trigger}")
    for table in ("history", "counter", "host_history"):
        run(f"DROP TABLE {table}")
    run("PRAGMA user_version = 2")
