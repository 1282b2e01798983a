"""Errors that mean that the machine ran out of something: memory, threads, processes, disk space.

Such an error says nothing about the code: another host, or this one a minute later, may succeed. So
it is not stored as a failure; the claim is released.
"""

from __future__ import annotations

import errno
import signal

from registry.errors import (
    CacheDirectoryRefused,
    CodeTooLarge,
    DiskFull,
    InternalError,
    PrepareError,
    RegistryBusy,
    RegistryError,
)

__all__ = [
    "NO_ROOM",
    "REFUSED_MEMORY",
    "SHORT_OF",
    "explained_os_error",
    "is_death_by_shortage",
    "is_nobodys_failure",
    "is_shortage",
    "read_only_error",
]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# The kernel's errors when a resource ran out or its limit was reached.
SHORT_OF = frozenset(
    {
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EROFS,
        *NO_ROOM,
    }
)
# What programs print when they were refused memory, in lower case.
REFUSED_MEMORY = (
    b"memory allocation of",
    b"bad_alloc",
    b"out of memory",
    b"cannot allocate memory",
    b"memoryerror",
)
# Signals from outside the process, or from a limit that it runs under.
_FROM_OUTSIDE = frozenset(
    {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGXFSZ,
        signal.SIGSYS,
    }
)
# What programs print when they were refused a thread, a process, a descriptor or disk space.
_RAN_OUT = (
    b"resource temporarily unavailable",
    b"can't start new thread",
    b"too many open files",
    b"no space left on device",
    b"disk quota exceeded",
)
# The text of the plain RuntimeError that Python raises then.
_NO_THREAD = "can't start new thread"


def is_shortage(error: BaseException | None) -> bool:
    """Whether an exception says that the machine ran out of something."""
    if isinstance(error, OSError):
        return error.errno in SHORT_OF
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and error.args == (_NO_THREAD,)
    )


def is_nobodys_failure(error: BaseException | None) -> bool:
    """Whether an exception of a `prepare` says nothing about the code, and is not stored."""
    if isinstance(error, PrepareError):
        return not error.remembered
    return is_shortage(error) or isinstance(
        error, CacheDirectoryRefused | CodeTooLarge | DiskFull | InternalError | RegistryBusy
    )


def explained_os_error(error: OSError, subject: str) -> RegistryError | None:
    """Turn an error of the kernel that means a shortage into an error of ours; else None."""
    if error.errno in NO_ROOM:
        return DiskFull(
            f"no room left for {subject} ({error.strerror}); make room (or raise the quota or the "
            "limit on file sizes), or prune the cache"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return CacheDirectoryRefused(
            f"{subject} cannot be opened ({error.strerror}): close files of this process, or raise "
            "its limit (`ulimit -n`; for the whole machine `sysctl fs.file-max`), then try again"
        )
    return read_only_error(subject) if error.errno == errno.EROFS else None


def read_only_error(subject: str) -> CacheDirectoryRefused:
    """Return the error for a read-only file system."""
    return CacheDirectoryRefused(
        f"{subject} is on a read-only file system: what is prepared can be read, nothing can be "
        "changed; see why (`dmesg`), mount it writable, then try again"
    )


def is_death_by_shortage(signum: int | None, last_words: bytes) -> bool:
    """Whether a process was ended from outside, or reported a shortage before it died."""
    words = last_words.lower()
    return signum in _FROM_OUTSIDE or any(word in words for word in (*REFUSED_MEMORY, *_RAN_OUT))
