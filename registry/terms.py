"""The terms of a decorated function: what identifies its artifacts, and their labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from registry.artifact import ArtifactId
from registry.canonical import MOST_BITS, exact
from registry.errors import FunctionRefused
from registry.function_digest import code_digest, key_digest
from registry.origin import Origin, require_function
from registry.verbs.text import as_kind

__all__ = ["Label", "Order", "Terms"]

# Characters of a label and of a text in it, and how many arguments it shows of each kind.
_LABEL, _TEXT, _SHOWN = 80, 24, 8

Label: TypeAlias = str | Callable[..., str]


class Order(NamedTuple):
    """One call: its id, its label, and the work."""

    id: ArtifactId
    label: str
    kind: str | None
    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What identifies the artifacts of one function, and how they are labelled."""

    function: Callable[..., Any]
    version: object
    name: str | None = None
    key: Callable[..., object] | None = None
    label: Label | None = None
    source: bool = True
    kind: str | None = "python"
    signature: inspect.Signature = field(init=False)
    origin: Origin | None = field(init=False)
    fixed: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse here, where it is written, what could not be told apart later."""
        require_function(self.function)
        _require_name(self.name)
        as_kind(self.kind)
        origin = Origin(self.function, source=self.source) if self.name is None else None
        fixed = {"version": exact(self.version, "version").form, "source": self._digest()}
        object.__setattr__(self, "signature", _signature(self.function))
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "fixed", fixed)

    def order(self, *args: Any, **kwargs: Any) -> Order:
        """Return a call's id, with copies of its arguments that nothing else can change."""
        bound = self._bound(*args, **kwargs)
        if self.key is None:
            own = {name: exact(it, name) for name, it in bound.arguments.items()}
            named: Any = {name: it.form for name, it in own.items()}
        else:
            own = {}
            named = exact(self.key(*bound.args, **bound.kwargs), "what key() gave").form
        label = self._label(bound)  # the label may be a function that changes its arguments
        for name, it in own.items():
            bound.arguments[name] = it.value
        work = partial(self.function, *bound.args, **bound.kwargs)
        return Order(self._named(named), label, self.kind, work)

    def id(self, *args: Any, **kwargs: Any) -> ArtifactId:
        """Name what a call builds."""
        return self.order(*args, **kwargs).id

    @property
    def title(self) -> str:
        """The name of the function, for people."""
        return self.name or f"{self.function.__module__}:{self.function.__qualname__}"

    def _named(self, arguments: Any) -> ArtifactId:
        name = self.name if self.origin is None else self.origin.name
        code = str(name).encode(errors="surrogateescape")  # a path may be any bytes
        return ArtifactId.of(code, {**self.fixed, "arguments": arguments})

    def _label(self, bound: inspect.BoundArguments) -> str:
        if callable(self.label):
            return self.label(*bound.args, **bound.kwargs)
        if self.label:
            return self.label
        name = str(getattr(self.function, "__qualname__", self.name)).rpartition("<locals>.")[2]
        return _cut(f"{name}({', '.join(_shown_arguments(bound))})", _LABEL)

    def _digest(self) -> list[str] | None:
        """The code of the function, and of what decides which of its calls are the same."""
        own = [code_digest(self.function)] if self.source else []
        key = None if self.key is None else key_digest(self.key, source=self.source)
        return [*own, *([] if key is None else [key])] or None

    def _bound(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """All arguments of a call, with the defaults."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.title}: {error}") from None
        bound.apply_defaults()
        return bound


def _shown_arguments(bound: inspect.BoundArguments) -> Iterator[str]:
    """Write the arguments as in a call; the cost is bounded, because each call is labelled."""
    for it in islice(bound.args, _SHOWN):
        yield _show(it)
    for name, it in islice(bound.kwargs.items(), _SHOWN):
        yield f"{name}={_show(it)}"


def _show(value: object) -> str:
    """Write a value in one short line, without running code of its class."""
    kind = type(value)
    if isinstance(value, str | bytes | bytearray) and kind in (str, bytes, bytearray):
        return repr(value) if len(value) <= _TEXT else f"{value[:_TEXT]!r}..."
    if isinstance(value, int) and kind is int:
        return str(value) if value.bit_length() <= MOST_BITS else "<int>"
    if isinstance(value, list | tuple | dict) and kind in (list, tuple, dict):
        return f"<{kind.__name__} of {len(value)}>"
    return repr(value) if value is None or kind in (bool, float) else f"<{kind.__name__}>"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


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
