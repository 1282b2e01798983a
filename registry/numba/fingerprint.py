"""What a function depends on that its own source need not show: code, globals, closure.

Numba takes globals and closed-over values as constants. A function in a file is cached by the whole
file; one in no file (a notebook, `exec`) only by this. Functions that it calls count with their
code and what they depend on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from hashlib import sha256
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["NoFingerprint", "code_of", "depends_on"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_LONGEST_ARRAY = 1 << 20  # bytes; Numba takes no larger one as a constant


class NoFingerprint(Exception):
    """Nothing tells a value from another one in another process."""


def code_of(function: FunctionType) -> str:
    """Return a digest of a function's code, wherever it stands."""
    return _digest(_code(function.__code__))


def depends_on(function: Any, *, strict: bool) -> str:
    """Return a digest of all that a function depends on.

    Where a value has no fingerprint, raise `NoFingerprint` if `strict`, else answer "".
    """
    try:
        return _digest(list(_of_function(function, set())))
    except NoFingerprint:
        if strict:
            raise
        return ""
    except RecursionError:
        raise NoFingerprint(str(function)) from None


def _digest(value: Any) -> str:
    return sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _of_function(function: FunctionType, seen: set[int]) -> Iterator[Any]:
    if id(function) in seen:
        yield "again"
        return
    seen.add(id(function))
    yield _code(function.__code__)
    yield _value(function.__defaults__ or (), seen, [])
    names = sorted(set(_names(function.__code__)))
    for name in names:
        if name in function.__globals__:
            yield name, _value(function.__globals__[name], seen, names)
    for cell in function.__closure__ or ():
        try:
            yield _value(cell.cell_contents, seen, names)
        except ValueError:  # it is empty
            yield "empty"


def _code(code: CodeType) -> Any:
    constants = [_code(it) if isinstance(it, CodeType) else _constant(it) for it in code.co_consts]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    table = getattr(code, "co_exceptiontable", b"")
    named = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, constants, shape, table, named


def _constant(value: Any) -> Any:
    if isinstance(value, frozenset):
        return "frozenset", sorted(map(repr, value))
    return type(value).__name__, repr(value)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _value(value: Any, seen: set[int], names: list[str]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return kind.__name__, repr(value)
    if kind in (tuple, list):
        return kind.__name__, [_value(it, seen, names) for it in value]
    if isinstance(value, ModuleType):
        return _module(value, names)
    if isinstance(value, enum.EnumType):
        members: Any = value.__members__
        return value.__qualname__, [(it, _value(members[it].value, seen, [])) for it in members]
    if isinstance(value, type | BuiltinFunctionType) and _is_of_a_library(value):
        return value.__module__, value.__qualname__
    if isinstance(value, FunctionType):
        return list(_of_function(value, seen))
    return _of_numba_or_numpy(value, seen)


def _of_numba_or_numpy(value: Any, seen: set[int]) -> Any:
    import numpy

    if isinstance(value, numpy.ndarray | numpy.generic):
        if value.dtype.hasobject or value.nbytes > _LONGEST_ARRAY:
            raise NoFingerprint(type(value).__name__)
        return str(value.dtype.descr), value.shape, value.tobytes()
    if isinstance(value, numpy.ufunc):
        return "ufunc", value.__name__
    function = getattr(value, "py_func", None)  # of a function that is compiled, too
    if isinstance(function, FunctionType):
        made_with = sorted((it, repr(to)) for it, to in value.targetoptions.items())
        return "jit", made_with, list(_of_function(function, seen))
    from numba.core.types import Type

    if isinstance(value, Type):
        return "type", str(value)
    raise NoFingerprint(type(value).__name__)


def _module(module: ModuleType, names: list[str]) -> Any:
    """A module counts by its name, and by the constants in it that may be meant."""
    found = [(it, vars(module)[it]) for it in names if it in vars(module)]
    constants = [(it, repr(value)) for it, value in found if type(value) in _PLAIN]
    return "module", module.__name__, getattr(module, "__version__", None) or "", constants


def _is_of_a_library(value: Any) -> bool:
    """Whether its name says what it is: not a class of a notebook, or made in a function."""
    return value.__module__ not in (None, "__main__") and "<locals>" not in value.__qualname__
