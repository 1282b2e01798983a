"""Cancel a task at a chosen one of its suspensions: every await of a verb is one.

A verb is driven by hand, one suspension at a time. At the chosen one its task is cancelled:
*early*, while what it awaits has only begun, or *late*, when that is done but the task has not
heard of it. Or early, and then again at every later suspension, while the verb makes good what it
had begun: the task, and every other one of the loop (*shutdown*), as the end of `asyncio.run` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from enum import Enum, auto
from typing import Any, TypeVar

__all__ = ["Blow", "strike"]

T = TypeVar("T")


class Blow(Enum):
    """How a task is cancelled."""

    EARLY = auto()
    LATE = auto()
    SHUTDOWN = auto()


class _Struck:
    """Awaits a coroutine, and cancels the task that does at its n-th suspension."""

    def __init__(self, work: Coroutine[Any, Any, T], at: int, blow: Blow) -> None:
        self._work = work
        self._at = at
        self._blow = blow
        self._strikers = {asyncio.current_task()}
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step, given = self._work.send, None
        while True:
            try:
                awaited = step(given)
            except StopIteration as done:
                return done.value
            finally:
                given = None  # an error that its own frame holds on to would keep all it has seen
            self.suspensions += 1
            self._suspended(awaited)
            try:
                step, given = self._work.send, (yield awaited)
            except BaseException as error:
                step, given = self._work.throw, error

    def _suspended(self, awaited: asyncio.Future[Any] | None) -> None:
        if self.suspensions < self._at:
            return
        task = asyncio.current_task()
        assert task is not None
        if self.suspensions == self._at:
            if self._blow is Blow.LATE and awaited is not None:
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()
        elif self._blow is Blow.SHUTDOWN:
            for victim in asyncio.all_tasks() - self._strikers:
                victim.cancel()


async def strike(work: Coroutine[Any, Any, T], at: int, blow: Blow) -> tuple[bool, T | None]:
    """Await a coroutine in a task of its own and cancel it; whether it fell, and else its answer.

    Asserts that a task that was struck ends as cancelled, and in no other way.
    """
    struck = _Struck(work, at, blow)

    async def victim() -> T:
        return await struck

    task = asyncio.create_task(victim())
    await asyncio.wait((task,))
    fell = struck.suspensions >= at
    if not fell:
        return False, task.result()
    assert task.cancelled(), f"struck at suspension {at}, it ended with {task._exception!r}"
    return True, None
