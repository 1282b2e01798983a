"""Convert errors of SQLite and the system while a cache is opened.

A database reported as damaged is set aside. So running out of descriptors, a lock or a failed
migration is never reported as damage.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from registry.effects import Locked, Unsure
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    RegistryBusy,
    RegistryError,
    SchemaTooOld,
)
from registry.shortage import explained_os_error
from registry.verbs.boundary import outward
from registry.world.connection import MISFITS, primary_code, translated

__all__ = ["worded", "worded_trouble", "worded_upgrade"]

_TRY_AGAIN = (
    "nothing was changed; check free space and the limit on open files (`ulimit -n`), "
    "then try again"
)


@contextmanager
def worded(path: str) -> Iterator[None]:
    """Convert an SQLite error to one of our errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meant(error, path) from error


def _meant(error: Exception, path: str) -> RegistryError:
    match translated(error, path) if isinstance(error, sqlite3.Error) else error:
        case Locked():
            return RegistryBusy(
                f"{path} is locked by another program: close it (a shell in a transaction, a "
                "backup), then try again"
            )
        case RegistryError() as problem:
            return problem
        case Unsure() as problem:  # not damage: an intact database must not be set aside
            return CacheDirectoryRefused(f"{path} cannot be read: {problem}; {_TRY_AGAIN}")
        case _:
            return DatabaseDamaged(f"{path} cannot be read: {error}")


@contextmanager
def worded_upgrade(path: str, revision: str, newest: str) -> Iterator[None]:
    """As `worded`, for an upgrade: `SchemaTooOld` if one of its statements fails.

    For example a view or a table already has the name of a new one. The rows are intact, and the
    transaction was rolled back.
    """
    with worded(path):
        try:
            yield
        except sqlite3.Error as error:
            if primary_code(error) not in MISFITS:
                raise
            raise SchemaTooOld(
                f"{path} has schema {revision} and could not be upgraded to {newest}: {error}; "
                "nothing was changed. The schema contains foreign objects: make a copy "
                "(`registry db backup FILE`), remove your own tables and views, then open it again"
            ) from error


@contextmanager
def worded_trouble(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Convert a system error while a cache is opened to one of our errors."""
    try:
        yield
    except RegistryError:  # some of them are an OSError too
        raise
    except RecursionError as error:
        raise outward(error) from error
    except (sqlite3.Error, Locked, Unsure) as error:
        raise _meant(error, os.path.join(directory, "registry.db")) from error
    except OSError as error:
        raise explained_os_error(error, os.fspath(directory)) or CacheDirectoryRefused(
            f"{os.fspath(directory)} cannot be opened: {error}; {_TRY_AGAIN}"
        ) from error
