"""An open cache in an event loop: how it is opened, how a verb is driven, how it is closed.

A statement runs in aiosqlite's thread; no transaction spans an await. Work on files runs in a few
threads of this handle, so that the loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from registry import effects
from registry.aio.driver import drive_async
from registry.aio.performer import Performer
from registry.config import CleanupConfig, RetryPolicy, require_overrides
from registry.effects import Effect, Verb
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    HandleClosed,
    HandleForked,
    WrongLoop,
)
from registry.opening.cache import database_path, on_the_reserve, open_cache, replace_damaged
from registry.opening.directory import named_directory
from registry.opening.lock import undisturbed
from registry.recursion import run_by
from registry.verbs import hosts, maintenance
from registry.verbs.boundary import is_internal, outward
from registry.verbs.driver import drive
from registry.verbs.handle import Handle
from registry.world import dropped, fork
from registry.world.async_database import AsyncDatabase, to_its_end
from registry.world.closed import closed_error, copied_error
from registry.world.database import Database
from registry.world.threads import Threads, starting_a_thread
from registry.world.world import World, this_process

__all__ = ["AsyncHandle"]

T = TypeVar("T")
FILE_THREADS = 4


class AsyncHandle(Performer):
    """An open cache, in the event loop that opened it; `AsyncRegistry` gives it its verbs."""

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        *,
        cleanup: CleanupConfig | None = None,
        retry: RetryPolicy | None = None,
        upgrade: bool = True,
    ) -> None:
        super().__init__()
        self._closed: type[HandleClosed] | None = HandleClosed  # until it is opened
        require_overrides(cleanup, retry)
        self._cache_dir = named_directory(cache_dir)
        self._overrides = (cleanup, retry)
        self._upgrade = upgrade
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changing = asyncio.Lock()  # held while it is opened or closed

    @property
    def cache_dir(self) -> Path:
        """The cache directory, absolute; once it was opened, as `Registry` names it."""
        return self._cache_dir

    async def open(self) -> Self:
        """Open the handle, as entering it does; raises what opening a `Registry` raises."""
        fork.notice()
        if self._closed is None:
            self._require_loop()
        async with self._changing:
            if self._closed is not None:
                try:
                    await self._open()
                except DatabaseDamaged:  # on a page that opening did not read
                    with starting_a_thread():
                        await to_its_end(asyncio.to_thread(replace_damaged, self._cache_dir))
                    await self._open()
        return self

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(FILE_THREADS, "registry-files")
        self._to_leave = AsyncExitStack()
        self._to_leave.callback(self._threads.shutdown, wait=False)
        try:
            open_it = partial(open_cache, self._cache_dir, upgrade=self._upgrade)
            self._cache_dir = await self._in_thread(open_it)
            await self._in_thread(partial(self._appear, self._cache_dir))
            await self._database.open()
            await self._drive(hosts.enter(self._handle, this_process()), while_closed=True)
            await self._in_thread(self._world.lock.enter)
            run_by(self._handle.host_id, self._loop)
            self._closed = None
        except BaseException:
            await to_its_end(self._to_leave.aclose())
            raise

    def _appear(self, cache: Path) -> None:
        on_the_reserve(cache, lambda: self._enter_world(cache))
        self._to_leave.push_async_callback(self._disappear)

    def _enter_world(self, cache: Path) -> None:
        with undisturbed(cache), fork.opening():
            self._world = World(cache)
            self._handle = Handle(
                self._world.lock.host_id, cache, *self._overrides, new_signal=asyncio.Event
            )
            self._database = AsyncDatabase(database_path(cache), self._world.identity)
            fork.track(self, self._world)

    async def _disappear(self) -> None:
        self._handle.hot.clear()  # so that the hot path ends too
        try:
            await self._database.close()
        finally:
            if self._at_work:  # files that verbs work on
                await asyncio.wait(self._at_work)
            await self._in_thread(self._leave_world)

    def _leave_world(self) -> None:
        with fork.opening():
            self._world.close(has_row=self._handle.has_row)
            fork.untrack(self)

    async def close(self) -> None:
        """As `Registry.close`; verbs that run in other tasks raise `HandleClosed`."""
        fork.notice()
        if self._closed is None:
            self._require_loop()
        async with self._changing:
            if self._closed is not None:
                return
            self._closed = HandleClosed
            try:
                if self._world.is_there_to_be_closed():
                    await self._drive(maintenance.close(self._handle), while_closed=True)
            finally:
                await to_its_end(self._to_leave.aclose())

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        # A dropped handle must not look alive, nor keep its threads until the process ends.
        if getattr(self, "_closed", HandleClosed) is None and not fork.is_child():
            dropped.clean_up(self._leave_dropped)

    def _leave_dropped(self) -> None:
        fork.track(self, self._world)  # its weak reference is dead already
        self._leave_without_loop(self._database.drop)

    def __reduce__(self) -> NoReturn:
        raise copied_error(self)

    def __repr__(self) -> str:
        state = "open" if self._closed is None else "closed"
        return f"<{type(self).__name__} {str(self._cache_dir)!r} {state}>"

    # --- the process ----------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """Be closed in the child of a fork; its copy of the lock would keep the parent alive."""
        self._closed = HandleForked
        self._changing = asyncio.Lock()  # the task that held the old one does not exist here
        self._handle.hot.clear()
        self._database.abandon()
        self._world.abandon()

    def _at_exit(self) -> None:
        """Release the claims at the end of the process, though the loop has ended.

        The verbs do not know who drives them; here it is the sync driver.
        """
        self._leave_without_loop(self._database.abandon)

    def _leave_without_loop(self, part_with_connections: Callable[[], None]) -> None:
        self._closed = HandleClosed
        part_with_connections()
        with ExitStack() as leaving:
            leaving.callback(fork.untrack, self)
            leaving.callback(lambda: self._world.close(has_row=self._handle.has_row))
            if not self._world.is_there_to_be_closed():
                return
            reopened = Database(database_path(self._handle.cache), self._world.identity)
            database = leaving.enter_context(closing(reopened))

            def perform(effect: Effect[Any]) -> Any:
                if type(effect) is effects.Run:
                    return database.run(effect.statement, effect.params)
                return self._world.perform(effect)

            drive(maintenance.close(self._handle), perform)

    # --- driving --------------------------------------------------------------------------------

    @property
    def _opened(self) -> Handle:
        self._refuse()
        self._require_loop()
        return self._handle

    def _require_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoop(
                "this AsyncRegistry was opened in another event loop; open one in each loop"
            )

    async def _drive(self, verb: Verb[T], *, while_closed: bool = False) -> T:
        if not while_closed and self._closed is None:
            self._require_same_cache(verb)
        refuse = fork.notice if while_closed else self._refuse
        try:
            return await drive_async(verb, self._perform, refuse)
        except Exception as error:
            if not is_internal(error):
                raise
            raise outward(error) from error

    def _require_same_cache(self, verb: Verb[T]) -> None:
        try:
            self._world.require()
        except CacheDirectoryRefused:
            verb.close()
            raise

    def _refuse(self) -> None:
        fork.notice()
        if self._closed is not None:
            raise closed_error(self._closed)
