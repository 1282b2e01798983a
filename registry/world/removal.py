"""Folders are removed with anything that others have put into them.

Without recursion and by descriptor, so that neither ten thousand nested folders, nor a link put in
a folder's place, nor a path that is too long stops or diverts it: each folder is opened in its
parent, its files are unlinked, and its own folders are moved up to the top to be next.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from registry.world.chance import token_hex

__all__ = ["empty", "remove"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_ONLY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Entries that are looked at in one go; a folder may hold more than memory does.
_BATCH = 1000
# Entries at most: a process that fills a folder while it is emptied must not block for ever.
_MOST = 10_000_000


def remove(folder: Path) -> None:
    """Remove a folder and all in it, even what was made read-only; none is nothing to remove.

    Raises `OSError` for what is no folder, a link to one too, and if anything in it cannot be
    removed; all else is removed all the same.
    """
    try:
        empty(folder)
        os.rmdir(folder)
    except FileNotFoundError:
        return


def empty(folder: Path, *, keep: Container[str] = ()) -> None:
    """Remove all that is in a folder but what has one of these names.

    Raises `OSError` as `remove` does, and `FileNotFoundError` if there is no folder.
    """
    parent = os.open(folder.parent, _FOLDER & ~os.O_NOFOLLOW)
    try:
        with _opened(folder.name, parent) as top:
            left = count(_MOST, -1)
            _each(top, lambda name: _remove_one(name, top, left), keep, left)
    finally:
        os.close(parent)


def _each(
    folder: int, work: Callable[[str], None], keep: Container[str], left: Iterator[int]
) -> None:
    """Do it to each entry, also to those that come up meanwhile; raise the first error last."""
    stuck: dict[str, OSError] = {}
    while names := _some(folder, lambda name: name not in keep and name not in stuck):
        for name in names:
            if next(left) <= 0:
                raise OSError(errno.ENOTEMPTY, "it is being filled while it is emptied")
            try:
                work(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                stuck[name] = error
    for first in stuck.values():
        raise first


def _some(folder: int, wanted: Callable[[str], bool]) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if wanted(entry.name):
                names.append(entry.name)
            if len(names) >= _BATCH:
                break
    return names


def _remove_one(name: str, top: int, left: Iterator[int]) -> None:
    """Remove a file, or a folder whose own folders come up to the top."""
    try:
        os.unlink(name, dir_fd=top)
    except IsADirectoryError:
        with _opened(name, top) as folder:
            _each(folder, lambda entry: _take_out(entry, folder, top), (), left)
        os.rmdir(name, dir_fd=top)


def _take_out(name: str, folder: int, top: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        with _opened(name, folder):  # which makes it writable, as one that moves has to be
            os.rename(name, token_hex(16), src_dir_fd=folder, dst_dir_fd=top)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    """Open a folder in its parent, made writable for us first."""
    handle = os.open(name, _NAME_ONLY, dir_fd=parent)
    try:
        with suppress(OSError):  # not ours to change; then let the removal say so
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        folder = os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield folder
    finally:
        os.close(folder)
