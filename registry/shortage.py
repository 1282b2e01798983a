"""What the machine, and not the code, had too little of: memory, threads, processes, room.

A preparation that ends so says nothing about the code, and another host, or this one in a minute,
may well succeed. So it is no failure to be remembered: the claim is given back.
"""

from __future__ import annotations

import errno

from registry.errors import CodeTooLarge, DiskFull, InternalError, PrepareError, RegistryBusy

__all__ = ["SHORT_OF", "is_nobodys_failure", "is_shortage"]

# What the kernel answers that has nothing left to give, or may not give more.
SHORT_OF = frozenset(
    {
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
    }
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
        error, CodeTooLarge | DiskFull | InternalError | RegistryBusy
    )
