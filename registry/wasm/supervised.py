"""A job that its caller can abandon: after a time limit, or at Ctrl-C."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

from registry.wasm.errors import Trap

__all__ = ["supervised"]

T = TypeVar("T")

# Seconds that an interrupted job has to notice it; compiled code does at its next loop or call.
_GRACE = 1.0
# Seconds after which a Ctrl-C is noticed at the latest.
_TURN = 0.25


def supervised(job: Callable[[], T], interrupt: Callable[[], None], limit: float | None) -> T:
    """Do the job in a thread of its own while this one waits, for at most `limit` seconds.

    Then, or when an exception such as KeyboardInterrupt ends the waiting, `interrupt` is called.
    A job that does not notice is left behind in its thread, which does not keep the process
    alive; for a time limit, `Trap` says so.
    """
    outcome: Future[T] = Future()
    thread = Thread(target=_fulfil, args=(outcome, job), name="registry.wasm", daemon=True)
    try:
        thread.start()
        _wait(outcome, limit)
    finally:
        if not outcome.done():
            interrupt()
    try:
        return outcome.result(_GRACE)
    except TimeoutError:
        raise Trap(
            f"over the limit of {limit} seconds in a call into the system, where it cannot be "
            "interrupted; it was left behind",
            code="interrupt",
        ) from None


def _wait(outcome: Future[T], limit: float | None) -> None:
    """Wait in short turns: Python may miss a Ctrl-C that comes as it falls asleep."""
    left = math.inf if limit is None else limit
    while left > 0 and not outcome.done():
        turn = min(left, _TURN)
        wait([outcome], timeout=turn)
        left -= turn


def _fulfil(outcome: Future[T], job: Callable[[], T]) -> None:
    try:
        outcome.set_result(job())
    except BaseException as error:  # noqa: BLE001 - raised again where the job was given
        outcome.set_exception(error)
