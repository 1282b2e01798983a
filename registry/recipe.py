"""A recipe: a function that builds bytes, whose results are artifacts.

As `functools.cache` remembers what a function returned, a recipe remembers what it built: for all
processes of the machine, after they have ended, and within the limits of the cache.

What a call builds is named by the function (`registry.origin`: where it lives, what it is called,
its code), by `version` (what else changes the result: the compiler, the functions that it calls)
and by the arguments, each exactly (`registry.canonical`). Calls that share all of these share one
artifact.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from typing import Any, BinaryIO, Generic, NamedTuple, Never, ParamSpec, Protocol, TypeAlias

from registry.artifact import Artifact, ArtifactId
from registry.canonical import exact
from registry.errors import FunctionRefused, UnknownArtifact
from registry.function_digest import code_digest, key_digest
from registry.origin import Origin, require_function

__all__ = [
    "AsyncRecipe",
    "Data",
    "Label",
    "Recipe",
    "Terms",
]

P = ParamSpec("P")
Data: TypeAlias = bytes | os.PathLike[str]
Label: TypeAlias = str | Callable[..., str]
# What was answered a moment ago may be pruned before it is opened; twice in a row hardly ever.
TRIES = 3


class Preparer(Protocol):
    """What a recipe asks of a `Registry`, which stands above it."""

    def get_or_prepare(
        self, id: ArtifactId, prepare: Callable[[], Any], *, label: str | None = None
    ) -> Artifact: ...
    def open_file(self, id: ArtifactId) -> BinaryIO: ...
    def remove(self, id: ArtifactId) -> bool: ...


class AsyncPreparer(Protocol):
    """What an async recipe asks of an `AsyncRegistry`."""

    async def get_or_prepare(
        self, id: ArtifactId, prepare: Callable[[], Any], *, label: str | None = None
    ) -> Artifact: ...
    async def open_file(self, id: ArtifactId) -> BinaryIO: ...
    async def remove(self, id: ArtifactId) -> bool: ...


class Order(NamedTuple):
    """One call: what it is called, what people see of it, and the work itself."""

    id: ArtifactId
    label: str
    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What names the artifacts of one function, and how people are told of them."""

    function: Callable[..., Any]
    version: object
    name: str | None = None
    key: Callable[..., object] | None = None
    label: Label | None = None
    source: bool = True
    signature: inspect.Signature = field(init=False)
    origin: Origin | None = field(init=False)
    fixed: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse here, where it is written, what could not be told apart later."""
        require_function(self.function)
        _require_name(self.name)
        origin = Origin(self.function, source=self.source) if self.name is None else None
        fixed = {"version": exact(self.version, "version").form, "source": self._digest()}
        object.__setattr__(self, "signature", _signature(self.function))
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "fixed", fixed)

    def order(self, *args: Any, **kwargs: Any) -> Order:
        """Name what a call builds, and take the arguments so that nobody changes them any more."""
        bound = self._bound(*args, **kwargs)
        if self.key is None:
            own = {name: exact(it, name) for name, it in bound.arguments.items()}
            named: Any = {name: it.form for name, it in own.items()}
        else:
            own = {}
            named = exact(self.key(*bound.args, **bound.kwargs), "what key() gave").form
        label = self._label(bound)  # it may be a function that changes what it is shown
        for name, it in own.items():
            bound.arguments[name] = it.value
        work = partial(self.function, *bound.args, **bound.kwargs)
        return Order(self._named(named), label, work)

    def id(self, *args: Any, **kwargs: Any) -> ArtifactId:
        """Name what a call builds."""
        return self.order(*args, **kwargs).id

    @property
    def title(self) -> str:
        """What people see of the function."""
        return self.name or f"{self.function.__module__}:{self.function.__qualname__}"

    def _named(self, arguments: Any) -> ArtifactId:
        name = self.name if self.origin is None else self.origin.name
        code = str(name).encode(errors="surrogateescape")  # a path may be any bytes
        return ArtifactId.of(code, {**self.fixed, "arguments": arguments})

    def _label(self, bound: inspect.BoundArguments) -> str:
        if callable(self.label):
            return self.label(*bound.args, **bound.kwargs)
        return self.label or str(getattr(self.function, "__qualname__", self.name))

    def _digest(self) -> list[str] | None:
        """The code of the function, and of what decides which of its calls are the same."""
        own = [code_digest(self.function)] if self.source else []
        key = None if self.key is None else key_digest(self.key, source=self.source)
        return [*own, *([] if key is None else [key])] or None

    def _bound(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """All arguments of a call, the defaults too."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound


class Recipe(Generic[P]):
    """A function whose results are artifacts; calling it answers the bytes of one.

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
        """Answer the bytes, building them if nobody on this machine has."""
        for _ in range(TRIES):
            artifact = self.artifact(*args, **kwargs)
            with suppress(OSError):
                return _read(artifact)
            # It is gone, or no file of ours any more, which this finds out, and drops it then.
            with suppress(UnknownArtifact), self._registry().open_file(artifact.id) as file:
                return file.read()
        raise _pruned(self.id(*args, **kwargs))

    def artifact(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Answer the prepared artifact, for those who need its path; that is NOT pinned."""
        order = self._terms.order(*args, **kwargs)
        return self._registry().get_or_prepare(order.id, order.work, label=order.label)

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
        import asyncio

        for _ in range(TRIES):
            artifact = await self.artifact(*args, **kwargs)
            with suppress(OSError):
                return await asyncio.to_thread(_read, artifact)
            registry = await self._registry()
            with suppress(UnknownArtifact), await registry.open_file(artifact.id) as file:
                return await asyncio.to_thread(file.read)
        raise _pruned(self.id(*args, **kwargs))

    async def artifact(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """As `Recipe.artifact`."""
        order = self._terms.order(*args, **kwargs)
        registry = await self._registry()
        return await registry.get_or_prepare(order.id, order.work, label=order.label)

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


def _read(artifact: Artifact) -> bytes:
    """Read what was answered just now, and so was checked and counted."""
    assert artifact.path is not None
    fd = os.open(artifact.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read()


def _pruned(id: ArtifactId) -> UnknownArtifact:
    return UnknownArtifact(f"{id.short} was pruned {TRIES} times before it could be read")


def _require_name(name: object) -> None:
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"name is a str, not {type(name).__name__}")
    if not name:
        raise FunctionRefused("name= is empty; give a text that no other function of the cache has")
    exact(name, "name")


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError as error:  # a builtin that does not tell its parameters
        raise FunctionRefused(f"{error}; decorate a function of Python that calls it") from None


def _refuse_binding(recipe: Recipe[Any] | AsyncRecipe[Any]) -> FunctionRefused:
    return FunctionRefused(
        f"{recipe!r} is an attribute of a class and would be a method: what that builds depends on "
        "an object that other processes do not have; put @staticmethod above the decorator"
    )
