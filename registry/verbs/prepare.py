"""Get or prepare: the one verb that most users need.

However many ask, on one machine, `prepare` runs once: one claims, the others wait for it. A
failure is everybody's: any process that waited for it gets it, and so does any that asks before it
may be tried again. What is no failure of the code (`registry.blame`) is the caller's alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.artifact import Artifact, ArtifactId, State, require_id
from registry.blame import VARIABLE, is_own_bug, is_remembered, remembers_failures
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
from registry.verbs.claim import claim_seen, may_be_tried
from registry.verbs.database import read
from registry.verbs.handle import Handle, Lease
from registry.verbs.lease import or_give_back
from registry.verbs.need import count, look_up
from registry.verbs.publish import claimed_row, fail, publish
from registry.verbs.text import ABANDONED, as_kind, as_label, describe
from registry.verbs.wait import time_limit, until_settled

__all__ = ["failure", "get_or_prepare", "prepare_or_join", "require_arguments"]

_TIME = "%Y-%m-%d %H:%M:%S"
_NOT_HERE = (
    "that is this machine's doing, a limit of this host or a bug of its programs, and not "
    "remembered: ask again once it is repaired"
)
_NOT_NOW = f"not remembered, because {VARIABLE} says so"
# Characters that a message tells of an error: a compiler may write thousands of lines. The first
# ones say what is wrong, the last ones where a traceback or a linker ended.
_TOLD, _FIRST, _LAST = 2000, 1200, 600


def require_arguments(prepare: object, timeout: object, label: object, kind: object = None) -> None:
    """Refuse arguments that are wrong, even where all is prepared and none matters."""
    if not callable(prepare):
        raise TypeError(f"prepare is a function, not {type(prepare).__name__}")
    if timeout is not None:
        as_span("timeout", timeout)
    as_label(label)
    as_kind(kind)


def get_or_prepare(
    handle: Handle,
    id: ArtifactId,
    prepare: Callable[[], Any],
    timeout: timedelta | None = None,
    label: str | None = None,
    kind: str | None = None,
) -> Verb[Artifact]:
    """Answer the prepared artifact, preparing it if nobody has; raises `PreparationFailed`."""
    require_id(id)
    refuse_recursion((str(handle.cache), id))
    until = yield from time_limit(timeout)
    return (yield from prepare_or_join(handle, id, prepare, until, label, kind, counts=True))


def prepare_or_join(
    handle: Handle,
    id: ArtifactId,
    prepare: Callable[[], Any],
    until: float | None = None,
    label: str | None = None,
    kind: str | None = None,
    *,
    counts: bool = False,
    held: timedelta | None = None,
    on_claim: Callable[[Lease], None] | None = None,
) -> Verb[Artifact]:
    """The same for callers that have needed the artifact already, unless it `counts` as a need.

    A claim is `held` for so long (by default the setting `prepare_timeout`), and shown to
    `on_claim` before `prepare` is called.
    """
    found = yield from look_up(handle, id)
    if counts:
        count(handle, found)
    while not isinstance(found, Artifact):
        claimed = yield from claim_seen(handle, id, found, held, label, kind)
        if isinstance(claimed, Lease):
            if on_claim is not None:
                on_claim(claimed)
            work = _prepare(handle, claimed, prepare)
            made = yield from or_give_back(handle, claimed, work)
            if made is not None:
                return made
        elif claimed.state is State.FAILED:
            raise failure(claimed, handle.cache)
        elif claimed.state is State.PREPARING:
            yield from _join(handle, id, until)
        found = yield from look_up(handle, id)
    return found


def failure(artifact: Artifact, cache: Path) -> PreparationFailed:
    """Word a stored failure: what, why, how often, since when, and how to try again."""
    count, since, retry_at = artifact.num_failures, artifact.last_time_failed, artifact.retry_at
    times = "once" if count == 1 else f"{count} times"
    stored = "remembered" if since is None else f"remembered since {since:{_TIME}} UTC"
    this = f"{artifact.id.short} --cache {shlex.quote(str(cache))}"
    lifted = f"`registry retry {this}`"
    if retry_at is None:
        again = f"it will not be tried again by itself; {lifted} lets it"
    else:
        again = f"it may be tried again at {retry_at:{_TIME}} UTC, or after {lifted}"
    return PreparationFailed(
        f"{artifact} could not be prepared ({artifact.error_kind or 'error'}, failed {times}): "
        f"{_in_short(artifact.error, f'`registry show {this}` has all')} -- {stored}; {again}",
        artifact,
    )


def _in_short(error: str | None, whole: str) -> str:
    """Leave out the middle of a long error, and say where the whole of it is."""
    if error is None or len(error) <= _TOLD:
        return str(error)
    left = len(error) - _FIRST - _LAST
    return f"{error[:_FIRST]} [... {left} characters left out; {whole} ...] {error[-_LAST:]}"


def _prepare(handle: Handle, lease: Lease, prepare: Callable[[], Any]) -> Verb[Artifact | None]:
    """Prepare under a claim; None if the claim was lost meanwhile, and the row must be read again.

    What is no failure to remember goes on to the caller, and the claim is given back.
    """
    outcome: Outcome[Any] = yield from Call(prepare, (str(handle.cache), lease.id))
    error = outcome.error
    try:
        if error is None:
            return (yield from publish(handle, lease, outcome.value))
        if is_remembered(error):
            failed = yield from fail(handle, lease, error)
            raise failure(failed, handle.cache) from error
    except ClaimLost:
        return None
    except (TypeError, InvalidData) as refusal:  # what `prepare` gave back is no artifact
        error = refusal
    raise (yield from _unremembered(handle, lease, error))


def _unremembered(handle: Handle, lease: Lease, error: Exception) -> Verb[Exception]:
    """Word a failure that is not stored, unless it is worded already."""
    if isinstance(error, CodeTooLarge | DiskFull | RegistryBusy):
        return error
    if is_own_bug(error):
        _note(handle, lease, error)
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
        f"{artifact} could not be prepared here ({said.kind}): "
        f"{_in_short(said.message, '`.artifact.error` has all')} -- "
        f"{_NOT_HERE if is_nobodys_failure(error) else _NOT_NOW}",
        artifact,
    )
    raised = NotPrepared(failed) if is_nobodys_failure(error) else failed
    raised.__cause__ = error
    return raised


def _note(handle: Handle, lease: Lease, error: Exception) -> None:
    """Tell with a bug of the program what it kept from being prepared."""
    artifact = handle.artifact(claimed_row(lease), lease.id)
    note = f"{artifact} was not prepared by this program's own mistake; nothing is remembered"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _join(handle: Handle, id: ArtifactId, until: float | None) -> Verb[None]:
    """Wait for another's preparation; its failure is ours too, unless it was cut short."""
    row = yield from read(id)
    if row is None or row.state != State.PREPARING:
        return
    row = yield from until_settled(handle, id, row, until)
    if row is None or row.state != State.FAILED:
        return
    if remembers_failures() and not (yield from _may_be_taken_up(row)):
        raise failure(handle.artifact(row), handle.cache)


def _may_be_taken_up(row: Row) -> Verb[bool]:
    """Whether a preparation was only cut short, and goes on in any process that needs it."""
    return row.error_kind in ABANDONED and may_be_tried(row, (yield from Now()))
