"""Claim an artifact: read, find out whether its holder may be passed over, one guarded statement.

No row back: start again, and look whose the claim is now; it may be ours, if the database answered
an error to a statement that it had carried out.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import NamedTuple

from registry.artifact import Artifact, ArtifactId, State, require_id, to_micros
from registry.blame import remembers_failures
from registry.clock_slack import is_ahead
from registry.config import as_span
from registry.effects import Draw, Elapsed, Now, Verb
from registry.errors import RegistryBusy
from registry.sql.queries import Row
from registry.sql.transitions import Event
from registry.verbs.database import move, read
from registry.verbs.free_space import with_space
from registry.verbs.handle import Handle, Lease
from registry.verbs.hosts import list_host
from registry.verbs.lease import (
    abandoned,
    drop_files,
    insist,
    or_give_back,
    reap,
    settle,
    unlinking_if_cut_short,
)
from registry.verbs.text import as_kind, as_label

__all__ = ["claim", "claim_seen", "may_be_claimed", "may_be_tried"]

# Each try but the last means that another host moved the same artifact in between.
TRIES = 100
TOKEN_BYTES = 16
NAME_BYTES = 64


class _Wish(NamedTuple):
    """What a claim is to be: for how long, called what, made by whom, in spite of what."""

    span: int | None
    label: str | None
    kind: str | None
    anyway: bool


def claim(
    handle: Handle,
    id: ArtifactId,
    timeout: timedelta | None = None,
    label: str | None = None,
    kind: str | None = None,
) -> Verb[Lease | Artifact]:
    """Claim an artifact, or answer it as it stands."""
    require_id(id)
    yield from settle(handle)
    return (yield from claim_seen(handle, id, (yield from read(id)), timeout, label, kind))


def claim_seen(
    handle: Handle,
    id: ArtifactId,
    row: Row | None,
    timeout: timedelta | None,
    label: str | None,
    kind: str | None = None,
    *,
    anyway: bool = False,
) -> Verb[Lease | Artifact]:
    """Claim an artifact whose row was read just now; the guard notices if it has changed since.

    With `anyway`, also one that failed and may not be tried again yet.
    """
    span = None if timeout is None else to_micros(as_span("timeout", timeout))
    wish = _Wish(span, as_label(label), as_kind(kind), anyway or not remembers_failures())
    if row is not None and not (yield from _open_to_claims(handle, row, wish.anyway)):
        return handle.artifact(row, id)
    yield from list_host(handle)
    drawn = yield from Draw(TOKEN_BYTES + NAME_BYTES)
    lease = Lease(id, drawn[: 2 * TOKEN_BYTES], f"{drawn[2 * TOKEN_BYTES :]}.pvf")
    handle.claims.note(lease)
    return (yield from or_give_back(handle, lease, _claim(handle, lease, row, wish)))


def _claim(handle: Handle, lease: Lease, row: Row | None, wish: _Wish) -> Verb[Lease | Artifact]:
    for _ in range(TRIES):
        lease.since = yield from Elapsed()
        attempt = partial(_try_to_claim, handle, lease, row, wish)
        won = yield from with_space(handle, attempt)
        if won is not None:
            lease.claimed = won
            return lease
        row = yield from read(lease.id)
        if row is not None and row.token == lease.token:  # an "error" that had been committed
            lease.claimed = row
            return lease
        if row is not None and not (yield from _open_to_claims(handle, row, wish.anyway)):
            handle.claims.end(lease)
            return handle.artifact(row, lease.id)
    raise RegistryBusy(f"{lease.id.short} changed hands {TRIES} times during one claim; try again")


def may_be_claimed(handle: Handle, id: ArtifactId) -> Verb[bool]:
    """Whether a claim of this artifact may succeed now."""
    row = yield from read(id)
    return row is None or (yield from _open_to_claims(handle, row, not remembers_failures()))


def _open_to_claims(handle: Handle, row: Row, anyway: bool) -> Verb[bool]:
    """Whether a claim of a row that is there may succeed; the guard decides again."""
    now = yield from Now()
    if row.state == State.FAILED:
        return anyway or may_be_tried(row, now)
    return row.state == State.PREPARING and (yield from abandoned(handle, row, now)) is not None


def may_be_tried(row: Row, now: int) -> bool:
    """Whether a failed row may be claimed, as the guard of the claim has it.

    It may before its time too, if it failed before the clock was set back, or if somebody let it be
    tried again by hand (`retry` sets its count of failures to 0), whatever the clock said then.
    """
    if row.retry_at is None:
        return False
    set_back = is_ahead(row.last_time_failed or 0, now)
    return row.retry_at <= now or set_back or row.num_failures == 0


def _try_to_claim(handle: Handle, lease: Lease, row: Row | None, wish: _Wish) -> Verb[Row | None]:
    now = yield from Now()
    lease.clocks = now, lease.since
    claimant = {
        "now": now,
        "my_path": lease.path,
        "my_token": lease.token,
        "my_host": handle.host_id,
        "prepare_timeout": wish.span,
        "label": wish.label,
        "made_by": wish.kind,
        "anyway": wish.anyway,
    }
    if row is None or row.state != State.PREPARING:
        return (yield from move(Event.CLAIM, lease.id, **claimant))
    why = yield from abandoned(handle, row, now)
    if why is None:
        return None
    seen = {"seen_token": row.token, "seen_deadline": row.deadline}
    failure = {"error": why.message, "kind": why.kind, "max_retries": handle.max_retries}
    statement = move(Event.TAKE_OVER, lease.id, **claimant, **seen, **failure)
    won = yield from unlinking_if_cut_short([row], statement)
    if won is not None:
        handle.counters.failures.note(why.kind)
        yield from insist(lambda: drop_files(row.path))
        return won
    yield from reap(handle, row, why)  # it failed too often to be claimed again
    return None
