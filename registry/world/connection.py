"""A connection made real: its pragmas, its errors, and that threads and forks do it no harm.

Locks: `busy_timeout` is 0, and a statement that meets a lock is retried after a random pause (see
`registry.verbs.database`): SQLite's own back-off grows to 100 ms and lets the unlucky starve.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from registry.effects import Locked, NotOpened, Params, Unsure
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    HandleClosed,
    HandleForked,
)
from registry.shortage import read_only_error
from registry.world import fork
from registry.world.cache_identity import CacheIdentity, require_own
from registry.world.descriptor import holds_deleted
from registry.world.full_disk import explained, is_read_only, note_errno
from registry.world.mutex import is_free

__all__ = [
    "MISFITS",
    "WAL_KEPT_BYTES",
    "WAL_TRIGGER_BYTES",
    "Connection",
    "bare",
    "connect",
    "primary_code",
    "translated",
]

OPENING_TIMEOUT_SECONDS = 5.0
WAL_TRIGGER_BYTES = 4 * 1024**2
# What SQLite cuts the file back to when it starts over: under the trigger, so that one checkpoint
# does not lead to the next, but not by much: growing a file costs more than overwriting it.
# With 1 MB, a claim took 93 µs instead of 78.
WAL_KEPT_BYTES = WAL_TRIGGER_BYTES - 256 * 1024

PRAGMAS = (
    f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
)


# A statement that does not fit what it finds there, which is no bytes that are wrong.
MISFITS = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH})


def connect(path: str, *, synchronous: str = "NORMAL", timeout: float = 0.0) -> sqlite3.Connection:
    """Open a connection in autocommit; never creates the file, nor shares it with another cache."""
    require_own(path)
    connection = bare(path, OPENING_TIMEOUT_SECONDS)
    try:
        for pragma in (*PRAGMAS, f"PRAGMA synchronous = {synchronous}"):
            connection.execute(pragma)
        connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
    except sqlite3.Error as error:
        note_errno(error)
        connection.close()
        raise
    except UnicodeDecodeError as error:
        connection.close()
        raise _undecodable(error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _undecodable(error: UnicodeDecodeError) -> sqlite3.Error:
    """What sqlite3 should have raised: SQLite's complaint quotes what is damaged, as it is."""
    meant = sqlite3.DatabaseError(f"{error.object!r}")
    meant.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return meant


def bare(path: str, timeout: float) -> sqlite3.Connection:
    """Open a connection without the pragmas that make SQLite read the whole schema."""
    if path in _not_to_be_opened:
        raise HandleForked(
            f"this process was forked by C code while its parent used {path}, whose locks it "
            "cannot tell from its own; open it after the fork only, or start this process again"
        )
    connection = sqlite3.connect(
        f"file:%{os.fsencode(path).hex('%')}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,  # else Python begins transactions behind one's back
        check_same_thread=False,
    )
    # Text written by others may be invalid UTF-8; one such row must not end a listing.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without what is extended of it; None for an error of Python's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def translated(error: sqlite3.Error, path: str) -> Exception:
    """Convert an SQLite error to one of ours, by its primary result code."""
    match primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return Locked(str(error))
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"no room left for {path}; make room, or prune the cache")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseDamaged(f"{path} is damaged ({error}); see `registry check --repair`")
        case sqlite3.SQLITE_READONLY if is_read_only(os.path.dirname(path)):
            return read_only_error(path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return CacheDirectoryRefused(f"{path} cannot be written ({error}); see its mode")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_INTERRUPT:
            return explained(error, path) or Unsure(f"{error} ({error.sqlite_errorname})")
        case sqlite3.SQLITE_CANTOPEN:
            return explained(error, path) or NotOpened(f"{error} ({error.sqlite_errorname})")
        case code if code in MISFITS:
            # Our statements are right for our schema: a table is gone, a row says what none may.
            why = str(error).partition("\n")[0]
            return DatabaseDamaged(f"{path} is not as we made it ({why}); see `registry check`")
        case None if isinstance(error, sqlite3.ProgrammingError):
            return HandleClosed("the handle was closed meanwhile; open a new one")
        case _:
            return error


_FETCH = sqlite3.Cursor.fetchall
# Databases with a connection that the child of a fork inherited and could not close.
_not_to_be_opened: set[str] = set()


class Connection:
    """A connection that threads may share and that no fork copies; see `registry.world.fork`.

    It is opened when it is first used, and closed before a fork, to be opened again after. A signal
    handler may use or close it at any point: see `_fetched`.
    """

    def __init__(
        self, path: str, *, synchronous: str = "NORMAL", identity: CacheIdentity | None = None
    ) -> None:
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self.mutex = threading.RLock()  # which knows whose it is
        self._path = path
        self._synchronous = synchronous
        self._identity = identity
        self._closed = False
        fork.hold_off(self)

    def run(self, sql: str, params: Params) -> list[Any]:
        """Run a statement and fetch all rows: an unfetched statement keeps its lock."""
        while True:
            with self.mutex:
                if not fork.is_under_way():
                    return self._run(sql, params)
            fork.wait()

    def _run(self, sql: str, params: Params) -> list[Any]:
        connection = self._connection or self._opened()
        try:
            return _fetched(connection, sql, params)
        except sqlite3.ProgrammingError:
            if self._closed or self._connection is connection:
                raise
        return self._run(sql, params)  # not run: it was closed for a signal handler's fork

    def execute(self, sql: str, params: Params) -> Rows:
        """Run a statement, for aiosqlite."""
        return Rows(self.run(sql, params))

    def close(self) -> None:
        """Close it for good."""
        with self.mutex:
            self._closed = True
            self._let_go()

    def __del__(
        self,
        getpid: Callable[[], int] = os.getpid,
        keep_for_ever: Callable[[object], None] = fork.keep_for_ever,
    ) -> None:
        """Let go with a handle that was dropped; Python 3.13 and later warn where nobody does.

        At the end of the interpreter, when modules have lost their names, this has its own.
        """
        if getpid() != self._pid and self._connection is not None:
            keep_for_ever(self._connection)
        else:
            self._let_go()

    def handed_over(self) -> Connection:
        """Close this one for good, and answer one that goes on with what it has open."""
        heir = Connection(self._path, synchronous=self._synchronous, identity=self._identity)
        with self.mutex:
            self._closed = True
            heir._connection, self._connection = self._connection, None
        return heir

    def before_fork(self) -> None:
        """Close it for now; the caller keeps the mutex until the fork is over."""
        self._let_go()

    def after_fork(self) -> None:
        """Close the copy that the child of a fork by C code has inherited, if that can be done.

        All locks in it are the parent's. SQLite asks the kernel for each that closing needs, and is
        refused as long as any process has the database open. But what was copied in the middle of
        a statement is in no state to be closed, and after the -wal file was deleted SQLite would
        go on with what is no longer there.
        """
        self._closed = True
        if self._connection is None:
            return
        files = {f"{self._path}{part}" for part in ("", "-wal", "-shm")}
        if is_free(self.mutex) and not holds_deleted(files):
            self._let_go()
        else:
            fork.keep_for_ever(self._connection)
            _not_to_be_opened.add(self._path)

    def _opened(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None and not self._closed:
            connection = self._connection = self._connected()
        if self._closed:  # before, or in the middle of opening it, by a signal handler
            self._let_go()
        if connection is None or self._closed:
            raise _closed_error()
        return connection

    def _connected(self) -> sqlite3.Connection:
        """Connect to the cache that was opened, and to no other that has taken its place."""
        if self._identity is None:
            return connect(self._path, synchronous=self._synchronous)
        self._identity.require()
        connection = connect(self._path, synchronous=self._synchronous)
        try:
            self._identity.require_connected(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _fetched(connection: sqlite3.Connection, sql: str, params: Params) -> list[Any]:
    """Run a statement and fetch its rows, in one call of a C function.

    A signal handler runs between two calls, never in the middle of one. So none finds a statement
    unfinished, with the database locked by the very thread that it interrupts.
    """
    try:
        return next(map(_FETCH, map(connection.execute, (sql,), (params,))))
    except sqlite3.Error as error:
        note_errno(error)
        raise
    except UnicodeDecodeError as error:
        raise _undecodable(error) from None


def _closed_error() -> sqlite3.ProgrammingError:
    return sqlite3.ProgrammingError("the connection is closed")


class Rows(list[Any]):
    """Rows that are fetched already; aiosqlite asks for them once more."""

    def fetchall(self) -> Rows:
        return self
