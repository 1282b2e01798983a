"""The cache directory: owned by one user, on a local file system, created if missing.

A user who can write to it can run any code as its owner. SQLite's WAL, our locks and our renames
work on one machine only.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from registry.errors import CacheDirectoryRefused
from registry.opening import copy_on_write
from registry.opening.cache_path import named_directory
from registry.opening.directory_check import FOLDERS, directory_problems
from registry.opening.problems import Problem, refusal
from registry.shortage import explained_os_error
from registry.world.mounts import NETWORK_FILE_SYSTEMS, file_system

__all__ = [
    "NETWORK_FILE_SYSTEMS",
    "file_system",
    "named_directory",
    "prepared_directory",
    "require_usable",
]


def prepared_directory(cache: Path) -> Path:
    """Check a cache directory that is named in full, create what is missing, return it resolved.

    Raises `CacheDirectoryRefused` with all problems and advice, before it creates anything.
    """
    try:
        require_usable(cache)
        if _made(cache):
            require_usable(cache)  # another process may have been faster
        if file_system(cache) == "btrfs":
            copy_on_write.switch_off(cache)
    except OSError as error:
        raise explained_os_error(error, str(cache)) or CacheDirectoryRefused(
            f"{str(cache)!r} cannot be used as a cache directory: {error.strerror}; "
            "choose another one"
        ) from error
    # Its parents may be links; handles recognise each other by one resolved path.
    return Path(os.path.realpath(cache))


def require_usable(cache: Path) -> None:
    """Raise `CacheDirectoryRefused` with all problems and advice; changes nothing."""
    problems = directory_problems(cache)
    kind = file_system(cache)
    if kind in NETWORK_FILE_SYSTEMS:
        problems.append(
            Problem(cache, f"is on a network file system ({kind})", "choose a local disk")
        )
    if problems:
        raise refusal(cache, problems)


def _made(cache: Path) -> list[Path]:
    """Create all missing folders or, on failure, none."""
    made: list[Path] = []
    try:
        for folder in (cache, *(cache / name for name in FOLDERS)):
            _make(folder, made)
    except OSError:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)
        raise
    return made


def _make(folder: Path, made: list[Path]) -> None:
    """Create a folder and its parents, readable only by us, independent of the umask."""
    if not os.path.lexists(folder):
        _make(folder.parent, made)
        with suppress(FileExistsError):  # another process may be opening the same new cache
            os.mkdir(folder, 0o700)
            made.append(folder)
