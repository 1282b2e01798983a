"""How an effect is performed in an event loop: in the loop itself, or in a thread of the handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import IOBase
from typing import Any, TypeVar

from registry import effects
from registry.aio.calls import call, sleep
from registry.effects import Effect, Params
from registry.errors import DiskFull
from registry.sql.statement import Statement
from registry.world.async_database import AsyncDatabase, to_its_end
from registry.world.threads import Threads, starting_a_thread
from registry.world.world import World, back_off_seconds

__all__ = ["Performer"]

T = TypeVar("T")
# Done in the loop itself: each takes microseconds, a hop to a thread and back fifty.
_QUICK = (
    effects.Now,
    effects.Elapsed,
    effects.Draw,
    effects.Stat,
    effects.IsAlive,
    effects.WriteMark,
)


class Performer:
    """Perform effects on the database, the world and the threads of an open handle."""

    _database: AsyncDatabase
    _world: World
    _threads: Threads

    def __init__(self) -> None:
        self._at_work: set[asyncio.Future[Any]] = set()

    async def _perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case effects.Run(statement, params):
                return await self._run(statement, params)
            case effects.Doze():
                return await self._doze(effect)
            case effects.Sleep(seconds, until):
                return await sleep(seconds, until)  # type: ignore[arg-type]  # an asyncio.Event
            case effects.BackOff():
                return await sleep(back_off_seconds())
            case effects.Call(function, scope):
                return await call(function, scope)
            case effects.GiveUpReserve():  # with its space the log can be restarted, too
                await self._in_thread(lambda: self._world.perform(effect))
                return await self._in_thread(self._database.checkpoint)
            case _ if isinstance(effect, _QUICK):
                return self._world.perform(effect)
        return await self._in_thread(lambda: self._world.perform(effect))

    async def _doze(self, effect: effects.Doze) -> None:
        for _ in range(effect.naps):
            await sleep(effects.NAP_SECONDS)
            if self._world.write_mark() != effect.mark:
                return

    async def _run(self, statement: Statement, params: Params) -> list[Any]:
        try:
            rows = await self._database.run(statement, params)
        except DiskFull:
            # A restarted log need not grow. But a statement that syncs may have committed.
            if not await self._in_thread(self._database.checkpoint) or statement.durable:
                raise
            rows = await self._database.run(statement, params)
        checkpoint = self._database.checkpoint_due(statement)
        if checkpoint is not None:
            await self._in_thread(checkpoint)
        return rows

    async def _in_thread(self, function: Callable[[], T]) -> T:
        with starting_a_thread():
            running = asyncio.get_running_loop().run_in_executor(self._threads, function)
        self._at_work.add(running)
        running.add_done_callback(self._at_work.discard)
        try:
            return await to_its_end(running)
        except asyncio.CancelledError:
            _close_unseen(running)
            raise


def _close_unseen(done: asyncio.Future[Any]) -> None:
    """Close a file that was opened for a task that was cancelled."""
    if not done.cancelled() and done.exception() is None and isinstance(done.result(), IOBase):
        done.result().close()
