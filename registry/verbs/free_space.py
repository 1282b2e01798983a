"""Free space on a full disk: prune what may be pruned, then try once more.

Nothing that was needed within `min_stale_time` goes, on a full disk either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from registry.effects import Verb
from registry.errors import DiskFull, RegistryError
from registry.verbs.handle import Handle
from registry.verbs.prune import make_space, read_usage

__all__ = ["with_space"]

T = TypeVar("T")
# Which part of what is held goes, try by try. No one knows how many bytes, or inodes, are needed.
_SHARES = (10, 3, 1)


def with_space(handle: Handle, work: Callable[[], Verb[T]], size: int = 0) -> Verb[T]:
    """Do work that may well be done twice, and that needs about so many bytes."""
    for share in _SHARES:
        try:
            return (yield from work())
        except DiskFull:
            if not (yield from _prune(handle, share, size)):
                raise
    return (yield from work())


def _prune(handle: Handle, share: int, size: int) -> Verb[bool]:
    """Delete the least recently needed; whether there were any that may go."""
    try:
        usage = yield from read_usage(handle)
        return bool((yield from make_space(handle, usage, usage.bytes // share + size)))
    except (RegistryError, OSError):  # the caller is told that the disk is full
        return False
