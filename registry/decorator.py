"""The decorator `prepared`, and the handles behind it: one a process and cache, opened when needed.

A module is imported long before its functions are called, perhaps in another process: gunicorn
preloads and forks. So nothing is opened where a function is decorated. Each process that calls one
opens a handle, which closes when the process ends; each event loop has its own.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, overload

from registry.errors import CacheDirectoryRefused
from registry.opening.directory import named_directory
from registry.opening.user_cache import user_cache_dir
from registry.recipe import AsyncRecipe, Data, Label, Recipe, Terms

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from registry.aio import AsyncRegistry
    from registry.sync import Registry

__all__ = ["prepared"]

P = ParamSpec("P")

# By process: the child of a fork finds none of its own. No lock guards them, so none can be
# inherited locked; of two that open at once, the second closes its handle and takes the first's.
_handles: dict[tuple[int, Path], Registry] = {}
_async_handles: dict[tuple[int, Path, AbstractEventLoop], AsyncRegistry] = {}


class Decorator(Protocol):
    """What `prepared(...)` gives: it makes a function a recipe."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, Data]], /) -> AsyncRecipe[P]: ...
    @overload
    def __call__(self, function: Callable[P, Data], /) -> Recipe[P]: ...


def prepared(
    *,
    version: object,
    cache: str | os.PathLike[str] | None = None,
    name: str | None = None,
    key: Callable[..., object] | None = None,
    label: Label | None = None,
    source: bool = True,
) -> Decorator:
    """Decorate a function that builds bytes (or a file), so that each machine calls it once.

    What is built is named by the function, by `version` (whatever changes the result and is no
    argument: the compiler, the functions that this one calls, globals) and by the arguments,
    exactly, or what `key` makes of them. The function goes by `name`, by default by where it lives
    (its distribution and version, else its file), its module and its qualified name, and by its
    code: an edited function builds anew. With `source=False` its code does not count; change the
    version with it.

    It is kept in `cache`, by default where the command looks: $REGISTRY_CACHE, else the user's
    cache directory, looked up at each call. A relative one is in the directory where the process
    was when it decorated. `label` is what people see. `key` and `label`, where they are functions,
    are called with all arguments, the defaults too. A `key` counts by its code and by what it was
    made with (attributes, captured values, defaults), which must have a canonical form.

    A coroutine function becomes an `AsyncRecipe`, any other a `Recipe`. Raises `FunctionRefused`
    for a function that other processes could take for another one (a lambda, one that captures
    values, one that is in no file) and that has no `name`, and for a method; `InvalidParams` for a
    version without a canonical form.
    """
    place = _place(cache)

    def decorate(function: Callable[..., Any], /) -> Any:
        terms = Terms(function, version, name, key, label, source)
        if inspect.iscoroutinefunction(function):
            return AsyncRecipe(terms, lambda: _async_handle(place()))
        return Recipe(terms, lambda: _handle(place()))

    return decorate


def _place(cache: str | os.PathLike[str] | None) -> Callable[[], Path]:
    """Say how the cache is found at each call, wherever the process has gone by then."""
    if cache is not None:
        with suppress(CacheDirectoryRefused):
            directory = named_directory(cache)
            return lambda: directory
        return lambda: named_directory(cache)  # refused where it is called: an import goes on
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed; an absolute cache needs none
        here = Path()
    return lambda: named_directory(_within(here, user_cache_dir()))


def _within(here: Path, named: Path) -> Path:
    return named if str(named).startswith("~") else here / named


def _handle(directory: Path) -> Registry:
    from registry.sync import Registry

    key = (os.getpid(), directory)
    known = _handles.get(key)
    if known is None:
        opened = Registry(directory)
        known = _handles.setdefault(key, opened)
        if known is not opened:
            opened.close()
    return known


async def _async_handle(directory: Path) -> AsyncRegistry:
    import asyncio

    from registry.aio import AsyncRegistry

    key = (os.getpid(), directory, asyncio.get_running_loop())
    known = _async_handles.get(key)
    if known is None:
        _forget_ended_loops()
        known = _async_handles.setdefault(key, AsyncRegistry(directory))
    return await known.open()


def _forget_ended_loops() -> None:
    for key in list(_async_handles):
        pid, _, loop = key
        if pid == os.getpid() and loop.is_closed():
            _async_handles.pop(key)._at_exit()  # noqa: SLF001
