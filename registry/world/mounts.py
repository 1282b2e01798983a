"""What the file system under a cache is like, and how it is mounted."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = [
    "LAYERED_FILE_SYSTEMS",
    "NETWORK_FILE_SYSTEMS",
    "existing_part",
    "file_system",
    "is_mounted_noexec",
    "is_mounted_read_only",
    "mount_of",
]

# File systems on which neither shared memory nor locks reach beyond one machine, or not reliably.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs"),
        *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    }
)
# File systems of layers: to change so much as a time of a file in a lower one copies it as a whole.
LAYERED_FILE_SYSTEMS = frozenset(
    {"aufs", "overlay", "overlayfs", "unionfs", "fuse.fuse-overlayfs", "fuse.unionfs"}
)
# How the kernel lists a blank, a tab, a line break and a backslash in the name of a mount point.
_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, or "unknown"."""
    return mount_of(path)[1]


def mount_of(path: Path) -> tuple[str, str]:
    """The mount point that a path is under, and the type of its file system, or "unknown"."""
    best, found = "", "unknown"
    real = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split(" ")
                point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
                beneath = real == point or real.startswith(point.rstrip("/") + "/")
                if beneath and len(point) >= len(best):
                    best, found = point, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return "", "unknown"
    return best, found


def is_mounted_noexec(path: Path) -> bool:
    """Whether no file there can be mapped as code, as a compiled artifact has to be.

    Raises OSError for a path that cannot be asked about.
    """
    return bool(os.statvfs(existing_part(path)).f_flag & os.ST_NOEXEC)


def is_mounted_read_only(path: Path) -> bool:
    """Whether nothing can be written there; raises OSError as `is_mounted_noexec`."""
    return bool(os.statvfs(existing_part(path)).f_flag & os.ST_RDONLY)


def existing_part(path: Path) -> Path:
    """The path, or as much of it, from the root on, as is there."""
    return next((part for part in (path, *path.parents) if os.path.exists(part)), Path("/"))
