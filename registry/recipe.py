"""A recipe: a function that builds bytes, whose results are artifacts.

As `functools.cache` remembers what a function returned, a recipe remembers what it built: for all
processes of the machine, after they have ended, and within the limits of the cache.

A call's artifact is identified by the function (`registry.origin`: its distribution or file, its
name, its code), by `version` (anything else that changes the result: the compiler, the functions
that it calls) and by the exact arguments (`registry.canonical`). Calls that have all of these in
common share one artifact.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import update_wrapper
from pathlib import Path
from typing import Any, BinaryIO, Generic, Never, ParamSpec, Protocol, TypeAlias

from registry.artifact import Artifact, ArtifactId
from registry.errors import FunctionRefused, UnknownArtifact
from registry.terms import Label, Terms
from registry.verbs.boundary import telling_outward

__all__ = [
    "AsyncRecipe",
    "Data",
    "Label",
    "Recipe",
    "Terms",
]

P = ParamSpec("P")
Data: TypeAlias = bytes | os.PathLike[str]
# An artifact may be pruned before it is opened; twice in a row is very rare.
TRIES = 3


class Preparer(Protocol):
    """The methods of `Registry` that a recipe calls; `registry.sync` imports this module."""

    def get_or_prepare(
        self,
        id: ArtifactId,
        prepare: Callable[[], Any],
        *,
        label: str | None = None,
        kind: str | None = None,
    ) -> Artifact: ...
    def open_file(self, id: ArtifactId) -> BinaryIO: ...
    def pinned(self, id: ArtifactId) -> AbstractContextManager[Path]: ...
    def remove(self, id: ArtifactId) -> bool: ...


class AsyncPreparer(Protocol):
    """The methods of `AsyncRegistry` that an async recipe calls."""

    async def get_or_prepare(
        self,
        id: ArtifactId,
        prepare: Callable[[], Any],
        *,
        label: str | None = None,
        kind: str | None = None,
    ) -> Artifact: ...
    async def open_file(self, id: ArtifactId) -> BinaryIO: ...
    def pinned(self, id: ArtifactId) -> AbstractAsyncContextManager[Path]: ...
    async def remove(self, id: ArtifactId) -> bool: ...


class Recipe(Generic[P]):
    """A function whose results are artifacts; a call returns the bytes of one.

    A call raises what `Registry.get_or_prepare` raises, and `InvalidParams` for an argument that
    has no canonical form: None, bool, int, float, str, bytes, bytearray, and lists, tuples and
    dicts with str keys of these have one; subclasses have none. The function gets copies of what
    is mutable, except with a `key=`. The plain function is `__wrapped__`.
    """

    __wrapped__: Callable[P, Data]

    def __init__(self, terms: Terms, registry: Callable[[], Preparer]) -> None:
        self._terms = terms
        self._registry = registry
        update_wrapper(self, terms.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """Return the bytes; build them if no process of this machine has."""
        with self.open(*args, **kwargs) as file, telling_outward():
            return file.read()

    def open(self, *args: P.args, **kwargs: P.kwargs) -> BinaryIO:
        """Open the file that holds the bytes for reading; build it if no process has.

        An open file stays readable after pruning; close it yourself.
        """
        for _ in range(TRIES):
            artifact = self.artifact(*args, **kwargs)
            with suppress(OSError):
                return _open(artifact)
            # Missing or replaced by something else: this checks it, and deletes its row then.
            with suppress(UnknownArtifact):
                return self._registry().open_file(artifact.id)
        raise _pruned(self.id(*args, **kwargs))

    @contextmanager
    def pinned(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Path]:
        """Keep that file, under a path of its own, while a block runs; see `Registry.pinned`."""
        with ExitStack() as block:
            for _ in range(TRIES):
                artifact = self.artifact(*args, **kwargs)
                with suppress(UnknownArtifact):
                    path = block.enter_context(self._registry().pinned(artifact.id))
                    break
            else:
                raise _pruned(self.id(*args, **kwargs))
            yield path

    def artifact(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Return the prepared artifact; its path is NOT pinned, see `pinned`."""
        order = self._terms.order(*args, **kwargs)
        return self._registry().get_or_prepare(
            order.id, order.work, label=order.label, kind=order.kind
        )

    def id(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactId:
        """Name what a call builds, for the verbs of `Registry`; builds nothing."""
        return self._terms.id(*args, **kwargs)

    def remove(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget what a call built, or its failure; see `Registry.remove`."""
        return self._registry().remove(self._terms.id(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.title}>"

    def __get__(self, instance: object, owner: type | None = None) -> Never:
        raise _refuse_binding(self)


class AsyncRecipe(Generic[P]):
    """The same for event loops: calls are awaited, and the function may be a coroutine function."""

    __wrapped__: Callable[P, Data | Awaitable[Data]]

    def __init__(self, terms: Terms, registry: Callable[[], Awaitable[AsyncPreparer]]) -> None:
        self._terms = terms
        self._registry = registry
        update_wrapper(self, terms.function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """As `Recipe.__call__`; reading does not block the loop."""
        from registry.world.shield import in_thread

        with await self.open(*args, **kwargs) as file, telling_outward():
            return await in_thread(file.read)

    async def open(self, *args: P.args, **kwargs: P.kwargs) -> BinaryIO:
        """As `Recipe.open`."""
        for _ in range(TRIES):
            artifact = await self.artifact(*args, **kwargs)
            with suppress(OSError):
                return _open(artifact)  # a hop to a thread takes longer, and may lose it
            registry = await self._registry()
            with suppress(UnknownArtifact):
                return await registry.open_file(artifact.id)
        raise _pruned(self.id(*args, **kwargs))

    @asynccontextmanager
    async def pinned(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Path]:
        """As `Recipe.pinned`."""
        async with AsyncExitStack() as block:
            for _ in range(TRIES):
                artifact = await self.artifact(*args, **kwargs)
                registry = await self._registry()
                with suppress(UnknownArtifact):
                    path = await block.enter_async_context(registry.pinned(artifact.id))
                    break
            else:
                raise _pruned(self.id(*args, **kwargs))
            yield path

    async def artifact(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """As `Recipe.artifact`."""
        order = self._terms.order(*args, **kwargs)
        registry = await self._registry()
        return await registry.get_or_prepare(
            order.id, order.work, label=order.label, kind=order.kind
        )

    def id(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactId:
        """As `Recipe.id`; not awaited."""
        return self._terms.id(*args, **kwargs)

    async def remove(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As `Recipe.remove`."""
        return await (await self._registry()).remove(self._terms.id(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.title}>"

    def __get__(self, instance: object, owner: type | None = None) -> Never:
        raise _refuse_binding(self)


def _open(artifact: Artifact) -> BinaryIO:
    """Open an artifact that was just returned, so it is checked and its use is recorded."""
    assert artifact.path is not None
    fd = os.open(artifact.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return os.fdopen(fd, "rb")


def _pruned(id: ArtifactId) -> UnknownArtifact:
    return UnknownArtifact(f"{id.short} was pruned {TRIES} times before it could be read")


def _refuse_binding(recipe: Recipe[Any] | AsyncRecipe[Any]) -> FunctionRefused:
    return FunctionRefused(
        f"{recipe!r} is an attribute of a class and would be a method: what that builds depends on "
        "an object that other processes do not have; put @staticmethod above the decorator"
    )
