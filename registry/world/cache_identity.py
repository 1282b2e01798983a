"""Which cache a handle has open: device and inode of its database and folder, and its uuid.

SQLite goes by the path of the database, and so does every path that is answered; files go by the
descriptor of their folder. Once a directory was moved away and another took its place, those would
be two caches. So it is looked again when a verb starts, before it writes, at each
connection and before anything is deleted. What does not match is told; neither cache is touched.

Only a cache that was removed as a whole, with nothing in its place, is left to the verbs: there is
nothing to harm, and what is open of it can still be read.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from registry.errors import CacheDirectoryRefused

__all__ = ["CacheIdentity", "hard_linked", "require_own"]


class CacheIdentity:
    """What one handle has open; `folder` is the descriptor of `artifacts/`, which it keeps."""

    def __init__(self, cache: Path, folder: int) -> None:
        self._database = os.fspath(cache / "registry.db")
        self._database_key = _key(os.lstat(self._database))
        self._folder = folder
        self._folders = (
            (os.fspath(cache), _key(os.lstat(cache))),
            (os.fspath(cache / "artifacts"), _key(os.fstat(folder))),
        )
        self._uuid: str | None = None  # known from the first connection on

    def require(self) -> None:
        """Raise `CacheDirectoryRefused` if the path leads to another cache; three lstats."""
        problem = self.problem()
        if problem is not None:
            raise CacheDirectoryRefused(problem)

    def require_connected(self, connection: sqlite3.Connection) -> None:
        """The same once a connection is open, which has to be to the same cache too."""
        self.require()
        uuid = _uuid_of(connection)
        self._uuid = self._uuid or uuid
        if uuid is not None and uuid != self._uuid:
            raise CacheDirectoryRefused(
                f"{self._database} says that it is cache {uuid} now, it was {self._uuid} when it "
                f"was opened: {_REPLACED}"
            )

    def problem(self) -> str | None:
        """Say what is not what was opened, or None."""
        try:
            found = os.lstat(self._database)
            if _key(found) != self._database_key:
                return f"{self._database} is not the file that was opened: {_REPLACED}"
            for path, key in self._folders:
                if _key(os.lstat(path)) != key:
                    return f"{path} is not the folder that was opened: {_REPLACED}"
        except (FileNotFoundError, NotADirectoryError) as error:
            return None if self._is_removed() else f"{error.filename} {_GONE}"
        except OSError:
            return None  # that it cannot be looked at does not say that it is another
        return hard_linked(self._database, found)

    def _is_removed(self) -> bool:
        """Whether our folder was deleted; one that was moved has a name somewhere."""
        try:
            return os.fstat(self._folder).st_nlink == 0
        except OSError:  # the handle is being closed
            return True


_GONE = (
    "is gone: the cache was moved away, or part of it was removed, while it was open. Nothing more "
    "is done with it: put it back, or close this handle and open the cache where it is now"
)
_REPLACED = (
    "the cache was moved, copied or replaced while it was open. Nothing is done with either of "
    "them: put the right one back, or close this handle and open a new one"
)


def require_own(path: str) -> None:
    """Refuse a database that has a second name; one that is not there is SQLite's to tell."""
    with suppress(OSError):
        shared = hard_linked(path, os.lstat(path))
        if shared is not None:
            raise CacheDirectoryRefused(shared)


def hard_linked(path: str, found: os.stat_result) -> str | None:
    """Say so if a database has a second name, else None."""
    if found.st_nlink <= 1:
        return None
    return (
        f"{path} has {found.st_nlink} names (hard links, as `cp -al` and `rsync --link-dest` make "
        "them): two caches would write to one database and damage it. Remove the other names, or "
        "make this one a file of its own: cp -a it to a new name, then mv that over it"
    )


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _uuid_of(connection: sqlite3.Connection) -> str | None:
    with suppress(sqlite3.Error, UnicodeDecodeError):  # an old schema, or damage
        rows = connection.execute("SELECT uuid FROM cache").fetchall()
        return str(rows[0][0]) if rows else None
    return None
