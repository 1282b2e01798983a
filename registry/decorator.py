"""The decorator `prepared`, and its handles: one for each process and cache, opened when needed.

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

# By process: the child of a fork opens its own. Without a lock, so that a child inherits none that
# is held; of two threads that open at once, the second closes its handle and uses the first's.
_handles: dict[tuple[int, Path], Registry] = {}
_async_handles: dict[tuple[int, Path, AbstractEventLoop], AsyncRegistry] = {}


class Decorator(Protocol):
    """What `prepared(...)` returns: it makes a function a recipe."""

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

    The artifact is identified by the function, by `version` (everything that changes the result
    and is not an argument: the compiler, the functions that this one calls, globals) and by the
    arguments, or by what `key` makes of them. The function is identified by `name`, by default by
    its distribution and version (else its file), module and qualified name, and by its code: an
    edited function builds again. With `source=False` its code does not count; then change the
    version when you edit it.

    The artifact is kept in `cache`, by default in the cache of the command: $REGISTRY_CACHE, else
    the user's cache directory, looked up at each call. A relative path is relative to the working
    directory at the time of decorating. `label` is what people see. If `key` and `label` are
    functions, they are called with all arguments, including defaults. A `key` is identified by its
    code and by what it was made with (attributes, captured values, defaults), which must have a
    canonical form.

    A coroutine function becomes an `AsyncRecipe`, any other a `Recipe`. Raises `FunctionRefused`
    for a method, and for a function without `name` that other processes could confuse with another
    one (a lambda, one that captures values, one that is in no file); `InvalidParams` for a version
    without a canonical form.
    """
    place = _place(cache)

    def decorate(function: Callable[..., Any], /) -> Any:
        terms = Terms(function, version, name, key, label, source)
        if inspect.iscoroutinefunction(function):
            return AsyncRecipe(terms, lambda: _async_handle(place()))
        return Recipe(terms, lambda: _handle(place()))

    return decorate


def _place(cache: str | os.PathLike[str] | None) -> Callable[[], Path]:
    """Return how to find the cache at each call, whatever the working directory is then."""
    if cache is not None:
        with suppress(CacheDirectoryRefused):
            directory = named_directory(cache)
            return lambda: directory
        return lambda: named_directory(cache)  # refused at the call, so that an import succeeds
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed; an absolute path needs none
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
