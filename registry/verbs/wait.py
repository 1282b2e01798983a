"""Wait until an artifact is no longer being prepared, by any process.

A thousand waiters of one handle cost what one costs. They enter its *waiting room*; the first to
come leads: it polls the rows of all in one statement, 1 ms apart at first and 5 ms at most, and
wakes those whose rows have settled. The others sleep until they are woken. A leader that leaves
(its artifact is settled, its time is up, it was interrupted) hands over to one who still waits.

Where nothing was written to the database, the leader need not ask it: it dozes, and a stat of the
-wal file every 5 ms tells, at a tenth of the cost.

Every 50 ms the leader asks all the same, for that file tells early (a writer that is held up has
written to it, and its row cannot be seen yet) and its time is coarse. And it asks the kernel
whether the claimants live, and ends the claims of those that do not, or that are past their
deadline: nobody waits for the dead.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta

from registry.artifact import Artifact, ArtifactId, State, from_micros, require_id, to_micros
from registry.config import as_span
from registry.effects import Doze, Elapsed, Now, Sleep, Verb, WriteMark
from registry.errors import RecursivePreparation, WaitTimeout
from registry.log import about, logger
from registry.recursion import is_run_here, refuse_recursion, waiting_for
from registry.sql.queries import LONGEST_PREPARATION, READ_SEVERAL, Row
from registry.verbs.database import one, read, run
from registry.verbs.handle import Handle
from registry.verbs.lease import abandoned, reap, settle
from registry.verbs.waiting_room import Ticket

__all__ = ["time_limit", "until_settled", "wait"]

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.005
PROBE_EVERY_SECONDS = 0.05
# After a mark has changed the rows are read so often before the next doze: most writers are done by
# then, and the time in a mark stands still for 10 ms at most.
LOOKS_AFTER_A_WRITE = 4
# One who is not the leader looks up now and then all the same, should the leader be lost.
LONGEST_SLEEP_SECONDS = 1.0


def wait(handle: Handle, id: ArtifactId, timeout: timedelta | None = None) -> Verb[Artifact | None]:
    """Answer the artifact once it is no longer preparing; raises `WaitTimeout`."""
    require_id(id)
    refuse_recursion((str(handle.cache), id))
    until = yield from time_limit(timeout)
    yield from settle(handle)
    row = yield from read(id)
    if row is not None and row.state == State.PREPARING:
        row = yield from until_settled(handle, id, row, until)
    return None if row is None else handle.artifact(row)


def time_limit(timeout: timedelta | None) -> Verb[float | None]:
    """Turn a time-out into a moment of the clock that only goes forward."""
    if timeout is None:
        return None
    return (yield from Elapsed()) + to_micros(as_span("timeout", timeout)) / 1e6


def until_settled(
    handle: Handle, id: ArtifactId, row: Row, until: float | None
) -> Verb[Row | None]:
    """Wait for a preparing row: the row once it has settled, None once it has vanished."""
    if row.host_id == handle.host_id and handle.claims.has_made(id) and handle.is_nested():
        raise RecursivePreparation(
            f"{id.short} is being prepared by this very thread, which asks for it in a signal "
            "handler or in another prepare, and could not go on before; ask for it elsewhere"
        )
    if handle.blocks and is_run_here(str(row.host_id)):
        raise RecursivePreparation(
            f"{id.short} is being prepared by the event loop of this very thread, which cannot go "
            "on while it waits; await it with the AsyncRegistry, or ask in another thread"
        )
    handle.counters.coalesced += 1
    yield from _tell(id, row)
    ticket = Ticket(id, row.id, handle.new_signal())
    with waiting_for((str(handle.cache), id)):
        try:
            handle.waiting.enter(ticket)
            yield from _wait(handle, ticket, until)
        finally:
            handle.waiting.leave(ticket)
    return ticket.answer


def _tell(id: ArtifactId, row: Row) -> Verb[None]:
    """Log who prepares, since when, and how long this code took before."""
    if not logger.isEnabledFor(logging.INFO):
        return
    (before,) = yield from one(LONGEST_PREPARATION, {"code": id.code_hash})
    logger.info(
        "waiting for %s: prepared by process %s on %s since %s UTC; it took %s before",
        row.label or id.short,
        row.pid,
        row.hostname,
        f"{from_micros(row.claimed_at or 0):%H:%M:%S}",
        "an unknown time" if before is None else f"{before:.1f} s",
        extra=about(
            "waiting",
            id,
            label=row.label,
            holder_pid=row.pid,
            holder_hostname=row.hostname,
            since=from_micros(row.claimed_at or 0),
            prepare_seconds_before=before,
        ),
    )


class _Lead:
    """What a leader remembers from look to look."""

    def __init__(self) -> None:
        self.pause = FIRST_PAUSE_SECONDS
        self.probed = 0.0  # at the first look, ask at once whether the claimants live
        # The mark, and how many had come in.
        self.seen: tuple[tuple[int, int] | None, int] = (None, 0)
        self.looks = 0
        self.rows: list[Row] = []


def _wait(handle: Handle, ticket: Ticket, until: float | None) -> Verb[None]:
    lead = _Lead()
    while not ticket.settled:
        now = yield from Elapsed()
        left = LONGEST_SLEEP_SECONDS if until is None else until - now
        if left <= 0:
            raise WaitTimeout(
                f"{ticket.id.short} is still being prepared by another; wait longer, or look at "
                "`registry ls --state preparing`"
            )
        if handle.waiting.leads(ticket, now):
            yield from _look(handle, lead, now)
            if not ticket.settled:
                yield from _rest(lead, left)
        else:
            yield from Sleep(min(left, LONGEST_SLEEP_SECONDS), ticket.signal)
            ticket.signal.clear()


def _look(handle: Handle, lead: _Lead, now: float) -> Verb[None]:
    """Read the rows if anything may have been written, or it is time to probe their claimants."""
    mark = yield from WriteMark()
    seen = (mark, handle.waiting.entered)
    fresh = mark is None or seen != lead.seen
    lead.looks = LOOKS_AFTER_A_WRITE if fresh else lead.looks - 1
    lead.seen = seen
    probing = now - lead.probed >= PROBE_EVERY_SECONDS
    if lead.looks > 0 or probing:
        lead.rows = yield from _poll(handle)
    if probing:
        lead.probed = now
        for row in lead.rows:
            yield from _end_if_abandoned(handle, row)


def _rest(lead: _Lead, left: float) -> Verb[None]:
    if lead.looks > 0:
        yield from Sleep(min(lead.pause, left))
        lead.pause = min(lead.pause * 1.5, LONGEST_PAUSE_SECONDS)
    else:
        yield from Doze(min(PROBE_EVERY_SECONDS, left), mark=lead.seen[0])


def _poll(handle: Handle) -> Verb[list[Row]]:
    tickets = handle.waiting.waiting()
    ids = json.dumps(sorted({ticket.row_id for ticket in tickets}))
    rows = {row[0]: Row(*row) for row in (yield from run(READ_SEVERAL, {"ids": ids}))}
    for ticket in tickets:
        row = rows.get(ticket.row_id)
        asked = ticket.id
        if row is not None and (row.code_hash, row.prep_hash) != (asked.code_hash, asked.prep_hash):
            row = None  # the row vanished, and its number was given to another
        if row is None or row.state != State.PREPARING:
            ticket.settle(row)
    return list(rows.values())


def _end_if_abandoned(handle: Handle, row: Row) -> Verb[None]:
    if row.state != State.PREPARING:
        return
    why = yield from abandoned(handle, row, (yield from Now()))
    if why is not None:
        yield from reap(handle, row, why)
