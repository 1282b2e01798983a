"""Locks that a signal handler meets: it runs in the main thread, in the middle of anything.

Where the thread that it interrupts holds a lock, waiting for that lock would never end. A lock that
knows its owner (`RLock`) can be asked. And where a handler raises, between taking a lock and the
`try` that releases it, the lock stays locked. `with lock:` has no such gap, nor has a single call
of a C function that takes the lock and notes that it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Mutex", "is_free", "is_mine"]


class Mutex(Protocol):
    """A lock of `threading`."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...
    def release(self) -> None: ...


def is_mine(mutex: Mutex) -> bool:
    """Whether this thread holds it: then a signal handler has interrupted what it guards."""
    owned: Callable[[], bool] = mutex._is_owned  # type: ignore[attr-defined]  # noqa: SLF001
    return owned()  # as `threading.Condition` asks


def is_free(mutex: Mutex) -> bool:
    """Whether this thread could have it at once."""
    had: list[bool] = []
    try:
        had.extend(map(mutex.acquire, (False,)))
        return had[0]
    finally:
        if had and had[0]:
            mutex.release()
