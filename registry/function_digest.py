"""The digest of a function: of the code that runs, and of the values that it was made with.

It changes when the function is edited. It is computed from the loaded code, not from the source
file, which may have been edited since; so comments and blank lines do not matter, and another
version of Python counts as an edit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from hashlib import blake2b
from operator import attrgetter, itemgetter
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from registry.canonical import exact
from registry.errors import FunctionRefused, InvalidParams

__all__ = ["called", "code_digest", "key_digest"]

_CACHED = type(cache(len))  # what functools.cache makes of a function


def code_digest(function: object) -> str:
    """Hash the code that a call runs: the function's own, and what it wraps or was made with.

    NOT that of the functions that it calls, nor the values of globals.
    """
    return _digest(Made(function).parts())


def key_digest(key: object, *, source: bool) -> str | None:
    """Hash a `key=`: its code, if that counts, and in any case all that it was made with.

    None if there is nothing to hash. Raises `FunctionRefused` for values that have no digest.
    """
    parts = [part for part in Made(key, source=source, strict=True).parts() if part is not None]
    return _digest(parts) if parts else None


def _digest(parts: Iterable[object]) -> str:
    tag = str(sys.implementation.cache_tag)
    return blake2b(repr([tag, *parts]).encode(), digest_size=32).hexdigest()


def called(function: object) -> str:
    """Name a function, for messages."""
    named = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or 'the function'}: {named}"


class Made:
    """The parts of a function to hash: its code, and the values that it was made with.

    A value that has no canonical form, or is mutable, is left out; but it is refused if this is
    `strict`, or if it belongs to an object. Without `source`, only values are hashed.
    """

    def __init__(self, function: object, *, source: bool = True, strict: bool = False) -> None:
        self._function = function
        self._source = source
        self._strict = strict
        self._seen: dict[int, int] = {}

    def parts(self) -> Iterator[object]:
        """All parts, in an order that is the same in each process."""
        yield from self._of(self._function)

    def _of(self, function: object) -> Iterator[object]:
        if id(function) in self._seen:
            yield ["as before", self._seen[id(function)]]
            return
        self._seen[id(function)] = len(self._seen)
        if isinstance(function, FunctionType):
            yield from self._plain(function)
        elif isinstance(function, partial):
            yield exact([function.args, function.keywords], "what partial() holds").form
            yield from self._of(function.func)
        elif isinstance(function, MethodType):
            yield from self._of(function.__func__)
            yield _state(function.__self__)
        elif self._strict:
            yield from self._other(function)
        else:
            raise FunctionRefused(
                f"{called(function)} has no code of Python's to tell an edit by; say source=False, "
                "and change version= with it"
            )

    def _plain(self, function: FunctionType) -> Iterator[object]:
        yield _code(function.__code__) if self._source else None
        yield from self._values(dict(_captured(function)))
        if self._strict or function is not self._function:  # else each call passes them
            yield from self._values({"defaults": function.__defaults__ or None})
            yield from self._values(function.__kwdefaults__ or {})
        if callable(wrapped := getattr(function, "__wrapped__", None)):
            yield from self._of(wrapped)

    def _other(self, function: object) -> Iterator[object]:
        if isinstance(call := _call_of(function), FunctionType):
            yield from self._of(call)
            yield _state(function)
        elif isinstance(function, _CACHED):
            yield from self._of(function.__wrapped__)
        else:
            yield _builtin(function)

    def _values(self, values: Mapping[str, object]) -> Iterator[object]:
        for name, value in values.items():
            try:
                yield from self._value(name, value)
            except (InvalidParams, FunctionRefused) as error:
                if self._strict:
                    raise _uncounted(self._function, str(error)) from None

    def _value(self, name: str, value: object) -> Iterator[object]:
        if isinstance(value, FunctionType | MethodType | partial):
            yield [name, *self._of(value)]
        elif value is not None and (self._strict or not isinstance(value, list | dict | bytearray)):
            yield [name, exact(value, name).form]


def _captured(function: FunctionType) -> Iterator[tuple[str, object]]:
    """List the variables that a function captured, with their values when it is decorated."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not bound yet
            yield name, cell.cell_contents


def _call_of(thing: object) -> object:
    return getattr(type(thing), "__call__", None)  # noqa: B004 - what a call of it runs


def _state(thing: object) -> object:
    """Return the state of an object; for a class, its name."""
    if isinstance(thing, type):
        return called(thing)
    own = dict(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):  # not set
                    own[f"{kind.__qualname__}.{name}"] = slot.__get__(thing)
    if isinstance(thing, int | float | complex | str | bytes | bytearray | Iterable):
        own["the object itself"] = thing  # a subclass has a value besides its attributes
    try:
        return [called(type(thing)), exact(own, "its state").form]
    except InvalidParams as error:
        raise _uncounted(thing, str(error)) from None


def _builtin(function: object) -> object:
    """Return what identifies a C function; raises `FunctionRefused` if nothing does."""
    if isinstance(function, type) and function.__module__ == "builtins":
        return called(function)
    if isinstance(function, BuiltinFunctionType) and isinstance(function.__self__, ModuleType):
        return called(function)
    if isinstance(function, MethodDescriptorType | WrapperDescriptorType):
        return called(function)
    if isinstance(function, itemgetter | attrgetter):
        return [called(function), exact(function.__reduce__()[1], "what it gets").form]
    raise _uncounted(function, "it is no code of Python's")


def _uncounted(function: object, why: str) -> FunctionRefused:
    return FunctionRefused(
        f"{called(function)} was made with what other processes cannot tell from something else: "
        f"{why}; use a function of a module that has it as an argument or a constant"
    )


def _code(code: CodeType) -> list[object]:
    """Return the parts of code that do not depend on its file and lines."""
    flags = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    consts = [_constant(it) for it in code.co_consts]
    return [code.co_name, code.co_code, code.co_exceptiontable, flags, names, consts]


def _constant(value: Any) -> object:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, tuple):
        return [_constant(it) for it in value]
    if isinstance(value, frozenset):  # in another order in each process
        return ["frozenset", *sorted(repr(_constant(it)) for it in value)]
    return type(value).__name__, repr(value)
