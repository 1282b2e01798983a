"""The open requests of a host."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import HandleClosed, HandleForked
from registry.world.closed import closed_error

__all__ = ["Door", "stopped"]


class Door:
    """Admit requests until it is closed, and signal when the last one has left."""

    def __init__(self) -> None:
        self._inside = 0
        self._shut = False
        self._left = asyncio.Event()
        self._pid = os.getpid()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count one request while it runs; raises `HandleClosed` once closed."""
        self._require_own_process()
        if self._shut:
            raise stopped()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    def shut(self) -> None:
        """Admit no more requests; raises `HandleForked` where the workers are the parent's."""
        self._require_own_process()
        self._shut = True

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:
            raise closed_error(HandleForked)

    async def emptied(self) -> None:
        """Wait until all requests have left."""
        while self._inside:
            self._left.clear()
            await self._left.wait()


def stopped() -> HandleClosed:
    """Return the error of a stopped host."""
    return HandleClosed("the host was stopped; start a new one")
