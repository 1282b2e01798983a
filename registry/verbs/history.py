"""The journal: what happened to an artifact, when, by whom and why.

What happens to claims is written by triggers, in the transaction that does it (see
`registry.schema.journal`). How an artifact ended, only the verb can tell that ended it. It does so
last of all, from the rows that its statement gave back, and as of the time before that statement:
a process that prepares the artifact again at once does so later. That is best effort: a process
that dies in between leaves an end untold, and an error of the database may have one told
twice. Nothing depends on what the journal says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from registry.artifact import ArtifactId, from_micros, names, require_id
from registry.effects import Now, Verb
from registry.errors import RegistryError
from registry.log import about, logger
from registry.sql.journal import EVENTS_PAGE, HISTORY, REBUILT, RECORD
from registry.sql.queries import Row
from registry.verbs.database import one, run
from registry.verbs.handle import Handle

__all__ = [
    "Ended",
    "EventsPage",
    "HistoryEvent",
    "Rebuilt",
    "ended",
    "events_page",
    "history",
    "rebuilt_lately",
    "record",
]

_DAY_MICROS = 24 * 3600 * 1_000_000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to an artifact, as the journal has it.

    `event` is claimed, taken over, published, failed, reaped (its claimant died or was late),
    released, forgotten, pruned, removed, missing, damaged or hostile. `reason` is the kind of a
    failure, or what pruning obeyed. The host is the one that did it (where it was reaped: that had
    the claim); its process is known for the last 1,000 hosts. `size` is bytes, `evicted_for` how
    long the artifact had been gone when it was published again. What is not known is None.
    """

    id: ArtifactId
    at: datetime
    event: str
    reason: str | None
    label: str | None
    size: int | None
    prepare_seconds: float | None
    last_time_needed: datetime | None
    evicted_for: timedelta | None
    error: str | None
    host_id: str | None
    pid: int | None
    hostname: str | None
    command: str | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many artifacts were prepared again soon after they were pruned, and what that took."""

    count: int
    seconds: float


class Ended(NamedTuple):
    """What is told of an artifact that ended, or of a claim that was given back."""

    code_hash: str
    prep_hash: str
    label: str | None
    size: int | None = None
    prepare_seconds: float | None = None
    last_time_needed: int | None = None


def ended(row: Row) -> Ended:
    """Take from a row that was deleted what is told of it."""
    took, needed = row.prepare_seconds, row.last_time_needed
    return Ended(row.code_hash, row.prep_hash, row.label, row.size, took, needed)


def record(
    handle: Handle, what: Iterable[Ended], event: str, now: int, reason: str | None = None
) -> Verb[None]:
    """Tell the journal what ended, and how; where it cannot be told, that is no failure."""
    rows = list(what)
    if not rows:
        return
    how = {"now": now, "event": event, "reason": reason, "my_host": handle.host_id}
    try:
        yield from run(RECORD, {**how, "rows": json.dumps(rows)})
    except RegistryError as error:
        logger.info(
            "history will not tell that %d artifacts were %s: %s",
            len(rows),
            event,
            error,
            extra=about("history_incomplete", untold=event, count=len(rows), error=str(error)),
        )


def history(_handle: Handle, id: ArtifactId) -> Verb[list[HistoryEvent]]:
    """Read what happened to an artifact, the oldest first."""
    require_id(id)
    rows = yield from run(HISTORY, {"code": id.code_hash, "prep": id.prep_hash})
    return [_event(id, *row) for row in rows]


class EventsPage(NamedTuple):
    """A page of the journal, and before which number the next one is; None: that was the last."""

    events: list[HistoryEvent]
    next: int | None


def events_page(_handle: Handle, before: int) -> Verb[EventsPage]:
    """Read a page of the journal, of all artifacts, what was written last first."""
    rows = yield from run(EVENTS_PAGE, {"before": before, "most": _PAGE})
    # As with artifacts: a row that names none is not listed, and ends no listing.
    named = (row for row in rows if names(row[4], row[5]))
    events = [_event(ArtifactId(row[4], row[5]), *row) for row in named]
    return EventsPage(events, rows[-1][0] if len(rows) == _PAGE else None)


def rebuilt_lately() -> Verb[Rebuilt]:
    """Ask what was, within the last day, prepared again within a day of its eviction."""
    now = yield from Now()
    bounds = {"soon": _DAY_MICROS, "since": now - _DAY_MICROS, "now": now}
    count, seconds = yield from one(REBUILT, bounds)
    return Rebuilt(count, seconds)


def _event(
    id: ArtifactId,
    _number: int,
    at: int | None,
    event: str,
    reason: str | None,
    _code: str,
    _prep: str,
    label: str | None,
    host_id: str | None,
    size: int | None,
    prepare_seconds: float | None,
    last_time_needed: int | None,
    evicted_for: int | None,
    error: str | None,
    pid: int | None,
    hostname: str | None,
    command: str | None,
) -> HistoryEvent:
    return HistoryEvent(
        id=id,
        at=from_micros(at or 0),
        event=event,
        reason=reason,
        label=label,
        size=size,
        prepare_seconds=prepare_seconds,
        last_time_needed=None if last_time_needed is None else from_micros(last_time_needed),
        # Negative where the clock was set back in between: nobody knows how long.
        evicted_for=None if evicted_for is None else timedelta(microseconds=max(evicted_for, 0)),
        error=error,
        host_id=host_id,
        pid=pid,
        hostname=hostname,
        command=command,
    )
