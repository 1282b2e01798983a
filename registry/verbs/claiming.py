"""Claim, publish, fail, release, extend: the life of one claim.

A claim is: read the row, find out whether its holder may be passed over, one upsert guarded by what
was seen. No row back: start again, and look whose the claim is now; it may be ours, if the database
answered an error to a statement that it had carried out.

The file is there before the row says so: temp, fsync, rename, fsync of the folder, then the row. A
claim that ended in any other way leaves a file that no row refers to, which is garbage and is
unlinked, but only once a read has shown that no row refers to it.
"""

from __future__ import annotations

from datetime import timedelta
from os import PathLike, fspath
from pathlib import Path
from typing import TypeVar

from registry.artifact import Artifact, ArtifactId, State, to_micros
from registry.config import as_span
from registry.effects import (
    Draw,
    Elapsed,
    IsAlive,
    Now,
    Rename,
    Sync,
    SyncFolder,
    TakeIn,
    Unlink,
    Verb,
    Write,
    Written,
    is_file_name,
)
from registry.errors import ClaimLost, DiskFull, InvalidData, RegistryBusy
from registry.queries import Row
from registry.transitions import Event
from registry.verbs.asking import end, move, read
from registry.verbs.handle import Handle, Lease
from registry.verbs.pruning import keep_within_limits
from registry.verbs.words import DEADLINE, HOST_DIED, Failure, as_label, describe

__all__ = ["claim", "extend", "fail", "give_back", "publish", "release", "settle"]

T = TypeVar("T")

# Each try but the last means that another host moved the same artifact in between.
TRIES = 100
TOKEN_BYTES = 16
NAME_BYTES = 64


def claim(
    handle: Handle, id: ArtifactId, timeout: timedelta | None = None, label: str | None = None
) -> Verb[Lease | Artifact]:
    """Claim an artifact, or answer it as it stands."""
    require_id(id)
    called = as_label(label)
    span = None if timeout is None else to_micros(as_span("timeout", timeout))
    yield from settle(handle)
    row = yield from read(id)
    if row is not None and not (yield from _open_to_claims(handle, row)):
        return handle.artifact(row)
    lease = Lease(id, (yield from Draw(TOKEN_BYTES)), (yield from Draw(NAME_BYTES)) + ".pvf")
    handle.claims.note(lease)
    return (yield from or_give_back(handle, lease, _claim(handle, lease, row, span, called)))


def _claim(
    handle: Handle, lease: Lease, row: Row | None, span: int | None, called: str | None
) -> Verb[Lease | Artifact]:
    for _ in range(TRIES):
        lease.since = yield from Elapsed()
        won = yield from _try_to_claim(handle, lease, row, span, called)
        if won is not None:
            lease.claimed = won
            return lease
        row = yield from read(lease.id)
        if row is not None and row.token == lease.token:  # an "error" that had been committed
            lease.claimed = row
            return lease
        if row is not None and not (yield from _open_to_claims(handle, row)):
            handle.claims.end(lease)
            return handle.artifact(row)
    raise RegistryBusy(f"{lease.id.short} changed hands {TRIES} times during one claim; try again")


def _open_to_claims(handle: Handle, row: Row) -> Verb[bool]:
    """Whether a claim of a row that is there may succeed; the guard decides again."""
    now = yield from Now()
    if row.state == State.FAILED:
        return row.retry_at is not None and row.retry_at <= now
    return row.state == State.PREPARING and (yield from abandoned(handle, row, now)) is not None


def abandoned(handle: Handle, row: Row, now: int) -> Verb[Failure | None]:
    """Say why a preparing row's claimant may be passed over, or None if it may not."""
    if row.host_id != handle.host_id and not (yield from IsAlive(str(row.host_id))):
        return HOST_DIED
    if row.deadline is not None and row.deadline <= now:
        return DEADLINE
    return None


def _try_to_claim(
    handle: Handle, lease: Lease, row: Row | None, span: int | None, called: str | None
) -> Verb[Row | None]:
    now = yield from Now()
    claimant = {
        "now": now,
        "my_path": lease.path,
        "my_token": lease.token,
        "my_host": handle.host_id,
        "prepare_timeout": span,
        "called": called,
    }
    if row is None or row.state != State.PREPARING:
        return (yield from move(Event.CLAIM, lease.id, **claimant))
    why = yield from abandoned(handle, row, now)
    if why is None:
        return None
    passed_over = {"seen_token": row.token, "why": why.message, "kind": why.kind}
    limit = {"max_retries": handle.max_retries}
    won = yield from move(Event.TAKE_OVER, lease.id, **claimant, **passed_over, **limit)
    if won is not None:
        yield from drop_files(row.path)
        return won
    yield from reap(handle, row, why)  # it failed too often to be claimed again
    return None


def reap(handle: Handle, row: Row, why: Failure) -> Verb[None]:
    """End the claim of a claimant that is gone or late, with a failure."""
    reaped = yield from move(
        Event.REAP,
        ArtifactId(row.code_hash, row.prep_hash),
        now=(yield from Now()),
        seen_token=row.token,
        why=why.message,
        kind=why.kind,
        max_retries=handle.max_retries,
    )
    if reaped is not None:
        yield from drop_files(row.path)


def publish(handle: Handle, lease: Lease, data: bytes | PathLike[str]) -> Verb[Artifact]:
    """End a claim with a file; raises `ClaimLost`, `InvalidData`, `DiskFull`."""
    write = _write(lease, data)
    yield from settle(handle)
    yield from _require_held(handle, lease)
    written = yield from _store(handle, lease, write)
    row = yield from _enter(handle, lease, written)
    handle.claims.end(lease)
    yield from keep_within_limits(handle, spared=row.id)
    return handle.artifact(row)


def _write(lease: Lease, data: bytes | PathLike[str]) -> Write | TakeIn:
    temporary = f"{lease.path}.tmp"
    if isinstance(data, bytes | bytearray | memoryview):
        if not memoryview(data).nbytes:
            raise InvalidData(f"{lease.id.short} cannot be published with no bytes at all")
        return Write(temporary, bytes(data))
    if isinstance(data, str) or not isinstance(data, PathLike):
        raise TypeError(f"an artifact is published as bytes or a Path, not {type(data).__name__}")
    return TakeIn(temporary, Path(fspath(data)))


def _require_held(handle: Handle, lease: Lease) -> Verb[None]:
    """Refuse early, before a file of the user's is moved in; the guard decides again."""
    row = yield from read(lease.id)
    if row is None or row.token != lease.token:
        raise (yield from _lost(handle, lease, row))


def _store(handle: Handle, lease: Lease, write: Write | TakeIn) -> Verb[Written]:
    try:
        written = yield from write
        yield from Sync(write.name)
        yield from Rename(write.name, lease.path)
        yield from SyncFolder()
    except FileNotFoundError:  # whoever passed us over has unlinked it
        raise (yield from _lost(handle, lease, (yield from read(lease.id)))) from None
    except DiskFull:
        yield from drop_files(lease.path)
        yield from give_back(handle, lease)
        raise
    return written


def _enter(handle: Handle, lease: Lease, written: Written) -> Verb[Row]:
    seconds = (yield from Elapsed()) - lease.since
    row = yield from move(
        Event.PUBLISH,
        lease.id,
        now=(yield from Now()),
        my_token=lease.token,
        bytes=written.size,
        digest=written.checksum,
        seconds=seconds,
    )
    if row is not None:
        return row
    found = yield from read(lease.id)
    if found is None or found.path != lease.path or found.state != State.PREPARED:
        raise (yield from _lost(handle, lease, found))
    return found


def fail(
    handle: Handle,
    lease: Lease,
    error: str | BaseException,
    kind: str | None = None,
    retryable: bool = True,
) -> Verb[Artifact]:
    """End a claim with an error; raises `ClaimLost`."""
    failure = describe(error, kind)
    yield from settle(handle)
    now = yield from Now()
    row = yield from move(
        Event.FAIL,
        lease.id,
        now=now,
        my_token=lease.token,
        why=failure.message,
        kind=failure.kind,
        retryable=retryable and not failure.deterministic,
        max_retries=handle.max_retries,
        retry_cooldown=handle.retry_cooldown,
    )
    if row is None:
        found = yield from read(lease.id)
        if found is None or (found.last_time_failed, found.error) != (now, failure.message):
            raise (yield from _lost(handle, lease, found))
        row = found
    handle.claims.end(lease)
    yield from drop_files(lease.path)
    return handle.artifact(row)


def release(handle: Handle, lease: Lease) -> Verb[None]:
    """Give a claim back without a failure; raises `ClaimLost`."""
    yield from settle(handle)
    if lease.ended or not (yield from give_back(handle, lease)):
        raise (yield from _lost(handle, lease, (yield from read(lease.id))))


def extend(handle: Handle, lease: Lease, timeout: timedelta) -> Verb[Row]:
    """Move the deadline of a claim to `timeout` from now; raises `ClaimLost`."""
    span = to_micros(as_span("timeout", timeout))
    yield from settle(handle)
    now = yield from Now()
    row = yield from move(
        Event.EXTEND, lease.id, now=now, my_token=lease.token, prepare_timeout=span
    )
    if row is None:
        raise (yield from _lost(handle, lease, (yield from read(lease.id))))
    lease.claimed = row
    return row


def settle(handle: Handle) -> Verb[None]:
    """Give back the claims that nobody holds any more."""
    for lease in handle.claims.orphans():
        yield from give_back(handle, lease)


def give_back(handle: Handle, lease: Lease) -> Verb[bool]:
    """Release a claim if it is still held: the row as it was before, the files gone."""
    mine = {"code": lease.id.code_hash, "prep": lease.id.prep_hash, "my_token": lease.token}
    released = (yield from end(Event.RELEASE, mine)) or (yield from end(Event.RESTORE, mine))
    handle.claims.end(lease)
    if released:
        yield from drop_files(lease.path)
    return bool(released)


def or_give_back(handle: Handle, lease: Lease, work: Verb[T]) -> Verb[T]:
    """Do work under a claim; whatever cuts it short gives the claim back.

    This is the one place where verbs catch BaseException. A verb that is thrown away unfinished
    (GeneratorExit) cannot yield any more; its lease is then an orphan.
    """
    try:
        return (yield from work)
    except GeneratorExit:
        raise
    except BaseException:
        if not lease.ended:
            yield from give_back(handle, lease)
        raise


def drop_files(path: str | None) -> Verb[None]:
    """Unlink what a claim may have written; the caller has seen that no row refers to it."""
    if is_file_name(path):
        yield from Unlink(f"{path}.tmp")
        yield from Unlink(str(path))


def require_id(id: ArtifactId) -> None:
    """Refuse what is no id."""
    if not isinstance(id, ArtifactId):
        raise TypeError(f"an artifact is named by an ArtifactId, not {type(id).__name__}")


def _lost(handle: Handle, lease: Lease, found: Row | None) -> Verb[ClaimLost]:
    """Explain what became of a claim, and drop its file unless the row refers to it."""
    was_ended = lease.ended
    handle.claims.end(lease)
    if found is None or found.path != lease.path:
        yield from drop_files(lease.path)
    if was_ended:
        return ClaimLost(f"the claim of {lease.id.short} has already ended; claim it again")
    now = "nobody knows it now" if found is None else f"it is {found.state} now"
    return ClaimLost(
        f"the claim of {lease.id.short} was lost: its deadline passed or its host was taken for "
        f"dead, and {now}; the work is discarded, ask for the artifact again"
    )


def give_back_all(handle: Handle) -> Verb[None]:
    """Release every claim of a handle that closes."""
    for lease in handle.claims.all():
        yield from give_back(handle, lease)


def claimed_row(lease: Lease) -> Row:
    """The row as the claim, or its last extension, left it."""
    assert lease.claimed is not None  # a lease is handed out only once it is won
    return lease.claimed
