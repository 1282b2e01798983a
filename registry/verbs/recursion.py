"""Know what this very thread or task is preparing: asking for it again could never end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from registry.artifact import ArtifactId
from registry.errors import RecursivePreparation

__all__ = ["Scope", "preparing", "refuse_recursion"]

# The cache and the artifact: the same id in another cache is another preparation.
Scope: TypeAlias = tuple[str, ArtifactId]

_current: ContextVar[frozenset[tuple[Scope, object]]] = ContextVar("preparing", default=frozenset())


@contextmanager
def preparing(scope: Scope) -> Iterator[None]:
    """Mark a preparation as running in this thread or task."""
    before = _current.get()
    try:
        _current.set(before | {(scope, _runner())})
        yield
    finally:
        _current.set(before)  # not by a token, which Ctrl-C can come before we have it


def refuse_recursion(scope: Scope) -> None:
    """Raise `RecursivePreparation` if this thread or task is preparing that very artifact."""
    # A loop that a preparing thread runs blocks it too, and so the thread is looked for as well.
    if not _current.get().isdisjoint({(scope, _runner()), (scope, threading.get_ident())}):
        raise RecursivePreparation(
            f"{scope[1].short} is being prepared by this very thread or task, which now asks for "
            "it; a prepare must not need its own artifact"
        )


def _runner() -> object:
    # A context is copied to the tasks that a task starts; those may well wait for it.
    asyncio = sys.modules.get("asyncio")  # who has not imported it has no tasks either
    try:
        return (asyncio and asyncio.current_task()) or threading.get_ident()
    except RuntimeError:  # no running loop
        return threading.get_ident()
