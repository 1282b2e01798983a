"""The preparations of one host: at most one for each artifact, however many ask for it.

A preparation is `get_or_prepare` with a worker for its `prepare`. So it joins a running preparation
in any process, and claims the artifact if there is none. All callers in this host await the same
task; when one cancels, the others are not affected.

The claim is made as soon as the preparation is requested, so that other processes wait for it. It
is held as long as the job may take, and extended while there is a worker, because a job may wait in
the queue for longer than it may run. Without a worker, one is started first: a host that cannot
start any must not keep other processes from preparing. The time is counted from when a worker has
the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from registry.aio import AsyncRegistry, host_calls
from registry.artifact import Artifact, ArtifactId
from registry.errors import (
    ClaimLost,
    CodeTooLarge,
    NotPrepared,
    PreparationFailed,
    RegistryError,
)
from registry.host.intake import Bound, stopped
from registry.host.messages import Task
from registry.host.pool.prepare_pool import PreparePool
from registry.host.pool.worker import WorkerLost
from registry.host.queue.priority import Priority
from registry.host.refusals import Refusals
from registry.log import about, in_one_line
from registry.verbs.handle import Lease
from registry.world.shield import in_thread

__all__ = ["Preparations", "Wanted", "warn_if_too_large"]

_log = logging.getLogger(__name__)
# What starting a worker, reading its answer and publishing may add to a job's own time.
ROOM = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested artifact: how to prepare it, its priority and its label."""

    id: ArtifactId
    task: Task
    priority: Priority = Priority.NORMAL
    label: str | None = None
    kind: str | None = None


class Preparations:
    """What is being prepared for this host, by its own workers or by another's.

    `check_code` is called in a thread before anything is claimed, and raises what it refuses.
    """

    def __init__(
        self,
        registry: AsyncRegistry,
        pool: PreparePool,
        check_code: Callable[[bytes], None],
        bound: Bound,
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._check_code = check_code
        self._bound = bound
        self._running: dict[ArtifactId, asyncio.Task[Artifact]] = {}
        self._refusals = Refusals()
        self._stopped = False
        self.coalesced = 0

    def __contains__(self, id: ArtifactId) -> bool:
        return id in self._running

    async def join(self, wanted: Wanted) -> Artifact:
        """Answer the prepared artifact; raises `PreparationFailed`, `CodeTooLarge`.

        And `HandleClosed`, when this host is stopped.
        """
        running = self.start(wanted)
        await asyncio.wait([running])
        if running.cancelled():
            raise stopped()
        return running.result()

    def start(self, wanted: Wanted) -> asyncio.Task[Artifact]:
        """Begin a preparation, unless it runs already; awaiting it is optional.

        Raises `QueueFull`.
        """
        if self._stopped:
            raise stopped()
        running = self._running.get(wanted.id)
        if running is not None:
            self.coalesced += 1
        else:
            self._bound.require_room(len(self._running), "preparations")
            running = asyncio.create_task(self._prepare(wanted))
            self._running[wanted.id] = running
            running.add_done_callback(lambda task: self._ended(wanted.id, task))
        return running

    async def drain(self) -> None:
        """Wait until nothing is being prepared."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def stop(self) -> None:
        """Cancel what runs, which releases its claims without a failure."""
        self._stopped = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _prepare(self, wanted: Wanted) -> Artifact:
        self._refusals.refuse(wanted.id, wanted.task.limits)
        await in_thread(partial(self._check_code, wanted.task.payload))
        await self._have_a_worker(wanted)
        held = timedelta(seconds=wanted.task.limits.wall) + ROOM
        leases: list[Lease] = []
        files: list[Path] = []

        async def in_a_worker() -> Path:
            lease = leases[-1]
            extending = asyncio.create_task(self._extend(lease, held))
            try:
                prepared = await self._pool.run(
                    wanted.id,
                    wanted.task,
                    priority=wanted.priority,
                    begun=partial(host_calls.measure_from_now, lease),
                )
            finally:
                extending.cancel()
                await asyncio.wait([extending])
            files.append(prepared.path)
            return prepared.path

        try:
            made = await host_calls.prepare_under_claim(
                self._registry,
                wanted.id,
                in_a_worker,
                held=held,
                claimed=leases.append,
                label=wanted.label,
                kind=wanted.kind,
            )
        except NotPrepared as error:
            self._refusals.note(wanted.id, wanted.task.limits, error)
            raise
        else:
            self._refusals.forget(wanted.id)
            return made
        finally:
            for file in files:  # published by then, which took it away; or refused
                with suppress(OSError):
                    file.unlink(missing_ok=True)

    async def _have_a_worker(self, wanted: Wanted) -> None:
        """Ensure a worker before claiming, because a claim keeps other processes waiting."""
        if self._pool.is_up:
            return
        if not await host_calls.is_claimable(self._registry, wanted.id):
            return
        try:
            await self._pool.start_up(wanted.priority)
        except WorkerLost as error:
            if not await host_calls.is_claimable(self._registry, wanted.id):
                return  # another one came by meanwhile
            failure = NotPrepared(
                PreparationFailed(
                    f"{wanted.label or wanted.id.short} could not be prepared here: {error}; "
                    "nothing is remembered, ask again once workers can be started"
                )
            )
            failure.kind = str(error.kind)
            raise failure from error

    async def _extend(self, lease: Lease, held: timedelta) -> None:
        while True:
            await asyncio.sleep(held.total_seconds() / 3)
            if not self._pool.is_up:  # no process works on it, nor on what it waits for
                continue
            try:
                await host_calls.extend_lease(self._registry, lease, held)
            except ClaimLost:
                told = about("claim_lost", lease.id)
                _log.warning("the claim of %s was lost meanwhile", lease.id.short, extra=told)
                return
            except RegistryError as error:  # there are two more times before the deadline
                _log.warning(
                    "the claim of %s could not be extended: %s",
                    lease.id.short,
                    in_one_line(error),
                    extra=about("claim_not_extended", lease.id, error=str(error)),
                )

    def _ended(self, id: ArtifactId, task: asyncio.Task[Artifact]) -> None:
        del self._running[id]
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, RegistryError):
            _log.info(
                "%s", in_one_line(error), extra=about("preparation_failed", id, error=str(error))
            )
        else:  # a bug; perhaps no caller awaits it
            told = about("preparation_failed", id, error=repr(error))
            _log.error("preparing %s: %r", id.short, error, exc_info=error, extra=told)


def warn_if_too_large(preparation: asyncio.Task[Artifact]) -> None:
    """Log what became of code of a heads-up, if nothing of it is remembered."""
    error = None if preparation.cancelled() else preparation.exception()
    if isinstance(error, CodeTooLarge):
        told = about("heads_up_refused", error=str(error))
        _log.warning("heads-up: %s", in_one_line(error), extra=told)
