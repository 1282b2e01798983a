"""Tell a full disk, and a read-only one, behind the many errors that they come as.

SQLite reports a full disk as SQLITE_FULL only where a write fails with ENOSPC. A quota, a limit on
the size of files, no inode left, or no room for the -shm file come as I/O errors, or as files that
cannot be opened. What the kernel said last decides; where that was lost, a small file is written.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sqlite3
from contextlib import suppress

from registry.errors import CacheDirectoryRefused, DiskFull
from registry.shortage import NO_ROOM, read_only_error

__all__ = ["explained", "is_read_only", "note_errno"]

# More than the pages of one statement, and the -shm file beside them, take.
PROBE_BYTES = 256 * 1024
# The I/O errors of writing. SQLITE_CANTOPEN is one where the file must be made first.
_WRITING = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR_CLOSE,
        sqlite3.SQLITE_IOERR_DELETE,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_WRITE,
    }
)
_PARTS = ("", "-wal", "-shm", "-journal")
_UNNAMED = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_TRY = "make room (or raise the quota or the limit on file sizes), or prune the cache"

_libc = ctypes.CDLL(None)
_errno_location = getattr(_libc, "__errno_location", None)
if _errno_location is not None:
    _errno_location.restype = ctypes.POINTER(ctypes.c_int)


def note_errno(error: sqlite3.Error) -> None:
    """Keep with an error what the kernel said last to this thread; call it at once."""
    if _errno_location is not None:
        error.system_errno = _errno_location().contents.value  # type: ignore[attr-defined]


def explained(error: sqlite3.Error, path: str) -> DiskFull | CacheDirectoryRefused | None:
    """Say so if an I/O error of the database at a path means a full or a read-only disk."""
    number = getattr(error, "system_errno", 0)
    writing = getattr(error, "sqlite_errorcode", None) in _WRITING
    if number in NO_ROOM or (writing and _has_no_room(path)):
        return DiskFull(f"no room left for {path} ({error}); {_TRY}")
    if number == errno.EROFS or (writing and is_read_only(os.path.dirname(path))):
        return read_only_error(path)
    return None


def is_read_only(folder: str) -> bool:
    """Whether the file system of a folder can only be read."""
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return True
        # After an error ext4 refuses to write without saying so there.
        os.close(os.open(folder, _UNNAMED, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def _has_no_room(path: str) -> bool:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY:
        largest = max(_size(f"{path}{part}") for part in _PARTS)
        if largest + PROBE_BYTES > limit:
            return True
    try:
        return _probe(os.path.dirname(path))
    except OSError as error:
        return error.errno in NO_ROOM


def _probe(folder: str) -> bool:
    """Write a file that has no name; whether it does not fit. Raises OSError."""
    fd = os.open(folder, _UNNAMED, 0o600)
    try:
        return os.write(fd, bytes(PROBE_BYTES)) < PROBE_BYTES
    finally:
        os.close(fd)


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0
