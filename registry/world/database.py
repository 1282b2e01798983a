"""The database of a sync handle: its two connections, and their checkpoints.

A handle has one connection for its verbs, which never holds an explicit transaction, and a second
one, opened when first needed, that syncs the WAL before a statement returns: for every DELETE that
comes before an unlink. With `synchronous=NORMAL` for those too, a power cut brought rows back whose
files were gone. What it may take back of claims, needs and publishes is only work.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from registry.effects import Params
from registry.errors import DiskFull
from registry.sql.statement import Statement
from registry.world.cache_identity import CacheIdentity
from registry.world.checkpoint import Checkpointer
from registry.world.connection import Connection, translated
from registry.world.mutex import is_mine

__all__ = ["Database"]


class Database:
    """The connections of a sync handle; many threads may share it."""

    def __init__(self, path: str, identity: CacheIdentity | None = None) -> None:
        self._path = path
        self._identity = identity
        self._checkpointer = Checkpointer(path, identity)
        self._main = Connection(path, identity=identity)
        self._durable = Connection(path, synchronous="FULL", identity=identity)

    def run(self, statement: Statement, params: Params) -> list[Any]:
        """Run a statement in its own transaction."""
        if statement.writes and self._identity is not None:
            self._identity.require()
        try:
            rows = self._run(statement, params)
        except DiskFull:
            # A restarted log need not grow. But a statement that syncs may have committed.
            if not self.checkpoint() or statement.durable:
                raise
            rows = self._run(statement, params)
        if statement.writes and self._checkpointer.due():
            self._checkpointer.run()
        return rows

    def _run(self, statement: Statement, params: Params) -> list[Any]:
        connection = self._durable if statement.durable else self._main
        try:
            return connection.run(statement.sql, params)
        except sqlite3.Error as error:
            raise translated(error, self._path)  # noqa: B904 - none may be its own cause

    def checkpoint(self) -> bool:
        """Checkpoint now; whether the log can be restarted."""
        return self._checkpointer.run()

    def handed_over(self) -> Database:
        """Refuse all later callers, and return a database that takes over the connections.

        Running statements are finished when it returns.
        """
        heir = Database(self._path, self._identity)
        heir._main, heir._durable = self._main.handed_over(), self._durable.handed_over()
        return heir

    def is_interrupted(self) -> bool:
        """Whether a signal handler runs in the middle of a statement of this very thread."""
        return is_mine(self._main.mutex) or is_mine(self._durable.mutex)

    def close(self) -> None:
        """Close both connections."""
        self._main.close()
        self._durable.close()
