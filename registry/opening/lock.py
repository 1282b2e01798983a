"""`open.lock`, held while a cache is created, migrated or set aside.

A process that does so holds it exclusively. One that checks whether the cache is ready, or
registers as a host, shares it briefly. So nobody connects to an unfinished database, which can
spoil it, and no database is moved away from a host that is just opening it.
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
from registry.shortage import explained_os_error
from registry.world import clock, fork
from registry.world.descriptor import open_raw

__all__ = ["OPEN_TIMEOUT_SECONDS", "POLL_SECONDS", "in_turn", "undisturbed"]

T = TypeVar("T")
OPEN_TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 1.0  # creating a cache takes a tenth of that
POLL_SECONDS = 0.005


# The open ones and their threads: a signal handler would wait for its own thread.
_owners: weakref.WeakKeyDictionary[FileIO, tuple[Path, int]] = weakref.WeakKeyDictionary()
_exclusive: weakref.WeakSet[FileIO] = weakref.WeakSet()


class _Turn:
    """Puts forks off until it ends: a child must not copy connections in the middle of a migration.

    Other threads may open and close other caches meanwhile, however long it takes.
    """

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        fork.hold_off(self)

    def before_fork(self) -> None:
        """Nothing is open, or this thread forks in the middle of its own turn."""

    def after_fork(self) -> None:
        """Nothing is open here: the copy of the lock file is closed by `close_in_child`."""


def in_turn(cache: Path, work: Callable[[], T]) -> T:
    """Hold the lock alone; raises `OpenTimeout`, which names the process that holds it."""
    _refuse_re_entry(cache, alone=True)
    until = clock.elapsed() + OPEN_TIMEOUT_SECONDS
    turn = _Turn()
    while True:
        # Opening the file waits for a fork that has seen this mutex free.
        with turn.mutex, _lock_file(cache) as file:
            if _locked(file, fcntl.LOCK_EX):
                _exclusive.add(file)
                with suppress(OSError):  # a full disk: processes that wait report an unknown holder
                    os.ftruncate(file.fileno(), 0)
                    os.pwrite(file.fileno(), f"{os.getpid()}\n".encode(), 0)
                return work()
            holder = os.pread(file.fileno(), 32, 0).decode(errors="replace").strip() or "unknown"
        if clock.elapsed() > until:
            raise OpenTimeout(
                f"process {holder} has been creating or migrating {cache} for more than "
                f"{OPEN_TIMEOUT_SECONDS:.0f} s; check that process, then try again"
            )
        time.sleep(POLL_SECONDS)


def undisturbed(cache: Path) -> FileIO:
    """Share the lock until the returned file is closed.

    A process that is stuck, or a long migration, must not keep others from a cache that is ready:
    after a second they continue without the lock.
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
    """Raise `OpenTimeout` in a signal handler that interrupts its own thread's opening.

    Any lock blocks `alone`; only an exclusive lock blocks sharing.
    """
    mine = (cache, threading.get_ident())
    for file, owner in list(_owners.items()):
        if owner == mine and not file.closed and (alone or file in _exclusive):
            raise OpenTimeout(
                f"{cache} is being opened by the thread that this signal handler interrupts "
                "to open it again; open it before the handler is installed"
            )


def _lock_file(cache: Path) -> FileIO:
    """Open the file; closing releases the lock, so the child of a fork closes its copy."""
    path = cache / "open.lock"
    try:
        with fork.opening():
            file = open_raw(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            fork.close_in_child(file)
    except OSError as error:
        raise explained_os_error(error, str(path)) or CacheDirectoryRefused(
            f"{path} cannot be opened: {error.strerror}; move it away"
        ) from error
    _owners[file] = (cache, threading.get_ident())
    return file


def _locked(file: FileIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
