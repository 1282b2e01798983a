"""The last line: no error of the inside leaves a verb, whichever effect it came from.

The verbs know what to do about a lock or an unsure statement. What none of them has foreseen is
still told as an error that users know.
"""

from __future__ import annotations

import sqlite3

from registry.effects import Locked, NotOpened, Unsure
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, RegistryBusy, RegistryError

__all__ = ["INTERNAL", "outward"]

INTERNAL = (Locked, Unsure, sqlite3.Error, RecursionError)


def outward(error: Exception) -> RegistryError:
    """Word an error of the inside for users."""
    match error:
        case Locked():
            return RegistryBusy(f"{error}: another program holds the database; try again")
        case NotOpened():
            return CacheDirectoryRefused(
                f"the database cannot be opened: {error}; see whether it is still there, and how "
                "many files this process has open, then try again"
            )
        case Unsure():
            return DatabaseDamaged(f"the database cannot be used: {error}; see `registry check`")
        case sqlite3.Error():
            return RegistryError(f"SQLite refuses: {error}; see `registry check`, then try again")
    return RegistryError(
        f"{error}: something is nested too deeply, the calls of this thread or folders inside the "
        "cache; see `registry doctor`"
    )
