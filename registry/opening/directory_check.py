"""All problems that make a cache directory unsafe or unusable, for opening and the doctor.

A user who can write to it can run any code as its owner. SQLite's WAL, our locks and our renames
work on one machine only. Nothing here changes anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from registry.opening.cache_path import path_problem, read_only
from registry.opening.problems import Problem
from registry.world.mounts import is_mounted_read_only

__all__ = ["FOLDERS", "OWN_NAMES", "directory_problems"]

FOLDERS = ("artifacts", "hosts", "workers")  # created at opening; the others when needed
_ALL_FOLDERS = (*FOLDERS, "backups", "damaged")
_OTHER = "choose another path"
_FILES = ("registry.db", "registry.db-wal", "registry.db-shm", "open.lock", "cache.id", "reserve")
# All that a cache directory may hold without being somebody else's; mkfs makes the last.
OWN_NAMES = frozenset({*_ALL_FOLDERS, *_FILES, "cache.id.tmp", "lost+found"})
# These are checked where they are read; they may be of any type here.
_LESSER = frozenset({"cache.id", "reserve"})


def directory_problems(cache: Path) -> list[Problem]:
    """List the problems of a cache directory and of our files in it.

    If it is missing: the problems of the place where it would be created.
    """
    problem = path_problem(cache)
    if problem is not None:
        return [problem]
    if not os.path.lexists(cache):
        return []
    top = os.lstat(cache)
    problems = list(_of_folder(cache, top))
    if not stat.S_ISDIR(top.st_mode):
        return problems
    inside = [cache / name for name in (*_ALL_FOLDERS, *_FILES)]
    for path in inside:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if not problems:  # else it is what was told of the directory that hides it
                problems.append(Problem(path, f"cannot be examined ({error.strerror})", _OTHER))
            continue
        problems += _of_file(path, found, top) if path.name in _FILES else _of_part(path, found)
    return _told_once(problems)


def _told_once(problems: list[Problem]) -> list[Problem]:
    """Report a problem of the mounted file system for one path only."""
    targets = [problem.target for problem in problems]
    return [
        problem
        for number, problem in enumerate(problems)
        if problem.target is None or problem.target not in targets[:number]
    ]


def _of_folder(cache: Path, found: os.stat_result) -> Iterator[Problem]:
    if stat.S_ISLNK(found.st_mode):
        target = os.path.realpath(cache)
        if not os.path.exists(cache):
            yield Problem(cache, f"is a symbolic link to nothing ({target})", "remove it")
        else:
            yield Problem(cache, f"is a symbolic link to {target}", "name the directory itself")
    elif not stat.S_ISDIR(found.st_mode):
        yield Problem(cache, "is not a directory", _OTHER)
    else:
        yield from _of_owner(cache, found, ("chown",), "use a directory of your own")
        yield from _of_mode(cache, found, ("chmod",))


def _of_part(folder: Path, found: os.stat_result) -> Iterator[Problem]:
    if not stat.S_ISDIR(found.st_mode):
        kind = "is a symbolic link" if stat.S_ISLNK(found.st_mode) else "is not a directory"
        yield Problem(folder, f"{kind}, where the cache needs a directory", "move it away")
    else:
        yield from _of_owner(folder, found, ("chown", "-R"))
        yield from _of_mode(folder, found, ("chmod", "-R"))


def _of_file(file: Path, found: os.stat_result, top: os.stat_result) -> Iterator[Problem]:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        if file.name not in _LESSER:
            yield Problem(file, "is not a regular file", "move it away")
        return
    yield from _of_owner(file, found, ("chown",))
    if _writers(mode) & _enterers(stat.S_IMODE(top.st_mode)):
        yield Problem(file, f"can be written by others (mode {mode:o})", "", ("chmod", "go-w"))
    # SQLite would make the files beside it in the same mode, and leave them so: the cache would be
    # refused even after its mode was repaired.
    if mode & 0o600 != 0o600 and file.name not in _LESSER:
        yield Problem(file, f"is read-only (mode {mode:o})", "", ("chmod", "u+rw"))


def _of_owner(
    path: Path, found: os.stat_result, chown: tuple[str, ...], instead: str = ""
) -> Iterator[Problem]:
    user = os.geteuid()
    if found.st_uid != user:
        what = f"belongs to user {found.st_uid}, not to user {user}"
        command = chown if user == 0 else ("sudo", *chown)
        yield Problem(path, what, instead, (*command, str(user)))


def _of_mode(folder: Path, found: os.stat_result, chmod: tuple[str, ...]) -> Iterator[Problem]:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        yield Problem(folder, f"can be written by others (mode {mode:o})", "", (*chmod, "go-w"))
    if mode & 0o700 != 0o700:
        yield Problem(folder, f"is read-only (mode {mode:o})", "", ("chmod", "u+rwx"))
    elif found.st_uid == os.geteuid() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield _refusing(folder)


def _refusing(folder: Path) -> Problem:
    """Return why a folder with the right owner and mode is not writable."""
    if is_mounted_read_only(folder):
        return read_only(folder)
    what = "is on a read-only file system, or an access list keeps us from writing"
    return Problem(folder, what, "see `getfacl` and `mount`")


def _writers(mode: int) -> int:
    """Return who else can write: 2 the group, 1 all others."""
    return (mode >> 3 & 0o2) | (mode >> 1 & 0o1)


def _enterers(mode: int) -> int:
    """Return who else can enter a directory: 2 the group, 1 all others."""
    return (mode >> 2 & 0o2) | (mode & 0o1)
