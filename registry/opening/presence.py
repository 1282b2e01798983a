"""Whether a directory holds a cache, so that reading makes none and writing asks first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from registry.errors import CacheDirectoryRefused, DatabaseDamaged, DiskFull
from registry.opening import migrate
from registry.opening.cache_path import path_problem
from registry.opening.directory import require_usable
from registry.opening.directory_check import FOLDERS, OWN_NAMES
from registry.opening.errors import worded
from registry.world.identity_file import IDENTITY

__all__ = ["has_cache", "no_cache", "require_no_foreign", "require_room_for_cache"]

_FEW = 3


def has_cache(cache: Path) -> bool:
    """Whether there is a cache; changes nothing. What cannot be examined may be one."""
    if path_problem(cache) is not None:
        return True
    try:
        return _is_cache(cache) or not (cache.is_dir() or not os.path.lexists(cache))
    except OSError:  # opening it says why
        return True


def no_cache(cache: Path) -> str:
    """Word that there is none, and what to do."""
    return (
        f"no cache there: {cache} has no registry.db; `registry prepare FILE` creates one, "
        "as does a program that uses registry; or name another directory with --cache"
    )


def require_no_foreign(cache: Path) -> None:
    """Raise `NotARegistry` before anything is created beside another application's database.

    We make a cache's folders before its database, so where they are, it was examined once. Other
    faults are found when the cache is opened.
    """
    if os.path.lexists(cache / FOLDERS[0]):
        return
    path = cache / "registry.db"
    with suppress(OSError, DatabaseDamaged, DiskFull):
        found = os.lstat(path)
        if found.st_size and found.st_nlink == 1:
            require_usable(cache)
            with worded(str(path)):
                migrate.revision_of(str(path))


def require_room_for_cache(cache: Path) -> None:
    """Raise `CacheDirectoryRefused` if a new cache would lie among other things, as in a home."""
    with suppress(OSError):  # opening it says why
        if _is_cache(cache) or not cache.is_dir():
            return
        others = sorted(set(os.listdir(cache)) - OWN_NAMES)
        if others:
            few = ", ".join(others[:_FEW]) + (", ..." if len(others) > _FEW else "")
            raise CacheDirectoryRefused(
                f"{cache} holds other things ({few}) and no cache; choose an empty or a new "
                "directory, or add --create to create the cache there all the same"
            )


def _is_cache(cache: Path) -> bool:
    """Look for the database, or what is left where it is gone; raises what `lstat` does."""
    for name in ("registry.db", IDENTITY):
        with suppress(FileNotFoundError):
            os.lstat(cache / name)
            return True
    return False
