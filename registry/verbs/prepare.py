"""Get or prepare: the one verb that most users need.

However many ask, on one machine, `prepare` runs once: one claims, the others wait for it. A
failure is everybody's: whoever waited for it gets it, and so does whoever asks before it may be
tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from registry.artifact import Artifact, ArtifactId, State
from registry.config import as_span
from registry.effects import Call, Now, Outcome, Verb
from registry.errors import (
    ClaimLost,
    CodeTooLarge,
    DiskFull,
    InvalidData,
    NotPrepared,
    PreparationFailed,
    RegistryBusy,
)
from registry.recursion import refuse_recursion
from registry.shortage import is_nobodys_failure
from registry.sql.queries import Row
from registry.verbs.claim import claim, may_be_tried
from registry.verbs.database import read
from registry.verbs.handle import Handle, Lease
from registry.verbs.lease import or_give_back, require_id
from registry.verbs.need import look_up, need
from registry.verbs.publish import claimed_row, fail, publish
from registry.verbs.text import ABANDONED, as_label, describe
from registry.verbs.wait import time_limit, until_settled

__all__ = ["failure", "get_or_prepare", "prepare_or_join", "require_arguments"]


def require_arguments(prepare: object, timeout: object, label: object) -> None:
    """Refuse arguments that are wrong, even where all is prepared and none matters."""
    if not callable(prepare):
        raise TypeError(f"prepare is a function, not {type(prepare).__name__}")
    if timeout is not None:
        as_span("timeout", timeout)
    as_label(label)


def get_or_prepare(
    handle: Handle,
    id: ArtifactId,
    prepare: Callable[[], Any],
    timeout: timedelta | None = None,
    label: str | None = None,
) -> Verb[Artifact]:
    """Answer the prepared artifact, preparing it if nobody has; raises `PreparationFailed`."""
    require_id(id)
    refuse_recursion((str(handle.cache), id))
    until = yield from time_limit(timeout)
    ready = yield from need(handle, id)
    if ready is not None:
        return ready
    return (yield from prepare_or_join(handle, id, prepare, until, label))


def prepare_or_join(
    handle: Handle,
    id: ArtifactId,
    prepare: Callable[[], Any],
    until: float | None = None,
    label: str | None = None,
    *,
    held: timedelta | None = None,
    on_claim: Callable[[Lease], None] | None = None,
) -> Verb[Artifact]:
    """The same for one who needed the artifact just now, and did not get it.

    A claim is `held` for so long (by default the setting `prepare_timeout`), and shown to
    `on_claim` before `prepare` is called.
    """
    while True:
        claimed = yield from claim(handle, id, held, label)
        if isinstance(claimed, Lease):
            if on_claim is not None:
                on_claim(claimed)
            work = _prepare(handle, claimed, prepare)
            made = yield from or_give_back(handle, claimed, work)
            if made is not None:
                return made
        elif claimed.state is State.FAILED:
            raise failure(claimed)
        elif claimed.state is State.PREPARING:
            yield from _join(handle, id, until)
        ready = yield from look_up(handle, id)
        if ready is not None:
            return ready


def failure(artifact: Artifact) -> PreparationFailed:
    """Word a failure for the user: what, why, how often, and when it may be tried again."""
    if artifact.retry_at is None:
        again = "it will not be tried again by itself; `registry retry` lets it"
    else:
        again = f"it may be tried again at {artifact.retry_at:%Y-%m-%d %H:%M:%S} UTC"
    count = artifact.num_failures
    times = "once" if count == 1 else f"{count} times"
    return PreparationFailed(
        f"{artifact} could not be prepared ({artifact.error_kind or 'error'}, failed {times}): "
        f"{artifact.error} -- {again}",
        artifact,
    )


def _prepare(handle: Handle, lease: Lease, prepare: Callable[[], Any]) -> Verb[Artifact | None]:
    """Prepare under a claim; None if the claim was lost meanwhile, and all must be asked anew."""
    outcome: Outcome[Any] = yield from Call(prepare, (str(handle.cache), lease.id))
    error = outcome.error
    if is_nobodys_failure(error):  # no failure of the code: the claim is given back
        raise (yield from _nobodys_failure(handle, lease, error))
    try:
        if error is None:
            try:
                return (yield from publish(handle, lease, outcome.value))
            except (TypeError, InvalidData) as refusal:  # what `prepare` gave back is no artifact
                error = refusal
        failed = yield from fail(handle, lease, error)
    except ClaimLost:
        return None
    raise failure(failed) from error


def _nobodys_failure(handle: Handle, lease: Lease, error: Exception | None) -> Verb[Exception]:
    """Word a failure that says nothing about the code, unless it is worded already."""
    assert error is not None
    if isinstance(error, CodeTooLarge | DiskFull | RegistryBusy):
        return error
    said, now = describe(error), (yield from Now())
    never = claimed_row(lease)._replace(
        state=State.FAILED,
        num_failures=claimed_row(lease).num_failures + 1,
        last_time_failed=now,
        retry_at=now,
        error=said.message,
        error_kind=said.kind,
        host_id=None,
    )
    artifact = handle.artifact(never, lease.id)
    failed = PreparationFailed(
        f"{artifact} could not be prepared here ({said.kind}): {said.message} -- that is this "
        "machine's doing, or a limit of this host, and not remembered: ask again once it has more",
        artifact,
    )
    unprepared = NotPrepared(failed)
    unprepared.__cause__ = error
    return unprepared


def _join(handle: Handle, id: ArtifactId, until: float | None) -> Verb[None]:
    """Wait for another's preparation; its failure is ours too, unless it was cut short."""
    row = yield from read(id)
    if row is None or row.state != State.PREPARING:
        return
    row = yield from until_settled(handle, id, row, until)
    if row is None or row.state != State.FAILED:
        return
    if not (yield from _may_be_taken_up(row)):
        raise failure(handle.artifact(row))


def _may_be_taken_up(row: Row) -> Verb[bool]:
    """Whether a preparation was only cut short, and goes on with whoever needs it."""
    return row.error_kind in ABANDONED and may_be_tried(row, (yield from Now()))
