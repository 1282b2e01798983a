"""Folders of a handle's own, on the file system of its cache: to build in, and to keep files in.

They are beneath `workers/<host id>/`, which goes with the handle; where its process was killed, the
next one that finds that out removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from registry.errors import CacheDirectoryRefused, InvalidData, RegistryError
from registry.shortage import explained_os_error
from registry.world.chance import token_hex
from registry.world.descriptor import Folder
from registry.world.removal import remove

__all__ = ["own_folder", "pinned_file", "require_file_name"]


@contextmanager
def own_folder(cache: Path, host_id: str) -> Iterator[Path]:
    """Make an empty folder that is removed in the end, with all that is in it."""
    maker, folder = os.getpid(), cache / "workers" / host_id / token_hex(8)
    try:
        _make(folder)
        yield folder
    finally:
        if os.getpid() == maker:  # else this is a forked child, and the folder its parent's
            with suppress(OSError):
                remove(folder)


def pinned_file(file: BinaryIO, folder: Path, name: str) -> Path | None:
    """Give an open file another name in a folder: the file stays as long as that is there.

    None where it has no name any more, and so can be given none.
    """
    try:
        with closing(Folder(folder)) as opened:  # a link is followed only into an open folder
            os.link(f"/proc/self/fd/{file.fileno()}", name, dst_dir_fd=opened.fd)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.fstat(file.fileno()).st_nlink:
            return None
        raise _worded(error, folder) from error
    return folder / name


def require_file_name(name: str) -> None:
    """Refuse what names no file in a folder."""
    if not isinstance(name, str):
        raise TypeError(f"name is a str, not {type(name).__name__}")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        size = 0  # it cannot be written at all
    if name in (".", "..") or "/" in name or "\0" in name or not 0 < size <= 255:
        raise InvalidData(f"{name[:80]!r} is no name of a file; give one such as 'kernel.so'")


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(0o700, exist_ok=True)
        folder.mkdir(0o700)
    except OSError as error:
        raise _worded(error, folder) from error


def _worded(error: OSError, folder: Path) -> RegistryError:
    return explained_os_error(error, str(folder)) or CacheDirectoryRefused(
        f"nothing can be made in {folder}: {error}; see `registry doctor`"
    )
