"""What every verb does with claims: give them back, pass them over, drop their files.

A file that a claim wrote is unlinked only once a statement has shown that no row refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from registry.artifact import ArtifactId, names
from registry.clock_slack import is_ahead
from registry.effects import Interrupted, IsAlive, Now, Verb, is_file_name
from registry.errors import ClaimLost, DiskFull, RegistryBusy
from registry.log import about, logger
from registry.sql.queries import Row
from registry.sql.transitions import MOVES, Event
from registry.verbs.database import end, move, read
from registry.verbs.garbage import unlink_each
from registry.verbs.handle import Handle, Lease
from registry.verbs.history import Ended, record
from registry.verbs.text import DEADLINE, HOST_DIED, Failure

__all__ = [
    "abandoned",
    "drop_files",
    "give_back",
    "give_back_all",
    "insist",
    "lost",
    "or_give_back",
    "reap",
    "settle",
    "unlinking_if_cut_short",
]

T = TypeVar("T")


def settle(handle: Handle) -> Verb[None]:
    """Give back the claims that nobody holds any more."""
    for lease in handle.claims.orphans():
        yield from give_back(handle, lease)


def give_back_all(handle: Handle) -> Verb[None]:
    """Release every claim of a handle that closes."""
    for lease in handle.claims.all():
        yield from give_back(handle, lease)


def give_back(handle: Handle, lease: Lease) -> Verb[bool]:
    """Release a claim if it is still held: the row as it was before, the files gone."""
    released = (yield from _end_claim(Event.RELEASE, lease)) or (
        yield from _end_claim(Event.RESTORE, lease)
    )
    handle.claims.end(lease)
    if released:
        yield from drop_files(lease.path)
        label = None if lease.claimed is None else lease.claimed.label
        given = Ended(lease.id.code_hash, lease.id.prep_hash, label)
        yield from record(handle, [given], "released", (yield from Now()))
    return released


def _end_claim(event: Event, lease: Lease) -> Verb[bool]:
    """Whether the claim was ended so; after an error, whether the row looks as if it was."""
    mine = {"code": lease.id.code_hash, "prep": lease.id.prep_hash, "my_token": lease.token}
    answer = yield from end(event, mine)
    if answer.rows or not answer.unsure:
        return bool(answer.rows)
    found = yield from read(lease.id)
    return (None if found is None else found.state) == MOVES[event].target


def or_give_back(handle: Handle, lease: Lease, work: Verb[T]) -> Verb[T]:
    """Do work under a claim; if it is interrupted or fails, give the claim back.

    Here, and where a handle closes, verbs catch BaseException. A verb that is thrown away
    unfinished (GeneratorExit) cannot yield any more; its lease is then an orphan.
    """
    try:
        return (yield from work)
    except GeneratorExit:
        raise
    except BaseException as error:
        if not lease.ended:
            handle.claims.drop(lease)  # the same interruption may keep us from this as well
            # A claim that was not even made, for the lock that kept us from it all that time: to
            # ask for the lock again would double the wait, and report a release instead.
            if lease.claimed is not None or not isinstance(error, RegistryBusy):
                yield from give_back(handle, lease)
        raise


def insist(work: Callable[[], Verb[T]]) -> Verb[T]:
    """Do what may well be done twice: if it is cut short, do it again to its end, and be cut then.

    For what ends a claim, where half is nothing, and for files that no row refers to any more.
    """
    try:
        return (yield from work())
    except Interrupted:
        yield from work()
        raise


def abandoned(handle: Handle, row: Row, now: int) -> Verb[Failure | None]:
    """Say why a preparing row's claimant may be passed over, or None if it may not.

    A claim made before the clock was set back is dated anew: its deadline lies as far ahead as the
    clock was wrong, and a living claimant that hangs would block the artifact for as long.
    """
    claimant = IsAlive(str(row.host_id), row.pid, row.hostname)
    if row.host_id != handle.host_id and not (yield from claimant):
        return HOST_DIED
    claimed_at, deadline = row.claimed_at or 0, row.deadline or 0
    if is_ahead(claimed_at, now) and deadline > claimed_at:
        yield from _redate(row, now)
        return None
    if row.deadline is not None and row.deadline <= now:
        return DEADLINE
    return None


def _redate(row: Row, now: int) -> Verb[None]:
    artifact = ArtifactId(row.code_hash, row.prep_hash)
    seen = {"seen_token": row.token, "seen_deadline": row.deadline}
    with suppress(DiskFull):  # the next to ask tries again
        redated = yield from move(Event.REDATE, artifact, now=now, **seen)
        if redated is not None:
            told = about("redated", artifact, label=row.label)
            logger.info(
                "the clock was set back since %s was claimed: its deadline counts from now",
                artifact.short,
                extra=told,
            )


def reap(handle: Handle, row: Row, why: Failure) -> Verb[None]:
    """End the claim of a claimant that is gone or late, with a failure."""
    artifact = ArtifactId(row.code_hash, row.prep_hash)
    statement = move(
        Event.REAP,
        artifact,
        now=(yield from Now()),
        seen_token=row.token,
        seen_deadline=row.deadline,
        error=why.message,
        kind=why.kind,
        max_retries=handle.max_retries,
    )
    reaped = yield from unlinking_if_cut_short([row], statement)
    if reaped is not None:
        handle.counters.failures.note(why.kind)
        told = about("reaped", artifact, label=row.label, error_kind=why.kind)
        logger.debug("ended the claim of %s: %s", artifact.short, why.message, extra=told)
        yield from insist(lambda: drop_files(row.path))


def drop_files(path: str | None) -> Verb[None]:
    """Unlink what a claim may have written; the caller has seen that no row refers to it."""
    if is_file_name(path):
        yield from unlink_each((f"{path}.tmp", str(path)))


def unlinking_if_cut_short(rows: Sequence[Row], work: Verb[T]) -> Verb[T]:
    """Do work that may end these rows; if it is cut short, unlink the files of those it ended.

    An interruption leaves the outcome of a statement unknown, and what it returned is lost.
    """
    try:
        return (yield from work)
    except Interrupted:
        yield from insist(lambda: _unlink_unreferenced(rows))
        raise


def _unlink_unreferenced(rows: Sequence[Row]) -> Verb[None]:
    for row in rows:
        if is_file_name(row.path) and names(row.code_hash, row.prep_hash):
            found = yield from read(ArtifactId(row.code_hash, row.prep_hash))
            if found is None or found.path != row.path:
                yield from drop_files(row.path)


def lost(handle: Handle, lease: Lease, found: Row | None) -> Verb[ClaimLost]:
    """Explain what became of a claim, and drop its file unless the row refers to it."""
    was_ended = lease.ended
    if found is not None and found.token == lease.token:  # only its file is gone
        yield from give_back(handle, lease)
        return ClaimLost(f"the file of {lease.id.short} vanished while it was written; claim again")
    handle.claims.end(lease)
    if found is None or found.path != lease.path:
        yield from drop_files(lease.path)
    if was_ended:
        return ClaimLost(f"the claim of {lease.id.short} has already ended; claim it again")
    now = "it has no row now" if found is None else f"it is {found.state} now"
    return ClaimLost(
        f"the claim of {lease.id.short} was lost: its deadline passed or its host was taken for "
        f"dead, and {now}; the work is discarded, ask for the artifact again"
    )
