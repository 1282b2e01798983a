"""What can go wrong with an effect, and how it then goes wrong.

Each fault is one that the driver of the product can really answer with: the errors of SQLite have
been translated (`Locked`, `Unsure`, `DiskFull`), those of the files are OSErrors. A write that
fails leaves half of it; a statement that the database is unsure of may have been committed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from registry.effects import (
    Checksum,
    Effect,
    IsAlive,
    ListLocks,
    ListNames,
    Locked,
    OpenFile,
    Rename,
    Run,
    Stat,
    StoredIdentity,
    Sync,
    SyncFolder,
    TakeIn,
    Unlink,
    Unsure,
    Write,
)
from registry.errors import DiskFull

__all__ = ["Fault", "possible", "suffer"]


class Fault(StrEnum):
    """A way to go wrong."""

    LOCKED = "locked"
    COMMITTED = "committed, and reported as an error"
    ROLLED_BACK = "rolled back, and reported as an error"
    DISK_FULL = "disk full"
    EIO = "EIO"
    EACCES = "EACCES"
    EMFILE = "EMFILE"
    LIE = "a wrong answer"  # a living host looks dead; a directory cannot say which cache it is


_OF_FILES: dict[type[Effect[Any]], tuple[Fault, ...]] = {
    Stat: (Fault.EIO, Fault.EACCES),
    Write: (Fault.DISK_FULL, Fault.EIO, Fault.EACCES, Fault.EMFILE),
    TakeIn: (Fault.DISK_FULL, Fault.EIO, Fault.EACCES, Fault.EMFILE),
    Sync: (Fault.DISK_FULL, Fault.EIO, Fault.EMFILE),
    Rename: (Fault.DISK_FULL, Fault.EIO, Fault.EACCES),
    SyncFolder: (Fault.EIO,),
    Unlink: (Fault.EIO, Fault.EACCES),
    ListNames: (Fault.EIO, Fault.EMFILE),
    Checksum: (Fault.EIO, Fault.EACCES, Fault.EMFILE),
    OpenFile: (Fault.EIO, Fault.EACCES, Fault.EMFILE),
    ListLocks: (Fault.EIO, Fault.EMFILE),
    IsAlive: (Fault.LIE,),
    StoredIdentity: (Fault.LIE,),
}
_OF_READS = (Fault.LOCKED, Fault.ROLLED_BACK)
_OF_WRITES = (*_OF_READS, Fault.COMMITTED, Fault.DISK_FULL)


def possible(effect: Effect[Any]) -> tuple[Fault, ...]:
    """The ways in which an effect can go wrong; none for clocks, chance and sleep."""
    if isinstance(effect, Run):
        return _OF_WRITES if effect.statement.writes else _OF_READS
    return _OF_FILES.get(type(effect), ())


def suffer(fault: Fault, effect: Effect[Any], perform: Callable[[Effect[Any]], Any]) -> Any:
    """Let an effect go wrong: raise what the product's driver would, having done what it would."""
    match fault:
        case Fault.LOCKED:
            raise Locked("database is locked")
        case Fault.COMMITTED:
            perform(effect)
            raise Unsure("disk I/O error (after the commit)")
        case Fault.ROLLED_BACK:
            raise Unsure("disk I/O error (before the commit)")
        case Fault.LIE:
            return False if isinstance(effect, IsAlive) else None
    if isinstance(effect, Write):
        perform(Write(effect.name, effect.data[: len(effect.data) // 2]))
    elif isinstance(effect, TakeIn):
        perform(Write(effect.name, b"half"))
    if fault is Fault.DISK_FULL:
        raise DiskFull(f"no room left for {effect}")
    number = getattr(errno, fault.name)
    raise OSError(number, os.strerror(number))
