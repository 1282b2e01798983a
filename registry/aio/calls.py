"""Effects that the event loop itself performs: sleep, and call the user's `prepare`."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

from registry.effects import Outcome
from registry.errors import RegistryError
from registry.recursion import Scope
from registry.recursion import preparing as mark_preparing
from registry.world.threads import starting_a_thread
from registry.world.world import outcome_of

__all__ = ["call", "sleep"]


async def sleep(seconds: float, until: asyncio.Event | None = None) -> None:
    """Sleep for these seconds, or until the event, in real time.

    The loop counts by `time.monotonic`. If a test freezes that, the loop would never wake, while
    the processes that we wait for go on; then a thread wakes it.
    """
    loop = asyncio.get_running_loop()
    awake = asyncio.Event() if until is None else until
    alarm: asyncio.TimerHandle | threading.Timer
    if isinstance(time.monotonic, BuiltinFunctionType):
        alarm = loop.call_later(seconds, awake.set)
    else:
        alarm = threading.Timer(seconds, loop.call_soon_threadsafe, (awake.set,))
        alarm.daemon = True
        alarm.start()
    try:
        await awake.wait()
    finally:
        alarm.cancel()


async def call(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    """Call a user's `prepare`; an exception is an outcome, a cancellation is not."""
    if inspect.iscoroutinefunction(function):
        return await _awaited(function, scope)
    outcome = await _in_a_thread(lambda: _in_its_thread(function, scope))
    if outcome.error is None and inspect.isawaitable(outcome.value):
        return await _awaited(lambda: outcome.value, scope)  # a lambda, a partial
    return outcome


async def _in_a_thread(work: Callable[[], Outcome[Any]]) -> Outcome[Any]:
    """Run it in a thread; if none can be started, never run it, though it stays queued."""
    refused: list[bool] = []
    try:
        with starting_a_thread():
            return await asyncio.to_thread(lambda: Outcome(None) if refused else work())
    except RegistryError:
        refused.append(True)
        raise


async def _awaited(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    try:
        with mark_preparing(scope):
            return Outcome(await function())
    except Exception as error:  # noqa: BLE001 - any error of the user's code is recorded
        return Outcome(None, error)


def _in_its_thread(function: Callable[[], Any], scope: Scope) -> Outcome[Any]:
    with mark_preparing(scope):
        return outcome_of(function)
