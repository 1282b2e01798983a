"""Whether a process of this machine runs."""

from __future__ import annotations

import errno
import os

__all__ = ["is_running"]


def is_running(pid: int | None, hostname: str | None) -> bool:
    """Whether it runs, and is of this machine; a number that it does not know is no process."""
    if not isinstance(pid, int) or hostname != os.uname().nodename:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ESRCH)
    return state not in (b"Z", b"X")  # it has ended, and its parent does not know yet
