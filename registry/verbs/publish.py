"""End a claim, or extend it: publish, fail, release, extend.

The file is there before the row says so: temp, fsync, rename, fsync of the folder, then the row. A
claim that ends in any other way leaves a file that no row refers to, which is garbage.
"""

from __future__ import annotations

from datetime import timedelta
from os import PathLike, fspath
from pathlib import Path

from registry.artifact import Artifact, ArtifactId, State, to_micros
from registry.clock_slack import was_set_forth
from registry.config import as_span
from registry.effects import (
    Elapsed,
    Now,
    Rename,
    Sync,
    SyncFolder,
    TakeIn,
    Verb,
    Write,
    Written,
)
from registry.errors import ClaimLost, DiskFull, InvalidData, RegistryError
from registry.log import about, in_one_line, logger
from registry.sql.queries import Row
from registry.sql.transitions import Event
from registry.verbs.database import attempt, move, read
from registry.verbs.failures import forget_failures
from registry.verbs.free_space import with_space
from registry.verbs.handle import Handle, Lease
from registry.verbs.lease import drop_files, give_back, insist, lost, settle
from registry.verbs.maintenance import keep
from registry.verbs.text import Failure, describe

__all__ = ["claimed_row", "extend", "fail", "publish", "release", "require_data"]


def publish(handle: Handle, lease: Lease, data: bytes | PathLike[str]) -> Verb[Artifact]:
    """End a claim with a file; raises `ClaimLost`, `InvalidData`, `DiskFull`."""
    write = _write(lease, data)
    if not lease.publishing.acquire(blocking=False):
        raise ClaimLost(
            f"{lease.id.short} is being published through this very claim just now, by another "
            "thread or task; the work is discarded, ask for the artifact again"
        )
    try:
        return (yield from _publish(handle, lease, write))
    finally:
        lease.publishing.release()


def _publish(handle: Handle, lease: Lease, write: Write | TakeIn) -> Verb[Artifact]:
    yield from settle(handle)
    if isinstance(write, TakeIn) or lease.ended or lease.has_written:
        yield from _require_held(handle, lease)
    lease.has_written = True
    try:
        written = yield from _store(handle, lease, write)
        row = yield from _enter(handle, lease, written)
    except DiskFull:
        yield from give_back(handle, lease)
        raise
    handle.claims.end(lease)
    handle.counters.prepared += 1
    handle.counters.prepared_again += handle.evicted.take(lease.id)
    made = {"label": row.label, "size": row.size, "prepare_seconds": row.prepare_seconds}
    logger.debug("prepared %s", lease.id.short, extra=about("prepared", lease.id, **made))
    yield from _keep(handle, row)
    return handle.artifact(row, lease.id)


def _keep(handle: Handle, row: Row) -> Verb[None]:
    """Stay within the limits. What goes wrong there is no failure to publish, which is done."""
    work = keep(handle, row)
    yield from _only_warn(work, "an artifact was published, but the maintenance after it failed")


def _keep_failures(handle: Handle, row: Row) -> Verb[None]:
    """Forget the failures that are too many. What goes wrong there does not undo this one."""
    yield from _only_warn(
        forget_failures(handle, spared=row.id),
        "a failure was stored, but older ones beyond the bounds could not be forgotten",
    )


def _only_warn(work: Verb[object], warning: str) -> Verb[None]:
    try:
        yield from work
    except (RegistryError, OSError) as error:
        told = about("keeping_failed", error=str(error))
        logger.warning("%s: %s", warning, in_one_line(error), extra=told)


def _write(lease: Lease, data: bytes | PathLike[str]) -> Write | TakeIn:
    require_data(lease.id, data)
    temporary = f"{lease.path}.tmp"
    if isinstance(data, bytes | bytearray | memoryview):
        return Write(temporary, bytes(data))
    return TakeIn(temporary, Path(fspath(data)))


def require_data(id: ArtifactId, data: object) -> None:
    """Refuse what can be no artifact: neither bytes nor the path of a file, or no bytes at all."""
    if isinstance(data, bytes | bytearray | memoryview):
        if not memoryview(data).nbytes:
            raise InvalidData(f"{id.short} cannot be published: an artifact has at least one byte")
    elif isinstance(data, str) or not isinstance(data, PathLike):
        raise TypeError(f"an artifact is published as bytes or a Path, not {type(data).__name__}")


def _require_held(handle: Handle, lease: Lease) -> Verb[None]:
    """Refuse before a file of the user's is moved in, or one that may be published is replaced.

    Otherwise the guard of the statement is enough: no other claim has the name of the file.
    """
    row = yield from read(lease.id)
    if row is None or row.token != lease.token:
        raise (yield from lost(handle, lease, row))


def _store(handle: Handle, lease: Lease, write: Write | TakeIn) -> Verb[Written]:
    try:
        written = yield from _written(handle, write)
        yield from Rename(write.name, lease.path)
        yield from SyncFolder()
    except FileNotFoundError:  # the process that took over the claim has unlinked it
        raise (yield from lost(handle, lease, (yield from read(lease.id)))) from None
    except DiskFull:
        yield from drop_files(lease.path)  # no row says yet that it is published
        raise
    return written


def _written(handle: Handle, write: Write | TakeIn) -> Verb[Written]:
    """Write a file and make its bytes durable; on a full disk once more, after pruning.

    A sync that failed is never tried by itself again: the kernel may have dropped what it could
    not write. A file that was taken in cannot be taken in twice.
    """
    if isinstance(write, Write):
        return (yield from with_space(handle, lambda: _write_durably(write), len(write.data)))
    written = yield from with_space(handle, lambda: iter(write))
    yield from Sync(write.name)
    return written


def _write_durably(write: Write) -> Verb[Written]:
    written = yield from write
    yield from Sync(write.name)
    return written


def _enter(handle: Handle, lease: Lease, written: Written) -> Verb[Row]:
    seconds = (yield from Elapsed()) - lease.since
    try:
        now = yield from Now()
        made = {"size": written.size, "checksum": written.checksum, "seconds": seconds}
        row = yield from with_space(
            handle, lambda: move(Event.PUBLISH, lease.id, now=now, my_token=lease.token, **made)
        )
    except DiskFull:
        yield from give_back(handle, lease)
        raise
    if row is not None:
        return row
    found = yield from read(lease.id)
    if found is None or found.path != lease.path or found.state != State.PREPARED:
        raise (yield from lost(handle, lease, found))
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
    row = yield from _record(handle, lease, failure, retryable and not failure.deterministic)
    handle.claims.end(lease)
    handle.counters.failures.note(failure.kind)
    how = {"label": row.label, "error_kind": row.error_kind, "num_failures": row.num_failures}
    told = about("failed", lease.id, error=row.error, **how)
    why = in_one_line(row.error)
    logger.debug("failed to prepare %s: %s", lease.id.short, why, extra=told)
    yield from drop_files(lease.path)
    yield from _keep_failures(handle, row)
    return handle.artifact(row)


def _record(handle: Handle, lease: Lease, failure: Failure, retryable: bool) -> Verb[Row]:
    now = yield from Now()
    answer = yield from attempt(
        Event.FAIL,
        lease.id,
        now=now,
        my_token=lease.token,
        error=failure.message,
        kind=failure.kind,
        retryable=retryable,
        max_retries=handle.max_retries,
        retry_cooldown=handle.retry_cooldown,
    )
    if answer.rows:
        return Row(*answer.rows[0])
    found = yield from read(lease.id)
    told = (now, failure.message)  # an "error" that had been committed left these
    if found is None or not answer.unsure or (found.last_time_failed, found.error) != told:
        raise (yield from lost(handle, lease, found))
    return found


def release(handle: Handle, lease: Lease) -> Verb[None]:
    """Give a claim back without a failure; raises `ClaimLost`."""
    yield from settle(handle)
    if lease.ended or not (yield from insist(lambda: give_back(handle, lease))):
        raise (yield from lost(handle, lease, (yield from read(lease.id))))


def extend(handle: Handle, lease: Lease, timeout: timedelta) -> Verb[Row]:
    """Move the deadline of a claim to `timeout` from now; raises `ClaimLost`."""
    span = to_micros(as_span("timeout", timeout))
    yield from settle(handle)
    now, elapsed = (yield from Now()), (yield from Elapsed())
    dated = now if was_set_forth(lease.clocks, (now, elapsed)) else 0
    mine = {"my_token": lease.token, "prepare_timeout": span, "dated": dated}
    row = yield from move(Event.EXTEND, lease.id, now=now, **mine)
    if row is None:
        raise (yield from lost(handle, lease, (yield from read(lease.id))))
    lease.claimed, lease.clocks = row, (now, elapsed)
    return row


def claimed_row(lease: Lease) -> Row:
    """The row as the claim, or its last extension, left it."""
    assert lease.claimed is not None  # a lease is handed out only once it is won
    return lease.claimed
