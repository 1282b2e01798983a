"""The path of a cache directory: normalised, and refused before anything is created.

A path is made absolute once, when a handle is created: a process that changes its working directory
later stays on its cache. `~` is expanded, because no shell does it in a unit file or a Dockerfile.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from registry.errors import CacheDirectoryRefused
from registry.opening.problems import Problem
from registry.world.mounts import existing_part, is_mounted_read_only, mount_of

__all__ = ["LONGEST_DATABASE_PATH", "named_directory", "path_problem", "read_only"]

# In bytes: SQLite allows 512 for a path, and keeps room for "-journal" after that of a database.
LONGEST_DATABASE_PATH = 512 - len("-journal")
_LONGEST_BYTES = LONGEST_DATABASE_PATH - len("/registry.db")
_NAME_BYTES = 255  # the limit of nearly all file systems


def named_directory(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a cache directory, without reading the disk.

    Raises TypeError if it is not a path, `CacheDirectoryRefused` for an unusable name.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"cache_dir is a Path, not {type(path).__name__}")
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"cache_dir is a Path of str, not of {type(name).__name__}")
    if name == "":  # most likely an unset variable
        raise CacheDirectoryRefused(
            'the cache directory has an empty name; name it, or say Path(".") for the current one'
        )
    _require_possible(name)
    return Path(_absolute(_expanded(name)))


def path_problem(cache: Path) -> Problem | None:
    """Return why a cache can neither be nor be created at a path; creates nothing."""
    if cache == Path("/"):
        return Problem(cache, "is the root of the file system", "name a directory of its own")
    return _too_long(cache) or _unreachable(cache)


def _require_possible(name: str) -> None:
    if "\0" in name:
        raise CacheDirectoryRefused(f"{name!r} has a NUL in it, which no path can; name another")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise CacheDirectoryRefused(
            f"{name!r} has a character that no file name can have here; name another directory"
        ) from error


def _expanded(name: str) -> str:
    if not name.startswith("~"):
        return name
    user = name.partition("/")[0]
    expanded = os.path.expanduser(name)
    if expanded.startswith("~"):
        unknown = "the home directory is not known (set $HOME)"
        whose = f"there is no user {user[1:]!r}" if user[1:] else unknown
        raise CacheDirectoryRefused(
            f"{name!r} cannot be used as a cache directory: {whose}; write the path in full "
            f"(for a directory that is really called so: ./{name})"
        )
    if not os.path.isabs(expanded) or (user == "~" and os.environ.get("HOME") == ""):
        home = os.environ.get("HOME", "")
        raise CacheDirectoryRefused(
            f"{name!r} cannot be used as a cache directory: $HOME is {home!r}, no absolute path; "
            "set it, or write the path in full"
        )
    return expanded


def _absolute(name: str) -> str:
    try:
        absolute = os.path.abspath(name)
    except OSError as error:  # the current directory was removed
        raise CacheDirectoryRefused(
            f"{name!r} cannot be used as a cache directory: it is relative, and the current "
            f"directory cannot be read ({error.strerror}); write the path in full"
        ) from error
    return absolute[1:] if absolute.startswith("//") else absolute  # POSIX keeps two slashes


def _too_long(cache: Path) -> Problem | None:
    limit = _name_limit(cache)
    for part in cache.parts:
        size = len(os.fsencode(part))
        if size > limit:
            what = f"has a name of {size} bytes in it, {part[:20]}...; the longest may have {limit}"
            return Problem(cache, what, "choose a shorter one")
    size = len(os.fsencode(os.path.realpath(cache)))
    if size > _LONGEST_BYTES:
        what = f"is a path of {size} bytes; SQLite allows {_LONGEST_BYTES} for a cache directory"
        return Problem(cache, what, "choose a shorter one")
    return None


def _name_limit(cache: Path) -> int:
    try:
        return os.pathconf(existing_part(cache), "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def _unreachable(cache: Path) -> Problem | None:
    """Walk from the root to the cache, or to where it would be created."""
    for folder in reversed(cache.parents):
        try:
            found = os.stat(folder)
        except FileNotFoundError:
            if os.path.islink(folder):
                what = f"is a symbolic link to nothing ({os.readlink(folder)})"
                return Problem(folder, what, "make what it points to, or choose another path")
            return _unwritable(folder.parent, cache)
        except OSError as error:
            return _unseen(folder, error)
        if not stat.S_ISDIR(found.st_mode):
            what = f"is not a directory, so {cache} cannot be in it"
            return Problem(folder, what, "choose another path")
    try:
        os.lstat(cache)
    except FileNotFoundError:
        return _unwritable(cache.parent, cache)
    except OSError as error:
        return _unseen(cache, error)
    return None


def _unseen(path: Path, error: OSError) -> Problem:
    folder = path.parent
    may_enter = os.access(folder, os.X_OK, effective_ids=True)
    if may_enter or not isinstance(error, PermissionError):
        return Problem(path, f"cannot be examined ({error.strerror})", "choose another path")
    found = os.stat(folder)
    what = (
        f"cannot be entered by user {os.geteuid()} (it belongs to user {found.st_uid}, "
        f"mode {stat.S_IMODE(found.st_mode):o})"
    )
    return Problem(folder, what, "choose another path", ("sudo", "chmod", "a+x"))


def _unwritable(parent: Path, cache: Path) -> Problem | None:
    if os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        return None
    if is_mounted_read_only(parent):
        return read_only(parent, f", so {cache} cannot be made in it")
    user = str(os.geteuid())
    make = ("sudo", "install", "-d", "-m", "700", "-o", user)
    what = f"cannot be made, because {parent} cannot be written by user {user}"
    return Problem(cache, what, "choose another path", make)


def read_only(folder: Path, so: str = "") -> Problem:
    """Return the problem that a file system is read-only, perhaps after an error."""
    point = Path(mount_of(folder)[0] or folder)
    what = f"is on a read-only file system (mounted on {point}){so}"
    remount = ("sudo", "mount", "-o", "remount,rw")
    return Problem(folder, what, "find the reason with `sudo dmesg`", remount, point)
