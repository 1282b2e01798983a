"""What people write into a row: errors and labels, validated, sanitized, truncated."""

from __future__ import annotations

import re
from typing import NamedTuple

from registry.errors import InvalidData, PrepareError

__all__ = ["ABANDONED", "DEADLINE", "HOST_DIED", "Failure", "as_kind", "as_label", "describe"]

ERROR_BYTES = 64 * 1024
LABEL_BYTES = 1024
KIND_BYTES = 256
_KIND = re.compile(r"[a-z0-9_.-]{1,32}")


class Failure(NamedTuple):
    """Why a preparation failed."""

    message: str
    kind: str | None
    deterministic: bool = False


# How a preparation ends that nobody ended: cut short, not failed by itself.
HOST_DIED = Failure("the host that prepared it died", "host_died")
DEADLINE = Failure("its preparation passed the deadline of its claim", "deadline")
ABANDONED = frozenset({HOST_DIED.kind, DEADLINE.kind})


def describe(error: str | BaseException, kind: str | None = None) -> Failure:
    """Turn an error into what is stored of it.

    Text is refused if it cannot be stored; that of an exception is sanitized instead, so that
    no failure is lost because of its text.
    """
    if kind is not None and not isinstance(kind, str):
        raise TypeError(f"kind is a str, not {type(kind).__name__}")
    word = None if kind is None else _truncated(_storable("kind", kind), KIND_BYTES)
    if isinstance(error, str):
        if not error:
            raise InvalidData("a failure needs a message that says what went wrong")
        return Failure(_truncated(_storable("error", error), ERROR_BYTES), word)
    if not isinstance(error, BaseException):
        raise TypeError(f"error is a str or an exception, not {type(error).__name__}")
    message = _truncated(_sanitized(_text_of(error)), ERROR_BYTES)
    said, deterministic = None, False
    if isinstance(error, PrepareError):
        said, deterministic = error.kind, error.deterministic
    named = _truncated(_sanitized(str(said or type(error).__name__)), KIND_BYTES)
    return Failure(message, word or named, deterministic)


def as_label(label: object) -> str | None:
    """Validate a label and truncate it to 1 KiB; raises `InvalidData` for NUL."""
    if label is None:
        return None
    if not isinstance(label, str):
        raise TypeError(f"label is a str, not {type(label).__name__}")
    return _truncated(_storable("label", label), LABEL_BYTES)


def as_kind(kind: object) -> str | None:
    """Validate a kind of artifact: at most 32 of a-z, 0-9, "_", "." and "-"."""
    if kind is None:
        return None
    if not isinstance(kind, str):
        raise TypeError(f"kind is a str, not {type(kind).__name__}")
    if not _KIND.fullmatch(kind):
        raise InvalidData(
            f"{kind[:80]!r} is not a kind of artifact; use 1 to 32 of the characters a-z0-9_.-"
        )
    return kind


def _text_of(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an exception whose own __str__ raises is still a failure
        return type(error).__name__


def _storable(what: str, text: str) -> str:
    if "\0" in text:
        raise InvalidData(f"{what} contains NUL, which text in the database cannot; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidData(f"{what} contains a lone surrogate, which is no text") from None
    return text


def _sanitized(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _truncated(text: str, most: int) -> str:
    raw = text.encode()
    return text if len(raw) <= most else raw[:most].decode("utf-8", "ignore")
