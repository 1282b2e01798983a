"""The base of both pools: workers for one flavour of job, and a folder for their files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Generic, Self, TypeVar

from registry.host.metrics import PoolMetrics
from registry.host.pool.workers import Crew
from registry.host.queue.events import Event, Instruction
from registry.host.worker.confinement import Confinement

__all__ = ["Pool"]

Enqueue = TypeVar("Enqueue")


class Pool(Generic[Enqueue]):
    """Workers that import `backend` and work within `folder`, until the end of the context.

    They are started when first needed. It belongs to the event loop that it is first used in.
    """

    def __init__(
        self,
        flavour: str,
        decide: Callable[[Event | Enqueue], list[Instruction]],
        backend: str,
        folder: Path,
        confinement: Confinement | None,
        start_timeout: timedelta | None,
    ) -> None:
        self.metrics = PoolMetrics(flavour)
        patience = None if start_timeout is None else start_timeout.total_seconds()
        self._crew: Crew[Enqueue] = Crew(
            decide, backend, folder, self.metrics, confinement, patience
        )
        self._folder = folder
        self._names = count(1)

    @property
    def is_up(self) -> bool:
        """Whether there is a worker, at work or ready for it."""
        return self._crew.is_up

    async def drain(self) -> None:
        """Wait until everything asked for is answered."""
        await self._crew.drain()

    async def stop(self) -> None:
        """Kill the workers; what is not answered yet raises `HandleClosed`."""
        await self._crew.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
