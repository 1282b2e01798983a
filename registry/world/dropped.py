"""Clean up after handles that were not closed, in a separate thread.

The garbage collector runs at any allocation, in any thread: in the middle of a statement, with a
mutex held. So a `__del__` runs no statement and waits for nothing; it leaves the work to a thread
that holds nothing. Where no thread can be started, the work is done with the next, or at the end
of the process.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

__all__ = ["clean_up", "finish", "forget"]

# As long as a statement waits for the database; the process ends all the same.
FINISH_SECONDS = 30.0
_left: deque[Callable[[], None]] = deque()
_at_work = threading.Lock()


def clean_up(work: Callable[[], None]) -> None:
    """Do this soon. Two calls of C functions: no lock of Python code is taken, nor waited for."""
    _left.append(work)
    with suppress(RuntimeError):  # no thread can be started, or the interpreter ends
        _thread.start_new_thread(_work, ())


def finish() -> None:
    """Do what is left, at the end of the process; first a thread that is at it ends its part."""
    if _at_work.acquire(timeout=FINISH_SECONDS):
        _at_work.release()
    _work()


def forget() -> None:
    """Be the child of a fork, where all of it is the parent's."""
    global _at_work
    _left.clear()
    _at_work = threading.Lock()


def _work() -> None:
    with suppress(IndexError), _at_work:
        while True:
            work = _left.popleft()
            with suppress(Exception):
                work()
            del work  # it holds the handle
