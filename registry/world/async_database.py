"""The database made real for an event loop: a statement is one hop to aiosqlite's thread and back.

What holds for `registry.world.database` holds here: two connections, no explicit transaction, our
own checkpoints. A statement that was handed over is run, whether its task is cancelled or not (a
cancelled INSERT is committed all the same), so it is awaited to its end.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

import aiosqlite

from registry.effects import Params
from registry.errors import HandleClosed
from registry.sql.statement import Statement
from registry.world import fork
from registry.world.cache_identity import CacheIdentity
from registry.world.checkpoint import Checkpointer
from registry.world.connection import Connection, translated
from registry.world.threads import starting_a_thread

__all__ = ["AsyncDatabase", "regardless", "to_its_end"]

T = TypeVar("T")


class AsyncDatabase:
    """The connections of an async handle, each with aiosqlite's thread."""

    def __init__(self, path: str, identity: CacheIdentity) -> None:
        self._path = path
        self._identity = identity
        self._checkpointer = Checkpointer(path, identity)
        self._main: aiosqlite.Connection | None = None
        self._durable: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Open the connection for the verbs."""
        await to_its_end(self._open_main())

    async def run(self, statement: Statement, params: Params) -> list[Any]:
        """Run a statement and fetch all that it returns; once begun, it is awaited to its end."""
        if statement.writes:
            self._identity.require()
        connection = await self._for(statement)
        try:
            return list(await connection.execute_fetchall(statement.sql, dict(params)))
        except sqlite3.Error as error:
            raise translated(error, self._path)  # noqa: B904 - none may be its own cause
        except ValueError as error:  # aiosqlite's word for a closed connection
            raise HandleClosed("the handle was closed meanwhile; open a new one") from error
        except asyncio.CancelledError:
            await to_its_end(_last(connection))
            raise

    def checkpoint_due(self, statement: Statement) -> Callable[[], bool] | None:
        """What is to be done after a statement, off the loop, if anything."""
        return self.checkpoint if statement.writes and self._checkpointer.due() else None

    def checkpoint(self) -> bool:
        """Checkpoint now; whether the log can be restarted. Blocks."""
        return self._checkpointer.run()

    def abandon(self) -> None:
        """Never use, and never close, the connections any more."""
        for connection in (self._main, self._durable):
            if connection is not None:
                fork.keep_for_ever(connection)

    def drop(self) -> None:
        """Have the threads close their connections and end, where no loop could await that."""
        for connection in (self._main, self._durable):
            if connection is not None:
                # In its own thread it looks in vain for a loop to tell; here it might find one
                # that has ended, and the thread would break when it tells that.
                connection._tx.put_nowait((None, connection.stop))  # noqa: SLF001

    async def close(self) -> None:
        """Close both connections."""
        async with self._opening:
            self._closed = True
            for connection in (self._main, self._durable):
                if connection is not None:
                    await connection.close()

    async def _for(self, statement: Statement) -> aiosqlite.Connection:
        if statement.durable:
            async with self._opening:
                if self._durable is None and not self._closed:
                    await to_its_end(self._open_durable())
        connection = self._durable if statement.durable else self._main
        if connection is None:
            raise HandleClosed("the handle was closed meanwhile; open a new one")
        return connection

    # Opened completely and kept even if the task is cancelled: otherwise nothing could close the
    # connection.

    async def _open_main(self) -> None:
        self._main = await self._connected("NORMAL")

    async def _open_durable(self) -> None:
        self._durable = await self._connected("FULL")

    async def _connected(self, synchronous: str) -> aiosqlite.Connection:
        # aiosqlite uses no more of a connection than executing, fetching and closing.
        made = Connection(self._path, synchronous=synchronous, identity=self._identity)
        opened = cast("sqlite3.Connection", made)
        connection = aiosqlite.Connection(lambda: opened, iter_chunk_size=64)
        # A handle that nobody closed must not keep the process from ending.
        connection._thread.daemon = True  # noqa: SLF001
        with starting_a_thread():
            return await connection


async def _last(connection: aiosqlite.Connection) -> None:
    """Wait for all that the connection's thread was given before; it works in order."""
    with suppress(ValueError):
        await connection._execute(lambda: None)  # type: ignore[no-untyped-call]  # noqa: SLF001


class _Unstoppable(asyncio.Task[T]):
    """A task that nobody cancels: not even the end of the loop, which cancels all there are."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - the signature is asyncio's
        return False


async def to_its_end(work: Awaitable[T]) -> T:
    """Await something to its end, however often this task is cancelled; only then be cancelled."""
    future = _unstoppable(work)
    stopped: asyncio.CancelledError | None = None
    try:
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as stop:
                stopped = stop
        if stopped is None:
            return future.result()
        if not future.cancelled():
            future.exception()  # heard of, though there is nobody to tell
        raise stopped
    finally:
        del stopped  # it holds this frame, which must not hold it: neither would ever go


async def regardless(work: Awaitable[T]) -> T:
    """Await something to its end; for one who is cancelled already, and need not hear of more."""
    future = _unstoppable(work)
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait((future,))
    return future.result()


def _unstoppable(work: Awaitable[T]) -> asyncio.Future[T]:
    if isinstance(work, asyncio.Future):
        return work
    assert isinstance(work, Coroutine)
    return _Unstoppable(work, loop=asyncio.get_running_loop())
