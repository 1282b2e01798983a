"""The open requests of a host, and how many there may be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from registry.config import as_amount
from registry.errors import HandleClosed, HandleForked, QueueFull
from registry.world.closed import closed_error

__all__ = ["Bound", "Door", "stopped"]


class Bound:
    """How many requests, and how many preparations, a host may have at once."""

    def __init__(self, workers: int, max_waiting: int | None) -> None:
        waiting = None if max_waiting is None else as_amount("max_waiting", max_waiting)
        self._most = None if waiting is None else workers + waiting
        self._told = f"{workers} execute workers and max_waiting={waiting}"

    def require_room(self, there: int, of: str) -> None:
        """Raise `QueueFull` if there is no room for one more."""
        if self._most is not None and there >= self._most:
            raise QueueFull(
                f"the host has {there} {of}, as many as {self._told} allow; ask again later"
            )


class Door:
    """Admit requests, within the bound, until it is closed; signal when the last one has left."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._inside = 0
        self._shut = False
        self._left = asyncio.Event()
        self._pid = os.getpid()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count one request while it runs; raises `HandleClosed` once closed, `QueueFull`."""
        self._require_own_process()
        if self._shut:
            raise stopped()
        self._bound.require_room(self._inside, "requests")
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
