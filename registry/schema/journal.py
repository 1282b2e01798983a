"""The history: the last events, the last hosts, and counters.

Triggers on `artifact` write what happens to claims, in the same transaction. They do not write the
end of a prepared artifact, because no trigger knows why a row was deleted, or by which process: the
verb that deletes it writes that (see `registry.verbs.history`).

A need writes neither `state`, `size` nor `token`, so it fires no trigger.
"""

from __future__ import annotations

__all__ = ["DDL"]

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

# Publishing asks how the artifact ended before; only ends are in it, so a claim does not pay.
ENDED = """\
CREATE INDEX history_ended ON history (code_hash, prep_hash, at)
  WHERE event IN ('pruned', 'removed', 'missing', 'damaged', 'hostile')"""

# How much is prepared again after it was pruned: what `stats` and `doctor` ask.
REBUILT = """\
CREATE INDEX history_rebuilt ON history (at) WHERE evicted_for IS NOT NULL"""

# One event in 64 pays for all: 10,000 to 10,063 are kept.
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

# A claim given back is failed again as it was, without another failure. Reaped is what ends so in
# those very words (`registry.verbs.text`): a failure of the user's own may have any kind.
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

DDL: tuple[str, ...] = (
    HISTORY,
    ENDED,
    REBUILT,
    COUNTER,
    HOST_HISTORY,
    BOUNDED,
    CLAIMED,
    PREPARING,
    PUBLISHED,
    FAILED,
    COUNTED,
    COUNTED_BYTES,
    COUNTED_REBUILT,
    OPENED,
)
