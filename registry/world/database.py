"""The database made real: its connections, its pragmas, its errors, its checkpoints.

A handle has one connection for its verbs, which never holds an explicit transaction, and a second
one, opened when first needed, that syncs the WAL before a statement returns: for every DELETE that
comes before an unlink. With `synchronous=NORMAL` for those too, a power cut brought rows back whose
files were gone. What it may take back of claims, needs and publishes is only work.

Locks: `busy_timeout` is 0, and whoever meets a lock asks again after a random pause (see
`registry.verbs.asking`): SQLite's own back-off grows to 100 ms and lets the unlucky starve.

Checkpoints: SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when one process checkpoints while
another writes (the "WAL-reset bug"). So no connection checkpoints by itself. When the -wal file has
grown over 4 MB, one connection takes the write lock, a second one checkpoints PASSIVE beneath it,
and the first rolls back. The trigger is the size of the file, never a counter of this process: many
processes write little each.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import quote

from registry.effects import Locked, NotOpened, Params, Unsure
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, DiskFull, HandleClosed
from registry.statement import Statement
from registry.world import clock, fork

__all__ = ["Checkpointer", "Connection", "Database", "connect", "translated"]

OPENING_TIMEOUT_SECONDS = 5.0
WAL_TRIGGER_BYTES = 4 * 1024**2
# What SQLite cuts the file back to when it starts over: under the trigger, so that one checkpoint
# does not lead to the next, but not by much, for growing a file costs more than writing it anew.
# With 1 MB, a claim took 93 µs instead of 78.
WAL_KEPT_BYTES = WAL_TRIGGER_BYTES - 256 * 1024
# After an attempt, the next one comes when the file has grown by so much, or so much later. With
# 1 MB and 100 ms it reached 13 MB beside two readers on a busy machine; so, 4.7 MB.
WAL_GROWTH_BYTES = 256 * 1024
WAL_PAUSE_SECONDS = 0.02
# How long after a look at the file the next one comes: in so much time all processes together write
# some hundred KB, and looking after each statement cost 2 µs of 30.
WAL_LOOK_SECONDS = 0.001
# How long an attempt asks for the write lock, and then, holding it, for slow readers to be done.
WAL_PATIENCE_SECONDS = 0.02
# Once the file is so large, longer: writers that wait for us cannot make it grow meanwhile.
WAL_URGENT_BYTES = 6 * 1024**2
WAL_URGENT_PATIENCE_SECONDS = 0.2
_WAL_POLL_SECONDS = 0.0005

PRAGMAS = (
    f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
)


def connect(path: str, *, synchronous: str = "NORMAL", timeout: float = 0.0) -> sqlite3.Connection:
    """Open a connection in autocommit; never creates the file."""
    connection = _bare(path, OPENING_TIMEOUT_SECONDS)
    try:
        for pragma in (*PRAGMAS, f"PRAGMA synchronous = {synchronous}"):
            connection.execute(pragma)
        connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
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


def _bare(path: str, timeout: float) -> sqlite3.Connection:
    """Open a connection without the pragmas that make SQLite read the whole schema."""
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,  # else Python begins transactions behind one's back
        check_same_thread=False,
    )
    # Text that somebody else wrote may be no UTF-8; one such row must not end a listing.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error, path: str) -> Exception:
    """Turn SQLite's error into one of ours, by its primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return Locked(str(error))
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"no room left for {path}; make room, or prune the cache")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseDamaged(f"{path} is damaged ({error}); see `registry check`")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return CacheDirectoryRefused(f"{path} cannot be written ({error}); see its mode")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_INTERRUPT:
            return Unsure(f"{error} ({error.sqlite_errorname})")
        case sqlite3.SQLITE_CANTOPEN:
            return NotOpened(f"{error} ({error.sqlite_errorname})")
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH:
            # Our statements are right for our schema: a table is gone, a row says what none may.
            why = str(error).partition("\n")[0]
            return DatabaseDamaged(f"{path} is not as we made it ({why}); see `registry check`")
        case None if isinstance(error, sqlite3.ProgrammingError):
            return HandleClosed("the handle was closed meanwhile; open a new one")
        case _:
            return error


class Checkpointer:
    """Keep the -wal file small, safely; one for each handle."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._wal = f"{path}-wal"
        self._next_size = WAL_TRIGGER_BYTES
        self._next_time = 0.0
        self._next_look = 0.0
        self.mutex = threading.Lock()
        fork.hold_off(self)

    def due(self) -> bool:
        """Whether the file has grown enough since the last attempt; one stat now and then."""
        now = clock.elapsed()
        if now < self._next_look:
            return False
        self._next_look = now + WAL_LOOK_SECONDS
        try:
            size = os.stat(self._wal).st_size
        except OSError:
            return False
        if size <= WAL_TRIGGER_BYTES:
            self._next_size = WAL_TRIGGER_BYTES
            return False
        return size >= self._next_size or now >= self._next_time

    def run(self) -> None:
        """Checkpoint under the write lock; where that is not to be had, at another time."""
        if not self.mutex.locked():  # else another thread is at it
            # Not acquire and try: Ctrl-C between the two would hold the mutex for ever.
            with self.mutex:
                self._run()

    def before_fork(self) -> None:
        """Nothing is open: the mutex is held only while `run` is at it."""

    def _run(self) -> None:
        try:
            size = os.stat(self._wal).st_size
            self._next_size = size + WAL_GROWTH_BYTES
            urgent = size > WAL_URGENT_BYTES
            patience = WAL_URGENT_PATIENCE_SECONDS if urgent else WAL_PATIENCE_SECONDS
            with closing(_bare(self._path, 0)) as guard, closing(_bare(self._path, 0)) as worker:
                if _patiently(lambda: _locked(guard), patience):
                    _patiently(lambda: _backfilled(worker), patience)
                    guard.execute("ROLLBACK")
        except (sqlite3.Error, OSError):
            return  # trouble that the verbs will meet and report themselves
        finally:
            self._next_time = clock.elapsed() + WAL_PAUSE_SECONDS


def _patiently(done: Callable[[], bool], seconds: float) -> bool:
    until = clock.elapsed() + seconds
    while not done():
        if clock.elapsed() > until:
            return False
        time.sleep(_WAL_POLL_SECONDS)
    return True


def _locked(guard: sqlite3.Connection) -> bool:
    try:
        guard.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if isinstance(translated(error, ""), Locked):
            return False
        raise
    return True


def _backfilled(worker: sqlite3.Connection) -> bool:
    """Whether the database holds all that the -wal file does: else a reader still needs it."""
    _, written, copied = worker.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(written == copied)


class Connection:
    """A connection that threads may share and that no fork copies; see `registry.world.fork`.

    It is opened when it is first used, and closed before a fork, to be opened again after.
    """

    def __init__(self, path: str, *, synchronous: str = "NORMAL") -> None:
        self._connection: sqlite3.Connection | None = None
        self.mutex = threading.Lock()
        self._path = path
        self._synchronous = synchronous
        self._closed = False
        fork.hold_off(self)

    def run(self, sql: str, params: Params) -> list[Any]:
        """Run a statement and fetch all that it returns, for an unfetched one keeps its lock."""
        with self.mutex:
            connection = self._connection or self._opened()
            try:
                return connection.execute(sql, params).fetchall()
            except UnicodeDecodeError as error:
                raise _undecodable(error) from None

    def execute(self, sql: str, params: Params) -> Rows:
        """Run a statement, for aiosqlite."""
        return Rows(self.run(sql, params))

    def close(self) -> None:
        """Close it for good."""
        with self.mutex:
            self._closed = True
            self._let_go()

    def __del__(self) -> None:
        """Let go with a handle that was dropped; Python 3.13 and later warn where nobody does."""
        self._let_go()

    def handed_over(self) -> Connection:
        """Close this one for good, and answer one that goes on with what it has open."""
        heir = Connection(self._path, synchronous=self._synchronous)
        with self.mutex:
            self._closed = True
            heir._connection, self._connection = self._connection, None
        return heir

    def before_fork(self) -> None:
        """Close it for now; the mutex is held."""
        self._let_go()

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("the connection is closed")
        if self._connection is None:
            self._connection = connect(self._path, synchronous=self._synchronous)
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Rows(list[Any]):
    """Rows that are fetched already; aiosqlite asks for them once more."""

    def fetchall(self) -> Rows:
        return self


class Database:
    """The connections of a sync handle; many threads may share it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._checkpointer = Checkpointer(path)
        self._main = Connection(path)
        self._durable = Connection(path, synchronous="FULL")

    def run(self, statement: Statement, params: Params) -> list[Any]:
        """Run a statement in its own transaction."""
        connection = self._durable if statement.durable else self._main
        try:
            rows = connection.run(statement.sql, params)
        except sqlite3.Error as error:
            raise translated(error, self._path)  # noqa: B904 - none may be its own cause
        if statement.writes and self._checkpointer.due():
            self._checkpointer.run()
        return rows

    def handed_over(self) -> Database:
        """Refuse whoever comes from now on, and answer one that goes on with the connections.

        Statements that others are in the middle of are over when it is answered.
        """
        heir = Database(self._path)
        heir._main, heir._durable = self._main.handed_over(), self._durable.handed_over()
        return heir

    def close(self) -> None:
        """Close both connections."""
        self._main.close()
        self._durable.close()
