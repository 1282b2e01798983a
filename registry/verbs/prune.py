"""Prune: delete the least recently needed until the rest is within the limit.

The original's rule, exactly: while what is held is strictly over `cache_limit`, the artifact needed
longest ago goes, unless it was needed within `min_stale_time`; at the first one that was, the walk
stops. A time up to a minute ahead counts as recent; one beyond it was written before the clock was
set back, and goes first (see `registry.clock_slack`). Failed and preparing rows are neither counted
nor touched.

The rows go first, in batches, each one durable statement; the files of a batch are unlinked after
its commit. So a cut at any point leaves files that no row refers to, never a row without its file.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from registry.artifact import Artifact, ArtifactId, names, to_micros
from registry.clock_slack import is_ahead
from registry.config import LARGEST, as_amount, as_span
from registry.effects import Elapsed, Now, RebuildReserve, Verb, is_file_name
from registry.errors import CacheDirectoryRefused
from registry.log import about, logger
from registry.record import Record
from registry.sql.queries import DOOMED, DOOMED_OF_KIND, NO_ROW, PRUNE_KIND, USAGE, Row
from registry.sql.transitions import PRUNE_BATCH, TRANSITIONS, Event
from registry.verbs.database import delete, one, run
from registry.verbs.garbage import unlink_each
from registry.verbs.handle import Handle
from registry.verbs.history import ended, record
from registry.verbs.lease import insist, unlinking_if_cut_short

__all__ = [
    "Usage",
    "keep_within_limits",
    "make_space",
    "prune",
    "read_usage",
    "unlink_all",
    "usage_in",
]

_ALL = -1  # SQLite: no LIMIT
WARN_EVERY_SECONDS = 3600.0


class Usage(Record):
    """How much is prepared, and what bounds it for this handle (bytes, microseconds)."""

    count: int
    bytes: int
    cache_limit: int
    min_stale_time: int
    hard_limit: int | None
    maintained_at: int


def read_usage(handle: Handle) -> Verb[Usage]:
    """Read what is held and the limits: the handle's own, else the cache's, else the defaults."""
    return usage_in(handle, (yield from one(USAGE, {})))


def usage_in(handle: Handle, row: Any) -> Usage:
    """Take what was read of the usage and the limits."""
    count, held, limit, stale, hard, done = row
    return Usage(
        count, held, handle.cache_limit(limit), handle.min_stale_time(stale), hard, done or 0
    )


def prune(
    handle: Handle,
    usage: Usage,
    cache_limit: int | None = None,
    min_stale_time: timedelta | None = None,
    dry_run: bool = False,
    kind: str | None = None,
) -> Verb[list[Artifact]]:
    """Prune now, or say what would go; the answer is oldest first.

    Without arguments by all that is configured, `hard_limit` too. Of one kind, its bytes count.
    """
    limit = usage.cache_limit if cache_limit is None else as_amount("cache_limit", cache_limit)
    stale = usage.min_stale_time
    if min_stale_time is not None:
        stale = to_micros(as_span("min_stale_time", min_stale_time))
    horizon = (yield from Now()) - stale
    if kind is not None:
        if dry_run:
            return handle.artifacts((yield from _doomed(limit, horizon, kind)))
        gone = yield from _delete(handle, limit, horizon, NO_ROW, "asked", kind)
        return handle.artifacts(gone)
    as_configured = (cache_limit, min_stale_time) == (None, None)
    hard_limit = usage.hard_limit if as_configured else None
    if dry_run:
        rows = yield from _doomed(limit, horizon)
        if hard_limit is not None:  # each takes the oldest first: the longer one has the other
            rows = max(rows, (yield from _doomed(hard_limit, LARGEST)), key=len)
    else:
        reason = "cache_limit" if as_configured else "asked"
        rows = []
        if usage.bytes > limit:  # else not even the write lock is asked for
            rows = yield from _delete(handle, limit, horizon, NO_ROW, reason)
        if hard_limit is not None and usage.bytes - _freed(rows) > hard_limit:
            rows += yield from _delete(handle, hard_limit, LARGEST, NO_ROW, "hard_limit")
    return handle.artifacts(rows)


def keep_within_limits(handle: Handle, usage: Usage, spared: int = NO_ROW) -> Verb[None]:
    """Prune if a limit is passed, but never the row that is spared: what was just published."""
    held = usage.bytes
    if held > usage.cache_limit:
        horizon = (yield from Now()) - usage.min_stale_time
        limit = usage.cache_limit
        held -= _freed((yield from _delete(handle, limit, horizon, spared, "cache_limit")))
    if usage.hard_limit is not None and held > usage.hard_limit:
        limit = usage.hard_limit
        held -= _freed((yield from _delete(handle, limit, LARGEST, spared, "hard_limit")))
    if held > usage.cache_limit:
        yield from _warn_over_limit(handle, held, usage.cache_limit)


def make_space(handle: Handle, usage: Usage, size: int) -> Verb[list[Row]]:
    """Delete the least recently needed of so many bytes together, as far as they may go."""
    horizon = (yield from Now()) - usage.min_stale_time
    limit = max(0, usage.bytes - size)
    return (yield from _delete(handle, limit, horizon, NO_ROW, "disk_full"))


def unlink_all(rows: list[Row]) -> Verb[CacheDirectoryRefused | None]:
    """Unlink the files of rows whose deletion is committed; all, because no row refers to them.

    Answers what is to be raised, once all else is done, about those that cannot be removed.
    """
    return (yield from insist(lambda: _unlink(rows)))


def _unlink(rows: list[Row]) -> Verb[CacheDirectoryRefused | None]:
    refusal = yield from unlink_each(str(row.path) for row in rows if is_file_name(row.path))
    if rows:
        yield from RebuildReserve()
    return refusal


def _delete(
    handle: Handle, limit: int, horizon: int, spared: int, reason: str, kind: str | None = None
) -> Verb[list[Row]]:
    """Delete the least recently needed over a limit, but none needed after the horizon."""
    seen, statement = (DOOMED, TRANSITIONS[Event.PRUNE])
    if kind is not None:
        seen, statement = DOOMED_OF_KIND, PRUNE_KIND
    gone: list[Row] = []
    refusal: CacheDirectoryRefused | None = None
    bound = {"bytes_limit": limit, "horizon": horizon, "spared": spared, "most": PRUNE_BATCH}
    while True:
        now = yield from Now()
        params = {**bound, "now": now, "only": kind}
        doomed = [Row(*row) for row in (yield from run(seen, params))]
        batch = (yield from unlinking_if_cut_short(doomed, delete(statement, params))).rows
        batch.sort(key=lambda row: _turn(row, now))  # RETURNING promises no order
        _count(handle, batch, reason)
        refusal = (yield from unlink_all(batch)) or refusal
        yield from record(handle, map(ended, batch), "pruned", now, reason)
        gone += batch
        if len(batch) < PRUNE_BATCH:
            break
    if refusal is not None:
        raise refusal
    return gone


def _turn(row: Row, now: int) -> tuple[bool, int, int]:
    needed = row.last_time_needed or 0
    return not is_ahead(needed, now), needed, row.id


def _count(handle: Handle, gone: list[Row], reason: str) -> None:
    handle.counters.pruned += len(gone)
    handle.counters.pruned_bytes += _freed(gone)
    for row in gone:
        if names(row.code_hash, row.prep_hash):
            named = ArtifactId(row.code_hash, row.prep_hash)
            handle.evicted.note(named)
            told = about("pruned", named, label=row.label, size=row.size, reason=reason)
            logger.debug("pruned %s", named.short, extra=told)


def _doomed(limit: int, horizon: int, kind: str | None = None) -> Verb[list[Row]]:
    bound = {"bytes_limit": limit, "horizon": horizon, "spared": NO_ROW, "most": _ALL}
    seen = DOOMED if kind is None else DOOMED_OF_KIND
    params = {**bound, "now": (yield from Now()), "only": kind}
    return [Row(*row) for row in (yield from run(seen, params))]


def _freed(rows: list[Row]) -> int:
    return sum(row.size or 0 for row in rows)


def _warn_over_limit(handle: Handle, held: int, limit: int) -> Verb[None]:
    now = yield from Elapsed()
    last = handle.warned_over_limit
    if last is None or now - last >= WARN_EVERY_SECONDS:
        handle.warned_over_limit = now
        logger.warning(
            "the cache holds %d bytes, over its limit of %d, and nothing in it is old enough to "
            "go; raise cache_limit, lower min_stale_time, or set hard_limit",
            held,
            limit,
            extra=about("over_limit", prepared_bytes=held, cache_limit=limit),
        )
