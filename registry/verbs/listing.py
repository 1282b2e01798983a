"""Look, and the small things done by hand: get, list, find, count, settings, remove, retry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from registry.artifact import (
    Artifact,
    ArtifactId,
    State,
    code_hash_of,
    names,
    require_id,
    split_prefix,
)
from registry.config import LARGEST, Settings, as_stored, from_stored
from registry.effects import Now, Verb
from registry.errors import AmbiguousPrefix, ArtifactBusy, UnknownArtifact
from registry.sql.journal import PAST_BY_PREFIX
from registry.sql.queries import (
    ALL_PREPARING,
    BY_PREFIX,
    CONFIGURE,
    COUNTS,
    FAILED_PAGE,
    KINDS,
    OF_CODE_PAGE,
    PREPARED_PAGE,
    SETTINGS,
    WORKING_SET,
    Row,
)
from registry.sql.transitions import Event
from registry.verbs.database import end, move, one, read, run, run_on_the_reserve
from registry.verbs.handle import Handle
from registry.verbs.history import Rebuilt, ended, rebuilt_lately, record
from registry.verbs.lease import settle, unlinking_if_cut_short
from registry.verbs.prune import Usage, read_usage, unlink_all
from registry.verbs.shared_counters import totals
from registry.verbs.text import as_kind

__all__ = [
    "KindUsage",
    "Page",
    "Position",
    "Stats",
    "Wanted",
    "configure",
    "find",
    "get",
    "page",
    "remove",
    "retry",
    "settings",
    "start",
    "stats",
    "wanted",
]

_PAGE = 500
_KINDS = 100  # so that no metric has a series for each artifact
_CANDIDATES = 5  # that are named where a prefix fits several
_PAGE_OF_FAILURES = 50  # each may hold 64 KiB of an error


@dataclass(frozen=True, slots=True)
class Stats:
    """How much the registry holds: counts of rows, and bytes of the prepared.

    `cache_limit` is the limit that holds for this handle; `over_limit` says that more is held, and
    `limit_below_working_set` that so much was needed within `min_stale_time` alone. `totals` is how
    often what happened since the cache was made, in all processes, by the names of the table
    `counter`; of the hits, misses and waits of other handles the last second may be missing.
    `rebuilt_lately` is what was, within the last 24 hours, prepared again within 24 hours of its
    eviction: the cache is too small for its use. `failed_bytes` are those of the errors kept.
    `by_kind` has the hundred largest kinds; what has none is in none.
    """

    prepared_count: int
    prepared_bytes: int
    preparing_count: int
    failed_count: int
    cache_limit: int
    over_limit: bool
    limit_below_working_set: bool
    totals: Mapping[str, int]
    rebuilt_lately: Rebuilt
    failed_bytes: int = 0
    by_kind: Mapping[str, KindUsage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KindUsage:
    """What one kind of artifact holds."""

    prepared_count: int
    prepared_bytes: int
    failed_count: int


class Wanted(NamedTuple):
    """What is to be listed: in which state, of which code, of which kind; None: all."""

    state: State | None
    code: str | None
    kind: str | None


# After which state, time and row a page starts; for one code, after which prep hash.
Position: TypeAlias = tuple[State, int, int] | str


class Page(NamedTuple):
    """A page of artifacts, and where the next one starts; None: that was the last."""

    artifacts: list[Artifact]
    next: Position | None


def get(handle: Handle, id: ArtifactId) -> Verb[Artifact | None]:
    """Answer the artifact as its row stands."""
    require_id(id)
    row = yield from read(id)
    return None if row is None else handle.artifact(row, id)


def find(_handle: Handle, prefix: str, past: bool = False) -> Verb[ArtifactId]:
    """Find the one artifact whose code hash, or "code/prep", starts so."""
    code, prep = split_prefix(prefix)
    bounds = {"code_start": code, "code_end": code + "g", "prep_start": prep}  # 'g' follows 'f'
    pairs = [row[1:3] for row in (yield from run(BY_PREFIX, bounds))]
    if past:
        pairs += yield from run(PAST_BY_PREFIX, bounds)
    found = {ArtifactId(*pair) for pair in pairs if names(*pair)}
    if not found:
        raise UnknownArtifact(f"no artifact's id starts with {prefix}; `registry ls` lists them")
    if len(found) > 1:
        raise AmbiguousPrefix(
            f"{len(found)} artifacts' ids start with {prefix}: {_few(found)}; give more digits"
        )
    return found.pop()


def _few(ids: Iterable[ArtifactId]) -> str:
    first = sorted(found.short for found in ids)
    return ", ".join(first[:_CANDIDATES]) + (", ..." if len(first) > _CANDIDATES else "")


def wanted(state: State | None, code: bytes | str | None, kind: str | None) -> Wanted:
    """Validate what is to be listed; raises `InvalidId`, `InvalidData`."""
    if state is not None and not isinstance(state, State):
        raise TypeError(f"state is a State, not {type(state).__name__}")
    return Wanted(state, None if code is None else code_hash_of(code), as_kind(kind))


def start(wanted: Wanted) -> Position:
    """Where a listing starts."""
    return (wanted.state or State.PREPARED, LARGEST, LARGEST) if wanted.code is None else ""


def page(handle: Handle, wanted: Wanted, at: Position) -> Verb[Page]:
    """Read one page: the prepared by last use, then those preparing, then the failed."""
    if isinstance(at, str):
        return (yield from _page_of_code(handle, wanted, at))
    state, only = wanted.state, {"only": wanted.kind}
    listed, before, before_id = at
    most = _PAGE_OF_FAILURES if listed is State.FAILED else _PAGE
    key = {"before": before, "before_id": before_id, "most": most, **only}
    if listed is State.PREPARED:
        rows = [Row(*row) for row in (yield from run(PREPARED_PAGE, key))]
    elif listed is State.PREPARING:
        rows = [Row(*row) for row in (yield from run(ALL_PREPARING, only))]
    else:
        rows = [Row(*row) for row in (yield from run(FAILED_PAGE, key))]
    shown = handle.artifacts(rows)
    if listed is not State.PREPARING and len(rows) == most:
        last = rows[-1]
        time = last.last_time_needed if listed is State.PREPARED else last.last_time_failed
        return Page(shown, (listed, time or 0, last.id))
    following = {State.PREPARED: State.PREPARING, State.PREPARING: State.FAILED}.get(listed)
    if state is not None or following is None:
        return Page(shown, None)
    return Page(shown, (following, LARGEST, LARGEST))


def _page_of_code(handle: Handle, wanted: Wanted, after: str) -> Verb[Page]:
    key = {"code": wanted.code, "state": wanted.state, "only": wanted.kind, "after_prep": after}
    rows = [Row(*row) for row in (yield from run(OF_CODE_PAGE, {**key, "most": _PAGE_OF_FAILURES}))]
    last = rows[-1].prep_hash if len(rows) == _PAGE_OF_FAILURES else None
    return Page(handle.artifacts(rows), last)


def stats(handle: Handle) -> Verb[Stats]:
    """Count what is held."""
    usage = yield from read_usage(handle)
    preparing, failed, failed_bytes = yield from one(COUNTS, {})
    return Stats(
        prepared_count=usage.count,
        prepared_bytes=usage.bytes,
        preparing_count=preparing,
        failed_count=failed,
        cache_limit=usage.cache_limit,
        over_limit=usage.bytes > usage.cache_limit,
        limit_below_working_set=(yield from _is_too_low(usage)),
        totals=(yield from totals(handle)),
        rebuilt_lately=(yield from rebuilt_lately()),
        failed_bytes=failed_bytes,
        by_kind={row[0]: KindUsage(*row[1:]) for row in (yield from run(KINDS, {"most": _KINDS}))},
    )


def _is_too_low(usage: Usage) -> Verb[bool]:
    """Whether what was needed lately alone is over the limit; read only where all together is."""
    if usage.bytes <= usage.cache_limit:
        return False
    now = yield from Now()
    _, working_set = yield from one(WORKING_SET, {"since": now - usage.min_stale_time, "now": now})
    return bool(working_set > usage.cache_limit)


def settings(_handle: Handle) -> Verb[Settings]:
    """Read the settings that all hosts share."""
    return from_stored(dict((yield from run(SETTINGS, {}))))


def configure(handle: Handle, changes: Mapping[str, Any]) -> Verb[Settings]:
    """Change stored settings, all or none; raises `InvalidSetting`."""
    stored = as_stored(changes)
    if stored:
        yield from run_on_the_reserve(CONFIGURE, {"changes": json.dumps(stored)})
        handle.hot.expire()
    return (yield from settings(handle))


def remove(handle: Handle, id: ArtifactId) -> Verb[bool]:
    """Delete an artifact: the row, then the file; raises `ArtifactBusy`."""
    require_id(id)
    yield from settle(handle)
    now = yield from Now()
    row = yield from read(id)
    work = end(Event.REMOVE, {"code": id.code_hash, "prep": id.prep_hash})
    removed = yield from unlinking_if_cut_short([] if row is None else [row], work)
    refusal = yield from unlink_all(removed.rows)
    handle.hot.pop(id, None)
    if removed.rows:
        yield from record(handle, map(ended, removed.rows), "removed", now)
        if refusal is not None:
            raise refusal
        return True
    if (yield from read(id)) is None:
        return removed.unsure  # its file, if any, is garbage then
    raise ArtifactBusy(f"{id.short} is being prepared; wait for it, then remove it")


def retry(handle: Handle, id: ArtifactId) -> Verb[bool]:
    """Let a failed artifact be tried again at once; whether it had failed."""
    require_id(id)
    yield from settle(handle)
    return (yield from move(Event.RETRY, id, now=(yield from Now()))) is not None
