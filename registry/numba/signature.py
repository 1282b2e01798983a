"""The canonical form of a signature: text that is the same in each process, and of no other type.

Numba compares types in memory. Some are known only there (jit classes, dispatchers, enums): they
have no canonical form, and what is compiled for them goes to Numba's own files.
"""

from __future__ import annotations

from typing import Any

from registry.numba.fingerprint import NoFingerprint

__all__ = ["canonical"]

# What makes a type of Numba, by the exact name of its class; () where its name says it all.
_MADE_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Integer", "Float", "Complex", "Boolean", "NoneType", "UnicodeType"), ()),
    **dict.fromkeys(("NPDatetime", "NPTimedelta", "UnicodeCharSeq", "CharSeq", "SliceType"), ()),
    "Array": ("dtype", "ndim", "layout", "mutable", "aligned"),
    "NestedArray": ("dtype", "shape"),
    "Bytes": ("dtype", "mutable"),
    "UniTuple": ("dtype", "count"),
    "Tuple": ("types",),
    "Optional": ("type",),
    "IntegerLiteral": ("literal_value",),
    "StringLiteral": ("literal_value",),
    "BooleanLiteral": ("literal_value",),
    "Omitted": ("value",),
    "Record": ("fields", "size", "aligned"),
    "_RecordField": ("type", "offset", "alignment", "title"),
    "List": ("dtype", "reflected"),
    "Set": ("dtype", "reflected"),
    "ListType": ("item_type",),
    "DictType": ("key_type", "value_type"),
    "Signature": ("return_type", "args", "recvr"),
}
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def canonical(part: Any) -> Any:
    """Return the canonical form of a signature or a part of one, or raise `NoFingerprint`."""
    kind = type(part)
    if kind in _PLAIN:
        return kind.__name__, repr(part)
    if kind is dict:
        return [(name, canonical(it)) for name, it in part.items()]
    if kind is tuple or kind is list:
        return [canonical(it) for it in part]
    made_of = _MADE_OF.get(kind.__name__)
    if made_of is None or not kind.__module__.startswith("numba.core."):
        raise NoFingerprint(kind.__name__)
    if not made_of:
        return kind.__name__, part.name
    return kind.__name__, [canonical(getattr(part, it)) for it in made_of]
