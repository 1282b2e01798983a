"""`AsyncRegistry`: the verbs for code that runs in an event loop.

A thin driver, as `Registry` is one, for the same verbs. A statement is one hop to aiosqlite's
thread and back; no transaction spans an await. What touches files goes to a few threads of the
handle's own, so that the loop never waits for a disk.

Cancellation: an effect that has started is awaited to its end; then `Interrupted` is thrown into
the verb, what the verb wants then runs to its end, however often the task is cancelled again, and
only then is the CancelledError raised. Only sleeping, and a coroutine's own `prepare`, are cut
short.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from datetime import timedelta
from functools import partial
from io import IOBase
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, TypeVar

from registry import effects
from registry.artifact import Artifact, ArtifactId, State
from registry.config import CleanupConfig, RetryPolicy, Settings, require_overrides
from registry.effects import Effect, Interrupted, Outcome, Params, Verb
from registry.errors import ClaimLost, HandleClosed, HandleForked, WrongLoop
from registry.opening import database_path, open_cache
from registry.statement import Statement
from registry.verbs import (
    claiming,
    diagnosing,
    hosting,
    journal,
    looking,
    maintaining,
    measuring,
    needing,
    preparing,
    publishing,
    waiting,
)
from registry.verbs.counters import Counters
from registry.verbs.diagnosing import Diagnosis
from registry.verbs.driving import drive
from registry.verbs.handle import Handle, Lease
from registry.verbs.hosting import HostInfo
from registry.verbs.journal import HistoryEvent
from registry.verbs.looking import Stats
from registry.verbs.measuring import Measurement
from registry.verbs.reconciling import CheckReport
from registry.verbs.recursion import Scope
from registry.verbs.recursion import preparing as mark_preparing
from registry.world import fork
from registry.world.async_database import AsyncDatabase, regardless, to_its_end
from registry.world.closed import closed_error
from registry.world.database import Database
from registry.world.hot import hot_artifact
from registry.world.world import World, back_off_seconds, outcome_of, this_process

__all__ = ["AsyncClaim", "AsyncRegistry"]

T = TypeVar("T")
FILE_THREADS = 4
# Done in the loop itself: each takes microseconds, a hop to a thread and back fifty.
_QUICK = (
    effects.Now,
    effects.Elapsed,
    effects.Draw,
    effects.Stat,
    effects.IsAlive,
    effects.WriteMark,
)


class AsyncRegistry:
    """Open a cache of artifacts that all processes of this machine share; see `Registry`.

    Use it as an async context manager: entering opens it. It belongs to the event loop that opened
    it (`WrongLoop`); its tasks may share it.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        *,
        cleanup: CleanupConfig | None = None,
        retry: RetryPolicy | None = None,
        upgrade: bool = True,
    ) -> None:
        self._closed: type[HandleClosed] | None = HandleClosed  # until it is opened
        require_overrides(cleanup, retry)
        self._cache_dir = Path(os.path.abspath(cache_dir))
        self._overrides = (cleanup, retry)
        self._upgrade = upgrade
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changing = asyncio.Lock()  # held while it is opened or closed
        self._at_work: set[asyncio.Future[Any]] = set()

    @property
    def cache_dir(self) -> Path:
        """The cache directory, absolute."""
        return self._cache_dir

    async def open(self) -> AsyncRegistry:
        """Open the handle, as entering it does; raises what opening a `Registry` raises."""
        if self._closed is None:
            self._require_loop()
        async with self._changing:
            if self._closed is not None:
                await self._open()
        return self

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(FILE_THREADS, "registry-files")
        self._to_leave = AsyncExitStack()
        self._to_leave.callback(self._threads.shutdown, wait=False)
        try:
            open_it = partial(open_cache, self._cache_dir, upgrade=self._upgrade)
            cache = await self._in_thread(open_it)
            await self._in_thread(partial(self._appear, cache))
            await self._database.open()
            await self._drive(hosting.enter(self._handle, this_process()), while_closed=True)
            self._closed = None
        except BaseException:
            await to_its_end(self._to_leave.aclose())
            raise

    def _appear(self, cache: Path) -> None:
        with fork.opening():
            self._world = World(cache)
            self._handle = Handle(
                self._world.lock.host_id, cache, *self._overrides, new_signal=asyncio.Event
            )
            self._database = AsyncDatabase(database_path(cache))
            fork.track(self)
        self._to_leave.push_async_callback(self._disappear)

    async def _disappear(self) -> None:
        self._handle.hot.clear()  # so that the hot path ends too
        try:
            await self._database.close()
        finally:
            if self._at_work:  # files that verbs are in the middle of
                await asyncio.wait(self._at_work)
            await self._in_thread(self._leave_world)

    def _leave_world(self) -> None:
        with fork.opening():
            fork.untrack(self)
            self._world.close()

    # --- artifacts ------------------------------------------------------------------------------

    async def get(self, id: ArtifactId) -> Artifact | None:
        """As `Registry.get`."""
        return await self._drive(looking.get(self._opened, id))

    async def need(self, id: ArtifactId) -> Artifact | None:
        """As `Registry.need`; the hot path is the same, and does not yield to the loop."""
        hot = hot_artifact(self._opened, self._world.folder, id)
        if hot is not None:
            return hot
        return await self._drive(needing.need(self._opened, id))

    async def claim(
        self, id: ArtifactId, *, timeout: timedelta | None = None, label: str | None = None
    ) -> AsyncClaim | Artifact:
        """As `Registry.claim`."""
        claimed = await self._drive(claiming.claim(self._opened, id, timeout, label))
        return AsyncClaim(self, claimed) if isinstance(claimed, Lease) else claimed

    async def wait(self, id: ArtifactId, *, timeout: timedelta | None = None) -> Artifact | None:
        """As `Registry.wait`."""
        return await self._drive(waiting.wait(self._opened, id, timeout))

    async def get_or_prepare(
        self,
        id: ArtifactId,
        prepare: Callable[[], bytes | os.PathLike[str] | Awaitable[bytes | os.PathLike[str]]],
        *,
        timeout: timedelta | None = None,
        label: str | None = None,
    ) -> Artifact:
        """As `Registry.get_or_prepare`.

        A coroutine function is awaited, and cancelled with the task; any other function runs in a
        thread, which a cancellation leaves behind: its claim is released at once, and what it
        returns is thrown away.
        """
        hot = hot_artifact(self._opened, self._world.folder, id)
        if hot is not None:
            return hot
        verb = preparing.get_or_prepare(self._opened, id, prepare, timeout, label)
        return await self._drive(verb)

    async def open_file(self, id: ArtifactId) -> BinaryIO:
        """As `Registry.open_file`; the file is a plain one, whose reads block."""
        return await self._drive(needing.open_file(self._opened, id))

    async def artifacts(self, *, state: State | None = None) -> AsyncIterator[Artifact]:
        """As `Registry.artifacts`."""
        at: tuple[State, int, int] | None = looking.start(state)
        while at is not None:
            page = await self._drive(looking.page(self._opened, state, at))
            for artifact in page.artifacts:
                yield artifact
            at = page.next

    async def find(self, prefix: str, *, past: bool = False) -> ArtifactId:
        """As `Registry.find`."""
        return await self._drive(looking.find(self._opened, prefix, past))

    async def history(self, id: ArtifactId) -> list[HistoryEvent]:
        """As `Registry.history`."""
        return await self._drive(journal.history(self._opened, id))

    async def remove(self, id: ArtifactId) -> bool:
        """As `Registry.remove`."""
        return await self._drive(looking.remove(self._opened, id))

    async def retry(self, id: ArtifactId) -> bool:
        """As `Registry.retry`."""
        return await self._drive(looking.retry(self._opened, id))

    # --- the cache ------------------------------------------------------------------------------

    async def prune(
        self,
        *,
        cache_limit: int | None = None,
        min_stale_time: timedelta | None = None,
        dry_run: bool = False,
    ) -> list[Artifact]:
        """As `Registry.prune`."""
        verb = maintaining.prune(self._opened, cache_limit, min_stale_time, dry_run)
        return await self._drive(verb)

    async def stats(self) -> Stats:
        """As `Registry.stats`."""
        return await self._drive(looking.stats(self._opened))

    async def check(self, *, repair: bool = False, checksums: bool = False) -> CheckReport:
        """As `Registry.check`."""
        return await self._drive(maintaining.check(self._opened, repair, checksums))

    async def hosts(self) -> list[HostInfo]:
        """As `Registry.hosts`."""
        return await self._drive(hosting.hosts(self._opened))

    async def diagnose(self) -> Diagnosis:
        """As `Registry.diagnose`."""
        return await self._drive(diagnosing.diagnose(self._opened))

    async def measure(self) -> Measurement:
        """As `Registry.measure`."""
        return await self._drive(measuring.measure(self._opened))

    @property
    def counters(self) -> Counters:
        """As `Registry.counters`; any thread may ask."""
        if self._closed is not None:
            raise closed_error(self._closed)
        return self._handle.counters.copy()

    async def settings(self) -> Settings:
        """As `Registry.settings`."""
        return await self._drive(looking.settings(self._opened))

    async def configure(self, **changes: Any) -> Settings:
        """As `Registry.configure`."""
        return await self._drive(looking.configure(self._opened, changes))

    async def maintain(self) -> bool:
        """As `Registry.maintain`."""
        return await self._drive(maintaining.pulse(self._opened))

    async def close(self) -> None:
        """As `Registry.close`; verbs that other tasks are in the middle of raise `HandleClosed`."""
        if self._closed is None:
            self._require_loop()
        async with self._changing:
            if self._closed is not None:
                return
            self._closed = HandleClosed
            try:
                await self._drive(maintaining.close(self._handle), while_closed=True)
            finally:
                await to_its_end(self._to_leave.aclose())

    async def __aenter__(self) -> AsyncRegistry:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            if self._closed is None:
                self.at_exit()

    def __repr__(self) -> str:
        state = "open" if self._closed is None else "closed"
        return f"<AsyncRegistry {str(self._cache_dir)!r} {state}>"

    # --- for the host ---------------------------------------------------------------------------

    @property
    def workers_folder(self) -> Path:
        """Where this handle's workers live; it goes with the handle, or with its reaper."""
        return self._opened.cache / "workers" / self._opened.host_id

    async def prepare_under_claim(
        self,
        id: ArtifactId,
        prepare: Callable[[], Any],
        *,
        held: timedelta,
        claimed: Callable[[Lease], None],
        label: str | None = None,
    ) -> Artifact:
        """As `get_or_prepare` for one who has needed it already; the claim is held for so long,
        and shown before its use.
        """
        verb = preparing.prepare_or_join(
            self._opened, id, prepare, label=label, held=held, on_claim=claimed
        )
        return await self._drive(verb)

    async def extend_lease(self, lease: Lease, timeout: timedelta) -> None:
        """Extend a claim that `prepare_under_claim` showed."""
        await self._drive(publishing.extend(self._opened, lease, timeout))

    async def reject(self, artifact: Artifact) -> None:
        """Discard an artifact that proved to be damaged in use, unless it was replaced since."""
        await self._drive(needing.reject(self._opened, artifact))

    # --- the process ----------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Be closed in the child of a fork; see `Registry.after_fork`."""
        self._closed = HandleForked
        self._changing = asyncio.Lock()  # whoever held the old one does not exist here
        self._handle.hot.clear()
        self._database.abandon()
        self._world.abandon()

    def at_exit(self) -> None:
        """Give the claims back at the end of the process, though the loop has ended.

        The verbs do not know who drives them; here it is the sync driver.
        """
        self._closed = HandleClosed
        self._database.abandon()
        with ExitStack() as leaving:
            leaving.callback(self._world.close)
            database = leaving.enter_context(closing(Database(database_path(self._handle.cache))))

            def perform(effect: Effect[Any]) -> Any:
                if type(effect) is effects.Run:
                    return database.run(effect.statement, effect.params)
                return self._world.perform(effect)

            drive(maintaining.close(self._handle), perform)

    # --- driving --------------------------------------------------------------------------------

    @property
    def _opened(self) -> Handle:
        if self._closed is not None:
            raise closed_error(self._closed)
        self._require_loop()
        return self._handle

    def _require_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoop(
                "this AsyncRegistry was opened in another event loop; open one in each loop"
            )

    async def _drive(self, verb: Verb[T], *, while_closed: bool = False) -> T:
        stopped: BaseException | None = None
        step: Callable[[Any], Effect[Any]] = verb.send
        answer: Any = None
        try:
            while True:
                effect = step(answer)
                try:
                    if self._closed is not None and not while_closed:
                        raise closed_error(self._closed)  # meanwhile, by another task
                    work = self._perform(effect)
                    answer = await (work if stopped is None else regardless(work))
                    step = verb.send
                except GeneratorExit:  # the loop ended without us: there is no awaiting any more
                    stopped = None
                    raise
                except Exception as error:  # noqa: BLE001 - the verb is told, and decides
                    step, answer = verb.throw, error
                except BaseException as stop:  # noqa: BLE001 - the verb compensates first
                    stopped = stopped or stop
                    step, answer = verb.throw, Interrupted()
        except StopIteration as done:
            if stopped is None:
                value: T = done.value
                return value
        except BaseException:
            if stopped is None:
                raise
        finally:
            answer = None  # see `registry.verbs.driving`
        try:
            raise stopped
        finally:
            stopped = None

    async def _perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case effects.Run(statement, params):
                return await self._run(statement, params)
            case effects.Doze():
                return await self._doze(effect)
            case effects.Sleep(seconds, until):
                return await _sleep(seconds, until)  # type: ignore[arg-type]  # an asyncio.Event
            case effects.BackOff():
                return await asyncio.sleep(back_off_seconds())
            case effects.Call(function, scope):
                return await _call(function, scope)
            case _ if isinstance(effect, _QUICK):
                return self._world.perform(effect)
        return await self._in_thread(lambda: self._world.perform(effect))

    async def _doze(self, effect: effects.Doze) -> None:
        for _ in range(effect.naps):
            await asyncio.sleep(effects.NAP_SECONDS)
            if self._world.write_mark() != effect.mark:
                return

    async def _run(self, statement: Statement, params: Params) -> list[Any]:
        rows = await self._database.run(statement, params)
        checkpoint = self._database.checkpoint_due(statement)
        if checkpoint is not None:
            await self._in_thread(checkpoint)
        return rows

    async def _in_thread(self, function: Callable[[], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._threads, function)
        self._at_work.add(running)
        running.add_done_callback(self._at_work.discard)
        try:
            return await to_its_end(running)
        except asyncio.CancelledError:
            _close_unseen(running)
            raise


def _close_unseen(done: asyncio.Future[Any]) -> None:
    """Close a file that was opened for a task that never gets to see it."""
    if not done.cancelled() and done.exception() is None and isinstance(done.result(), IOBase):
        done.result().close()


async def _sleep(seconds: float, until: asyncio.Event | None) -> None:
    if until is None:
        await asyncio.sleep(seconds)
        return
    alarm = asyncio.get_running_loop().call_later(seconds, until.set)
    try:
        await until.wait()
    finally:
        alarm.cancel()


async def _call(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    """Call a user's `prepare`; an exception is an answer, a cancellation is not."""
    if inspect.iscoroutinefunction(function):
        return await _awaited(function, scope)
    outcome = await asyncio.to_thread(_in_its_thread, function, scope)
    if outcome.error is None and inspect.isawaitable(outcome.value):
        return await _awaited(lambda: outcome.value, scope)  # a lambda, a partial
    return outcome


async def _awaited(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    try:
        with mark_preparing(scope):
            return Outcome(await function())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the user's and is recorded
        return Outcome(None, error)


def _in_its_thread(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    with mark_preparing(scope):
        return outcome_of(function)


class AsyncClaim:
    """The right to prepare one artifact; see `Claim`."""

    def __init__(self, registry: AsyncRegistry, lease: Lease) -> None:
        self._registry = registry
        self._lease = lease

    @property
    def id(self) -> ArtifactId:
        """What is claimed."""
        return self._lease.id

    @property
    def artifact(self) -> Artifact:
        """The artifact as the claim found it: preparing, with the failures of earlier tries."""
        return self._registry._handle.artifact(publishing.claimed_row(self._lease))  # noqa: SLF001

    async def publish(self, data: bytes | os.PathLike[str]) -> Artifact:
        """As `Claim.publish`."""
        return await self._drive(publishing.publish(self._handle, self._lease, data))

    async def fail(
        self, error: str | BaseException, *, kind: str | None = None, retryable: bool = True
    ) -> Artifact:
        """As `Claim.fail`."""
        return await self._drive(publishing.fail(self._handle, self._lease, error, kind, retryable))

    async def release(self) -> None:
        """As `Claim.release`."""
        await self._drive(publishing.release(self._handle, self._lease))

    async def extend(self, timeout: timedelta) -> None:
        """As `Claim.extend`."""
        await self._drive(publishing.extend(self._handle, self._lease, timeout))

    async def __aenter__(self) -> AsyncClaim:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> Literal[False]:
        if not self._lease.ended:
            try:
                if isinstance(error, Exception):
                    await self.fail(error)
                else:
                    await self.release()
            except ClaimLost:
                if error is None:
                    raise
        return False

    def __repr__(self) -> str:
        return f"<AsyncClaim of {self._lease.id.short}{' (ended)' if self._lease.ended else ''}>"

    @property
    def _handle(self) -> Handle:
        return self._registry._opened  # noqa: SLF001

    async def _drive(self, verb: Verb[T]) -> T:
        return await self._registry._drive(verb)  # noqa: SLF001
