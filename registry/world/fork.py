"""Handles across a fork, and at the end of the process.

The child of a fork has copies of the parent's descriptors. A copy of the host's lock would keep a
dead parent alive; a copy of an SQLite connection must be neither used nor closed. So in the child
every handle is marked closed, its descriptors are closed (never unlocked: the lock is shared), and
its connections are kept for ever.

Opening and closing handles takes a mutex, and forking takes it too, so that no handle is forked in
the middle of either.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["keep_for_ever", "opening", "track", "untrack"]


class Tracked(Protocol):
    """A handle that may meet a fork, or the end of the process."""

    def after_fork(self) -> None: ...
    def at_exit(self) -> None: ...


_logger = logging.getLogger("registry")
_mutex = threading.RLock()
_handles: weakref.WeakSet[Tracked] = weakref.WeakSet()


@contextmanager
def opening() -> Iterator[None]:
    """Hold off forks while descriptors are opened that no handle answers for yet."""
    with _mutex:
        yield


def track(handle: Tracked) -> None:
    """Remember an open handle."""
    with _mutex:
        _handles.add(handle)


def untrack(handle: Tracked) -> None:
    """Forget a handle that closes."""
    with _mutex:
        _handles.discard(handle)


def keep_for_ever(thing: object) -> None:
    """Leak a reference on purpose: not even the end of the interpreter may close it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    global _mutex
    _mutex = threading.RLock()  # whoever held the old one does not exist here
    for handle in list(_handles):
        handle.after_fork()
    _handles.clear()


@atexit.register
def _at_exit() -> None:
    for handle in list(_handles):
        try:
            handle.at_exit()
        except Exception as error:  # noqa: BLE001 - nobody is left to catch it; the others go on
            _logger.warning("%r could not leave its cache: %s", handle, error)


def _before() -> None:
    _mutex.acquire()


def _in_parent() -> None:
    _mutex.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
