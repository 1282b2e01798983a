"""No copy-on-write for the cache on btrfs.

SQLite maps its -shm file. A write to a mapped page of a copy-on-write file needs new space; on a
full disk the kernel has none, and kills the process with SIGBUS. New files in a folder with this
attribute are overwritten in place.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

__all__ = ["switch_off"]

_LONG = struct.calcsize("l")
_GET_FLAGS = 0x80006601 | _LONG << 16  # the size is part of the number; see <linux/fs.h>
_SET_FLAGS = 0x40006602 | _LONG << 16
_NO_COPY_ON_WRITE = 0x00800000


def switch_off(folder: Path) -> None:
    """Make new files in a folder be overwritten in place, if the file system can."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            (flags,) = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(_LONG)))
            if not flags & _NO_COPY_ON_WRITE:
                fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _NO_COPY_ON_WRITE))
        finally:
            os.close(fd)
