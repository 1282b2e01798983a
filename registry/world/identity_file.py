"""The file `cache.id`: which cache a directory says that it is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from registry.errors import CacheDirectoryRefused
from registry.shortage import explained_os_error, is_shortage

__all__ = ["IDENTITY", "forget_identity", "store_identity", "stored_identity"]

IDENTITY = "cache.id"


def stored_identity(cache: Path) -> str | None:
    """Read `cache.id`: which cache the directory says that it is.

    Raises `OSError` only where the machine ran out of something.
    """
    try:
        # Not blocking: the file may be a planted fifo.
        fd = os.open(cache / IDENTITY, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if is_shortage(error):  # says nothing about the file
            raise
        return None
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip() or None
    except OSError:  # a folder
        return None
    finally:
        os.close(fd)


def store_identity(cache: Path, uuid: str) -> None:
    """Write `cache.id` as a whole; the caller holds `open.lock`.

    Raises `CacheDirectoryRefused` where that cannot be done.
    """
    try:
        _write_identity(cache, uuid)
    except OSError as error:
        raise explained_os_error(error, str(cache / IDENTITY)) or CacheDirectoryRefused(
            f"{cache / IDENTITY} cannot be written: {error.strerror}; see what it is"
        ) from error


def _write_identity(cache: Path, uuid: str) -> None:
    temporary = cache / f"{IDENTITY}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{uuid}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, cache / IDENTITY)


def forget_identity(cache: Path) -> None:
    """Remove `cache.id`, so that it is written again; the caller holds `open.lock`."""
    with suppress(FileNotFoundError):
        os.unlink(cache / IDENTITY)
