"""The preparations of one host: at most one for each artifact, however many ask for it.

A preparation is `get_or_prepare` with a worker for its `prepare`. So it joins whoever prepares the
artifact already, in whichever process, and claims it where nobody does. Whoever asks here meanwhile
awaits the same task; one who goes away takes nothing from the others.

A claim is held for as long as the workers may take, and extended for as long as this host's loop
runs, since a job may wait in the queue for longer than it may run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.aio import AsyncRegistry
from registry.artifact import Artifact, ArtifactId
from registry.errors import ClaimLost, HandleClosed, RegistryError
from registry.host.limits import WALL_FACTOR
from registry.host.prepare_pool import PreparePool
from registry.host.priority import Priority
from registry.verbs.handle import Lease

__all__ = ["Preparations", "Wanted"]

_log = logging.getLogger(__name__)
# What starting a worker, reading its answer and publishing may add to a job's own time.
ROOM = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact that somebody wants: what it is made of, how urgently, at what cost."""

    id: ArtifactId
    code: bytes
    params: Mapping[str, Any]
    priority: Priority
    cpu_limit: timedelta
    label: str | None = None


class Preparations:
    """What is being prepared for this host, by its own workers or by another's."""

    def __init__(
        self, registry: AsyncRegistry, pool: PreparePool, memory_limit: int | None
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._memory_limit = memory_limit
        self._running: dict[ArtifactId, asyncio.Task[Artifact]] = {}
        self._stopped = False

    def __contains__(self, id: ArtifactId) -> bool:
        return id in self._running

    async def join(self, wanted: Wanted) -> Artifact:
        """Answer the prepared artifact; raises `PreparationFailed`, `HandleClosed`."""
        return await asyncio.shield(self.start(wanted))

    def start(self, wanted: Wanted) -> asyncio.Task[Artifact]:
        """Begin a preparation, unless it runs already; nobody need await it."""
        if self._stopped:
            raise HandleClosed("the host was stopped; start a new one")
        running = self._running.get(wanted.id)
        if running is None:
            running = asyncio.create_task(self._prepare(wanted))
            self._running[wanted.id] = running
            running.add_done_callback(lambda task: self._ended(wanted.id, task))
        return running

    async def stop(self, *, drain: bool) -> None:
        """End: wait for what runs, or cancel it, which releases its claims without a failure."""
        self._stopped = True
        running = list(self._running.values())
        if not drain:
            for task in running:
                task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _prepare(self, wanted: Wanted) -> Artifact:
        held = WALL_FACTOR * wanted.cpu_limit + ROOM
        leases: list[Lease] = []

        async def in_a_worker() -> Path:
            extending = asyncio.create_task(self._extend(leases[-1], held))
            try:
                prepared = await self._pool.prepare(
                    wanted.id,
                    wanted.code,
                    wanted.params,
                    priority=wanted.priority,
                    cpu_limit=wanted.cpu_limit,
                    memory_limit=self._memory_limit,
                )
            finally:
                extending.cancel()
            return prepared.path

        return await self._registry.prepare_under_claim(
            wanted.id, in_a_worker, held=held, claimed=leases.append, label=wanted.label
        )

    async def _extend(self, lease: Lease, held: timedelta) -> None:
        try:
            while True:
                await asyncio.sleep(held.total_seconds() / 3)
                await self._registry.extend_lease(lease, held)
        except ClaimLost:
            _log.warning("the claim of %s was lost while it waited or ran", lease.id.short)

    def _ended(self, id: ArtifactId, task: asyncio.Task[Artifact]) -> None:
        del self._running[id]
        if not task.cancelled() and isinstance(task.exception(), RegistryError):
            _log.info("%s", task.exception())  # nobody need have awaited it
