"""The origin of a function: what identifies it for all processes.

A name alone does not: each project may have a `kernels.build`. So a function is identified by its
distribution, or by the file that it was loaded from, together with its module and qualified name. A
function that could share these with another one, or whose origin differs between processes, is
refused: then the user gives a name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from registry.errors import FunctionRefused
from registry.function_digest import called, code_digest

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["Origin", "require_function"]

# By file and name of a function: its globals, its module's spec and its digest when last decorated.
_decorated: dict[tuple[str, str], tuple[object, object, str]] = {}


class Origin:
    """The name of a function that no other function of its file has."""

    def __init__(self, function: object, *, source: bool = True) -> None:
        if not isinstance(function, FunctionType):
            raise _unproven(function, f"is a {type(function).__name__}, not a plain function")
        self._file = _file_of(function)
        if "<locals>" in function.__qualname__ and not source:
            raise _unproven(function, "is local to a function, where others may be called so")
        spec = function.__globals__.get("__spec__")
        module = function.__module__
        if module in ("__main__", "__mp_main__"):  # of `python -m`, and of multiprocessing
            module = "__main__" if spec is None else spec.name
        self._name = f"{module}:{function.__qualname__}"
        _refuse_redefinition(function, (self._file, self._name))

    @property
    def name(self) -> str:
        """The name for all processes; the first call reads which distributions are installed."""
        return f"{_home(self._file)}\n{self._name}"


def require_function(function: object) -> None:
    """Refuse an object that cannot be decorated, even with a name."""
    if isinstance(function, staticmethod | classmethod):
        raise FunctionRefused(
            f"{called(function)} is a {type(function).__name__}: put @staticmethod above the "
            "decorator, or make it a function of the module"
        )
    if isinstance(function, FunctionType) and _takes_self(function.__code__):
        raise FunctionRefused(
            f"{called(function)} is a method: what it builds depends on an object that other "
            "processes do not have, and no name= would tell; make it a function, and pass what "
            "counts as arguments"
        )
    if not callable(function):
        raise FunctionRefused(f"a function is decorated, not a {type(function).__name__}")


def _takes_self(code: CodeType) -> bool:
    within = code.co_qualname.rpartition(".")[0]
    in_class = bool(within) and not within.endswith("<locals>")
    return in_class and code.co_varnames[: code.co_argcount][:1] in (("self",), ("cls",))


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
    """Refuse a second function of the same name, unless its module was reloaded."""
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
        f"{called(function)} {why}: other processes cannot know which function it is; give name= "
        "a text that no other function of this cache has"
    )


@lru_cache(maxsize=1024)
def _home(file: str) -> str:
    """Name the distribution of a file, its version and the path in it; or the file if it has none.

    The path is needed because a distribution may have several files that are loaded under one name.
    """
    places = {os.path.realpath(it) for it in sys.path if os.path.isabs(it)}
    for place in Path(file).parents:
        if str(place) in places:
            inside = Path(file).relative_to(place)
            for found in _by_likeness(place, inside.parts[0]):
                if _has(found, inside.as_posix()):
                    return f"{found.name} {found.version} {inside.as_posix()}"
    return file


def _by_likeness(place: Path, top: str) -> Iterator[metadata.Distribution]:
    """List the distributions installed in a folder, those named like the package first."""
    from importlib import metadata

    found = list(metadata.distributions(path=[str(place)]))
    like = {top.removesuffix(".py").lower().replace("_", "-")}
    alike = [it for it in found if str(it.name).lower().replace("_", "-") in like]
    return chain(alike, (it for it in found if it not in alike))


def _has(found: metadata.Distribution, file: str) -> bool:
    listed = found.read_text("RECORD") or ""
    return any(line.startswith(f"{file},") for line in listed.splitlines())
