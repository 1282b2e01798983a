"""The cache directory: one user's, on a local file system, made if it is missing.

Whoever can write to it can have code of their choice run as its owner. And SQLite's WAL, our locks
and our renames hold on one machine only.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from registry.errors import CacheDirectoryRefused

__all__ = [
    "NETWORK_FILE_SYSTEMS",
    "file_system",
    "forget_identity",
    "named_directory",
    "prepared_directory",
    "store_identity",
    "stored_identity",
]

# File systems on which neither shared memory nor locks reach beyond one machine, or not reliably.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs"),
        *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    }
)
# How the kernel lists a blank, a tab, a line break and a backslash in the name of a mount point.
_ESCAPED = re.compile(r"\\([0-7]{3})")
_FOLDERS = ("artifacts", "hosts", "workers")
IDENTITY = "cache.id"


def prepared_directory(path: str | os.PathLike[str]) -> Path:
    """Check the cache directory, make what is missing, and answer it resolved.

    Raises `CacheDirectoryRefused` with the reason and what to do.
    """
    cache = named_directory(path)
    try:
        _make(cache)
        _require_safe(cache)
        _require_local(cache)
        for name in _FOLDERS:
            _make(cache / name)
            _require_safe(cache / name)
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
        raise CacheDirectoryRefused(
            f"{str(cache)!r} cannot be used as a cache directory: "
            f"{getattr(error, 'strerror', None) or error}; choose another one"
        ) from error
    # Its parents may be links: one cache has one name, by which its handles know each other.
    return Path(os.path.realpath(cache))


def named_directory(path: str | os.PathLike[str]) -> Path:
    """Take the name of a cache directory, and answer it absolute; looks at nothing."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"cache_dir is a Path, not {type(path).__name__}")
    if path == "":  # an unset variable, most likely; a path it is not
        raise CacheDirectoryRefused(
            'the cache directory has an empty name; name it, or say Path(".") for the current one'
        )
    return Path(os.path.abspath(os.fspath(path)))


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, or "unknown"."""
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
        return "unknown"
    return found


def _make(folder: Path) -> None:
    """Make a folder and its parents, each for us alone, whatever the umask says."""
    if not os.path.lexists(folder):
        _make(folder.parent)
        with suppress(FileExistsError):  # another process may be opening the same new cache
            os.mkdir(folder, 0o700)


def _require_safe(folder: Path) -> None:
    found = os.lstat(folder)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        raise _refused(folder, "is a symbolic link", "name the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(folder, "is not a directory", "choose another path")
    if found.st_uid != os.geteuid():
        raise _refused(folder, f"belongs to user {found.st_uid}", "use a directory of your own")
    if mode & 0o022:
        raise _refused(folder, f"can be written by others (mode {mode:o})", "chmod go-w it")
    if mode & 0o700 != 0o700:
        raise _refused(folder, f"is read-only (mode {mode:o})", "chmod u+rwx it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _refused(folder, "is on a read-only file system", "mount that writable")


def _require_local(folder: Path) -> None:
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise _refused(folder, f"is on a network file system ({kind})", "choose a local disk")


def _refused(folder: Path, why: str, instead: str) -> CacheDirectoryRefused:
    return CacheDirectoryRefused(f"{folder} {why}; {instead}")


def stored_identity(cache: Path) -> str | None:
    """Read `cache.id`: which cache the directory says that it is."""
    try:
        # Not blocking: what somebody planted there may be a fifo.
        fd = os.open(cache / IDENTITY, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip() or None
    except OSError:  # a folder
        return None
    finally:
        os.close(fd)


def store_identity(cache: Path, uuid: str) -> None:
    """Write `cache.id` as a whole; the caller holds `open.lock`.

    Raises `CacheDirectoryRefused` where that cannot be done.
    """
    try:
        _write_identity(cache, uuid)
    except OSError as error:
        raise CacheDirectoryRefused(
            f"{cache / IDENTITY} cannot be written: {error.strerror}; see what it is"
        ) from error


def _write_identity(cache: Path, uuid: str) -> None:
    temporary = cache / f"{IDENTITY}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{uuid}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, cache / IDENTITY)


def forget_identity(cache: Path) -> None:
    """Remove `cache.id`, to be written anew; the caller holds `open.lock`."""
    with suppress(FileNotFoundError):
        os.unlink(cache / IDENTITY)
