"""Coroutine functions, which `Registry` refuses: it has no event loop to await them in."""

from __future__ import annotations

from functools import partial

__all__ = ["refuse_coroutines"]


def refuse_coroutines(prepare: object) -> None:
    """Raise TypeError for a coroutine function, also inside a `partial` or as `__call__`."""
    import inspect

    while isinstance(prepare, partial):
        prepare = prepare.func
    called = getattr(type(prepare), "__call__", None)  # noqa: B004 - an `async def __call__`
    if inspect.iscoroutinefunction(prepare) or inspect.iscoroutinefunction(called):
        raise TypeError("prepare is a coroutine function; AsyncRegistry takes those")
