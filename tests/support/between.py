"""Stand between the verbs of a handle and the world: see each effect, cut it short, or fail it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeAlias

from registry import Registry
from registry.effects import Effect, Run

__all__ = ["Perform", "between", "name_of", "recorded"]

Perform: TypeAlias = Callable[[Effect[Any]], Any]


@contextmanager
def between(registry: Registry, act: Callable[[int, Effect[Any], Perform], Any]) -> Iterator[None]:
    """Let `act(number, effect, perform)` perform the effects, numbered from 0."""
    perform, numbers = registry._perform, count()
    registry._perform = lambda effect: act(next(numbers), effect, perform)  # type: ignore[method-assign]
    try:
        yield
    finally:
        registry._perform = perform  # type: ignore[method-assign]


@contextmanager
def recorded(registry: Registry) -> Iterator[list[Effect[Any]]]:
    """Record the effects that are performed."""
    seen: list[Effect[Any]] = []

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        seen.append(effect)
        return perform(effect)

    with between(registry, act):
        yield seen


def name_of(effect: Effect[Any]) -> str:
    """A word for an effect: the name of its statement, or of its type."""
    return effect.statement.name if isinstance(effect, Run) else type(effect).__name__
