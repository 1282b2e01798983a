"""The files made real: everything in `artifacts/`, by name, relative to the folder's descriptor.

A name is checked before anything is done with it, and no link is ever followed: what a row says,
and what others put into the folder, cannot lead us to a foreign file.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

import xxhash

from registry.access_time import as_access_time
from registry.effects import Written, is_file_name
from registry.errors import CacheDirectoryRefused, InvalidData
from registry.shortage import explained_os_error
from registry.world.descriptor import Folder, open_raw
from registry.world.mounts import LAYERED_FILE_SYSTEMS, file_system

__all__ = ["Files", "Reserve"]

CHUNK_BYTES = 1024**2
# Summing up reads into one small buffer: fresh memory costs a page fault for every 4 KB. The first
# sum of a process, over 0.7 MB, took 0.15 ms instead of 0.55 with chunks of 1 MB.
BUFFER_BYTES = 64 * 1024
# Room for some dozens of pages in the WAL: enough for the DELETEs that make room.
RESERVE_BYTES = 256 * 1024
# Inodes, kept by empty files: for the lock of a host, the -wal and the -shm file, and one to spare.
RESERVED_INODES = 3
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_THE_CACHE = re.compile(r"registry\.db(-wal|-shm)?|cache\.id|open\.lock|reserve(\.\d)?")
# A planted link, a changed mode, a bad sector: not a file of ours (any
# more). Nothing else counts: running out of descriptors or memory must not drop an artifact.
_UNREADABLE = frozenset({errno.ELOOP, errno.EACCES, errno.EIO})


class Files:
    """The folder `artifacts/` of one cache."""

    def __init__(self, folder: Path) -> None:
        self._cache = os.stat(folder.parent)
        self._folder = Folder(folder)
        self.descriptor = self._folder.fd

    def close(self) -> None:
        self._folder.close()

    def stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(_ours(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @cached_property
    def _is_layered(self) -> bool:
        return file_system(Path(f"/proc/self/fd/{self.descriptor}")) in LAYERED_FILE_SYSTEMS

    def mark_use(self, name: str, at: int, mtime: int) -> None:
        if self._is_layered:  # there it would copy the artifact; the last use is in the row anyway
            return
        with suppress(OSError, OverflowError):  # it saves others a write, and decides nothing
            times = (as_access_time(at), mtime)
            os.utime(_ours(name), ns=times, dir_fd=self.descriptor, follow_symlinks=False)

    def write(self, name: str, data: bytes) -> Written:
        with _room_for(name), self._created(name) as file:
            _write(file, data)
        return Written(len(data), xxhash.xxh3_128_hexdigest(data))

    def take_in(self, name: str, source: Path) -> Written:
        """Move a plain file in; copy it if it cannot be moved, or if it is others' as well."""
        found = _plain(source)
        folder = os.stat(source.parent)
        if _OF_THE_CACHE.fullmatch(source.name) and os.path.samestat(folder, self._cache):
            raise InvalidData(f"{source} is a file of the cache itself; publish another")
        another = os.path.samestat(folder, os.fstat(self.descriptor))  # another artifact
        shared = found.st_nlink > 1 or found.st_uid != os.geteuid() or another
        if shared or not self._moved(source, name):
            with _room_for(name), open(source, "rb") as original, self._created(name) as file:
                while chunk := original.read(CHUNK_BYTES):
                    _write(file, chunk)
        written = self.checksum(name)
        if written is None:
            raise FileNotFoundError(errno.ENOENT, "vanished after it was written", name)
        return written

    def sync(self, name: str) -> None:
        with open_raw(_ours(name), _READ, dir_fd=self.descriptor) as file, _room_for(name):
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())

    def rename(self, name: str, to: str) -> None:
        with _room_for(to):
            os.rename(
                _ours(name), _ours(to), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor
            )

    def sync_folder(self) -> None:
        with _room_for("artifacts"):
            os.fsync(self.descriptor)

    def unlink(self, name: str) -> bool:
        try:
            os.unlink(_ours(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        except IsADirectoryError:  # named like ours, but none of our making: leave it
            return False
        return True

    def list_names(self) -> list[str]:
        with os.scandir(self.descriptor) as entries:
            return [
                entry.name
                for entry in entries
                if _is_ours(entry.name) and not entry.is_dir(follow_symlinks=False)
            ]

    def checksum(self, name: str) -> Written | None:
        file = self._opened(name)
        if file is None:
            return None
        try:
            with file:
                return _summed(file)
        except OSError as error:
            if error.errno in _UNREADABLE:
                return None
            raise

    def open_file(self, name: str) -> BinaryIO | None:
        file = self._opened(name)
        return None if file is None else BufferedReader(file)

    def _opened(self, name: str) -> FileIO | None:
        try:
            file = open_raw(_ours(name), _READ, dir_fd=self.descriptor)
        except (FileNotFoundError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno in _UNREADABLE:
                return None
            raise
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            return None
        return file

    def _created(self, name: str) -> FileIO:
        try:
            self.unlink(name)
            return open_raw(_ours(name), _CREATE, dir_fd=self.descriptor)
        except FileNotFoundError as error:  # what is created need not exist: its folder is gone
            raise CacheDirectoryRefused(
                "the folder artifacts/ was removed while the cache was open; open a new handle, "
                "which creates it again"
            ) from error
        except PermissionError as error:
            raise _not_permitted(name, error) from error

    def _moved(self, source: Path, name: str) -> bool:
        try:
            with _room_for(name, but=errno.EROFS):  # the source's, from where it is copied
                os.rename(source, _ours(name), dst_dir_fd=self.descriptor)
        except FileNotFoundError:  # the source, or else our folder: copying will tell
            _plain(source)
            return False
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS):
                return False
            raise
        return True


class Reserve:
    """Files whose room is given up when a full disk keeps us from opening, or making room."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inodes = [path.with_name(f"{path.name}.{n + 1}") for n in range(RESERVED_INODES)]

    def give_up(self) -> None:
        for path in (self._path, *self._inodes):
            _remove(path)

    def rebuild(self) -> None:
        """Never fails: without room now, it is built at another time."""
        _keep(self._path, RESERVE_BYTES)
        for path in self._inodes:
            _keep(path, 0)


def _keep(path: Path, size: int) -> None:
    try:
        file = open_raw(path, _CREATE)
    except OSError:  # it is there, or there is no room
        return
    try:
        with file:
            _write(file, bytes(size))
    except OSError:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def _is_ours(name: str) -> bool:
    return is_file_name(name.removesuffix(".tmp"))


def _ours(name: str) -> str:
    if not _is_ours(name):
        raise AssertionError(f"{name!r} is no name of ours; it must never get here")
    return name


def _plain(source: Path) -> os.stat_result:
    try:
        found = os.lstat(source)
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
        why = getattr(error, "strerror", None) or error
        raise InvalidData(f"{str(source)!r} cannot be published: {why}") from error
    if stat.S_ISLNK(found.st_mode):
        raise InvalidData(f"{source} is a symbolic link; publish the file that it points to")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidData(f"{source} is no plain file; publish a file or bytes")
    if found.st_size == 0:
        raise InvalidData(f"{source} is empty; an artifact has at least one byte")
    if not os.access(source, os.R_OK, effective_ids=True):
        raise InvalidData(f"{source} cannot be read; give yourself the right to, then publish it")
    return found


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a call writes 2 GB at most
        left = left[file.write(left) :]


def _summed(file: FileIO) -> Written:
    """Read in chunks: a truncation or an I/O error under a memory map would be a SIGBUS."""
    total, digest = 0, xxhash.xxh3_128()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while size := file.readinto(buffer):
        total += size
        digest.update(buffer[:size])
    return Written(total, digest.hexdigest())


def _not_permitted(name: str, error: PermissionError) -> CacheDirectoryRefused:
    return CacheDirectoryRefused(
        f"artifacts/{name} cannot be created or removed ({error.strerror}): look at the mode of "
        "artifacts/ and for the attributes `i` and `a` of both (`lsattr -d`), remove them "
        "(`chattr -ia`), then try again"
    )


@contextmanager
def _room_for(name: str, but: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == but or explained_os_error(error, name) is None:
            raise
        # Not kept in a variable: it would keep this frame, and with it the open folder.
        raise explained_os_error(error, name) or error from error
