"""The mark of a last use: a file's time of access that says which host's write it comes from.

A process that writes a last use into a row leaves the same time on the file. The other processes
see it in the stat that they make anyway, and need not write it again. It only saves work.
"""

from __future__ import annotations

import os

__all__ = ["as_access_time", "use_marked"]

# The last three digits distinguish it from a time that the kernel wrote when the file was read.
_MARK_NS = 737


def as_access_time(at: int) -> int:
    """Encode a last use (microseconds) as an access time (ns) that is marked as ours."""
    return at * 1000 + _MARK_NS


def use_marked(seen: os.stat_result) -> int | None:
    """Read the last use (microseconds) that a host left on a file; None if there is none.

    A file system that keeps no nanoseconds, or a reader that the kernel notes, loses it; then the
    last use is written once more. A reader is taken for a host once in a thousand times, and delays
    the next write for as long as one of ours would.
    """
    at, mark = divmod(seen.st_atime_ns, 1000)
    return at if mark == _MARK_NS else None
