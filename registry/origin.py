"""Where a function comes from: what proves, to other processes, which function it is.

A name alone proves little: each project may have a `kernels.build`. So a function goes by the
distribution that it belongs to, or by the file that it was loaded from, and by its module and its
qualified name in there. What several functions can share, or what differs from process to process,
is refused: then the user gives a name.

The digest of its code tells an edited function from what it was before. It is that of the code
which runs, not of the text on the disk, which may have been edited since it was loaded; so neither
comments nor blank lines matter, and another version of Python counts as an edit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from registry.canonical import exact
from registry.errors import FunctionRefused, InvalidParams

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["Origin", "code_digest", "key_digest", "require_function"]

# By what a function is called, the code that was decorated last, and the module as loaded then.
_decorated: dict[tuple[str, str], tuple[object, object, str]] = {}


class Origin:
    """A function that was proven to be the only one of its name, and that name."""

    def __init__(self, function: object, *, source: bool = True) -> None:
        if not isinstance(function, FunctionType):
            raise _unproven(function, f"is a {type(function).__name__}, not a plain function")
        self._file = _file_of(function)
        if "<locals>" in function.__qualname__ and not source:
            raise _unproven(function, "is local to a function, where others may be called so")
        spec = function.__globals__.get("__spec__")
        module = function.__module__
        if module in ("__main__", "__mp_main__"):  # that of `python -m`, and of multiprocessing
            module = "__main__" if spec is None else spec.name
        self._name = f"{module}:{function.__qualname__}"
        _refuse_redefinition(function, (self._file, self._name))

    @property
    def name(self) -> str:
        """The name for all processes; reads what is installed, the first time."""
        return f"{_home(self._file)}\n{self._name}"


def require_function(function: object) -> None:
    """Refuse what can never be decorated, whatever its name."""
    if isinstance(function, staticmethod | classmethod):
        raise FunctionRefused(
            f"{_called(function)} is a {type(function).__name__}: put @staticmethod above the "
            "decorator, or make it a function of the module"
        )
    if isinstance(function, FunctionType) and _takes_self(function.__code__):
        raise FunctionRefused(
            f"{_called(function)} is a method: what it builds depends on an object that other "
            "processes do not have, and no name= would tell; make it a function, and pass what "
            "counts as arguments"
        )
    if not callable(function):
        raise FunctionRefused(f"a function is decorated, not a {type(function).__name__}")


def _takes_self(code: CodeType) -> bool:
    within = code.co_qualname.rpartition(".")[0]
    in_class = bool(within) and not within.endswith("<locals>")
    return in_class and code.co_varnames[: code.co_argcount][:1] in (("self",), ("cls",))


def code_digest(function: object) -> str:
    """Hash the code that a call runs: the function's own, and what it wraps or was made with.

    NOT that of the functions that it calls, nor the values of globals.
    """
    parts = list(_parts(function, set()))
    tag = str(sys.implementation.cache_tag)
    return blake2b(repr([tag, *parts]).encode(), digest_size=32).hexdigest()


def key_digest(key: object) -> str:
    """The same of a `key=`, or what it is called where it is none of Python's code."""
    try:
        return code_digest(key)
    except (FunctionRefused, InvalidParams):
        return _called(key)


def _file_of(function: FunctionType) -> str:
    """The file that a function was loaded from; raises `FunctionRefused` without proof."""
    code = function.__code__
    if code.co_name == "<lambda>":
        raise _unproven(function, "is a lambda, and all lambdas are called so")
    if function.__closure__:
        seen = ", ".join(code.co_freevars)
        raise _unproven(
            function, f"captures {seen}, which its arguments do not tell (pass that as an argument)"
        )
    if function.__qualname__ != code.co_qualname:
        raise _unproven(function, f"is {code.co_qualname} by its code: renamed or wrapped")
    file = function.__globals__.get("__file__")
    own = function.__globals__.get("__name__") == function.__module__
    if not own or not isinstance(file, str) or file.startswith("<"):  # "<stdin>"
        raise _unproven(function, "is in no file")
    if os.path.realpath(file) != os.path.realpath(code.co_filename):
        raise _unproven(function, f"is not from the file of its module but {code.co_filename!r}")
    return os.path.realpath(file)


def _refuse_redefinition(function: FunctionType, called: tuple[str, str]) -> None:
    """Refuse a second function of the same name, unless its module was loaded anew."""
    digest = code_digest(function)
    spaces = function.__globals__
    before = _decorated.get(called)
    _decorated[called] = (spaces, spaces.get("__spec__"), digest)
    if before is None or before[2] == digest:
        return
    if before[0] is spaces and before[1] is spaces.get("__spec__"):
        raise _unproven(function, "was decorated before with other code")


def _unproven(function: object, why: str) -> FunctionRefused:
    return FunctionRefused(
        f"{_called(function)} {why}: other processes cannot know which function it is; give name= "
        "a text that no other function of this cache has"
    )


def _called(function: object) -> str:
    named = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or 'the function'}: {named}"


def _parts(function: object, seen: set[int]) -> Iterator[object]:
    """What the digest is made of."""
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, partial):
        yield exact([function.args, function.keywords], "what partial() holds").form
        yield from _parts(function.func, seen)
    elif isinstance(function, FunctionType):
        yield _code(function.__code__)
        yield from _captured(function, seen)
        if callable(wrapped := getattr(function, "__wrapped__", None)):
            yield from _parts(wrapped, seen)
    elif isinstance(inner := getattr(function, "__func__", None), FunctionType):  # bound
        yield from _parts(inner, seen)
    else:
        raise FunctionRefused(
            f"{_called(function)} has no code of Python's to tell an edit by; say source=False, "
            "and change version= with it"
        )


def _captured(function: FunctionType, seen: set[int]) -> Iterator[object]:
    """What a function captured: functions, and plain values as they are when it is decorated."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # to be bound later
            continue
        if isinstance(value, FunctionType):
            yield from _parts(value, seen)
        elif not isinstance(value, list | dict | bytearray):  # which change meanwhile
            try:
                yield [name, exact(value, name).form]
            except InvalidParams:
                continue


def _code(code: CodeType) -> list[object]:
    """Code without the places that it stands at."""
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


@lru_cache(maxsize=1024)
def _home(file: str) -> str:
    """The installed distribution that a file belongs to, with its version, or else the file."""
    places = {os.path.realpath(it) for it in sys.path if os.path.isabs(it)}
    for place in Path(file).parents:
        if str(place) in places:
            inside = Path(file).relative_to(place)
            for found in _by_likeness(place, inside.parts[0]):
                if _has(found, inside.as_posix()):
                    return f"{found.name} {found.version}"
    return file


def _by_likeness(place: Path, top: str) -> Iterator[metadata.Distribution]:
    """What is installed in a folder, those first that are called like the package."""
    from importlib import metadata

    found = list(metadata.distributions(path=[str(place)]))
    like = {top.removesuffix(".py").lower().replace("_", "-")}
    alike = [it for it in found if str(it.name).lower().replace("_", "-") in like]
    return chain(alike, (it for it in found if it not in alike))


def _has(found: metadata.Distribution, file: str) -> bool:
    listed = found.read_text("RECORD") or ""
    return any(line.startswith(f"{file},") for line in listed.splitlines())
