"""`open.lock`: what is held while a cache is made, migrated or set aside.

Exclusively by whoever does so; shared, for a moment, by whoever looks whether there is anything to
be made, and by whoever appears as a host. So nobody connects to a database in the middle of its
making, which can spoil it, and none is moved away from under a host that is just coming.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TypeVar

from registry.errors import CacheDirectoryRefused, OpenTimeout
from registry.world import clock, fork
from registry.world.descriptor import open_raw
from registry.world.full_disk import explained_os_error

__all__ = ["OPEN_TIMEOUT_SECONDS", "POLL_SECONDS", "in_turn", "undisturbed"]

T = TypeVar("T")
OPEN_TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 1.0  # making a cache takes a tenth of that
POLL_SECONDS = 0.005


# Those that are open, and which thread has them: a signal handler would wait for itself.
_owners: weakref.WeakKeyDictionary[FileIO, tuple[Path, int]] = weakref.WeakKeyDictionary()
_exclusive: weakref.WeakSet[FileIO] = weakref.WeakSet()


def in_turn(cache: Path, work: Callable[[], T]) -> T:
    """Create or migrate with all others kept out; raises `OpenTimeout`, naming who does so."""
    _refuse_re_entry(cache, alone=True)
    until = clock.elapsed() + OPEN_TIMEOUT_SECONDS
    while True:
        with fork.opening(), _lock_file(cache) as file:
            if _locked(file, fcntl.LOCK_EX):
                _exclusive.add(file)
                with suppress(OSError):  # a full disk: whoever waits is told that it is unknown
                    os.ftruncate(file.fileno(), 0)
                    os.pwrite(file.fileno(), f"{os.getpid()}\n".encode(), 0)
                return work()
            holder = os.pread(file.fileno(), 32, 0).decode(errors="replace").strip() or "unknown"
        if clock.elapsed() > until:
            raise OpenTimeout(
                f"process {holder} has been creating or migrating {cache} for more than "
                f"{OPEN_TIMEOUT_SECONDS:.0f} s; see what it does, then try again"
            )
        time.sleep(POLL_SECONDS)


def undisturbed(cache: Path) -> FileIO:
    """Let nobody make, migrate or move the database until the file that this answers is closed.

    But one that is stuck at it, or whose migration takes its time, need not keep others from a
    cache that is ready for them: after a second they go on beside it.
    """
    _refuse_re_entry(cache)
    until = clock.elapsed() + LOOK_SECONDS
    while True:
        file = _lock_file(cache)
        if _locked(file, fcntl.LOCK_SH) or clock.elapsed() > until:
            return file
        file.close()
        time.sleep(POLL_SECONDS)


def _refuse_re_entry(cache: Path, *, alone: bool = False) -> None:
    """Raise `OpenTimeout` in a signal handler that interrupts its own thread's making of a cache.

    Who wants it `alone` is kept from it by any lock, others by an exclusive one.
    """
    mine = (cache, threading.get_ident())
    for file, owner in list(_owners.items()):
        if owner == mine and not file.closed and (alone or file in _exclusive):
            raise OpenTimeout(
                f"{cache} is being opened by this very thread, which a signal handler interrupts "
                "to open it again; open it before the handler is installed"
            )


def _lock_file(cache: Path) -> FileIO:
    """Open the file, which closing it lets go of: so the child of a fork closes its copy."""
    path = cache / "open.lock"
    try:
        with fork.opening():
            file = open_raw(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            fork.close_in_child(file)
    except OSError as error:
        raise explained_os_error(error, str(path)) or CacheDirectoryRefused(
            f"{path} cannot be opened: {error.strerror}; see what it is, and move it away"
        ) from error
    _owners[file] = (cache, threading.get_ident())
    return file


def _locked(file: FileIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
