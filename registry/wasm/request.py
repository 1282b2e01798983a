"""A request to a module, and its result. Both consist of values that msgpack supports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from registry.wasm.errors import InvalidRequest

__all__ = ["NUMBERS", "Request", "Result", "as_json", "as_numbers"]

NUMBERS = ("i32", "i64", "f32", "f64")

_SIGNED = {"i32": 2**31, "i64": 2**63}
_LARGEST_F32 = (2 - 2**-23) * 2.0**127


class Result(TypedDict):
    """The result of a run: a dict, whose bytes JSON cannot hold; see `as_json`.

    `values` are those that the invoked function returned, integers signed; it is empty for a WASI
    command. `exit_code` is the command's, 0 for a function. `stdout` and `stderr` are what the
    module wrote.
    """

    values: list[int | float]
    exit_code: int
    stdout: bytes
    stderr: bytes


def as_json(result: Result) -> dict[str, Any]:
    """Return the result with values that `json.dumps` takes, even with `allow_nan=False`.

    Output becomes text; a byte that is not UTF-8 becomes a lone surrogate, and
    `text.encode(errors="surrogateescape")` restores it. NaN and infinities become text.
    """
    return {
        # JSON has no NaN and no infinity
        "values": [value if math.isfinite(value) else str(value) for value in result["values"]],
        "exit_code": result["exit_code"],
        "stdout": result["stdout"].decode(errors="surrogateescape"),
        "stderr": result["stderr"].decode(errors="surrogateescape"),
    }


@dataclass(frozen=True, slots=True)
class Request:
    """One run of a module; `None` stands for "not asked for".

    With `invoke`, the exported function of that name is called with `args`: numbers, or text
    that is read as the declared types say. Without, the module is a WASI command, whose arguments
    are `name` and `args` (text).

    A module sees nothing of the machine but the clock, random numbers, and what is given here:
    `stdin` (bytes), `env`, `dirs` and `writable_dirs` (what the module calls a directory, and its
    path here). Its output is captured in memory, which is NOT bounded but by the process's
    RLIMIT_FSIZE. With `ambient`, standard input (unless `stdin` is given), output and error are
    this process's own.

    `memory_limit` is in bytes, for each memory and each table of the module, NOT for their sum;
    `time_limit` in seconds of wall-clock time.
    """

    invoke: str | None = None
    args: Sequence[Any] = ()
    name: str = "module"
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    dirs: Mapping[str, str] = field(default_factory=dict)
    writable_dirs: Mapping[str, str] = field(default_factory=dict)
    ambient: bool = False
    memory_limit: int | None = None
    time_limit: float | None = None

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Request:
        """Check a request key by key; raises `InvalidRequest`, and `TypeError` for no mapping."""
        if not isinstance(request, Mapping):
            raise TypeError(f"a request is a mapping, not {type(request).__name__}")
        for key, value in request.items():
            if key not in _CHECKS:
                raise InvalidRequest(f"a request has no {key!r}; it may have {', '.join(_CHECKS)}")
            accepts, expected = _CHECKS[key]
            if not accepts(value):
                raise InvalidRequest(f"{key} is {_quoted(value)}; it must be {expected}")
        wanted = cls(**request)
        if wanted.invoke is None and not all(map(_is_text, wanted.args)):
            raise InvalidRequest("args of a WASI command must be text without NUL")
        return wanted

    @property
    def command_line(self) -> list[str]:
        """What the module may read as its command line, its own name first."""
        return [self.name] if self.invoke is not None else [self.name, *self.args]


def as_numbers(arguments: Sequence[Any], types: Sequence[str]) -> list[int | float]:
    """Read the arguments as the declared types say; raises `InvalidRequest`.

    Integers may be signed or unsigned, and their text decimal or 0x, 0o, 0b.
    """
    if len(arguments) != len(types):
        raise InvalidRequest(
            f"the function takes {len(types)} arguments ({', '.join(types) or 'none'}), "
            f"not {len(arguments)}"
        )
    return [
        _number(value, type_, f"argument {position}")
        for position, (value, type_) in enumerate(zip(arguments, types, strict=True), start=1)
    ]


def _number(value: object, type_: str, what: str) -> int | float:
    if type_ in _SIGNED:
        return _integer(value, type_, what)
    if type_ in ("f32", "f64"):
        return _float(value, type_, what)
    raise InvalidRequest(f"{what} is a {type_}, which cannot be given from outside")


def _integer(value: object, type_: str, what: str) -> int:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int):
        raise InvalidRequest(f"{what} is {_quoted(value)}; the function wants an {type_}")
    half = _SIGNED[type_]
    if not -half <= number < 2 * half:
        raise InvalidRequest(f"{what} is {_quoted(value)}, which does not fit an {type_}")
    return number - 2 * half if number >= half else number


def _float(value: object, type_: str, what: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise InvalidRequest(f"{what} is {_quoted(value)}; the function wants an {type_}")
    if type_ == "f32" and math.isfinite(number) and abs(number) > _LARGEST_F32:
        raise InvalidRequest(f"{what} is {_quoted(value)}, which does not fit an f32")
    return number


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _is_text(value: object) -> bool:
    """Return whether a C string can hold this."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: bytes of a command line that are no UTF-8
        return False
    return True


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(key) and _is_text(item) for key, item in value.items()
    )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


# What each key of a request accepts, and how to say so.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "invoke": (lambda value: value is None or _is_text(value), "a name"),
    "args": (lambda value: isinstance(value, list | tuple), "a list"),
    "name": (_is_text, "text without NUL"),
    "stdin": (lambda value: value is None or isinstance(value, bytes), "bytes"),
    "env": (_is_texts, "a mapping of text to text"),
    "dirs": (_is_texts, "a mapping of names to paths, both text"),
    "writable_dirs": (_is_texts, "a mapping of names to paths, both text"),
    "ambient": (lambda value: isinstance(value, bool), "True or False"),
    "memory_limit": (
        lambda value: value is None or (type(value) is int and 0 < value < 2**63),
        "a number of bytes",
    ),
    "time_limit": (lambda value: value is None or _is_positive(value), "a number of seconds"),
}
