"""The decorator `prepared`: it opens nothing, and asks for the process's handle at each call."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, Protocol, overload

from registry.errors import CacheDirectoryRefused
from registry.opening.directory import named_directory
from registry.opening.user_cache import user_cache_dir
from registry.process_handles import async_handle_on, handle_on
from registry.recipe import AsyncRecipe, Data, Label, Recipe, Terms

__all__ = ["prepared"]

P = ParamSpec("P")


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
    kind: str | None = "python",
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
    directory at the time of decorating. `label` is what people see, by default the call, cut to 80
    characters: `kernel('add', arch='sm_90')`; `kind` is what `registry ls --kind` and the metrics
    group by. If `key` and `label` are functions, they are called with all arguments, including
    defaults. A `key` is identified by its
    code and by what it was made with (attributes, captured values, defaults), which must have a
    canonical form.

    A coroutine function becomes an `AsyncRecipe`, any other a `Recipe`. Raises `FunctionRefused`
    for a method, and for a function without `name` that other processes could confuse with another
    one (a lambda, one that captures values, one that is in no file); `InvalidParams` for a version
    without a canonical form.
    """
    place = _place(cache)

    def decorate(function: Callable[..., Any], /) -> Any:
        terms = Terms(function, version, name, key, label, source, kind)
        if inspect.iscoroutinefunction(function):
            return AsyncRecipe(terms, lambda: async_handle_on(place()))
        return Recipe(terms, lambda: handle_on(place()))

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
