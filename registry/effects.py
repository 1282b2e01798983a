"""What a verb may ask of the world, and how asking is written.

A verb is a generator. It yields an effect, a plain record of what it wants, and is sent the
answer; it does no I/O and knows no clock. `answer = yield from Stat(name)` is how asking looks in
a verb, and gives the answer its type. A driver performs the effects: the sync and the async
registry for real, a simulator in any order, with any fault.

The rules of interruption (Ctrl-C, cancellation), the same for all drivers:

- Only `Sleep`, `BackOff` and `Call` can be interrupted. Any other effect, once started, is
  awaited to its end.
- The driver then throws `Interrupted` into the verb. The outcome of the effect is *unknown* to it.
  The verb may yield compensations, which run to their end; then the interruption itself is raised,
  whatever the verb returned or raised.
- A driver never closes an unfinished verb.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
)

from registry.artifact import ArtifactId
from registry.record import Record
from registry.sql.statement import Statement

__all__ = [
    "INTERRUPTIBLE",
    "NAP_SECONDS",
    "BackOff",
    "Call",
    "Checksum",
    "Doze",
    "Draw",
    "Effect",
    "Elapsed",
    "ForgetHost",
    "GiveUpReserve",
    "Interrupted",
    "IsAlive",
    "ListLocks",
    "ListNames",
    "Locked",
    "MarkUse",
    "NotOpened",
    "Now",
    "OpenFile",
    "Outcome",
    "Params",
    "Process",
    "RebuildReserve",
    "Rename",
    "Run",
    "Signal",
    "Sleep",
    "Stat",
    "StoredIdentity",
    "Sync",
    "SyncFolder",
    "TakeIn",
    "Unlink",
    "Unsure",
    "Verb",
    "Write",
    "WriteMark",
    "Written",
    "is_file_name",
]

A = TypeVar("A")
T = TypeVar("T")

Params: TypeAlias = Mapping[str, Any]

_FILE_NAME = re.compile(r"[0-9a-f]{128}\.pvf")


def is_file_name(name: str | None) -> bool:
    """Whether a name could be one of ours; asked before any open or unlink of what a row says."""
    return name is not None and _FILE_NAME.fullmatch(name) is not None


class Effect(Record, Generic[A]):
    """One thing wanted of the world, whose answer is an `A`."""

    def __iter__(self) -> Generator[Effect[Any], Any, A]:
        answer: A = yield self
        return answer


Verb: TypeAlias = Generator[Effect[Any], Any, T]


class Interrupted(BaseException):
    """Thrown into a verb that was interrupted while an effect ran; its outcome is unknown."""


class Signal(Protocol):
    """Something one waiter sets to wake another: `threading.Event`, or `asyncio.Event`."""

    def set(self) -> None: ...
    def clear(self) -> None: ...


class Outcome(Record, Generic[T]):
    """How a function of the user ended: a value, or the exception that it raised."""

    value: T
    error: Exception | None = None


class Written(Record):
    """What was written: bytes, and their xxh3_128."""

    size: int
    checksum: str


# --- the database -------------------------------------------------------------------------------


class Run(Effect[list[Any]]):
    """Run a statement in its own transaction and fetch all that it returns.

    Raises `Locked` if another holds the write lock (nothing was done), `DiskFull`,
    `DatabaseDamaged`, or `Unsure` where the database does not know itself.
    """

    statement: Statement
    params: Params


class Locked(Exception):
    """Another connection holds the lock; the statement was not run. Never leaves the verbs."""


class Unsure(Exception):
    """The database reported an error: the statement may, or may not, have been committed."""


class NotOpened(Unsure):
    """A file of the database could not be opened: gone, or no descriptor is left for it."""


class WriteMark(Effect[tuple[int, int] | None]):
    """Look at what a write to the database changes: size and time of its -wal file; one stat.

    The time may stand still for some milliseconds, and the size while the file is written anew
    from its start. So a mark that stays says "nothing was written" only if it has stayed a while.
    """


# --- clock and chance ---------------------------------------------------------------------------


class Now(Effect[int]):
    """Ask what time it is: microseconds since the epoch, UTC. This clock may jump."""


class Elapsed(Effect[float]):
    """Ask the clock that only goes forward, in seconds; it serves for waiting, never for rows."""


class Sleep(Effect[None]):
    """Sleep so many seconds, or until the signal is set. Can be interrupted."""

    seconds: float
    until: Signal | None = None


# What a nap in a doze lasts, and so how late a doze can end; see `registry.verbs.wait`.
NAP_SECONDS = 0.005


class Doze(Sleep):
    """Sleep so many seconds in short naps, but only while nothing is written to the database.

    `mark` is what `WriteMark` answered last. Can be interrupted.
    """

    mark: tuple[int, int] | None = None

    @property
    def naps(self) -> int:
        """How many naps it takes, if nothing is written."""
        return max(1, round(self.seconds / NAP_SECONDS))


class BackOff(Effect[None]):
    """Sleep 0.2 to 1 ms, drawn at random, before asking for a lock again. Can be interrupted.

    Measured with 8 rival processes: SQLite's own busy timeout made the unluckiest wait 334 ms,
    this 19 ms, at 0.9 x the throughput.
    """


class Draw(Effect[str]):
    """Draw random bytes, in hex."""

    size: int


class Call(Effect[Outcome[Any]]):
    """Call a user's `prepare`. Can be interrupted; its own exceptions are an answer.

    `scope` names what is being prepared, so that asking for it in there can be refused.
    """

    function: Callable[[], Any]
    scope: tuple[str, ArtifactId]


# --- files in artifacts/, by name ---------------------------------------------------------------


class Stat(Effect[os.stat_result | None]):
    """Look at a file without following links; None if there is none."""

    name: str


class MarkUse(Effect[None]):
    """Leave on a file, as its time of access, the last use that its row now has; never fails.

    `at` is in microseconds; `mtime` (ns) is the file's own, and stays. See `registry.access_time`.
    """

    name: str
    at: int
    mtime: int


class Write(Effect[Written]):
    """Write a new file, replacing one of that name. Not synced yet."""

    name: str
    data: bytes


class TakeIn(Effect[Written]):
    """Move a plain file in under a name, or copy it where it is on another file system."""

    name: str
    source: Path


class Sync(Effect[None]):
    """Make the bytes of a file durable, and the file read-only."""

    name: str


class Rename(Effect[None]):
    """Rename a file."""

    name: str
    to: str


class SyncFolder(Effect[None]):
    """Make the names in the folder durable."""


class Unlink(Effect[bool]):
    """Unlink a file; whether it was there. Raises `OSError`."""

    name: str


class ListNames(Effect[list[str]]):
    """List the names in the folder that are named like ours."""


class Checksum(Effect[Written | None]):
    """Read a whole file and sum it up; None if there is none."""

    name: str


class OpenFile(Effect[BinaryIO | None]):
    """Open a file for reading, never through a link; None if there is none."""

    name: str


# --- the reserve --------------------------------------------------------------------------------


class GiveUpReserve(Effect[None]):
    """Free the bytes kept for a full disk, so that a DELETE has room in the WAL."""


class RebuildReserve(Effect[None]):
    """Keep those bytes again, if there is room; never fails."""


# --- hosts --------------------------------------------------------------------------------------


class Process(Record):
    """What a host says of itself."""

    pid: int
    hostname: str
    command: str
    version: str


class IsAlive(Effect[bool]):
    """Ask the kernel whether a host lives; if its lock file is gone, by the process of its row."""

    host_id: str
    pid: int | None = None
    hostname: str | None = None


class ForgetHost(Effect[None]):
    """Unlink what a dead host left besides its row: its lock file and its workers' folder."""

    host_id: str


class ListLocks(Effect[list[str]]):
    """List the ids of the hosts that have a lock file, dead or alive."""


class StoredIdentity(Effect[str | None]):
    """Read which cache the directory says that it is; None if it does not."""


# What an interruption may cut short; see the rules above.
INTERRUPTIBLE: tuple[type[Effect[Any]], ...] = (Sleep, BackOff, Call)
