"""Open files and folders, so that none is lost to a signal handler that raises.

It may raise between any two bytecodes: between the call that opens a file and the assignment of the
number that it returns, and the file would stay open. So what opens a file and what notes that is
one call of a C function; and what is kept is closed with the last reference to it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path

__all__ = ["Descriptor", "Folder", "holds_deleted", "open_raw"]

_MODES = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_raw(
    path: str | os.PathLike[str], flags: int, mode: int = 0o600, *, dir_fd: int | None = None
) -> FileIO:
    """Open a plain file as `os.open` does; raises IsADirectoryError for a folder."""
    fds: list[int] = []
    files: list[FileIO] = []
    try:
        fds.extend(map(partial(os.open, dir_fd=dir_fd), (path,), (flags,), (mode,)))
        files.extend(map(FileIO, fds, (_MODES[flags & os.O_ACCMODE],)))
        return files[0]
    finally:
        if fds and not files:
            os.close(fds[0])


class Descriptor:
    """What is open. Who is in the middle of using it keeps it so, though others let go."""

    def __init__(
        self, path: str | os.PathLike[str], flags: int, *, dir_fd: int | None = None
    ) -> None:
        self._fds: list[int] = []
        self._fds.extend(map(partial(os.open, dir_fd=dir_fd), (path,), (flags,)))
        self.fd = self._fds[0]

    def fileno(self) -> int:
        return self.fd

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it, once: what is closed is not in the list any more, nor the other way round."""
        with suppress(IndexError):
            next(map(os.close, map(list.pop, (self._fds,))))


class Folder(Descriptor):
    """An open folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _FOLDER)


def holds_deleted(paths: set[str]) -> bool:
    """Whether this process has a file open that was deleted since; True where none can tell."""
    folder = "/proc/self/fd"
    try:
        links = [f"{folder}/{fd}" for fd in os.listdir(folder)]
        opened = [os.readlink(link) for link in links if os.path.islink(link)]
    except OSError:  # not Linux, or no descriptor is left
        return True
    return any(f"{path} (deleted)" in opened for path in paths)
