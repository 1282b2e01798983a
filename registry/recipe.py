"""A recipe: a function that builds bytes, whose results are artifacts.

As `functools.cache` remembers what a function returned, a recipe remembers what it built: for all
processes of the machine, after they have ended, and within the limits of the cache.

What a call builds is named by the function's name, by `version` (what else changes the result: the
compiler, the function's own code) and by the arguments, so two calls with the same three share one
artifact. The function's code itself is NOT looked at: who changes it changes the version.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias

from registry.artifact import Artifact, ArtifactId
from registry.errors import InvalidParams, UnknownArtifact

if TYPE_CHECKING:
    from registry.aio import AsyncRegistry
    from registry.sync import Registry

__all__ = ["AsyncRecipe", "Data", "Recipe", "Terms"]

P = ParamSpec("P")
Data: TypeAlias = bytes | os.PathLike[str]
Label: TypeAlias = str | Callable[..., str]
# What was answered a moment ago may be pruned before it is opened; twice in a row hardly ever.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What names the artifacts of one function, and how people are told of them."""

    function: Callable[..., Any]
    version: object
    name: str | None = None
    key: Callable[..., object] | None = None
    label: Label | None = None
    signature: inspect.Signature = field(init=False)
    code: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", inspect.signature(self.function))
        object.__setattr__(self, "code", (self.name or _name(self.function)).encode())
        _canonical(self.version, "version")  # refused here, where it is written

    def id(self, *args: Any, **kwargs: Any) -> ArtifactId:
        """Name what a call builds."""
        bound = self._bound(*args, **kwargs)
        if self.key is not None:
            named = _canonical(self.key(*bound.args, **bound.kwargs), "what key() gave")
        else:
            named = {name: _canonical(it, name) for name, it in bound.arguments.items()}
        params = {"version": _canonical(self.version, "version"), "arguments": named}
        return ArtifactId.of(self.code, params)

    def label_of(self, *args: Any, **kwargs: Any) -> str:
        """Say to people what a call builds."""
        if callable(self.label):
            bound = self._bound(*args, **kwargs)
            return self.label(*bound.args, **bound.kwargs)
        return self.label or self.function.__qualname__

    def _bound(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """All arguments of a call, the defaults too."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound


class Recipe(Generic[P]):
    """A function whose results are artifacts; calling it answers the bytes of one.

    A call raises what `Registry.get_or_prepare` raises, and `InvalidParams` for an argument that
    has no canonical form: None, bool, int, float, str, bytes, and lists, tuples (the same as
    lists) and dicts with str keys of these have one. The plain function is `__wrapped__`.
    """

    __wrapped__: Callable[P, Data]

    def __init__(self, terms: Terms, registry: Callable[[], Registry]) -> None:
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
        terms = self._terms
        return self._registry().get_or_prepare(
            terms.id(*args, **kwargs),
            partial(self.__wrapped__, *args, **kwargs),
            label=terms.label_of(*args, **kwargs),
        )

    def id(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactId:
        """Name what a call builds, for the verbs of `Registry`; builds nothing."""
        return self._terms.id(*args, **kwargs)

    def remove(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget what a call built, or its failure; see `Registry.remove`."""
        return self._registry().remove(self._terms.id(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.code.decode()}>"


class AsyncRecipe(Generic[P]):
    """The same for event loops: calls are awaited, and the function may be a coroutine function."""

    __wrapped__: Callable[P, Data | Awaitable[Data]]

    def __init__(self, terms: Terms, registry: Callable[[], Awaitable[AsyncRegistry]]) -> None:
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
        terms = self._terms
        return await (await self._registry()).get_or_prepare(
            terms.id(*args, **kwargs),
            partial(self.__wrapped__, *args, **kwargs),
            label=terms.label_of(*args, **kwargs),
        )

    def id(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactId:
        """As `Recipe.id`; not awaited."""
        return self._terms.id(*args, **kwargs)

    async def remove(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As `Recipe.remove`."""
        return await (await self._registry()).remove(self._terms.id(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.code.decode()}>"


def _read(artifact: Artifact) -> bytes:
    """Read what was answered just now, and so was checked and counted."""
    assert artifact.path is not None
    fd = os.open(artifact.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read()


def _pruned(id: ArtifactId) -> UnknownArtifact:
    return UnknownArtifact(f"{id.short} was pruned {TRIES} times before it could be read")


def _name(function: Callable[..., Any]) -> str:
    """Name a function for all processes; what is called `__main__` goes by its file."""
    module, name = function.__module__, function.__qualname__
    if module != "__main__":
        return f"{module}.{name}"
    file = inspect.unwrap(function).__code__.co_filename
    if file.startswith("<"):
        raise TypeError(f"{name} is in no file, so other functions may be called so; give a name=")
    return f"{os.path.realpath(file)}:{name}"


def _canonical(value: object, where: str) -> Any:
    """Write a value so that different ones differ, in what parameters may be made of."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return ["float", value.hex()]
        case bytes() | bytearray() | memoryview():
            return ["bytes", blake2b(bytes(value), digest_size=32).hexdigest()]
        case list() | tuple():
            return ["list", *(_canonical(it, f"{where}[{n}]") for n, it in enumerate(value))]
        case dict():
            return {key: _canonical(it, f"{where}[{key!r}]") for key, it in value.items()}
    raise InvalidParams(
        f"{where} is a {type(value).__name__}, which has no canonical form; pass what it is made "
        "of (bytes, str, numbers, lists, dicts), or give a key= that says what counts"
    )
