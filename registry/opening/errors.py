"""What SQLite and the system say while a cache is opened, as errors of ours.

What is called damage here decides whether a database is set aside: so a want of files, a lock, or
a migration that does not go through is never called that.
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
from registry.verbs.boundary import outward
from registry.world.connection import MISFITS, primary_code, translated
from registry.world.full_disk import explained_os_error

__all__ = ["worded", "worded_trouble", "worded_upgrade"]

_TRY_AGAIN = (
    "nothing was changed; see how the disk is, and how many files this process has open, then try "
    "again"
)


@contextmanager
def worded(path: str) -> Iterator[None]:
    """Turn what SQLite says of a database into an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meant(error, path) from error


def _meant(error: Exception, path: str) -> RegistryError:
    match translated(error, path) if isinstance(error, sqlite3.Error) else error:
        case Locked():
            return RegistryBusy(
                f"{path} is held by another program: close that (a shell in a transaction, a "
                "backup), then try again"
            )
        case RegistryError() as problem:
            return problem
        case Unsure() as problem:  # no damage: no good one is set aside for a want of files
            return CacheDirectoryRefused(f"{path} cannot be read: {problem}; {_TRY_AGAIN}")
        case _:
            return DatabaseDamaged(f"{path} cannot be read: {error}")


@contextmanager
def worded_upgrade(path: str, revision: str, newest: str) -> Iterator[None]:
    """As `worded`, for an upgrade: `SchemaTooOld` for a statement of it that does not go through.

    Somebody made a view or a table that has the name of a new one, say. The rows are whole, and
    the transaction was rolled back.
    """
    with worded(path):
        try:
            yield
        except sqlite3.Error as error:
            if primary_code(error) not in MISFITS:
                raise
            raise SchemaTooOld(
                f"{path} has schema {revision} and could not be upgraded to {newest}: {error}; "
                "nothing was changed. Something in it is not as registry made it: make a copy "
                "(`registry db backup FILE`), take out what is yours, then open it again"
            ) from error


@contextmanager
def worded_trouble(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system refuses while a cache is opened into an error of ours."""
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
