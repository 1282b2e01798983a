"""Maintenance: what keeps a cache clean although processes die at any time.

Reap the dead, sweep the files that no row refers to, drop the rows whose files are gone, forget the
failures beyond their bounds, prune. It grows with the cache, so it is never done at opening. It is
due an hour after the last time, and the host that wins one guarded UPDATE does it, within a
publish, a prune, a close, or its own pulse.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from registry.artifact import Artifact
from registry.effects import ForgetHost, Now, RebuildReserve, Verb
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, DiskFull
from registry.log import about, logger
from registry.sql.queries import MAINTAIN, NO_ROW, Row
from registry.verbs import prune as prune_verb
from registry.verbs.check import CheckReport, drop_fileless, inspect_all, orphans, sweep
from registry.verbs.database import run
from registry.verbs.failures import forget_failures
from registry.verbs.handle import Handle
from registry.verbs.hosts import leave, orphan_locks, reap_dead
from registry.verbs.last_use import write_late_uses
from registry.verbs.lease import insist, settle
from registry.verbs.prune import keep_within_limits, read_usage
from registry.verbs.shared_counters import tell, tell_the_rest
from registry.verbs.text import as_kind

__all__ = ["check", "close", "keep", "maintain_if_due", "prune", "pulse"]

EVERY_MICROS = 3600 * 1_000_000  # the original's cleanup pulse


def keep(handle: Handle, published: Row) -> Verb[None]:
    """Stay within the limits after a publish, and maintain the cache if that is due."""
    usage = yield from read_usage(handle)
    yield from keep_within_limits(handle, usage, published.id)
    now = published.last_time_needed or (yield from Now())
    yield from _maintain_if_due(handle, usage.maintained_at, now, published.id)


def prune(
    handle: Handle,
    cache_limit: int | None = None,
    min_stale_time: timedelta | None = None,
    dry_run: bool = False,
    kind: str | None = None,
) -> Verb[list[Artifact]]:
    """Prune now; and maintain the cache if that is due, but without pruning by other limits."""
    only = as_kind(kind)
    yield from settle(handle)
    yield from write_late_uses(handle)
    usage = yield from read_usage(handle)
    gone = yield from prune_verb.prune(handle, usage, cache_limit, min_stale_time, dry_run, only)
    if dry_run:
        return gone
    if (yield from _won(usage.maintained_at, (yield from Now()))):
        yield from _clean(handle)
    else:
        yield from forget_failures(handle)
    return gone


def check(handle: Handle, repair: bool = False, checksums: bool = False) -> Verb[CheckReport]:
    """Compare everything with everything; with `repair`, repair it and do all maintenance."""
    yield from settle(handle)
    report = yield from inspect_all(handle, repair, checksums)
    if repair:
        now = yield from Now()
        yield from run(MAINTAIN, {"now": now, "due_before": now})
        yield from _maintain(handle, NO_ROW)
        found = {problem.subject for problem in report.problems}
        if not found.isdisjoint((yield from orphans())):  # what cannot be removed
            return replace(report, repaired=False)
    return report


def close(handle: Handle) -> Verb[None]:
    """Give back all claims and leave; then maintain the cache if that is due, which takes longer.

    Nobody has to wait for the maintenance. If it is interrupted, no claim is held any more.
    """
    if handle.unlisted is not None:  # it could not write, and so claimed nothing
        handle.has_row = False
        yield from write_late_uses(handle)
        return
    try:
        yield from insist(lambda: leave(handle))
    except (CacheDirectoryRefused, DiskFull) as refusal:  # the next process reaps what is left
        told = about("closed_unwritten", error=str(refusal))
        logger.warning("the cache was closed, but its row is left: %s", refusal, extra=told)
        if isinstance(refusal, CacheDirectoryRefused):
            return
    try:
        yield from _tidy(handle)
    except (CacheDirectoryRefused, DiskFull) as refusal:
        told = about("keeping_failed", error=str(refusal))
        logger.warning("the cache was closed, but not maintained: %s", refusal, extra=told)


def _tidy(handle: Handle) -> Verb[None]:
    yield from write_late_uses(handle)
    yield from tell_the_rest(handle)
    yield from maintain_if_due(handle)


def pulse(handle: Handle) -> Verb[bool]:
    """Maintain the cache if that is due."""
    yield from settle(handle)
    return (yield from maintain_if_due(handle))


def maintain_if_due(handle: Handle) -> Verb[bool]:
    """Maintain the cache if an hour has passed, and no other host does; whether it was done."""
    usage = yield from read_usage(handle)
    return (yield from _maintain_if_due(handle, usage.maintained_at, (yield from Now()), NO_ROW))


def _maintain_if_due(handle: Handle, last: int, now: int, spared: int) -> Verb[bool]:
    yield from tell(handle, now)
    won = yield from _won(last, now)
    if won:
        yield from _maintain(handle, spared)
    return won


def _won(last: int, now: int) -> Verb[bool]:
    if 0 <= now - last < EVERY_MICROS:
        return False
    return bool((yield from run(MAINTAIN, {"now": now, "due_before": now - EVERY_MICROS})))


def _maintain(handle: Handle, spared: int) -> Verb[None]:
    yield from _clean(handle)
    yield from keep_within_limits(handle, (yield from read_usage(handle)), spared)


def _clean(handle: Handle) -> Verb[None]:
    yield from reap_dead(handle)
    for host_id in (yield from orphan_locks(handle)):
        yield from ForgetHost(host_id)
    try:
        yield from sweep(handle)
    except DatabaseDamaged as refusal:
        logger.warning("%s", refusal, extra=about("sweep_refused", error=str(refusal)))
    yield from drop_fileless(handle)
    yield from forget_failures(handle)
    yield from RebuildReserve()
