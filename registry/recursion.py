"""Know what this thread or task is preparing: a wait for the same artifact would never end.

Nor could waiting for a preparation that, by way of others, waits for ours. So a wait
within a preparation is noted, and then the waits of this process are followed: do they lead back?
Of two that begin at once, the second sees the first, or each sees the other.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary, ref

from registry.artifact import ArtifactId
from registry.errors import RecursivePreparation

__all__ = ["Scope", "is_run_here", "preparing", "refuse_recursion", "run_by", "waiting_for"]

# The cache and the artifact: the same id in another cache is another preparation.
Scope: TypeAlias = tuple[str, ArtifactId]


class _Mark:
    """Lives while a preparation runs, and no longer: even where Ctrl-C comes into its very end."""


# What is prepared, by which task or thread, and whether that still runs.
_current: ContextVar[frozenset[tuple[Scope, object, ref[_Mark]]]] = ContextVar(
    "preparing", default=frozenset()
)


class _Wait(NamedTuple):
    """A wait within preparations: that of `waiting` waits for that of `wanted`."""

    pid: int  # the child of a fork has none of its parent's threads
    waiting: frozenset[Scope]
    wanted: Scope


# The event loop of each async handle of this process, by the handle's id.
_loops: WeakValueDictionary[str, object] = WeakValueDictionary()
# Each change is one step of the interpreter's; a lock could be held by whom a signal interrupts.
_waits: dict[object, _Wait] = {}


@contextmanager
def preparing(scope: Scope) -> Iterator[None]:
    """Mark a preparation as running in this thread or task."""
    before, mark = _current.get(), _Mark()
    try:
        _current.set(before | {(scope, _runner(), ref(mark))})
        yield
    finally:
        _current.set(before)  # not by a token, which Ctrl-C can come before we have it


def refuse_recursion(scope: Scope) -> None:
    """Raise `RecursivePreparation` if this thread or task is preparing the same artifact."""
    if scope in _own():
        raise RecursivePreparation(
            f"{scope[1].short} is being prepared by this very thread or task, which now asks for "
            "it; a prepare must not need its own artifact"
        )


@contextmanager
def waiting_for(scope: Scope) -> Iterator[None]:
    """Wait for a preparation; raises `RecursivePreparation` if that waits for one of ours."""
    own = _own()
    if not own:
        yield
        return
    token = object()
    try:
        _waits[token] = _Wait(os.getpid(), own, scope)
        _refuse_cycle(own, scope)
        yield
    finally:
        _waits.pop(token, None)


def _refuse_cycle(own: frozenset[Scope], scope: Scope) -> None:
    waits = [wait for wait in list(_waits.values()) if wait.pid == os.getpid()]
    ways: list[tuple[Scope, ...]] = [(scope,)]
    seen = {scope}
    while ways:
        way = ways.pop()
        if way[-1] in own:
            raise _cycle((way[-1], *way))
        for wait in waits:
            if way[-1] in wait.waiting and wait.wanted not in seen:
                seen.add(wait.wanted)
                ways.append((*way, wait.wanted))


def _cycle(way: tuple[Scope, ...]) -> RecursivePreparation:
    needs = " needs ".join(scope[1].short for scope in way)
    return RecursivePreparation(
        f"{way[1][1].short} is being prepared, and waits for what asks for it now: {needs}; let "
        "one of them be prepared without the other"
    )


def run_by(handle_id: str, loop: object) -> None:
    """Note by which event loop a handle is run, for as long as the loop is there."""
    _loops[handle_id] = loop


def is_run_here(handle_id: str) -> bool:
    """Whether this thread runs the event loop of a handle, and so blocks it."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and _loops.get(handle_id) is asyncio.get_running_loop()
    except RuntimeError:  # none is running here
        return False


def _own() -> frozenset[Scope]:
    """What this thread or task is preparing."""
    # A loop that a preparing thread runs blocks it too, and so the thread is looked for as well.
    runners = (_runner(), threading.get_ident())
    return frozenset(
        scope for scope, runner, mark in _current.get() if runner in runners and mark()
    )


def _runner() -> object:
    # A task's context is copied to the tasks that it starts; those may wait for it.
    asyncio = sys.modules.get("asyncio")  # if it is not imported there are no tasks
    try:
        return (asyncio and asyncio.current_task()) or threading.get_ident()
    except RuntimeError:  # no running loop
        return threading.get_ident()
