"""The two clocks, and waiting: the time of day for rows, and one that only goes forward."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["elapsed", "now", "patiently"]


def now() -> int:
    """Microseconds since the epoch. Looked up in its module each time, so that it can be frozen.

    Rounded, not cut: a frozen clock goes through a float, which is up to 256 ns off.
    """
    return (time.time_ns() + 500) // 1000


def elapsed() -> float:
    """Seconds of a clock that never jumps, and that tests do not freeze."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def patiently(done: Callable[[], bool], seconds: float, pause: float) -> bool:
    """Poll until `done()`, for at most `seconds`, with pauses; return whether it was done."""
    until = elapsed() + seconds
    while not done():
        if elapsed() > until:
            return False
        time.sleep(pause)
    return True
