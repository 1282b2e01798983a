"""Hosts come, go, and die: the rows of `host`, and what the dead leave behind.

A host's lock is taken before its row is written, so a row without a held lock is a dead host's.
Ids are never used twice, so dead is final, and anybody may reap: end its claims in one statement,
remove its row once it has no claim left, then its lock file and its workers' folder.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from registry.artifact import Artifact, from_micros
from registry.effects import ForgetHost, Interrupted, IsAlive, ListLocks, Now, Process, Verb
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, DiskFull, RegistryError
from registry.sql.queries import (
    ALL_PREPARING,
    CLAIMANTS,
    CLAIMS_OF,
    ENTER_HOST,
    HOSTS,
    LEAVE_HOST,
    Row,
)
from registry.sql.transitions import TRANSITIONS, Event
from registry.verbs.cache_identity import warn_of_stranger
from registry.verbs.database import at_once, run, run_on_the_reserve
from registry.verbs.handle import Handle
from registry.verbs.lease import drop_files, give_back_all, insist, unlinking_if_cut_short
from registry.verbs.text import HOST_DIED

__all__ = [
    "HostInfo",
    "dead_hosts",
    "enter",
    "hosts",
    "leave",
    "list_host",
    "orphan_locks",
    "reap_dead",
]


# How long opening waits for a lock that another program holds, before it goes on without a row.
OPENING_PATIENCE_SECONDS = 1.0

_Place: TypeAlias = tuple[int | None, str | None]  # the pid of a host, and on which machine
_NOWHERE: _Place = (None, None)


@dataclass(frozen=True, slots=True)
class HostInfo:
    """One open handle on the registry, in one process; `prepares` is what it holds claims on.

    `opened_at` is an aware UTC datetime. `alive` is what the kernel said when it was asked; it may
    have died since. A dead one is gone from the list once somebody has reaped it.
    """

    id: str
    pid: int
    hostname: str
    command: str
    opened_at: datetime
    version: str
    alive: bool
    prepares: tuple[Artifact, ...]


def enter(handle: Handle, process: Process) -> Verb[None]:
    """Write the row of a host whose lock is held, reap the dead, and warn of a replaced database.

    Where the row cannot be written for a full disk, or a lock that another program holds, the
    handle opens all the same, to read: the first claim writes it.
    """
    handle.process = process.pid, process.hostname
    now = yield from Now()
    handle.told_at = now  # there is nothing to tell yet
    handle.unlisted = {
        "my_host": handle.host_id,
        "my_pid": process.pid,
        "my_hostname": process.hostname,
        "my_command": process.command,
        "my_version": process.version,
        "now": now,
    }
    handle.has_row = True  # if it is cut short, the row may be there
    try:
        if (yield from _try_to_list(handle, handle.unlisted)):
            with suppress(DiskFull):  # the next process that opens, or maintenance, does it
                yield from reap_dead(handle)
        yield from warn_of_stranger()
    except (CacheDirectoryRefused, DatabaseDamaged):
        handle.has_row = False  # not written, or set aside with the damaged database
        raise
    except Interrupted:
        with suppress(RegistryError):
            yield from insist(lambda: leave(handle))
        raise


def _try_to_list(handle: Handle, row: dict[str, Any]) -> Verb[bool]:
    written = yield from at_once(handle, ENTER_HOST, row, OPENING_PATIENCE_SECONDS)
    if written is None and handle.locked_at is None:
        with suppress(DiskFull):
            yield from list_host(handle)
    elif written is not None:
        handle.unlisted = None
    return handle.unlisted is None


def list_host(handle: Handle) -> Verb[None]:
    """Write the row of this host, if that could not be done when it opened."""
    if handle.unlisted is not None:
        yield from run_on_the_reserve(ENTER_HOST, handle.unlisted)
        handle.unlisted = None


def leave(handle: Handle) -> Verb[None]:
    """Give back all claims and remove the row, before the lock is let go.

    On a full disk the lock file stays, unlocked: so the next process that opens removes the row.
    """
    yield from give_back_all(handle)
    try:
        yield from run(LEAVE_HOST, {"seen_host": handle.host_id})
    except Interrupted:
        handle.has_row = False  # it may be there, but holds no claim, and ends with this process
        raise
    handle.has_row = False


def hosts(handle: Handle) -> Verb[list[HostInfo]]:
    """List the hosts, the oldest first, with what each prepares."""
    preparing = [Row(*row) for row in (yield from run(ALL_PREPARING, {"only": None}))]
    listed = []
    for host_id, pid, hostname, command, opened_at, version in (yield from run(HOSTS, {})):
        alive = host_id == handle.host_id or (yield from IsAlive(host_id, pid, hostname))
        claims = tuple(handle.artifacts(row for row in preparing if row.host_id == host_id))
        opened = from_micros(opened_at)
        listed.append(HostInfo(host_id, pid, hostname, command, opened, version, alive, claims))
    return listed


def dead_hosts(handle: Handle) -> Verb[list[str]]:
    """List the hosts that are dead and left a row or a claim."""
    known = yield from _known()
    known.pop(handle.host_id, None)
    dead = yield from _dead_of(known)
    # One that was closing took its row along before it let go of its lock.
    return sorted(dead & (yield from _known()).keys()) if dead else []


def orphan_locks(handle: Handle) -> Verb[list[str]]:
    """List the dead hosts that left nothing but a lock file."""
    locks = {*(yield from ListLocks())} - {handle.host_id}
    orphans = yield from _dead_of(dict.fromkeys(locks - (yield from _known()).keys(), _NOWHERE))
    # One that was opening is locked by now; one that was closing is gone.
    still = orphans & {*(yield from ListLocks())}
    return sorted((yield from _dead_of(dict.fromkeys(still, _NOWHERE))))


def _known() -> Verb[dict[str, _Place]]:
    """Find which hosts have a row or a claim, and where those with a row run."""
    claimants = {row[0]: _NOWHERE for row in (yield from run(CLAIMANTS, {}))}
    rows = yield from run(HOSTS, {})
    return claimants | {host_id: (pid, hostname) for host_id, pid, hostname, *_ in rows}


def _dead_of(hosts: dict[str, _Place]) -> Verb[set[str]]:
    dead = set()
    for host_id in sorted(hosts):
        if not (yield from IsAlive(host_id, *hosts[host_id])):
            dead.add(host_id)
    return dead


def reap_dead(handle: Handle) -> Verb[list[str]]:
    """Settle the claims of dead hosts, and remove all trace of them."""
    dead = yield from dead_hosts(handle)
    for host_id in dead:
        yield from _reap(handle, host_id)
    return dead


def _reap(handle: Handle, host_id: str) -> Verb[None]:
    seen = {"seen_host": host_id}
    claims = [Row(*row) for row in (yield from run(CLAIMS_OF, seen))]
    ended: set[int] = set()
    if claims:
        failure = {"error": HOST_DIED.message, "kind": HOST_DIED.kind, "now": (yield from Now())}
        limit = {"max_retries": handle.max_retries}
        statement = run(TRANSITIONS[Event.REAP_HOST], {**seen, **failure, **limit})
        reaped = yield from unlinking_if_cut_short(claims, statement)
        ended = {row[0] for row in reaped}
        for _ in ended:
            handle.counters.failures.note(HOST_DIED.kind)
    for row in claims:
        if row.id in ended:  # not published meanwhile by a host that only looked dead
            yield from drop_files(row.path)
    yield from run(LEAVE_HOST, seen)
    yield from ForgetHost(host_id)
