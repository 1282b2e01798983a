"""How a handle that is no longer open words its refusal."""

from __future__ import annotations

from registry.errors import HandleClosed, HandleForked

__all__ = ["closed_error"]


def closed_error(kind: type[HandleClosed]) -> HandleClosed:
    """Word the refusal of a handle that is closed, or was opened by the parent of a fork."""
    if kind is HandleForked:
        return HandleForked(
            "this handle was opened before a fork, by the parent process; open a new one here"
        )
    return HandleClosed("this handle is not open (any more); open a new one")
