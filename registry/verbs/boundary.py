"""The last line: no error of the inside leaves a verb, whichever effect it came from.

The verbs know what to do about a lock or an unsure statement. What none of them has foreseen is
still told as an error that users know.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from registry.effects import Locked, NotOpened, Unsure
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, RegistryBusy, RegistryError
from registry.shortage import explained_os_error

__all__ = ["is_internal", "outward", "telling_outward"]


def is_internal(error: BaseException) -> TypeGuard[Exception]:
    """Whether no user should see an error as it is.

    An OSError without a number is not the kernel's, but a signal handler's: a TimeoutError, say.
    """
    if isinstance(error, OSError):
        return error.errno is not None and not isinstance(error, RegistryError)
    return isinstance(error, Locked | Unsure | sqlite3.Error | RecursionError)


def outward(error: Exception) -> RegistryError:
    """Word an error of the inside for users."""
    match error:
        case OSError():
            return _refused(error)
        case Locked():
            return RegistryBusy(f"{error}: another program holds the database; try again")
        case NotOpened():
            return CacheDirectoryRefused(
                f"the database cannot be opened: {error}; see whether it is still there, and how "
                "many files this process has open (`ulimit -n`), then try again"
            )
        case Unsure():
            return DatabaseDamaged(f"the database cannot be used: {error}; see `registry check`")
        case sqlite3.Error():
            return RegistryError(f"SQLite refuses: {error}; see `registry check`, then try again")
    return RegistryError(
        f"{error}: something is nested too deeply, the calls of this thread or folders inside the "
        "cache; see `registry doctor`"
    )


@contextmanager
def telling_outward() -> Iterator[None]:
    """Word an error of the inside that is raised in this block."""
    try:
        yield
    except Exception as error:
        if not is_internal(error):
            raise
        raise outward(error) from error


def _refused(error: OSError) -> RegistryError:
    subject = "a file of the cache" if error.filename is None else f"{error.filename}"
    return explained_os_error(error, subject) or CacheDirectoryRefused(
        f"the system refuses the use of {subject} ({error.strerror}): look at the mode and owner "
        "of the folders of the cache, and for errors of the disk (`dmesg`); see `registry doctor`"
    )
