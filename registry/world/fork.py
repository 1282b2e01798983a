"""Handles across a fork, and at the end of the process.

The child of a fork has copies of all that its parent had open. Two kinds of copies do harm:

*Of a host's lock*: it would keep a dead parent alive. The child closes it, and never unlocks it,
for an unlocking is the parent's too.

*Of a connection*: for each database, SQLite notes within the process which locks the process holds,
and does not ask the kernel for those again. A child inherits the note, and none of the locks. So
even a connection of its own, opened later, would hold none of those that say "in use": whoever else
closes the database last would delete the WAL under the child, which would go on publishing into a
file that nobody sees. So no connection ever crosses a fork: all are closed before it, and opened
again when they are next used.

A fork waits until nobody is in the middle of opening, closing or using any of them. It never waits
while it keeps others waiting: what it cannot have at once it waits for with empty hands.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

__all__ = ["hold_off", "keep_for_ever", "opening", "track", "untrack"]

# How long a fork waits for one thing, holding others, before it lets go of all and starts again.
PATIENCE_SECONDS = 0.1


class Tracked(Protocol):
    """A handle that may meet a fork, or the end of the process."""

    def after_fork(self) -> None: ...
    def at_exit(self) -> None: ...


class Busy(Protocol):
    """What no fork may happen in the middle of: whoever uses it holds its mutex."""

    @property
    def mutex(self) -> threading.Lock: ...

    def before_fork(self) -> None: ...


_mutex = threading.RLock()
_handles: weakref.WeakSet[Tracked] = weakref.WeakSet()
_busy: weakref.WeakSet[Busy] = weakref.WeakSet()
_held: list[threading.Lock] = []


@contextmanager
def opening() -> Iterator[None]:
    """Hold off forks while descriptors are opened, or closed, that no handle answers for."""
    with _mutex:
        yield


def hold_off(thing: Busy) -> None:
    """Hold off forks whenever a thing's mutex is held; before a fork, tell it."""
    with _mutex:
        _busy.add(thing)


def track(handle: Tracked) -> None:
    """Remember an open handle."""
    with _mutex:
        _handles.add(handle)
        _see_the_end_of_a_child_of_multiprocessing()


def _see_the_end_of_a_child_of_multiprocessing() -> None:
    """Such a child ends without running what `atexit` knows; it has a list of its own."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)


def untrack(handle: Tracked) -> None:
    """Forget a handle that closes."""
    with _mutex:
        _handles.discard(handle)


def keep_for_ever(thing: object) -> None:
    """Leak a reference on purpose: not even the end of the interpreter may close it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _before() -> None:
    while True:
        _mutex.acquire()
        things = list(_busy)
        if all(_hold(thing.mutex) for thing in things):
            break
        _release()
    for thing in things:
        thing.before_fork()


def _hold(mutex: threading.Lock) -> bool:
    held = mutex.acquire(timeout=PATIENCE_SECONDS)
    if held:
        _held.append(mutex)
    return held


def _release() -> None:
    while _held:
        _held.pop().release()
    _mutex.release()


def _in_child() -> None:
    global _mutex
    _mutex = threading.RLock()  # no other thread exists here
    while _held:
        _held.pop().release()
    for handle in list(_handles):
        handle.after_fork()
    _handles.clear()


@atexit.register
def _at_exit() -> None:
    with ExitStack() as stack:  # each is closed, whatever closing another raises
        for handle in list(_handles):
            stack.callback(handle.at_exit)


os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
