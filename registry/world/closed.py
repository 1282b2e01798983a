"""How a handle words its refusal: one that is no longer open, and one that is to be copied."""

from __future__ import annotations

from registry.errors import HandleClosed, HandleForked

__all__ = ["closed_error", "copied_error"]


def closed_error(kind: type[HandleClosed]) -> HandleClosed:
    """Word the refusal of a handle that is closed, or was opened by the parent of a fork."""
    if kind is HandleForked:
        return HandleForked(
            "this handle was opened before a fork, by the parent process; open a new one here"
        )
    return HandleClosed("this handle is not open (any more); open a new one")


def copied_error(handle: object) -> TypeError:
    """Word the refusal of a copy, which would close, when it goes, what the handle still uses."""
    return TypeError(
        f"{type(handle).__name__} is neither copied nor pickled; open one where it is needed"
    )
