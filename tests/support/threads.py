"""Order threads by what they do, never by time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

__all__ = ["PATIENCE", "Waiters", "crew", "waiters"]

# Seconds after which a test that hangs fails; no test passes because of it.
PATIENCE = 60.0


class Waiters(logging.Handler):
    """Hear of each verb that starts to wait for another's preparation: the registry logs it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._heard = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("waiting for"):
            self._heard.release()

    def await_(self, number: int) -> None:
        """Block until so many more are waiting."""
        for _ in range(number):
            assert self._heard.acquire(timeout=PATIENCE), "nobody waits"


@contextmanager
def waiters() -> Iterator[Waiters]:
    """Listen for those who wait."""
    logger, handler = logging.getLogger("registry"), Waiters()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextmanager
def crew(size: int) -> Iterator[ThreadPoolExecutor]:
    """Have so many threads; they are joined at the end."""
    with ThreadPoolExecutor(size) as pool:
        yield pool
