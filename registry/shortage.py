"""What the machine, and not the code, had too little of: memory, threads, processes, room.

A preparation that ends so says nothing about the code, and another host, or this one in a minute,
may well succeed. So it is no failure to be remembered: the claim is given back.
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
# What the kernel answers that has nothing left to give, or may not give more.
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
# What a program says that was refused memory, in lower case.
REFUSED_MEMORY = (
    b"memory allocation of",
    b"bad_alloc",
    b"out of memory",
    b"cannot allocate memory",
    b"memoryerror",
)
# What ends a process by order of somebody else, or of a limit that it runs under.
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
# What programs say that were refused a thread, a process, a descriptor or room on a disk.
_RAN_OUT = (
    b"resource temporarily unavailable",
    b"can't start new thread",
    b"too many open files",
    b"no space left on device",
    b"disk quota exceeded",
)
# Python raises a bare RuntimeError then.
_NO_THREAD = "can't start new thread"


def is_shortage(error: BaseException | None) -> bool:
    """Whether an exception says that the machine ran out of something."""
    if isinstance(error, OSError):
        return error.errno in SHORT_OF
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and str(error) == _NO_THREAD
    )


def is_nobodys_failure(error: BaseException | None) -> bool:
    """Whether an exception of a `prepare` says nothing about the code, and is not remembered."""
    if isinstance(error, PrepareError):
        return not error.remembered
    return is_shortage(error) or isinstance(
        error, CacheDirectoryRefused | CodeTooLarge | DiskFull | InternalError | RegistryBusy
    )


def explained_os_error(error: OSError, subject: str) -> RegistryError | None:
    """Word an error of the kernel that says what the machine has none of, whatever it was at."""
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
    """Word the refusal of a file system that can only be read."""
    return CacheDirectoryRefused(
        f"{subject} is on a read-only file system: what is prepared can be read, nothing can be "
        "changed; see why (`dmesg`), mount it writable, then try again"
    )


def is_death_by_shortage(signum: int | None, last_words: bytes) -> bool:
    """Whether a process was ended from outside, or complained of the machine as it died."""
    words = last_words.lower()
    return signum in _FROM_OUTSIDE or any(word in words for word in (*REFUSED_MEMORY, *_RAN_OUT))
