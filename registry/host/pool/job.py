"""What a worker of a pool can be given to do."""

from __future__ import annotations

from typing import Protocol

from registry.host.pool.worker import Worker

__all__ = ["Job"]


class Job(Protocol):
    """Something that a worker can do."""

    async def perform(self, worker: Worker) -> object:
        """Have the worker do it; return, or raise as a `RegistryError`, what came of it.

        `WorkerLost` and cancellation are passed on.
        """
