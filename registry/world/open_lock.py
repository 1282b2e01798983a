"""`open.lock`: what is held while a cache is made, migrated or set aside.

Exclusively by whoever does so; shared, for a moment, by whoever looks whether there is anything to
be made, and by whoever appears as a host. So nobody connects to a database in the middle of its
making, which can spoil it, and none is moved away from under a host that is just coming.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from registry.errors import CacheDirectoryRefused, OpenTimeout
from registry.world import clock, fork
from registry.world.full_disk import explained_os_error

__all__ = ["OPEN_TIMEOUT_SECONDS", "POLL_SECONDS", "in_turn", "undisturbed"]

T = TypeVar("T")
OPEN_TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 1.0  # making a cache takes a tenth of that
POLL_SECONDS = 0.005


def in_turn(cache: Path, work: Callable[[], T]) -> T:
    """Create or migrate with all others kept out; raises `OpenTimeout`, naming who does so."""
    until = clock.elapsed() + OPEN_TIMEOUT_SECONDS
    while True:
        with _opened(cache) as fd:
            if _locked(fd, fcntl.LOCK_EX):
                with suppress(OSError):  # a full disk: whoever waits is told that it is unknown
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return work()
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        if clock.elapsed() > until:
            raise OpenTimeout(
                f"process {holder} has been creating or migrating {cache} for more than "
                f"{OPEN_TIMEOUT_SECONDS:.0f} s; see what it does, then try again"
            )
        time.sleep(POLL_SECONDS)


@contextmanager
def undisturbed(cache: Path) -> Iterator[None]:
    """Let nobody make, migrate or move the database meanwhile.

    But one that is stuck at it, or whose migration takes its time, need not keep others from a
    cache that is ready for them: after a second they go on beside it.
    """
    until = clock.elapsed() + LOOK_SECONDS
    while True:
        with _opened(cache) as fd:
            if _locked(fd, fcntl.LOCK_SH) or clock.elapsed() > until:
                yield
                return
        time.sleep(POLL_SECONDS)


@contextmanager
def _opened(cache: Path) -> Iterator[int]:
    """Open the file, which closing it lets go of: so nobody may fork meanwhile."""
    with fork.opening():
        fd = _lock_file(cache / "open.lock")
        try:
            yield fd
        finally:
            os.close(fd)


def _lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explained_os_error(error, str(path)) or CacheDirectoryRefused(
            f"{path} cannot be opened: {error.strerror}; see what it is, and move it away"
        ) from error


def _locked(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
