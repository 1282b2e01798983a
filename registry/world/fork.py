"""Handles across a fork, and at the end of the process.

The child of a fork has copies of all that its parent had open. Two kinds of copies do harm:

*Of a host's lock*: it would keep a dead parent alive. The child closes it, and never unlocks it,
for an unlocking is the parent's too.

*Of a connection*: for each database, SQLite notes within the process which locks the process holds,
and does not ask the kernel for those again. A child inherits the note, and none of the locks. So
even a connection of its own, opened later, would hold none of those that say "in use": another
process that closes the database last would delete the WAL under the child, which would go on
publishing into a deleted file. So no connection crosses a fork that Python makes: all are
closed before it, and opened again when they are next used.

Such a fork waits until no thread opens, closes or uses any of them. It never
waits while it keeps others waiting: it lets them go on after a moment, and tries again.

C code forks without telling Python (uWSGI does). There the child finds out at its next verb, for
its process has another number. It then closes the connections that it inherited: its copies of
the files, which takes no lock from the parent, and SQLite notes that nothing is locked.

Signal handlers run between any two bytecodes of the main thread, and may raise. So nothing here
depends on a line being reached: what a fork holds is let go of by one call of a C function.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from io import FileIO
from typing import Any, Protocol, TypeVar

from registry.world import clock, dropped
from registry.world.mutex import Mutex, is_free, is_mine

__all__ = [
    "close_in_child",
    "hold_off",
    "is_child",
    "is_under_way",
    "keep_for_ever",
    "notice",
    "opening",
    "track",
    "untrack",
    "wait",
]

T = TypeVar("T")

# How long a fork waits for those who are in the middle of something before it lets others go on.
PATIENCE_SECONDS = 0.1
_POLL_SECONDS = 0.0005


class Tracked(Protocol):
    """A handle that may meet a fork, or the end of the process."""

    def _after_fork(self) -> None: ...
    def _at_exit(self) -> None: ...


class Busy(Protocol):
    """What no fork may happen in the middle of: its mutex is held by the thread that uses it."""

    @property
    def mutex(self) -> Mutex: ...

    def before_fork(self) -> None: ...
    def after_fork(self) -> None: ...


_mutex = threading.RLock()
_pid = os.getpid()
_handles: weakref.WeakValueDictionary[int, Tracked] = weakref.WeakValueDictionary()
_worlds: dict[int, object] = {}
_busy: weakref.WeakValueDictionary[int, Busy] = weakref.WeakValueDictionary()
_files: weakref.WeakValueDictionary[int, FileIO] = weakref.WeakValueDictionary()
# What keeps other threads from opening and using connections while this process forks.
_held_up: list[Generator[None, None, None]] = []


def opening() -> AbstractContextManager[bool]:
    """Hold off forks while descriptors are opened, or closed, that no handle answers for.

    The lock itself, for `with` takes and releases a lock of C without a gap for Ctrl-C.
    """
    notice()
    return _mutex


def hold_off(thing: Busy) -> None:
    """Hold off forks whenever a thing's mutex is held; before a fork, tell it."""
    with opening():
        _busy[id(thing)] = thing


def close_in_child(file: FileIO) -> None:
    """Have the child of a fork close its copy, which would keep a lock that its parent let go."""
    _files[id(file)] = file


def is_under_way() -> bool:
    """Whether another thread is about to fork; asked by one who has just taken a mutex."""
    return bool(_held_up) and not is_mine(_mutex)


def wait() -> None:
    """Wait until the other thread has forked, or has put it off; holding no mutex."""
    while is_under_way():
        time.sleep(_POLL_SECONDS)


def track(handle: Tracked, world: object) -> None:
    """Remember an open handle, and keep what it has open.

    Else the garbage collector, which finalizes all that nobody holds in any order, would close that
    before the claims of a handle that was dropped are given back.
    """
    with opening():
        _handles[id(handle)] = handle
        _worlds[id(handle)] = world
        _see_the_end_of_a_child_of_multiprocessing()


def _see_the_end_of_a_child_of_multiprocessing() -> None:
    """Such a child ends without running what `atexit` knows; it has a list of its own."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)


def untrack(handle: Tracked) -> None:
    """Forget a handle that closes."""
    with opening():
        _handles.pop(id(handle), None)
        _worlds.pop(id(handle), None)


def keep_for_ever(
    thing: object,
    refer: Callable[[Any], object] = ctypes.pythonapi.Py_IncRef,
    boxed: Callable[[object], Any] = ctypes.py_object,
) -> None:
    """Leak a reference on purpose: not even the end of the interpreter may close it."""
    refer(boxed(thing))


def is_child() -> bool:
    """Whether this process was forked since what is open was opened, and has not noticed yet."""
    return os.getpid() != _pid


def notice() -> None:
    """See whether this process was forked by C code; then be a child, as after any other fork."""
    if os.getpid() != _pid:
        _in_child()


def _before() -> None:
    notice()
    while True:
        holding = _hold_up()
        next(holding)
        _held_up.append(holding)
        del holding
        things = _all(_busy)
        if clock.patiently(partial(_are_free, things), PATIENCE_SECONDS, _POLL_SECONDS):
            break
        _held_up.clear()
        time.sleep(_POLL_SECONDS)
    for thing in things:
        thing.before_fork()


def _hold_up() -> Generator[None, None, None]:
    """Hold the lock for as long as this generator is kept: freeing it, C code leaves the `with`."""
    with _mutex:
        yield


def _are_free(things: list[Busy]) -> bool:
    return all(is_free(thing.mutex) for thing in things)


def _all(things: weakref.WeakValueDictionary[int, T]) -> list[T]:
    return [thing for ref in things.valuerefs() if (thing := ref()) is not None]


def _in_child() -> None:
    global _mutex, _pid
    _held_up.clear()
    _mutex = threading.RLock()  # no other thread exists here
    dropped.forget()
    for handle in _all(_handles):
        handle._after_fork()  # noqa: SLF001
    for thing in _all(_busy):
        thing.after_fork()
    for file in _all(_files):
        file.close()
    _files.clear()
    _handles.clear()
    _worlds.clear()
    _busy.clear()  # no fork need wait for them, nor could it: who held a mutex is not here
    _pid = os.getpid()


@atexit.register
def _at_exit() -> None:
    notice()
    dropped.finish()
    with ExitStack() as stack:  # each is closed, even if closing another raises
        for handle in _all(_handles):
            stack.callback(handle._at_exit)  # noqa: SLF001


# A method of C, which no signal handler interrupts: nothing stays locked after a fork.
os.register_at_fork(before=_before, after_in_parent=_held_up.clear, after_in_child=_in_child)
