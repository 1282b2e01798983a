"""The canonical form of an argument: two values share one only if no function can tell them apart.

So only exact types have one. A subclass may behave differently (an IntEnum does not print as its
int), and other objects may hold more than their text shows. Dicts are equal if only the order of
their keys differs; so they share a form, and the copy has its keys sorted.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple

from registry.artifact import near, shown
from registry.errors import InvalidParams

__all__ = ["MOST_BITS", "Exact", "exact"]

# Deep enough for any real argument, and small enough for a thread's stack in each later pass.
MOST_LEVELS = 100
# An int of more bits is written in hex: Python refuses to write thousands of digits in decimal.
MOST_BITS = 64


class Exact(NamedTuple):
    """A copy of a value, which its owner can no longer change, and its canonical form."""

    value: Any
    form: Any


def exact(value: object, where: str, level: int = 0) -> Exact:
    """Copy a value and write its form; raises `InvalidParams`, which names the argument."""
    kind = type(value)
    if level > MOST_LEVELS:
        raise InvalidParams(f"{where} is nested too deeply, or contains itself; pass it flat")
    if value is None or kind is bool:
        return Exact(value, value)
    if isinstance(value, list | tuple) and kind in (list, tuple):
        return _sequence(value, where, level)
    if isinstance(value, dict) and kind is dict:
        return _mapping(value, where, level)
    return _scalar(value, where)


def _scalar(value: object, where: str) -> Exact:
    kind = type(value)
    if isinstance(value, str) and kind is str:
        return Exact(value, _text(value, where))
    if isinstance(value, int) and kind is int:
        return Exact(value, value if value.bit_length() <= MOST_BITS else ["int", hex(value)])
    if isinstance(value, float) and kind is float:  # by its bits: 0.0 is not -0.0
        return Exact(value, ["float", struct.pack(">d", value).hex()])
    if isinstance(value, bytes | bytearray) and kind in (bytes, bytearray):
        own = kind(value)
        return Exact(own, [kind.__name__, blake2b(own, digest_size=32).hexdigest()])
    raise InvalidParams(
        f"{where} is a {kind.__qualname__}, which has no canonical form; {_advice(value)}, or give "
        "a key= that says what counts"
    )


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidParams(
            f"{where} contains a lone surrogate, which is no text; pass os.fsencode() of it"
        ) from None
    return value


def _sequence(value: list[Any] | tuple[Any, ...], where: str, level: int) -> Exact:
    kind = type(value)
    items = [exact(it, near(where, f"[{n}]"), level + 1) for n, it in enumerate(tuple(value))]
    return Exact(kind(it.value for it in items), [kind.__name__, *(it.form for it in items)])


def _mapping(value: dict[Any, Any], where: str, level: int) -> Exact:
    items = {}
    for key, it in dict(value).items():
        if type(key) is not str:
            raise InvalidParams(
                f"{where} has a key {shown(key)}; its keys must be str: pass a list of its items"
            )
        place = near(where, f"[{shown(key)}]")
        items[_text(key, f"a key of {where}")] = exact(it, place, level + 1)
    own = {key: items[key].value for key in sorted(items)}
    return Exact(own, {key: it.form for key, it in items.items()})


def _advice(value: object) -> str:
    """Say what to pass instead."""
    if isinstance(value, Enum):
        return "pass its .value or its .name"
    if isinstance(value, os.PathLike):
        return "pass str() of it, or the bytes of the file"
    if isinstance(value, set | frozenset):
        return "pass a sorted list of it"
    for base in (bool, int, str, float, bytes, bytearray, list, tuple, dict):
        if isinstance(value, base):  # a subclass
            return f"pass {base.__name__}() of it"
    if hasattr(value, "item"):  # a scalar or an array of numpy or a similar library
        return "pass .item() or .tolist() of it"
    if isinstance(value, memoryview) or hasattr(value, "tobytes"):
        return "pass the bytes of it, with its format if that matters"
    return "pass what it is made of (bytes, str, numbers, lists, dicts)"
